#!/usr/bin/env node
// Records vectors/ from Node's own packages.
//   node record [--out DIR]   records all layers into DIR (default: vectors/ of this repository)
//   node record --check       records into a temporary folder and compares it with vectors/
//   node record --verify      runs every case of vectors/ on the adapter and compares the answers
// Each other file of this folder records one layer: module.exports = async () => [VectorFile, …].

const fs = require('fs')
const os = require('os')
const path = require('path')
const { check } = require('../lib/vectors')

const VECTORS = path.join(__dirname, '..', '..', 'vectors')

async function record () {
  const files = []
  for (const name of fs.readdirSync(__dirname).sort()) {
    if (!name.endsWith('.js') || name === 'index.js' || name === 'verify.js') continue
    files.push(...await require(path.join(__dirname, name))())
  }
  check(files)
  return files
}

function write (files, out) {
  for (const file of files) {
    const target = path.join(out, file.path)
    fs.mkdirSync(path.dirname(target), { recursive: true })
    fs.writeFileSync(target, file.toString())
  }
}

// Every vector file under a folder, by its path in it; the schema and the documents are not vectors.
function list (root) {
  const out = []
  for (const layer of fs.readdirSync(root, { withFileTypes: true })) {
    if (!layer.isDirectory() || layer.name === 'schema') continue
    for (const name of fs.readdirSync(path.join(root, layer.name))) if (name.endsWith('.json')) out.push(`${layer.name}/${name}`)
  }
  return out.sort()
}

function compare (fresh, kept) {
  const faults = []
  const names = new Set([...list(fresh), ...list(kept)])
  for (const name of [...names].sort()) {
    const [a, b] = [fresh, kept].map((root) => path.join(root, name)).map((p) => (fs.existsSync(p) ? fs.readFileSync(p, 'utf8') : null))
    if (a === b) continue
    if (a === null) faults.push(`${name}: no recorder writes it`)
    else if (b === null) faults.push(`${name}: recorded, but not in vectors/`)
    else faults.push(`${name}: ${difference(JSON.parse(a), JSON.parse(b))}`)
  }
  return faults
}

function difference (fresh, kept) {
  const cases = (file) => new Map(file.groups.flatMap((g) => g.cases).map((c) => [c.id, JSON.stringify(c)]))
  const [a, b] = [cases(fresh), cases(kept)]
  const ids = [...new Set([...a.keys(), ...b.keys()])].filter((id) => a.get(id) !== b.get(id))
  if (ids.length === 0) return 'differs outside its cases'
  return `differs in ${ids.length} cases, the first is ${ids[0]}`
}

async function main (args) {
  const flag = (name) => args.includes(name)
  const out = flag('--out') ? path.resolve(args[args.indexOf('--out') + 1]) : VECTORS
  if (flag('--verify')) return require('./verify')(VECTORS, list)
  const files = await record()
  const count = files.reduce((n, f) => n + f.groups.reduce((m, g) => m + g.cases.length, 0), 0)
  if (!flag('--check')) {
    write(files, out)
    console.log(`recorded ${count} cases in ${files.length} files`)
    return 0
  }
  const temp = fs.mkdtempSync(path.join(os.tmpdir(), 'vectors-'))
  try {
    write(files, temp)
    const faults = compare(temp, VECTORS)
    for (const fault of faults) console.error(fault)
    console.log(faults.length ? `${faults.length} of ${files.length} files differ` : `${count} cases in ${files.length} files are as recorded`)
    return faults.length ? 1 : 0
  } finally {
    fs.rmSync(temp, { recursive: true, force: true })
  }
}

main(process.argv.slice(2)).then((code) => process.exit(code), (err) => {
  console.error(err)
  process.exit(1)
})
