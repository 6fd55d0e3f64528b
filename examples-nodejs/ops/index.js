// The operations of Node's packages, by name. Each other file of this folder exports some:
//   { 'layer.name': async (input, ctx) => output }, which throw a Refused for input that Node refuses.
// `ctx` is lib/release.js's: the packages of one hypercore release. The recorder and the adapter share them.

const fs = require('fs')
const path = require('path')
const { BadRequest } = require('../lib/outcome')

const registry = new Map()

for (const file of fs.readdirSync(__dirname).sort()) {
  if (!file.endsWith('.js') || file === 'index.js') continue
  const ops = require(path.join(__dirname, file))
  for (const name of Object.keys(ops)) {
    if (registry.has(name)) throw new Error(`operation defined twice: ${name}`)
    registry.set(name, ops[name])
  }
}

// Operations of layers whose packages differ between the releases installed here; the rest are shared.
const BY_RELEASE = /^(compact|message|manifest|extension|channel|multisig|tree)\./

// Features that releases and transports gained, newest last. Operations are unknown where the feature is missing.
const NEEDS = [
  [/^manifest\./, (ctx) => 'manifest' in ctx.messages],
  [/^multisig\./, (ctx) => 'multiSignaturev0' in ctx.messages],
  [/^tree\.signableCompat$/, (ctx) => 'treeSignableCompat' in ctx.caps],
  [/^tree\.signable$/, (ctx) => 'MANIFEST' in ctx.caps], // it was over other fields before there were manifests
  [/^(channel|extension)\./, (ctx) => 'manifest' in ctx.messages], // the replicator had another shape
  [/^datagram\./, (ctx) => '_setupSecretSend' in ctx.SecretStream.prototype],
  [/^(frame\.|stream\.(header|push|pull)$|transcript\.)/, (ctx) => '_setupSecretSend' in ctx.SecretStream.prototype] // as above, of the stream
]

// Without a `ctx`: whether any release has it.
const has = (name, ctx = null) => registry.has(name) && (ctx === null || NEEDS.every(([re, met]) => !re.test(name) || met(ctx)))

module.exports = {
  names: (ctx) => [...registry.keys()].filter((name) => has(name, ctx)).sort(),
  has,
  dependsOnRelease: (name) => BY_RELEASE.test(name),
  async call (name, input, ctx) {
    const op = registry.get(name)
    if (!op) throw new BadRequest(`unknown operation: ${name}`)
    return op(input, ctx)
  }
}
