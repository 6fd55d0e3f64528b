#!/usr/bin/env node
// The Node adapter: performs the operations of the conformance suite with Node's own packages. One JSON request per
// line on stdin, one JSON answer per line on stdout, in order.
//   node adapter.js [--release 11.37.1|10.38.2]
//   node adapter.js --packages DIR     with the hypercore in DIR/node_modules, of any release, and its transport

const { parseArgs } = require('util')
const { load, loadFolder } = require('./lib/release')
const { Refused } = require('./lib/outcome')

let ctx
try {
  const { values } = parseArgs({ options: { release: { type: 'string' }, packages: { type: 'string' } } })
  if (values.release && values.packages) throw new Error('either --release or --packages')
  ctx = values.packages ? loadFolder(values.packages) : load(values.release)
} catch (err) {
  console.error(err.message)
  process.exit(2)
}

// Not earlier, since they load the selected packages.
const ops = require('./ops')

function hello () {
  const names = ops.names(ctx)
  return {
    protocol: 1,
    name: 'hypercore',
    version: ctx.release,
    language: 'javascript',
    release: ctx.release,
    ops: names,
    live: names.some((name) => name.startsWith('peer.'))
  }
}

async function answer (line) {
  let request
  try {
    request = JSON.parse(line)
  } catch (err) {
    return { id: null, error: { layer: 'adapter', class: 'bad-input', message: err.message } }
  }
  const { id, op, input } = request
  if (op === 'hello') return { id, ok: hello() }
  if (!ops.has(op, ctx)) return { id, unsupported: true }
  try {
    return { id, ok: await ops.call(op, input, ctx) }
  } catch (err) {
    if (err instanceof Refused) return { id, error: err.toJSON() }
    console.error(err)
    return { id, error: { layer: 'adapter', class: 'bad-input', message: String(err && err.message) } }
  }
}

// The lines of a stream. A line may be tens of megabytes (a record of 2^24-1 bytes in hex): readline searches all of it
// again with each chunk, so the chunks are kept apart until the line ends.
async function * lines (input) {
  let chunks = []
  for await (let chunk of input) {
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10)) {
      chunks.push(chunk.subarray(0, end))
      yield Buffer.concat(chunks).toString()
      chunks = []
      chunk = chunk.subarray(end + 1)
    }
    if (chunk.byteLength > 0) chunks.push(chunk)
  }
  if (chunks.length > 0) yield Buffer.concat(chunks).toString()
}

async function main () {
  for await (const line of lines(process.stdin)) {
    if (line.trim() === '') continue
    process.stdout.write(JSON.stringify(await answer(line)) + '\n')
  }
  process.exit(0)
}

main()
