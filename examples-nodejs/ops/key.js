// key.*: hashes, namespaces, discovery keys, capabilities and key pairs.

const b4a = require('b4a')
const { bytes, optional, hex } = require('../lib/bytes')
const { refuse } = require('../lib/outcome')

module.exports = {
  async 'key.hash' ({ parts, key }, { sodium }) {
    const out = b4a.alloc(32)
    const list = parts.map((p) => bytes(p, 'parts'))
    const k = optional(key, 'key')
    return refuse('key', () => {
      sodium.crypto_generichash_batch(out, list, ...(k ? [k] : []))
      return { hash: hex(out) }
    }, 'bad-length')
  },

  async 'key.namespace' ({ name, count }, { crypto }) {
    return { namespaces: crypto.namespace(name, count).map(hex) }
  },

  async 'key.discoveryKey' ({ key }, { crypto }) {
    return refuse('key', () => ({ discoveryKey: hex(crypto.discoveryKey(bytes(key, 'key'))) }), 'bad-length')
  },

  async 'key.capability' ({ isInitiator, key, handshakeHash }, { caps }) {
    return { capability: hex(caps.replicate(isInitiator, bytes(key, 'key'), bytes(handshakeHash, 'handshakeHash'))) }
  },

  async 'key.keyPair' ({ seed }, { crypto }) {
    return refuse('key', () => {
      const { publicKey, secretKey } = crypto.keyPair(bytes(seed, 'seed'))
      return { publicKey: hex(publicKey), secretKey: hex(secretKey) }
    }, 'bad-length')
  }
}
