// tree.* and multisig.*: hashes of the Merkle tree, signables, and the encoding of signatures.

const { bytes, hex, plain } = require('../lib/bytes')
const { BadRequest, refuse } = require('../lib/outcome')
const { int, node, multisig } = require('../lib/values')

function signature (messages, version) {
  if (version !== 0 && version !== 1) throw new BadRequest(`unknown version of a multisignature: ${version}`)
  return version === 0 ? messages.multiSignaturev0 : messages.multiSignature
}

module.exports = {
  async 'tree.leaf' ({ data }, { crypto }) {
    return { hash: hex(crypto.data(bytes(data, 'data'))) }
  },

  async 'tree.parent' ({ left, right }, { crypto }) {
    return refuse('tree', () => ({ hash: hex(crypto.parent(node(left), node(right))) }))
  },

  async 'tree.root' ({ roots }, { crypto }) {
    return refuse('tree', () => ({ hash: hex(crypto.tree(roots.map(node))) }))
  },

  async 'tree.signable' ({ manifestHash, treeHash, length, fork }, { caps }) {
    return refuse('tree', () => ({
      signable: hex(caps.treeSignable(bytes(manifestHash, 'manifestHash'), bytes(treeHash, 'treeHash'), int(length), int(fork)))
    }))
  },

  async 'tree.signableCompat' ({ treeHash, length, fork, noHeader }, { caps }) {
    return refuse('tree', () => ({
      signable: hex(caps.treeSignableCompat(bytes(treeHash, 'treeHash'), int(length), int(fork), noHeader))
    }))
  },

  async 'multisig.decode' ({ bytes: input, version }, { c, messages }) {
    const enc = signature(messages, version)
    const buffer = bytes(input)
    return refuse('tree', () => ({ value: plain(c.decode(enc, buffer)) }))
  },

  async 'multisig.encode' ({ value, version }, { c, messages }) {
    const enc = signature(messages, version)
    const v = multisig[version](value)
    return refuse('tree', () => ({ bytes: hex(c.encode(enc, v)) }))
  }
}
