// frame.*: records on the wire, with the stream's own writer and parser.

const b4a = require('b4a')
const { bytes, hex } = require('../lib/bytes')
const { Refused } = require('../lib/outcome')
const { own } = require('../lib/packages')

const SecretStream = own('@hyperswarm/secret-stream')
const Handshake = own('@hyperswarm/secret-stream/lib/handshake')

const MAX = 0xffffff
const ABYTES = 17

module.exports = {
  async 'frame.encode' ({ body }) {
    const data = bytes(body, 'body')
    if (data.byteLength > MAX) {
      // Only the writer of messages checks the size, before encryption.
      SecretStream.prototype._write.call({ _outgoingPlain: null }, data.subarray(ABYTES), (err) => {
        throw new Refused('frame', 'too-large', err.message)
      })
    }
    const self = { noise: { complete: false, send: () => data } }
    self._return = Handshake.prototype._return
    return { bytes: hex(Handshake.prototype.send.call(self).data) }
  },

  async 'frame.decode' ({ chunks, end }) {
    const frames = []
    const self = Object.create(SecretStream.prototype, {
      _incoming: {
        value () {
          frames.push(hex(this._message))
          this._state = 0
          this._len = 0
          this._tmp = 1
          this._message = null
        }
      }
    })
    Object.assign(self, { _duplexState: 0, _timeoutTimer: null, _utp: null, _state: 0, _len: 0, _tmp: 1, _message: null })
    for (const chunk of chunks) self._onrawdata(b4a.from(bytes(chunk, 'chunks')))

    // While the header is read, _tmp is 256 to the power of its bytes; then it counts those of the body.
    const pending = self._state === 0 ? Math.round(Math.log2(self._tmp) / 8) : 3 + self._tmp
    if (end && pending > 0) {
      // Node only sees the end of the stream, so it ignores the rest.
      throw new Refused('frame', 'truncated', 'the stream ended within a record', { frames: frames.length }, 'ignores')
    }
    return { frames, pending }
  }
}
