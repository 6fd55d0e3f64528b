// What the scripts share: a folder for their cores, and proofs as objects that can be changed.

const fs = require('fs')
const os = require('os')
const path = require('path')
const { createRequire } = require('module')

const packages = createRequire(path.join(__dirname, '..', '..', '..', 'examples-nodejs', 'package.json'))
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reports-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))

let count = 0

async function open (key, opts) {
  const Hypercore = packages('hypercore')
  const core = new Hypercore(path.join(folder, String(count++)), key, opts)
  await core.ready()
  return core
}

// A proof as it comes in data.
async function prove (core, request) {
  const proof = await core.proof(request)
  const data = proof.settle ? await proof.settle() : proof
  return { ...data, fork: core.fork, manifest: core.manifest }
}

const verify = (core, data) => core.core.verify(data, null).catch((err) => err.message.split(' (')[0])

function main (run) {
  run().then(() => process.exit(0), (err) => { console.error(err); process.exit(1) })
}

module.exports = { packages, open, prove, verify, main }
