// extension.*: names of extensions on the wire, through the peer of a real core.

const b4a = require('b4a')
const { bytes, hex } = require('../lib/bytes')
const { Refused } = require('../lib/outcome')
const { withCore } = require('../lib/core')
const { SEEN, decode } = require('../lib/session')

const OPTIONS = { isInitiator: true, handshakeHash: b4a.alloc(64, 1), key: b4a.alloc(32, 2) }
const EXTENSION = 9

// Runs fn with the peer of a channel open on both sides.
function withPeer (ctx, fn) {
  return withCore(OPTIONS, ctx, async (session, taps, replicate) => {
    await session.step(replicate)
    const capability = ctx.caps.replicate(!OPTIONS.isInitiator, OPTIONS.key, OPTIONS.handshakeHash)
    const [open] = session.steps[0].sent
    const head = b4a.concat([b4a.from([0, 1, 1, open.protocol.length]), b4a.from(open.protocol), b4a.from([32]), b4a.from(open.channelId, 'hex')])
    await session.step(() => session.receive(b4a.concat([head, b4a.from([1]), capability])))
    return fn(session, taps.channel.userData)
  })
}

module.exports = {
  async 'extension.receive' ({ messages }, ctx) {
    return withPeer(ctx, async (session, peer) => {
      const out = []
      // Every name is registered, and keeps its messages.
      peer.extensions = {
        get: (name) => ({ _onmessage: (state) => out.push({ name, message: hex(state.buffer.subarray(state.start, state.end)) }) })
      }
      for (const message of messages) {
        await session.step(() => session.receive(b4a.concat([b4a.from([1, EXTENSION]), bytes(message, 'message')])))
      }
      const { error, [SEEN]: seen } = session.finish()
      if (error) throw new Refused(error.layer, error.class, seen.message, {}, seen.outcome)
      return { messages: out }
    })
  },

  async 'extension.send' ({ messages }, ctx) {
    return withPeer(ctx, async (session, peer) => {
      session.stream.written.length = 0
      for (const { name, message } of messages) peer.extension(name, bytes(message, 'message'))
      const sent = session.stream.written.flatMap(decode).filter((m) => m.channel === 1 && m.type === EXTENSION)
      return { messages: sent.map((m) => m.body) }
    })
  }
}
