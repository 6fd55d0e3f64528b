// The modules built by .ci/wasm, loaded in Node: the same files that a page loads.

const fs = require('fs')
const path = require('path')
const { pathToFileURL } = require('url')

const PAGE = path.join(__dirname, '..', '..', 'target', 'wasm', 'page')

// name: `pkg` for the crate, `vectors` for the operations of the conformance suite.
async function load (name) {
  const folder = path.join(PAGE, name)
  const script = fs.existsSync(folder) && fs.readdirSync(folder).find((file) => file.endsWith('.js'))
  if (!script) throw new Error(`${folder} is not built: run .ci/wasm`)
  const library = await import(pathToFileURL(path.join(folder, script)))
  library.initSync({ module: fs.readFileSync(path.join(folder, script.replace(/\.js$/, '_bg.wasm'))) })
  return library
}

// The WebSocket classes available in this Node: its own since Node 22, and that of the package `ws`.
function webSockets () {
  const found = { ws: require('ws').WebSocket }
  if (globalThis.WebSocket) found.native = globalThis.WebSocket
  return found
}

module.exports = { PAGE, load, webSockets }
