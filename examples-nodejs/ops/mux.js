// mux.*: records of protomux, and sessions with a bare protomux.

const { bytes, optional, hex } = require('../lib/bytes')
const { BadRequest, refuse } = require('../lib/outcome')
const { Session, decode, encode } = require('../lib/session')
const { own } = require('../lib/packages')

const c = own('compact-encoding')

// The local side of a session: its channels by local id, as they were opened.
class Local {
  constructor (session) {
    this.session = session
    this.mux = session.mux
    this.channels = new Map()
  }

  open ({ protocol, aliases = [], id = null, handshake = null, messages = 0 }) {
    const { session } = this
    let local = 0
    const channel = this.mux.createChannel({
      protocol,
      aliases,
      id: optional(id, 'id'),
      handshake: handshake === null ? null : c.raw,
      messages: Array.from({ length: messages }, (_, type) => ({
        encoding: c.raw,
        onmessage: (body) => session.event({ message: { local, type, body: hex(body) } })
      })),
      onopen: (received, self) => session.event({ opened: { local, remote: self._remoteId, handshake: received === null ? null : hex(received) } }),
      onclose: (isRemote) => session.event({ closed: { local, isRemote } })
    })
    if (channel === null) return // there is one already
    channel.open(handshake === null ? null : bytes(handshake, 'handshake'))
    local = channel._localId
    this.channels.set(local, channel)
  }

  pair (wanted) {
    const id = optional(wanted.id, 'id')
    this.mux.pair({ protocol: wanted.protocol, id }, (remote) => {
      this.open({ ...wanted, id: remote === null ? null : hex(remote) })
    })
  }

  channel (local) {
    const channel = this.channels.get(local)
    if (!channel) throw new BadRequest(`no such channel: ${local}`)
    return channel
  }

  act (step) {
    const [kind] = Object.keys(step)
    const value = step[kind]
    switch (kind) {
      case 'open': return this.open(value)
      case 'pair': return this.pair(value)
      case 'receive': return this.session.receive(bytes(value, 'receive'))
      case 'send': {
        const message = this.channel(value.channel).messages[value.type]
        if (!message) throw new BadRequest(`no such message type: ${value.type}`)
        return message.send(bytes(value.body, 'body'))
      }
      case 'close': return this.channel(value).close()
      case 'cork': return this.mux.cork()
      case 'uncork': return this.mux.uncork()
      default: throw new BadRequest(`unknown step: ${kind}`)
    }
  }
}

module.exports = {
  async 'mux.decode' ({ bytes: input }) {
    const buffer = bytes(input)
    return refuse('mux', () => ({ messages: decode(buffer) }))
  },

  async 'mux.encode' ({ messages, batch }) {
    return refuse('mux', () => ({ bytes: hex(encode(messages, batch)) }))
  },

  async 'mux.session' ({ steps }) {
    const session = new Session()
    try {
      const local = new Local(session)
      for (const step of steps) await session.step(() => local.act(step))
      return session.finish()
    } finally {
      await session.close()
    }
  }
}
