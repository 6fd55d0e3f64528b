// The Node side of replication.js: serves a core of BLOCKS blocks of BYTES bytes, or times reading one.
//
//   node bench/transfer.js serve BLOCKS BYTES
//   node bench/transfer.js read ADDRESS KEY BLOCKS

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const Hypercore = require('hypercore')

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-transfer-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }))

async function serve (count, size) {
  const core = new Hypercore(folder)
  await core.append(new Array(Number(count)).fill(Buffer.alloc(Number(size), 7)))
  const server = net.createServer((socket) => connect(core, false, socket))
  server.listen(0, '127.0.0.1', () => {
    const { address, port } = server.address()
    console.log(`serving on ${address}:${port}, key ${core.key.toString('hex')}`)
  })
  process.stdin.resume().on('end', () => process.exit())
}

async function read (address, key, count) {
  const core = new Hypercore(folder, Buffer.from(key, 'hex'))
  await core.ready()
  const started = process.hrtime.bigint()
  const [host, port] = address.split(':')
  connect(core, true, net.connect(Number(port), host))
  await core.download({ start: 0, end: Number(count) }).done()
  console.log(`${(process.hrtime.bigint() - started) / 1_000_000n} ms`)
  process.exit()
}

function connect (core, isInitiator, socket) {
  socket.setNoDelay(true)
  const stream = core.replicate(isInitiator)
  stream.on('error', () => {})
  socket.on('error', () => {}).pipe(stream).pipe(socket)
}

function fail (err) {
  console.error(err)
  process.exit(1)
}

const [command, ...args] = process.argv.slice(2)
if (command === 'serve' && args.length === 2) serve(...args).catch(fail)
else if (command === 'read' && args.length === 3) read(...args).catch(fail)
else fail('usage: transfer.js serve BLOCKS BYTES | read ADDRESS KEY BLOCKS')
