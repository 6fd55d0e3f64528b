// The operations that Node's packages answer, by name. Each other file of this folder exports some:
//   { 'layer.name': async (input, ctx) => output }, and throws a Refused for what Node refuses.
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

// Operations of layers whose packages differ between the releases installed here; the rest is shared.
const BY_RELEASE = /^(compact|message|manifest|extension|channel|multisig|tree)\./

module.exports = {
  names: () => [...registry.keys()].sort(),
  has: (name) => registry.has(name),
  dependsOnRelease: (name) => BY_RELEASE.test(name),
  async call (name, input, ctx) {
    const op = registry.get(name)
    if (!op) throw new BadRequest(`unknown operation: ${name}`)
    return op(input, ctx)
  }
}
