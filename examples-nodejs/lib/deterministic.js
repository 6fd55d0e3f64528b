// Makes Node's streams repeatable: fixed static keys, ephemerals and secretstream headers.

const b4a = require('b4a')
const { own, headerSodium } = require('./packages')

const curve = own('noise-curve-ed')
const SecretStream = own('@hyperswarm/secret-stream')

const sodium = headerSodium()

const HEADER = sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES
const initPush = sodium.crypto_secretstream_xchacha20poly1305_init_push
let nextHeader = null

// libsodium draws the header inside init_push; init_pull with a given header leaves the same state.
sodium.crypto_secretstream_xchacha20poly1305_init_push = function (state, header, key) {
  if (nextHeader === null) return initPush(state, header, key)
  header.set(nextHeader)
  nextHeader = null
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
}

// A seed that is easy to spot in a hex dump: 32 times the same byte.
const seed = (n) => b4a.alloc(32, n)

// A secretstream header, likewise.
const header = (n) => b4a.alloc(HEADER, n)

// The Ed25519 key pair { publicKey, secretKey (64 bytes) } of a 32-byte seed.
const keyPair = (s) => curve.generateKeyPair(s)

// Fixes the ephemeral key and the header of a new stream that hasn't opened yet.
function fix (stream, { ephemeralSeed, header }) {
  stream._handshake.noise.e = keyPair(ephemeralSeed)
  stream._setupSecretStream = function (...args) {
    nextHeader = header
    return SecretStream.prototype._setupSecretStream.apply(this, args)
  }
  return stream
}

module.exports = { seed, header, keyPair, fix, HEADER }
