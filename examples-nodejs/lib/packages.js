// The source of the packages under test: those pinned here, or those installed in a folder.

const fs = require('fs')
const path = require('path')
const { createRequire } = require('module')

// The package that depends on each package of the transport; the others are resolved from hypercore itself.
const BROUGHT_BY = {
  'noise-handshake': '@hyperswarm/secret-stream',
  'noise-curve-ed': '@hyperswarm/secret-stream',
  'sodium-universal': '@hyperswarm/secret-stream',
  'sodium-secretstream': '@hyperswarm/secret-stream'
}

let hypercore = null

// Takes all packages from `folder`/node_modules from now on, and returns the path of hypercore's package.json there.
function use (folder) {
  hypercore = path.resolve(folder, 'node_modules/hypercore/package.json')
  if (!fs.existsSync(hypercore)) throw new Error(`no hypercore is installed in ${path.resolve(folder, 'node_modules')}`)
  return hypercore
}

// As `require`, for the packages under test: never falls back from the folder to those pinned here.
function own (name) {
  return hypercore === null ? require(name) : foreign(name)(name)
}

// A `require` that resolves `name` as the package that depends on it would.
function foreign (name) {
  const by = BROUGHT_BY[name]
  const from = createRequire(hypercore)
  return by ? createRequire(from.resolve(by)) : from
}

// The sodium that secret-stream's own secretstream package draws headers with.
function headerSodium () {
  const name = 'sodium-secretstream'
  const from = hypercore === null ? require : foreign(name)
  return createRequire(from.resolve(name))('sodium-universal')
}

module.exports = { use, own, headerSodium }
