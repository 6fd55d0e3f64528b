// message.*: the messages of the hypercore channel, with the release's hypercore/lib/messages.js.

const { bytes, hex } = require('../lib/bytes')
const { BadRequest, refuse } = require('../lib/outcome')
const { NAMES, message, messageToJSON } = require('../lib/values')

function codec (messages, name) {
  if (!NAMES.includes(name)) throw new BadRequest(`unknown message: ${name}`)
  return messages.wire[name]
}

module.exports = {
  async 'message.decode' ({ message: name, bytes: input }, { c, messages }) {
    const enc = codec(messages, name)
    const buffer = bytes(input)
    const state = c.state(0, buffer.byteLength, buffer)
    return refuse('message', () => {
      const value = enc.decode(state)
      return { value: messageToJSON(name, value), consumed: state.start }
    })
  },

  async 'message.encode' ({ message: name, value }, ctx) {
    const { c, messages } = ctx
    const enc = codec(messages, name)
    const v = message(name, value, ctx)
    return refuse('message', () => ({ bytes: hex(c.encode(enc, v)) }))
  }
}
