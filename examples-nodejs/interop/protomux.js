// Node's protomux and a hypercore on it, driven line by line, for the crate's tests of impl/tests/mux_interop.rs.
//
//   node interop/protomux.js '{"isInitiator":false,"core":false}'
//
// The test dials the port. Requests, answers and events are lines of JSON; bytes are in hex.

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const readline = require('readline')
const b4a = require('b4a')
const c = require('compact-encoding')
const Hypercore = require('hypercore')
const NoiseSecretStream = require('@hyperswarm/secret-stream')
const Protomux = require('protomux')

const options = JSON.parse(process.argv[2])
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const hex = (bytes) => bytes && b4a.toString(bytes, 'hex')
const bytes = (text) => typeof text === 'string' ? b4a.from(text, 'hex') : null

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'protomux-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))

const channels = new Map()
const extensions = new Map()
let recording = false
let mux = null
let core = null

main()

async function main () {
  if (options.core) {
    core = new Hypercore(folder)
    await core.append('block')
  }
  const server = net.createServer((socket) => {
    server.close()
    const stream = new NoiseSecretStream(options.isInitiator, socket, { keepAlive: 0 })
    stream.on('error', (err) => say({ event: 'error', message: err.message }))
    stream.on('close', () => say({ event: 'close' }))
    record(stream)
    mux = Protomux.from(stream)
    if (core) core.replicate(stream)
    stream.on('open', () => say({ event: 'open' }))
  })
  server.listen(0, '127.0.0.1', () => {
    const key = core && hex(core.key)
    say({ event: 'listening', port: server.address().port, key })
  })
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    ops[request.op](request)
    say({ event: 'done', op: request.op })
  }
  // The test is gone.
  process.exit()
}

// The plaintext of each record, in both directions.
function record (stream) {
  const write = stream.write
  stream.write = (data) => {
    if (recording) say({ event: 'wrote', bytes: hex(data) })
    return write.call(stream, data)
  }
  stream.on('data', (data) => {
    if (recording) say({ event: 'read', bytes: hex(data) })
  })
}

function create ({ name, protocol, aliases = [], id, handshake, unique = true }) {
  const channel = mux.createChannel({
    protocol,
    aliases,
    id: bytes(id),
    unique,
    handshake: c.raw,
    messages: [0, 1, 2].map((kind) => ({
      encoding: c.raw,
      onmessage: (body) => say({ event: 'message', name, kind, body: hex(body) })
    })),
    onopen: (handshake) => say({ event: 'opened', name, handshake: hex(handshake) }),
    onclose: (isRemote) => say({ event: 'closed', name, isRemote })
  })
  if (channel === null) return say({ event: 'refused', name })
  channels.set(name, channel)
  channel.open(bytes(handshake) || b4a.alloc(0))
}

const ops = {
  record ({ on }) {
    recording = on
  },
  create,
  pair ({ protocol, id, answer }) {
    mux.pair({ protocol, id: bytes(id) }, (id) => {
      say({ event: 'paired', protocol, id: hex(id) })
      if (answer) create({ ...answer, id: hex(id) })
    })
  },
  unpair ({ protocol, id }) {
    mux.unpair({ protocol, id: bytes(id) })
  },
  send ({ name, kind, body }) {
    channels.get(name).messages[kind].send(bytes(body))
  },
  close ({ name }) {
    channels.get(name).close()
  },
  cork () {
    mux.cork()
  },
  uncork () {
    mux.uncork()
  },
  // As a program would open an extension of the whole stream, for which Node has no API.
  stream ({ name }) {
    const channel = mux.createChannel({
      protocol: name,
      messages: [{ encoding: c.raw, onmessage: (body) => say({ event: 'message', name, kind: 0, body: hex(body) }) }],
      onopen: () => say({ event: 'opened', name }),
      onclose: (isRemote) => say({ event: 'closed', name, isRemote })
    })
    channels.set(name, channel)
    channel.open()
  },
  extension ({ name, session }) {
    const owner = session ? core.session() : core
    extensions.set(name, owner.registerExtension(name, {
      encoding: c.raw,
      onmessage: (message) => say({ event: 'extension', name, body: hex(message) })
    }))
  },
  sendExtension ({ name, body }) {
    extensions.get(name).send(bytes(body), core.peers[0])
  },
  destroyExtension ({ name }) {
    extensions.get(name).destroy()
  }
}
