// A hypercore of one block as a later release might serve it, for the crate's tests of impl/tests/later_releases.rs:
// the channel has a message of type 10, and its handshake and every sync have an unknown flag and field.
//
//   node interop/later.js '{"isInitiator":false}'
//
// The test dials the port. Answers are lines of JSON, including received messages of type 10.

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const b4a = require('b4a')
const c = require('compact-encoding')
const Hypercore = require('hypercore')
const NoiseSecretStream = require('@hyperswarm/secret-stream')
const Protomux = require('protomux')

const NEW_FLAG = 64
const NEW_FIELD = b4a.from('new')

const { isInitiator } = JSON.parse(process.argv[2])
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'later-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
// The test is gone.
process.stdin.resume().on('end', () => process.exit())

main()

async function main () {
  const core = new Hypercore(folder)
  await core.append('block')
  const server = net.createServer((socket) => {
    const stream = new NoiseSecretStream(isInitiator, socket)
    stream.on('error', (err) => say({ event: 'error', message: err.message }))
    stream.on('close', () => say({ event: 'close' }))
    renew(Protomux.from(stream))
    core.replicate(stream)
  })
  server.listen(0, '127.0.0.1', () => {
    say({ event: 'listening', port: server.address().port, key: b4a.toString(core.key, 'hex') })
  })
}

function renew (mux) {
  const create = mux.createChannel
  mux.createChannel = (options) => create.call(mux, {
    ...options,
    handshake: extended(options.handshake),
    messages: [
      { ...options.messages[0], encoding: extended(options.messages[0].encoding) },
      ...options.messages.slice(1),
      { encoding: c.string, onmessage: (text) => say({ event: 'type 10', text }) }
    ],
    async onopen (handshake, channel) {
      await options.onopen(handshake, channel)
      channel.messages[10].send('from a later release')
    }
  })
}

// Both begin with a byte of flags.
function extended (encoding) {
  return {
    ...encoding,
    preencode (state, value) {
      encoding.preencode(state, value)
      c.buffer.preencode(state, NEW_FIELD)
    },
    encode (state, value) {
      const start = state.start
      encoding.encode(state, value)
      c.buffer.encode(state, NEW_FIELD)
      state.buffer[start] |= NEW_FLAG
    }
  }
}
