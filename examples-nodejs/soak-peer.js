// A Node peer of .ci/soak: replicates cores over TCP with the Rust process that it dials, controlled by lines of JSON.
//
//   node soak-peer.js '{"folder":"…","port":1234,"cores":[{"name":"a","key":"…"},{"name":"b","seed":"…"}]}'

const net = require('net')
const path = require('path')
const readline = require('readline')
const { load } = require('./lib/release')

const { Hypercore, crypto } = load()
const options = JSON.parse(process.argv[2])
const cores = new Map()
let socket = null

function dial () {
  socket = net.connect(options.port, '127.0.0.1')
  socket.setNoDelay(true)
  socket.on('error', () => {})
  const stream = Hypercore.createProtocolStream(true)
  stream.noiseStream.on('error', () => {})
  stream.on('error', () => {})
  for (const { core } of cores.values()) core.replicate(stream)
  socket.pipe(stream).pipe(socket)
  // Dial again after a lost connection.
  socket.on('close', () => {
    stream.destroy()
    setTimeout(dial, 50 + Math.random() * 200)
  })
}

const ops = {
  async append ({ core }, { blocks }) {
    await core.append(blocks.map((block) => Buffer.from(block, 'hex')))
    return { length: core.length, fork: core.fork }
  },
  async truncate ({ core }, { length }) {
    await core.truncate(length)
    return { length: core.length, fork: core.fork }
  },
  async clear ({ core }, { start, end }) {
    await core.clear(start, end)
  },
  async get ({ core }, { index }) {
    return (await core.get(index, { timeout: 60_000 })).toString('hex')
  },
  async download ({ core }, { start, end }) {
    await core.download({ start, end }).done()
  },
  async seek ({ core }, { bytes }) {
    return core.seek(bytes, { timeout: 60_000 })
  },
  async state ({ core }) {
    return { length: core.length, fork: core.fork }
  },
  async extension ({ extension }, { message }) {
    extension.broadcast(Buffer.from(message, 'hex'))
  },
  async reconnect () {
    socket.destroy()
  }
}

async function main () {
  for (const { name, key, seed } of options.cores) {
    const keyPair = seed ? crypto.keyPair(Buffer.from(seed, 'hex')) : undefined
    const core = new Hypercore(path.join(options.folder, name), key ? Buffer.from(key, 'hex') : undefined, { keyPair })
    await core.ready()
    core.on('error', () => {})
    cores.set(name, { core, extension: core.registerExtension('soak', {}) })
  }
  const keys = Object.fromEntries([...cores].map(([name, { core }]) => [name, core.key.toString('hex')]))
  console.log(JSON.stringify({ id: 0, ok: keys }))
  dial()
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { id, op, core, input } = JSON.parse(line)
    ops[op](cores.get(core), input).then(
      (ok) => console.log(JSON.stringify({ id, ok: ok ?? null })),
      (err) => console.log(JSON.stringify({ id, error: err.message }))
    )
  }
  process.exit()
}

main()
