// stream.*: stream ids, header records, and secretstream records from a given state.

const b4a = require('b4a')
const { bytes, hex } = require('../lib/bytes')
const { BadRequest, Refused } = require('../lib/outcome')
const { own } = require('../lib/packages')

const sodium = own('sodium-universal')
const SecretStream = own('@hyperswarm/secret-stream')

const ABYTES = sodium.crypto_secretstream_xchacha20poly1305_ABYTES
const STATE = sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES

// libsodium's state in its memory layout: key (32), counter (u32 LE), inonce (8), padding (8).
function open ({ key, header, state }) {
  const buffer = b4a.alloc(STATE)
  if (state) {
    buffer.set(bytes(state.key, 'key'), 0)
    b4a.writeUInt32LE(buffer, state.counter, 32)
    buffer.set(bytes(state.nonce, 'nonce'), 36)
    return buffer
  }
  const h = bytes(header, 'header')
  const k = bytes(key, 'key')
  if (h.byteLength !== 24 || k.byteLength !== 32) throw new BadRequest('key of 32 and header of 24 bytes expected')
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(buffer, h, k)
  return buffer
}

function snapshot (buffer) {
  return { key: hex(buffer.subarray(0, 32)), nonce: hex(buffer.subarray(36, 44)), counter: b4a.readUInt32LE(buffer, 32) }
}

module.exports = {
  async 'stream.id' ({ handshakeHash, isInitiator }) {
    return { id: hex(SecretStream.id(bytes(handshakeHash, 'handshakeHash'), isInitiator)) }
  },

  // Runs the stream's own check of a header record, on an object with only the fields that the check uses.
  async 'stream.header' ({ handshakeHash, isInitiator, record }) {
    let header = null
    let failed = null
    const stream = Object.create(SecretStream.prototype, {
      destroy: { value: (err) => { failed = err } }
    })
    stream._setup = true
    stream._handshake = null
    stream._message = bytes(record, 'record')
    stream.isInitiator = isInitiator
    stream.handshakeHash = bytes(handshakeHash, 'handshakeHash')
    stream._decrypt = { init: (h) => { header = h } }
    stream._incoming()
    if (failed) {
      const cls = /message received/.test(failed.message) ? 'bad-length' : 'wrong-stream-id'
      throw new Refused('secretstream', cls, failed.message, {}, 'destroys')
    }
    return { header: hex(header) }
  },

  async 'stream.push' ({ key, header, state, messages }) {
    const buffer = open({ key, header, state })
    const records = messages.map(({ plaintext, tag }) => {
      const m = bytes(plaintext, 'plaintext')
      const record = b4a.alloc(m.byteLength + ABYTES)
      sodium.crypto_secretstream_xchacha20poly1305_push(buffer, record, m, null, tag)
      return hex(record)
    })
    return { records, state: snapshot(buffer) }
  },

  async 'stream.pull' ({ key, header, state, records }) {
    const buffer = open({ key, header, state })
    const messages = records.map((hexRecord, record) => {
      const input = bytes(hexRecord, 'record')
      if (input.byteLength < ABYTES) throw new Refused('secretstream', 'bad-length', 'Invalid message received', { record }, 'destroys')
      const m = b4a.alloc(input.byteLength - ABYTES)
      const tag = b4a.alloc(1)
      try {
        sodium.crypto_secretstream_xchacha20poly1305_pull(buffer, m, tag, input, null)
      } catch (err) {
        throw new Refused('secretstream', 'bad-mac', err.message, { record }, 'destroys')
      }
      return { plaintext: hex(m), tag: tag[0] }
    })
    return { messages, state: snapshot(buffer) }
  }
}
