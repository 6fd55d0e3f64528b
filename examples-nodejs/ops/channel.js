// channel.*: sessions of the hypercore channel, with a real core on a protomux.

const { bytes } = require('../lib/bytes')
const { withCore } = require('../lib/core')
const { messageToJSON } = require('../lib/values')

module.exports = {
  async 'channel.session' (input, ctx) {
    const options = { isInitiator: input.isInitiator, handshakeHash: bytes(input.handshakeHash, 'handshakeHash'), key: bytes(input.key, 'key') }
    return withCore(options, ctx, async (session, taps, replicate) => {
      taps.onmessage = (name, value, local) => session.event({ message: { local, name, value: messageToJSON(name, value) } })
      // The core's own announcements (sync, range) are left out.
      const control = (message) => message.control !== undefined
      await session.step(replicate, control)
      for (const step of input.steps) await session.step(() => session.receive(bytes(step.receive, 'receive')), control)
      return session.finish()
    })
  }
}
