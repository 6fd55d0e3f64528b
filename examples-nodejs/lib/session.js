// A protomux on a stream controlled by a test: records are fed in one at a time, outgoing ones are kept, and an error
// that would destroy the stream, or the process, is reported.

const { EventEmitter } = require('events')
const b4a = require('b4a')
const { bytes, hex } = require('./bytes')
const { BadRequest, classOf } = require('./outcome')
const { int } = require('./values')
const { own } = require('./packages')

const c = own('compact-encoding')
const Protomux = own('protomux')
const optionalBuffer = c.optionalBuffer || c.buffer // before compact-encoding 3

// How a session ended, for the recorder: { outcome, message }. Not part of the output.
const SEEN = Symbol('seen')

// The interface that protomux requires of a secret stream.
class Stream extends EventEmitter {
  constructor ({ isInitiator = true, handshakeHash = b4a.alloc(64) } = {}) {
    super()
    this.userData = null
    this.isInitiator = isInitiator
    this.handshakeHash = handshakeHash
    this.publicKey = b4a.alloc(32)
    this.remotePublicKey = b4a.alloc(32)
    this.rawStream = {}
    this.noiseStream = this
    this.opened = Promise.resolve(true)
    this.destroyed = false
    this.error = null
    this.written = []
  }

  write (buffer) {
    if (!this.destroyed) this.written.push(b4a.from(buffer))
    return true
  }

  destroy (err) {
    if (this.destroyed) return
    this.destroyed = true
    this.error = err || null
  }

  end () {}
  pause () {}
  resume () {}
}

// The layer and class of a refusal, if the error does not have them.
const blamed = new WeakMap()

// Runs fn, and marks an error from it as a refusal of this layer.
function blame (layer, fn, cls = null) {
  try {
    return fn()
  } catch (err) {
    if (!blamed.has(err)) blamed.set(err, { layer, class: cls })
    throw err
  }
}

function verdict (err) {
  const { layer = 'mux', class: cls = null } = blamed.get(err) || {}
  return { layer, class: cls || classOf(err) }
}

class Session {
  constructor (options, Mux = Protomux) {
    this.stream = new Stream(options)
    this.mux = new Mux(this.stream)
    this.events = []
    this.steps = []
    this.fatal = null
    this.over = false
    this.onfatal = (err) => {
      this.fatal = this.fatal || err
    }

    // An open of id 0 fails because of a bug: the reject is written with an undefined id.
    const reject = this.mux._rejectSession
    this.mux._rejectSession = (...args) => blame('mux', () => reject.apply(this.mux, args), args[0] === 0 ? 'invalid-open' : null)

    process.on('uncaughtException', this.onfatal)
  }

  event (event) {
    if (!this.over && !this.stream.destroyed) this.events.push(event)
  }

  get alive () {
    return !this.stream.destroyed && this.fatal === null
  }

  // One record from the remote.
  receive (record) {
    try {
      this.stream.emit('data', record)
    } catch (err) {
      // safety-catch rethrows apparent bugs outside of any handler: the process dies.
      this.onfatal(err)
    }
  }

  // Runs one step, lets its effects settle, and keeps the results. `keep` filters the sent messages.
  async step (fn, keep = () => true) {
    if (this.alive) {
      await fn()
      await settle()
    }
    const sent = this.stream.written.splice(0).flatMap(decode).filter(keep)
    this.steps.push({ events: this.events.splice(0), sent })
  }

  // The output of the operation, after all steps. Leaves the mux closed.
  finish () {
    this.over = true
    const err = this.fatal || this.stream.error
    const out = { steps: this.steps, alive: this.alive, error: err ? verdict(err) : null }
    if (err) out[SEEN] = { outcome: this.fatal ? 'process-dies' : 'destroys', message: err.message }
    return out
  }

  async close () {
    this.over = true
    this.stream.destroyed = true
    this.stream.emit('close')
    await settle()
    process.removeListener('uncaughtException', this.onfatal)
  }
}

// Ticks and promises started by a step have run after a few turns of the event loop.
async function settle () {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve))
}

// One record as its messages, batches flattened, parsed by protomux itself.
function decode (buffer) {
  const out = []
  const mux = new Protomux(new Stream())

  // Every channel exists, and keeps its messages.
  mux._remote = new Proxy([], {
    get (target, at) {
      if (at === 'length') return Infinity
      const channel = Number(at) + 1
      const keep = (type, state) => {
        out.push({ channel, type, body: hex(c.raw.decode(state)) })
        return null
      }
      return { pending: null, session: { _recv: keep } }
    }
  })
  // Protomux acts on control messages at once; here their fields are kept, read in protomux's order.
  mux._onopensession = (state) => {
    const id = c.uint.decode(state)
    const protocol = c.string.decode(state)
    const channelId = optionalBuffer.decode(state)
    out.push({ control: 'open', id, protocol, channelId: channelId === null ? null : hex(channelId), handshake: hex(c.raw.decode(state)) })
    return null
  }
  mux._onrejectsession = (state) => out.push({ control: 'reject', id: c.uint.decode(state) })
  mux._onclosesession = (state) => out.push({ control: 'close', id: c.uint.decode(state) })
  const control = mux._oncontrolsession
  mux._oncontrolsession = (type, state) => {
    if (type <= 3) return control.call(mux, type, state)
    out.push({ control: 'unknown', type, body: hex(c.raw.decode(state)) })
    return null
  }

  if (buffer.byteLength === 0) return out // as protomux does
  const state = { buffer, start: 0, end: buffer.byteLength }
  mux._decode(c.uint.decode(state), state)
  return out
}

// One record from messages, written by protomux itself.
function encode (messages, batch) {
  const stream = new Stream()
  const mux = new Protomux(stream)
  if (batch) mux.cork()
  for (const m of messages) write(mux, m)
  if (batch) mux.uncork()
  return b4a.concat(stream.written)
}

function write (mux, m) {
  switch (m.control) {
    case undefined: {
      const channel = mux.createChannel({ protocol: `${m.channel}`, unique: false })
      channel._localId = int(m.channel)
      channel.messages = { length: int(m.type), push () {} } // addMessage gives the next free type, however large
      return channel.addMessage({ encoding: c.raw }).send(bytes(m.body, 'body'))
    }
    case 'open': {
      const id = m.channelId === null ? null : bytes(m.channelId, 'channelId')
      const channel = mux.createChannel({ protocol: m.protocol, id, unique: false, handshake: c.raw })
      mux._free.push(int(m.id) - 1) // open takes a free id first
      return channel.open(bytes(m.handshake, 'handshake'))
    }
    case 'reject':
      mux._remote[m.id - 1] = { pending: null }
      return mux._rejectSession({}, int(m.id))
    case 'close': {
      const channel = mux.createChannel({ protocol: `${m.id}`, unique: false })
      channel._localId = int(m.id)
      return channel.close()
    }
    default:
      throw new BadRequest(`protomux can't write a control message of this kind: ${m.control}`)
  }
}

module.exports = { Session, SEEN, blame, decode, encode }
