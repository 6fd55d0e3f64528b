// compact.*: single values of compact-encoding.

const b4a = require('b4a')
const { bytes, optional, plain } = require('../lib/bytes')
const { BadRequest, refuse } = require('../lib/outcome')

// A JSON value of this type, from and to the form of the codec.
const BUFFERS = new Set(['buffer', 'optionalBuffer', 'fixed32', 'fixed64', 'raw'])

function codec (c, type) {
  if (type.startsWith('array:')) return c.array(codec(c, type.slice(6)))
  if (!BUFFERS.has(type) && !/^(uint(8|16|24|32|64|32array)?|string)$/.test(type)) throw new BadRequest(`unknown type: ${type}`)
  // compact-encoding 2 has one codec for both, which decodes an empty buffer as null.
  if (type === 'optionalBuffer' && !c.optionalBuffer) return c.buffer
  return c[type]
}

function value (type, v) {
  if (type.startsWith('array:')) return v.map((item) => value(type.slice(6), item))
  if (type === 'uint32array') return Uint32Array.from(v)
  if (BUFFERS.has(type)) return type === 'optionalBuffer' ? optional(v, 'value') : bytes(v, 'value')
  return typeof v === 'string' && type !== 'string' ? Number(v) : v
}

module.exports = {
  async 'compact.decode' ({ type, bytes: input }, { c }) {
    const enc = codec(c, type)
    const buffer = bytes(input)
    const state = c.state(0, buffer.byteLength, buffer)
    return refuse('encoding', () => {
      const v = enc.decode(state)
      return { value: plain(v), consumed: state.start }
    })
  },

  async 'compact.encode' ({ type, value: input }, { c }) {
    const enc = codec(c, type)
    const v = value(type, input)
    return refuse('encoding', () => ({ bytes: b4a.toString(c.encode(enc, v), 'hex') }))
  }
}
