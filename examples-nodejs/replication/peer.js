// The Node side of the replication example: serves a core of four blocks, or reads one and prints its blocks. See run.js.
//
//   node replication/peer.js serve               a new core, until stdin ends
//   node replication/peer.js read ADDRESS KEY    prints the core's blocks

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const Hypercore = require('hypercore')

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-example-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))

async function serve () {
  const core = new Hypercore(folder)
  await core.append(['hi', 'ola', 'hello', 'mundo'])

  const sockets = new Set()
  const server = net.createServer((socket) => {
    // Otherwise each small message would wait for the acknowledgement of the one before.
    socket.setNoDelay(true)
    const stream = core.replicate(false)
    sockets.add(socket)
    // A reader that disconnects is not a failure.
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    stream.on('error', () => {})
    socket.pipe(stream).pipe(socket)
  })
  server.listen(0, '127.0.0.1', () => {
    const { address, port } = server.address()
    console.log(`serving on ${address}:${port}, key ${core.key.toString('hex')}`)
  })

  // The parent closes our stdin, or kills us.
  process.stdin.resume().on('end', async () => {
    server.close()
    for (const socket of sockets) socket.destroy()
    await core.close()
  })
}

async function read (address, key) {
  const core = new Hypercore(folder, Buffer.from(key, 'hex'))
  await core.ready()

  const [host, port] = address.split(':')
  const socket = net.connect(Number(port), host)
  socket.setNoDelay(true)
  const stream = core.replicate(true)
  socket.on('error', fail)
  stream.on('error', fail)
  socket.pipe(stream).pipe(socket)

  await core.update({ wait: true })
  if (core.length === 0) throw new Error('the peer has nothing')
  for (let index = 0; index < core.length; index++) {
    console.log(`${index}: ${await core.get(index, { timeout: 30_000 })}`)
  }
  socket.removeListener('error', fail)
  socket.on('error', () => {})
  await core.close()
  socket.end()
}

function fail (err) {
  console.error(err)
  process.exit(1)
}

const [command, ...args] = process.argv.slice(2)
if (command === 'serve' && args.length === 0) serve().catch(fail)
else if (command === 'read' && args.length === 2) read(...args).catch(fail)
else fail('usage: peer.js serve | read ADDRESS KEY')
