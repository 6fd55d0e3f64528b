// connection.replay: a whole secret stream over an in-memory raw stream, step by step.

const b4a = require('b4a')
const { Duplex } = require('streamx')
const { bytes, optional, hex } = require('../lib/bytes')
const { BadRequest, Refused } = require('../lib/outcome')
const { fix, keyPair } = require('../lib/deterministic')
const { own } = require('../lib/packages')

const SecretStream = own('@hyperswarm/secret-stream')

// The layer and class of the error that destroyed the stream.
const FAULTS = [
  [/^Noise handshake failed$/, 'noise', 'handshake-failed'],
  [/^Invalid header message received$/, 'secretstream', 'bad-length'],
  [/^Invalid header received$/, 'secretstream', 'wrong-stream-id'],
  [/^Invalid message received$/, 'secretstream', 'bad-length'],
  [/^pull failed$/, 'secretstream', 'bad-mac'],
  [/^Message is too large/, 'frame', 'too-large']
]

function fault (err, step) {
  for (const [re, layer, cls] of FAULTS) if (re.test(err.message)) return new Refused(layer, cls, err.message, { step }, 'destroys')
  return err
}

// Streams work in microtasks and ticks only, so a few turns of the event loop settle everything.
async function settle () {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve))
}

class Replay {
  constructor ({ isInitiator, pattern, staticSeed, ephemeralSeed, header, remotePublicKey }) {
    this.sent = []
    this.received = []
    this.error = null
    this.ended = false
    this.unfinished = false
    this.raw = new Duplex({
      write: (data, cb) => {
        this.sent.push(hex(data))
        cb(null)
      }
    })
    this.make = () => {
      this.stream = new SecretStream(isInitiator, this.raw, {
        pattern,
        keyPair: keyPair(bytes(staticSeed, 'staticSeed')),
        remotePublicKey: optional(remotePublicKey, 'remotePublicKey')
      })
      fix(this.stream, { ephemeralSeed: bytes(ephemeralSeed, 'ephemeralSeed'), header: bytes(header, 'header') })
      // Intercepted at delivery: the stream's queue holds an empty plaintext back until the next one comes.
      this.stream.push = (data) => {
        if (data === null) this.ended = true
        else this.received.push(hex(data))
        return SecretStream.prototype.push.call(this.stream, data)
      }
      this.stream.resume()
      this.stream.on('error', (err) => { this.error = err })
    }
    this.stream = null
  }

  async step (step) {
    if (this.stream === null) this.make()
    if (step.receive !== undefined) {
      const data = b4a.from(bytes(step.receive, 'receive'))
      if (data.byteLength > 0) this.raw.push(data)
    } else if (step.write !== undefined) {
      this.stream.write(bytes(step.write, 'write'))
    } else if (step.end) {
      this.unfinished = this.stream._state !== 0 || this.stream._tmp !== 1
      this.raw.push(null)
    } else if (!step.start) {
      throw new BadRequest(`unknown step: ${Object.keys(step)}`)
    }
    await settle()
    const out = { sent: this.sent.join(''), received: this.received }
    this.sent = []
    this.received = []
    return out
  }

  get state () {
    if (this.stream.destroyed) return 'destroyed'
    if (this.ended) return 'ended'
    return this.stream._setup ? 'handshaking' : 'open'
  }
}

// Not an operation, and not enumerable, so that the registry ignores it.
Object.defineProperty(module.exports, 'Replay', { value: Replay })

Object.assign(module.exports, {
  // `end` is the end of the remote's bytes. Node doesn't notice an end within a record; the class says so.
  async 'connection.replay' (input) {
    const replay = new Replay(input)
    const steps = []
    try {
      for (let i = 0; i < input.steps.length; i++) {
        steps.push(await replay.step(input.steps[i]))
        if (replay.error) throw fault(replay.error, i)
        if (replay.unfinished) throw new Refused('frame', 'truncated', 'the stream ended within a record', { step: i }, 'ignores')
      }
      const { stream } = replay
      return {
        steps,
        handshakeHash: stream.handshakeHash && hex(stream.handshakeHash),
        remotePublicKey: stream.handshakeHash && stream.remotePublicKey ? hex(stream.remotePublicKey) : null,
        state: replay.state
      }
    } finally {
      replay.stream.on('error', () => {})
      replay.stream.destroy()
    }
  }
})
