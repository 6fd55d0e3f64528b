// datagram.*: the stream's own unordered messages, on an object with only the fields that they use.

const b4a = require('b4a')
const { bytes, hex } = require('../lib/bytes')
const { BadRequest, Refused } = require('../lib/outcome')
const { own } = require('../lib/packages')

const SecretStream = own('@hyperswarm/secret-stream')

function stream (isInitiator, handshakeHash) {
  const self = Object.create(SecretStream.prototype, {
    destroy: { value: (err) => { throw err } },
    emit: { value: (name, plain) => { self.plain = plain } }
  })
  self.isInitiator = isInitiator
  self.plain = null
  self._setupSecretSend(bytes(handshakeHash, 'handshakeHash'))
  return self
}

module.exports = {
  async 'datagram.keys' ({ handshakeHash, isInitiator }) {
    const { _sendState: s } = stream(isInitiator, handshakeHash)
    return { send: hex(s.subarray(0, 32)), receive: hex(s.subarray(32, 64)) }
  },

  async 'datagram.seal' ({ handshakeHash, isInitiator, counter, plaintext }) {
    const self = stream(isInitiator, handshakeHash)
    const start = bytes(counter, 'counter')
    if (start.byteLength !== 8) throw new BadRequest('counter of 8 bytes expected')
    self._sendState.set(start, 64)
    self._sendState.set(start, 72)
    return { datagram: hex(self._boxMessage(bytes(plaintext, 'plaintext'))) }
  },

  async 'datagram.open' ({ handshakeHash, isInitiator, datagram }) {
    const self = stream(isInitiator, handshakeHash)
    const input = bytes(datagram, 'datagram')
    self._onmessage(b4a.from(input))
    if (self.plain !== null) return { plaintext: hex(self.plain) }
    const short = input.byteLength < 24
    throw new Refused('datagram', short ? 'bad-length' : 'bad-mac', 'dropped', {}, 'ignores')
  }
}
