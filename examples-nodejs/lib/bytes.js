// Bytes as written in vectors and requests: hex, or a short form of long values.

const b4a = require('b4a')
const sodium = require('sodium-universal')
const { BadRequest } = require('./outcome')

const DIGEST_OVER = 2048

const hex = (buffer) => b4a.toString(buffer, 'hex')

// Hex to a buffer; anything else makes the request invalid.
function bytes (value, name = 'bytes') {
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^[0-9a-f]*$/.test(value)) {
    throw new BadRequest(`${name}: lowercase hex expected`)
  }
  return b4a.from(value, 'hex')
}

const optional = (value, name) => (value === null || value === undefined ? null : bytes(value, name))

// Replaces {repeat, times} and {concat} by hex, at any depth.
function expand (value) {
  if (Array.isArray(value)) return value.map(expand)
  if (value === null || typeof value !== 'object') return value
  const keys = Object.keys(value)
  if (keys.length === 2 && typeof value.repeat === 'string' && typeof value.times === 'number') {
    return value.repeat.repeat(value.times)
  }
  if (keys.length === 1 && Array.isArray(value.concat)) return value.concat.map(expand).join('')
  const out = {}
  for (const key of keys) out[key] = expand(value[key])
  return out
}

// Replaces hex of more than 2,048 bytes by its length and BLAKE2b-256, at any depth.
function digest (value) {
  if (Array.isArray(value)) return value.map(digest)
  if (typeof value === 'string') {
    if (value.length <= DIGEST_OVER * 2 || value.length % 2 || !/^[0-9a-f]+$/.test(value)) return value
    const data = b4a.from(value, 'hex')
    const out = b4a.alloc(32)
    sodium.crypto_generichash(out, data)
    return { length: data.byteLength, blake2b256: hex(out) }
  }
  if (value === null || typeof value !== 'object') return value
  const out = {}
  for (const key of Object.keys(value)) out[key] = digest(value[key])
  return out
}

// Decoded values as JSON: buffers to hex, typed arrays to lists, integers above 2^53-1 to decimal strings.
function plain (value) {
  if (value === undefined) return null
  if (typeof value === 'bigint') return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString()
  if (typeof value === 'number') return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value).toString() : value
  if (value instanceof Uint32Array) return [...value]
  if (b4a.isBuffer(value)) return hex(value)
  if (Array.isArray(value)) return value.map(plain)
  if (value === null || typeof value !== 'object') return value
  const out = {}
  for (const key of Object.keys(value)) out[key] = plain(value[key])
  return out
}

module.exports = { hex, bytes, optional, expand, digest, plain, DIGEST_OVER }
