#!/usr/bin/env node
// An adapter for the conformance suite: the crate in WebAssembly. Everything except the live operations.
//   cargo run --release -- run --adapter 'node examples-nodejs/wasm/adapter.js'
// .ci/wasm builds its modules.

const { version } = require('process')
const { load } = require('./load')

// Lines of tens of megabytes: the chunks of a line are kept apart until it ends.
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
}

async function main () {
  const { ops, call } = await load('vectors')
  const hello = {
    protocol: 1,
    name: 'hypercore-protocol',
    version: `in WebAssembly, Node ${version}`,
    language: 'rust',
    release: null,
    ops: ops(),
    live: false
  }
  for await (const line of lines(process.stdin)) {
    const { id, op, input } = JSON.parse(line)
    // The module's answer is not parsed again: its exact output is judged.
    const answer = op === 'hello' ? JSON.stringify({ ok: hello }) : call(op, JSON.stringify(input ?? null))
    process.stdout.write(`{"id":${id},${answer.slice(1)}\n`)
  }
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
