// Where the packages under test come from: those pinned here, or a folder where others are installed.

const fs = require('fs')
const path = require('path')
const { createRequire } = require('module')

// Who brings each package of the transport along; the others are found from hypercore itself.
const BROUGHT_BY = {
  'noise-handshake': '@hyperswarm/secret-stream',
  'noise-curve-ed': '@hyperswarm/secret-stream',
  'sodium-universal': '@hyperswarm/secret-stream',
  'sodium-secretstream': '@hyperswarm/secret-stream'
}

let hypercore = null

// Takes everything from `folder`/node_modules from now on, and gives the path of hypercore's package.json there.
function use (folder) {
  hypercore = path.resolve(folder, 'node_modules/hypercore/package.json')
  if (!fs.existsSync(hypercore)) throw new Error(`no hypercore is installed in ${path.resolve(folder, 'node_modules')}`)
  return hypercore
}

// As `require`, for the packages that an operation is about: never one of those pinned here in place of one of the folder.
function own (name) {
  return hypercore === null ? require(name) : foreign(name)(name)
}

// A `require` with which `name` is found as the package that brings it along would find it.
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
