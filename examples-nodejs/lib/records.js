// Records of protomux, built byte by byte and independently of protomux, for the recorders of mux and channel.

const b4a = require('b4a')
const { uint } = require('./layout')

const u = (n, width) => b4a.toString(uint(n, width), 'hex')
const size = (hex) => u(hex.length / 2)
const text = (string) => b4a.toString(b4a.from(string), 'hex')
const string = (s) => size(text(s)) + text(s)
const buffer = (hex) => (hex === null ? '00' : size(hex) + hex)

const data = (channel, type, body = '') => u(channel) + u(type) + body
const open = (id, protocol, channelId = null, handshake = '') => '0001' + u(id) + string(protocol) + buffer(channelId) + handshake
const reject = (id) => '0002' + u(id)
const close = (id) => '0003' + u(id)

// A batch of whole messages of channels below 253: each begins with its channel, which is left out of the item.
function batch (messages) {
  let out = ''
  let last = null
  for (const message of messages) {
    const channel = message.slice(0, 2)
    if (channel !== last) out += (last === null ? '' : '00') + channel
    last = channel
    out += size(message.slice(2)) + message.slice(2)
  }
  return '0000' + out
}

// A message inside `depth` batches, each of them a single item of the next.
function nested (message, depth) {
  for (let i = 0; i < depth; i++) message = batch([message])
  return message
}

module.exports = { u, size, text, string, buffer, data, open, reject, close, batch, nested }
