// A Node peer for packages built on protomux: one stream over TCP, with protomux-rpc, protomux-wakeup and corestore on
// it, as published on npm. One JSON request per line on stdin, one JSON answer per line on stdout in order, with a line
// for each event in between:
//   {"id":1,"op":"peer.listen"} -> {"id":1,"ok":{"port":40000}}
//                                  {"event":"handshake",...}
// `node interop/packages/check.js` runs two of them with each other.

const net = require('net')
const readline = require('readline')
const SecretStream = require('@hyperswarm/secret-stream')
const Protomux = require('protomux')
const { hex, optional, plain } = require('../../lib/bytes')

const say = (line) => process.stdout.write(JSON.stringify(plain(line)) + '\n')

// The interface for operations: the stream, its multiplexer, and the events.
class Peer {
  constructor () {
    this.stream = null
    this.mux = null
    this.cleanups = []
    this.records = { received: 0, sent: 0 }
    this.opened = new Promise((resolve) => { this.onopened = resolve })
  }

  emit (event, more = {}) {
    say({ event, ...more })
  }

  // Performs `first`, a list of operations, before the first byte.
  start (isInitiator, socket, first = []) {
    // Otherwise each small record would wait for the acknowledgement of the one before.
    socket.setNoDelay(true)
    const stream = new SecretStream(isInitiator, socket)
    this.stream = stream
    stream.on('data', () => this.records.received++)
    const write = stream.write
    stream.write = (record) => {
      this.records.sent++
      return write.call(stream, record)
    }
    this.mux = Protomux.from(stream)
    stream.on('connect', () => {
      this.emit('handshake', { publicKey: stream.publicKey, remotePublicKey: stream.remotePublicKey })
      this.onopened()
    })
    stream.on('end', () => this.emit('end'))
    stream.on('error', (err) => this.emit('failed', { message: err.message }))
    stream.on('close', () => this.emit('closed'))
    for (const { op, input } of first) ops[op](input)
  }

  async stop () {
    if (this.stream !== null) this.stream.destroy()
    for (const cleanup of this.cleanups.splice(0).reverse()) await cleanup()
  }
}

const peer = new Peer()

const ops = {
  'peer.listen': ({ first }) => new Promise((resolve, reject) => {
    const server = net.createServer((socket) => {
      server.close()
      peer.start(false, socket, first)
    })
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port }))
  }),

  'peer.dial': ({ port, first }) => peer.start(true, net.connect(port, '127.0.0.1'), first),

  // Reports when the remote opens a channel of the protocol (and id) that is not open here; the open is then rejected.
  'peer.pair': ({ protocol, id }) => {
    peer.mux.pair({ protocol, id: optional(id, 'id') }, (id) => peer.emit('pair', { protocol, id }))
  },

  // The open channels, in the order of their ids.
  'peer.channels': () => ({
    channels: [...peer.mux].map(({ protocol, id, opened }) => ({ protocol, id: id && hex(id), opened }))
  }),

  // The number of records so far, which distinguishes a batch from single messages.
  'peer.records': () => peer.records,

  'peer.end': () => { peer.stream.end() },
  'peer.destroy': () => { peer.stream.destroy() },

  // Cleans up, for a process that will be killed.
  'peer.stop': () => peer.stop(),

  ...require('./rpc')(peer),
  ...require('./wakeup')(peer),
  ...require('./corestore')(peer)
}

async function answer (line) {
  const { id, op, input } = JSON.parse(line)
  try {
    if (!Object.hasOwn(ops, op)) throw new Error(`there is no ${op}`)
    return { id, ok: (await ops[op](input || {})) || {} }
  } catch (err) {
    return { id, error: { message: String(err && err.message) } }
  }
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    say(await answer(line))
  }
  await peer.stop()
  process.exit(0)
}

main()
