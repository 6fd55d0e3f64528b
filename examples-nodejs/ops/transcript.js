// transcript.decode: a whole recorded conversation, from the wire to the hypercore messages.
// The input and output are described at the top of record/transcript.js.

const { bytes } = require('../lib/bytes')
const { load } = require('../lib/release')
const { Refused } = require('../lib/outcome')
const { messageToJSON } = require('../lib/values')
const { own } = require('../lib/packages')

const c = own('compact-encoding')

// Not through the registry, which is still loading when this file is.
const ops = Object.assign({}, ...['frame', 'stream', 'mux', 'key'].map((name) => require(`./${name}`)))

// By type on a hypercore channel, the order of their names without the handshake's.
const WIRE = ['sync', 'request', 'cancel', 'data', 'noData', 'want', 'unwant', 'bitfield', 'range', 'extension']
const PROTOCOLS = new Set(['hypercore/alpha', 'hypercore'])

// One direction: its sender's state, as seen by an observer with the keys.
class Direction {
  constructor (from, { key }, handshakeHash, ctx) {
    this.from = from
    this.key = key
    this.handshakeHash = handshakeHash
    this.ctx = ctx
    this.chunks = []
    this.state = null
    this.header = null
    this.plaintexts = []
    this.channels = new Map() // by the sender's own ids
    this.count = 0
  }

  // The messages completed by a chunk.
  async chunk (bytes) {
    this.chunks.push(bytes)
    const { frames, pending } = await ops['frame.decode']({ chunks: this.chunks, end: false }, this.ctx)
    if (pending === 0) this.chunks = []
    else this.chunks = [this.chunks.join('').slice(-pending * 2)]
    const out = []
    for (const frame of frames) out.push(...await this.record(frame))
    return out
  }

  async record (record) {
    if (this.header === null) {
      const isInitiator = this.from !== 'initiator'
      this.header = (await ops['stream.header']({ handshakeHash: this.handshakeHash, isInitiator, record }, this.ctx)).header
      return []
    }
    const from = this.state === null ? { key: this.key, header: this.header } : { state: this.state }
    const { messages: [{ plaintext }], state } = await this.pull({ ...from, records: [record] })
    this.state = state
    const index = this.plaintexts.push(plaintext) - 1
    if (plaintext === '') return []
    const { messages } = await ops['mux.decode']({ bytes: plaintext }, this.ctx)
    return messages.map((m) => ({ from: this.from, record: index, ...this.explain(m) }))
  }

  // stream.pull, but a refusal names the record of the direction.
  async pull (input) {
    try {
      return await ops['stream.pull'](input, this.ctx)
    } catch (err) {
      if (err instanceof Refused && err.extra.record !== undefined) err.extra.record = this.plaintexts.length
      throw err
    }
  }

  // A mux message, and its meaning if it belongs to a hypercore channel.
  explain (m) {
    if (m.control === 'open') {
      const hypercore = PROTOCOLS.has(m.protocol)
      this.channels.set(m.id, hypercore)
      return { ...m, value: hypercore ? this.decode('handshake', m.handshake) : null }
    }
    if (m.control !== undefined) {
      if (m.control === 'close') this.channels.delete(m.id)
      return m
    }
    const name = this.channels.get(m.channel) ? WIRE[m.type] : undefined
    if (name === undefined) return { ...m, name: null, value: null }
    return { ...m, name, value: this.decode(name, m.body) }
  }

  decode (name, body) {
    const buffer = bytes(body)
    return messageToJSON(name, this.ctx.messages.wire[name].decode(c.state(0, buffer.byteLength, buffer)))
  }
}

module.exports = {
  async 'transcript.decode' ({ handshakeHash, coreKey, initiator, responder, chunks }) {
    const ctx = load() // what the messages mean doesn't depend on who reads them
    const sides = {
      initiator: new Direction('initiator', initiator, handshakeHash, ctx),
      responder: new Direction('responder', responder, handshakeHash, ctx)
    }
    const messages = []
    for (const { from, bytes } of chunks) messages.push(...await sides[from].chunk(bytes))

    for (const m of messages) {
      if (m.control !== 'open' || m.value === null) continue
      const { capability } = await ops['key.capability']({ isInitiator: m.from === 'initiator', key: coreKey, handshakeHash }, ctx)
      if (capability !== m.value.capability) throw new Refused('channel', 'invalid-capability', 'Remote sent invalid capability')
    }
    const side = ({ header, plaintexts }) => ({ header, plaintexts })
    return { initiator: side(sides.initiator), responder: side(sides.responder), messages }
  }
}
