#!/usr/bin/env node
// Keeps the schemas of vectors/ in step: an operation is described once, as `input.NAME` and `output.NAME` in the $defs
// of vectors.schema.json.
//   node schemas           generates the rest of an operation in both schemas, and writes them
//   node schemas --check   fails if anything would be written
// The adapter protocol is the same without the short forms of long values, which only files have.

const fs = require('fs')
const path = require('path')
const { isDeepStrictEqual } = require('util')

const FOLDER = path.join(__dirname, '..', 'vectors', 'schema')
const ref = (name) => ({ $ref: `#/$defs/${name}` })

// Short forms in files, and their equivalents on the wire. Alternatives have no digest.
const WIRE = { bytes: ref('hex'), outBytes: ref('hex'), outText: { type: 'string' } }

// Answers of adapters beyond those in vectors, and places where any string is allowed.
const OWN = ['layer', 'class', 'compactValue']

function onTheWire (schema) {
  if (Array.isArray(schema)) return schema.filter((one) => one?.$ref !== ref('digest').$ref).map(onTheWire)
  if (schema === null || typeof schema !== 'object') return schema
  const name = schema.$ref?.slice(ref('').$ref.length)
  if (WIRE[name]) return WIRE[name]
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, onTheWire(value)]))
}

// The same object with an entry inserted after another.
function insert (object, after, key, value) {
  const entries = Object.entries(object)
  entries.splice(entries.findIndex(([name]) => name === after) + 1, 0, [key, value])
  return Object.fromEntries(entries)
}

// Inserts `make(op)` into a list for each op without an item, after that of the op before it.
function complete (list, ops, opOf, make) {
  for (const [at, op] of ops.entries()) {
    if (list.some((item) => opOf(item) === op)) continue
    list.splice(list.findIndex((item) => opOf(item) === ops[at - 1]) + 1, 0, make(op))
  }
}

const condition = (item) => item.if.properties.op.const
const when = (op, then) => ({ if: { properties: { op: { const: op } } }, then: { properties: then } })

function caseOf (op) {
  const output = ref(`output.${op}`)
  const expect = { properties: { output, outputs: { items: output } } }
  const releases = { additionalProperties: { properties: { expect } } }
  return when(op, { cases: { items: { properties: { input: ref(`input.${op}`), expect, releases } } } })
}

function keep (vectors, adapter) {
  const defs = vectors.$defs
  const ops = Object.keys(defs).filter((name) => name.startsWith('input.')).map((name) => name.slice('input.'.length))
  complete(defs.group.properties.op.enum, ops, (op) => op, (op) => op)
  complete(defs.group.allOf, ops, condition, caseOf)
  let last = null
  for (const [name, schema] of Object.entries(defs)) {
    const isOp = /^(input|output)\./.test(name)
    if (OWN.includes(name) || !(isOp || name in adapter.$defs)) continue
    if (!(name in adapter.$defs)) adapter.$defs = insert(adapter.$defs, last, name, null)
    const derived = onTheWire(schema)
    if (!isDeepStrictEqual(adapter.$defs[name], derived)) adapter.$defs[name] = derived
    if (isOp) last = name
  }
  complete(adapter.$defs.request.allOf, ops, condition, (op) => when(op, { input: ref(`input.${op}`) }))
}

function main (args) {
  const files = ['vectors', 'adapter'].map((name) => path.join(FOLDER, `${name}.schema.json`))
  const texts = files.map((file) => fs.readFileSync(file, 'utf8'))
  const schemas = texts.map((text) => JSON.parse(text))
  keep(...schemas)
  let code = 0
  for (const [at, file] of files.entries()) {
    const text = JSON.stringify(schemas[at], null, 2) + '\n'
    if (text === texts[at]) continue
    if (args.includes('--check')) {
      console.error(`${path.relative('.', file)} is out of date: run \`node schemas\``)
      code = 1
    } else {
      fs.writeFileSync(file, text)
    }
  }
  return code
}

process.exit(main(process.argv.slice(2)))
