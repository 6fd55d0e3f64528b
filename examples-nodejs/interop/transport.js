// A hypercore of three blocks behind the transports of the crate's tests of impl/tests/transports.rs.
//
//   node interop/transport.js '{"mode":"unencrypted","isInitiator":false,"release":"11.37.1",…}'
//
// Modes: `noise` is a secret stream with its own handshake, `handshake` one after a handshake between noise-handshake
// and the test over stdin and stdout, `unencrypted` is framed-stream. The test dials the port. Answers are lines of
// JSON.

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const readline = require('readline')
const b4a = require('b4a')
const curve = require('noise-curve-ed')
const FramedStream = require('framed-stream')
const Noise = require('noise-handshake')
const NoiseSecretStream = require('@hyperswarm/secret-stream')

const BLOCKS = ['first', 'second', 'third']

const options = JSON.parse(process.argv[2])
const bytes = (hex) => hex ? b4a.from(hex, 'hex') : null
const hex = (buffer) => buffer ? b4a.toString(buffer, 'hex') : null
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')

main().catch((err) => {
  say({ event: 'error', message: err.message })
  process.exitCode = 1
})

async function main () {
  const core = await makeCore()
  const server = net.createServer((socket) => {
    server.close()
    const stream = transports[options.mode](socket)
    stream.on('error', (err) => say({ event: 'error', message: err.message }))
    stream.on('close', () => say({ event: 'close' }))
    stream.opened.then((opened) => {
      if (!opened) return
      const { publicKey, remotePublicKey, handshakeHash } = stream
      say({ event: 'open', publicKey: hex(publicKey), remotePublicKey: hex(remotePublicKey), hash: hex(handshakeHash) })
    })
    // framed-stream sends no keep-alives.
    core.replicate(stream, { keepAlive: options.mode !== 'unencrypted' })
  })
  const handshake = options.mode === 'handshake' ? await shakeHands() : null
  server.listen(0, '127.0.0.1', () => say({ event: 'listening', port: server.address().port, key: hex(core.key), handshake }))
}

const transports = {
  noise (socket) {
    return new NoiseSecretStream(options.isInitiator, socket, {
      pattern: options.pattern,
      keyPair: keyPair(),
      remotePublicKey: bytes(options.remotePublicKey)
    })
  },

  handshake (socket) {
    return new NoiseSecretStream(options.isInitiator, socket, { handshake: finished })
  },

  // The interface that hypercore 11.37.1 requires of a stream: see createProtocolStream in index.js and attachTo in
  // lib/replicator.js.
  unencrypted (socket) {
    const stream = new FramedStream(socket, { bits: 24 })
    stream.noiseStream = stream
    stream.isInitiator = options.isInitiator
    stream.publicKey = null
    stream.remotePublicKey = b4a.alloc(32, 1)
    stream.handshakeHash = bytes(options.handshakeHash)
    stream.userData = null
    stream.opened = Promise.resolve(true)
    return stream
  }
}

let finished = null

// The messages of the handshake go over stdin and stdout, as HyperDHT's go over UDP.
async function shakeHands () {
  const { publicKey } = keyPair()
  const psk = bytes(options.psk)
  const noise = new Noise(options.pattern, options.isInitiator, keyPair(), { curve, ...(psk && { psk }) })
  noise.initialise(b4a.alloc(0), bytes(options.remotePublicKey))
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  let ours = options.isInitiator
  while (!noise.complete) {
    if (ours) say({ event: 'noise', message: hex(noise.send()) })
    else noise.recv(bytes((await lines.next()).value))
    ours = !ours
  }
  finished = {
    tx: b4a.from(noise.tx),
    rx: b4a.from(noise.rx),
    hash: b4a.from(noise.hash),
    publicKey,
    remotePublicKey: noise.rs && b4a.from(noise.rs)
  }
  return { hash: hex(finished.hash), remotePublicKey: hex(finished.remotePublicKey) }
}

function keyPair () {
  return NoiseSecretStream.keyPair(bytes(options.seed))
}

async function makeCore () {
  const old = options.release === '10.38.2'
  const Hypercore = require(old ? 'hypercore10' : 'hypercore')
  const core = new Hypercore(old ? require('random-access-memory') : folder())
  await core.append(BLOCKS)
  return core
}

function folder () {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'transport-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  return folder
}

// The test is gone.
process.stdin.on('end', () => process.exit())
if (options.mode !== 'handshake') process.stdin.resume()
