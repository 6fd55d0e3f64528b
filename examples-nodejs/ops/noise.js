// noise.*: the handshake library and its Ed25519 curve.

const { bytes, optional, hex } = require('../lib/bytes')
const { BadRequest, Refused, refuse, words } = require('../lib/outcome')
const { keyPair } = require('../lib/deterministic')
const { own } = require('../lib/packages')

const Noise = own('noise-handshake')
const curve = own('noise-curve-ed')

const PATTERNS = new Set(['NN', 'NNpsk0', 'XX', 'XXpsk0', 'IK', 'XK'])

// libsodium only reports "status: -1" for a point that it refuses; anything else is a short message or a bad tag.
function failure (err, step) {
  const cls = /^status: -1$/.test(err.message) && err.stack.includes('scalarmult') ? 'bad-point' : 'handshake-failed'
  return new Refused('noise', cls, words(err), { step })
}

module.exports = {
  async 'noise.publicKey' ({ seed }) {
    return { publicKey: hex(keyPair(bytes(seed, 'seed')).publicKey) }
  },

  async 'noise.dh' ({ publicKey, seed }) {
    const remote = bytes(publicKey, 'publicKey')
    const local = keyPair(bytes(seed, 'seed'))
    if (remote.byteLength !== curve.PKLEN) return refuse('noise', () => curve.dh(remote, local), 'bad-length')
    return refuse('noise', () => ({ shared: hex(curve.dh(remote, local)) }), 'bad-point')
  },

  async 'noise.handshake' ({ pattern, isInitiator, staticSeed, ephemeralSeed, remotePublicKey, psk, prologue, steps }) {
    if (!PATTERNS.has(pattern)) throw new BadRequest(`unknown pattern: ${pattern}`)
    const s = optional(staticSeed, 'staticSeed')
    const opts = { curve }
    if (psk !== null) opts.psk = bytes(psk, 'psk')
    const noise = new Noise(pattern, isInitiator, s && keyPair(s), opts)
    noise.initialise(bytes(prologue, 'prologue'), optional(remotePublicKey, 'remotePublicKey'))
    noise.e = keyPair(bytes(ephemeralSeed, 'ephemeralSeed'))

    const out = []
    for (let step = 0; step < steps.length; step++) {
      const { write, read } = steps[step]
      try {
        out.push(write !== undefined ? { message: hex(noise.send(bytes(write, 'write'))) } : { payload: hex(noise.recv(bytes(read, 'read'))) })
      } catch (err) {
        if (err instanceof Refused) throw err
        throw failure(err, step)
      }
    }
    const done = noise.complete
    return {
      steps: out,
      complete: done,
      hash: done ? hex(noise.hash) : null,
      tx: done ? hex(noise.tx) : null,
      rx: done ? hex(noise.rx) : null,
      remotePublicKey: done && noise.rs ? hex(noise.rs) : null
    }
  }
}
