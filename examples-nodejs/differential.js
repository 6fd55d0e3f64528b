#!/usr/bin/env node
// Node's side of the differential: decodes batches of inputs with the packages of some releases, as fast as it can. One
// JSON batch per line on stdin, { releases, op, input, bytes: [hex, …] }, where each of `bytes` is put into a copy of
// `input`; an outcome per line on stdout, { ok } or { error: { layer, class, message } }: of all inputs by the first
// release, then by the next. The process is kept running.

const readline = require('readline')
const { load } = require('./lib/release')
const { Refused } = require('./lib/outcome')
const ops = require('./ops')

// Half of the inputs are refused, and the stack is not used.
Error.stackTraceLimit = 0

const releases = new Map()

// A release with each of its parts looked up once: `load` resolves a package's name each time.
function release (name) {
  if (!releases.has(name)) {
    const ctx = load(name)
    const once = (part) => ({ configurable: true, get () { return define(this, part, ctx[part]) } })
    releases.set(name, Object.defineProperties({}, Object.fromEntries(Object.keys(ctx).map((part) => [part, once(part)]))))
  }
  return releases.get(name)
}

function define (object, name, value) {
  Object.defineProperty(object, name, { value })
  return value
}

async function outcome (op, input, ctx) {
  try {
    return { ok: await ops.call(op, input, ctx) }
  } catch (err) {
    if (err instanceof Refused) return { error: err.toJSON() }
    // Errors missing from the table are passed on unchanged, so that the other side reports them.
    return { error: { layer: 'node', class: 'unknown', message: String(err && err.message) } }
  }
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const { releases, op, input, bytes } = JSON.parse(line)
    for (const name of releases) {
      const ctx = release(name)
      let outcomes = ''
      for (const one of bytes) outcomes += JSON.stringify(await outcome(op, { ...input, bytes: one }, ctx)) + '\n'
      process.stdout.write(outcomes)
    }
  }
}

main()
