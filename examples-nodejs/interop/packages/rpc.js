// protomux-rpc on the peer's stream: a server with methods for every kind of answer, and a client. Values are bytes, in
// hex; without `raw` they use the package's default encoding, an optional buffer.

const b4a = require('b4a')
const c = require('compact-encoding')
const ProtomuxRPC = require('protomux-rpc')
const { hex, bytes, optional } = require('../../lib/bytes')

const raw = { valueEncoding: c.raw }
const uint = { valueEncoding: c.uint }

module.exports = (peer) => {
  const channels = new Map()
  const held = new Map()

  function rpc (name = 'main') {
    if (!channels.has(name)) throw new Error(`there is no channel ${name}`)
    return channels.get(name)
  }

  // Opens a channel with these methods.
  function open ({ name = 'main', id, protocol, handshake }) {
    const channel = new ProtomuxRPC(peer.stream, {
      id: optional(id, 'id'),
      protocol,
      handshake: optional(handshake, 'handshake')
    })
    channels.set(name, channel)
    channel.on('open', (handshake) => peer.emit('rpc.open', { name, handshake }))
    channel.on('close', () => peer.emit('rpc.close', { name }))
    channel.on('destroy', () => peer.emit('rpc.destroy', { name }))

    channel.respond('name', () => b4a.from(name))
    channel.respond('echo', (value) => value)
    channel.respond('raw', raw, (value) => value)
    channel.respond('double', uint, (value) => value * 2)
    channel.respond('zeros', { requestEncoding: c.uint, responseEncoding: c.raw }, (length) => b4a.alloc(length))
    channel.respond('length', { requestEncoding: c.raw, responseEncoding: c.uint }, (value) => value.byteLength)
    channel.respond('note', (value) => peer.emit('rpc.note', { name, value }))
    channel.respond('unencodable', { responseEncoding: c.fixed32 }, () => 'not 32 bytes')
    channel.respond('fail', () => {
      throw new Error('there is no tea')
    })
    channel.respond('failWithCode', () => {
      throw Object.assign(new Error('there is no tea'), { code: 'ENOTEA', context: 'in the kitchen' })
    })
    // Answered by rpc.release, so that answers come in another order than requests.
    channel.respond('hold', uint, (key) => new Promise((resolve) => {
      held.set(key, resolve)
      peer.emit('rpc.held', { key })
    }))
  }

  return {
    'rpc.open': open,

    // Opens a channel as soon as the remote opens one of this protocol, with this id; without an id, with any.
    'rpc.pair': ({ id, protocol = 'protomux-rpc', ...more }) => {
      peer.mux.pair({ protocol, id: optional(id, 'id') }, (id) => {
        peer.emit('rpc.pair', { id })
        open({ protocol, id: id && hex(id), ...more })
      })
    },

    'rpc.request': async ({ name, method, value, raw: isRaw = false, timeoutMs }) => {
      try {
        const options = { ...(isRaw ? raw : {}), timeout: timeoutMs }
        return { value: await rpc(name).request(method, optional(value, 'value'), options) }
      } catch (err) {
        return { error: describe(err) }
      }
    },

    // A value of `length` zeros; the answer is counted.
    'rpc.requestLarge': async ({ name, method, length }) => {
      const value = await rpc(name).request(method, b4a.alloc(length), raw)
      return { length: value.byteLength, zeros: value.every((byte) => byte === 0) }
    },

    // Makes `count` requests at once, numbered from 0; corked, they are sent as batches.
    'rpc.requests': async ({ name, method, count, corked = false }) => {
      const channel = rpc(name)
      const requests = []
      if (corked) channel.cork()
      for (let i = 0; i < count; i++) requests.push(channel.request(method, i, uint))
      if (corked) channel.uncork()
      return { values: await Promise.all(requests) }
    },

    'rpc.event': ({ name, method, value }) => rpc(name).event(method, optional(value, 'value')),

    'rpc.release': ({ key }) => {
      held.get(key)(key)
      held.delete(key)
    },

    // Sends an answer, requested or not.
    'rpc.respond': ({ name, id, value }) => {
      rpc(name)._response.send({ id, error: null, value: bytes(value, 'value') })
    },

    // Waits for pending requests, then closes.
    'rpc.end': ({ name }) => { rpc(name).end() },
    'rpc.destroy': ({ name }) => rpc(name).destroy(),
    'rpc.state': ({ name }) => ({ opened: rpc(name).opened, closed: rpc(name).closed })
  }
}

function describe (err) {
  const { message, code = null, cause } = err
  return { message, code, cause: cause ? { message: cause.message, code: cause.code || null, context: cause.context || null } : null }
}
