#!/usr/bin/env node
// Node's side of the differential: decodes batches of inputs with the packages of a release, as fast as it can.
// One JSON batch a line on stdin, { release, op, input, bytes: [hex, …] }, where each of `bytes` is put into a copy of `input`;
// one JSON list of outcomes a line on stdout, { ok } or { error: { layer, class, message } }. It is kept running.

const readline = require('readline')
const { load } = require('./lib/release')
const { Refused } = require('./lib/outcome')
const ops = require('./ops')

async function outcome (op, input, ctx) {
  try {
    return { ok: await ops.call(op, input, ctx) }
  } catch (err) {
    if (err instanceof Refused) return { error: err.toJSON() }
    // What the table of errors does not know: told as it is, so that the other side shows it.
    return { error: { layer: 'node', class: 'unknown', message: String(err && err.message) } }
  }
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const { release, op, input, bytes } = JSON.parse(line)
    const ctx = load(release)
    const outcomes = []
    for (const one of bytes) outcomes.push(await outcome(op, { ...input, bytes: one }, ctx))
    process.stdout.write(JSON.stringify(outcomes) + '\n')
  }
}

main()
