// Proofs of one hypercore release, made and verified without a wire, for the crate's tests of impl/tests/proofs.rs.
//
//   node interop/proofs.js '{"release":"11.37.1"}'
//
// Requests are lines of JSON, { id, op, input }, answered by { id, ok } or { id, error }. Messages, manifests and
// signatures are hex of their encodings.

const fs = require('fs')
const os = require('os')
const path = require('path')
const b4a = require('b4a')
const { load } = require('../lib/release')

const { release } = JSON.parse(process.argv[2])
const { Hypercore, c, crypto, messages, require: own } = load(release)
const isOld = release.startsWith('10.')
const multisig = own('./lib/multisig.js')

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-proofs-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))

const cores = new Map()
const reorgs = new Map()
let made = 0

const hex = (buffer) => buffer && b4a.toString(buffer, 'hex')
const unhex = (text) => b4a.from(text, 'hex')

// The i-th block, generated as on the other side.
function block (index, size) {
  const block = b4a.alloc(size)
  for (let i = 0; i < size; i++) block[i] = (index * 31 + i * 7 + (i >> 8)) & 0xff
  return block
}

function state (it) {
  return isOld ? it.core.tree : it.core.state
}

async function prove (it, request) {
  // As the replicator's _getProof: data of another fork, or not held, is absent.
  if (request.fork !== state(it).fork) return null
  if (request.block && !it.core.bitfield.get(request.block.index)) return null
  if (isOld) {
    const proof = await it.core.tree.proof(request)
    if (proof.block) proof.block.value = await it.core.blocks.get(request.block.index)
    return proof
  }
  // Not with its own proof(), which starts the reads before a seek has requested all of them.
  const { MerkleTree } = own('./lib/merkle-tree.js')
  const reads = it.core.storage.read()
  let value = null
  if (request.block) {
    value = reads.getBlock(request.block.index)
    value.catch(() => {})
  }
  let made
  try {
    made = await MerkleTree.proof(it.core.state, reads, request)
  } catch (err) {
    reads.destroy()
    throw err
  }
  reads.tryFlush()
  const proof = await made.settle()
  if (proof.block) proof.block.value = await value
  return proof
}

const ops = {
  // A core that is read by its `key`, or written by the key pair of a byte `seed`, optionally with a `manifest`, and
  // signed as by the oldest releases if `legacy`.
  async open ({ core, key, seed, manifest, compat, legacy }) {
    const opts = { legacy: !!legacy }
    if (seed !== undefined && seed !== null) opts.keyPair = crypto.keyPair(b4a.alloc(32, seed))
    if (manifest) opts.manifest = c.decode(messages.manifest, unhex(manifest))
    if (compat !== undefined) opts.compat = compat
    const storage = isOld ? own('random-access-memory') : path.join(folder, String(made++))
    const it = new Hypercore(storage, key ? unhex(key) : null, opts)
    await it.ready()
    cores.set(core, it)
    return { key: hex(it.key) }
  },

  async close ({ core }) {
    await cores.get(core).close()
    cores.delete(core)
    return {}
  },

  // Appends the blocks from `from` on, of these sizes.
  async append ({ core, from, sizes, signature }) {
    const it = cores.get(core)
    const values = sizes.map((size, at) => block(from + at, size))
    await it.append(values, signature ? { signature: unhex(signature) } : {})
    return this.info({ core })
  },

  async truncate ({ core, length }) {
    await cores.get(core).truncate(length)
    return this.info({ core })
  },

  async info ({ core }) {
    const it = cores.get(core)
    const { length, fork, signature } = state(it)
    const treeHash = isOld ? it.core.tree.hash() : own('hypercore-crypto').tree(state(it).roots)
    return { length, fork, signature: hex(signature), treeHash: hex(treeHash) }
  },

  // Combines these cores' signatures of their first `length` blocks. `parts` are { core, signer }.
  async assemble ({ parts, length }) {
    const inputs = []
    for (const { core, signer } of parts) {
      const it = cores.get(core)
      inputs.push(await multisig.partialSignature(isOld ? it.core.tree : it.core, signer, length))
    }
    const { verifier } = cores.get(parts[0].core).core
    return { signature: hex(verifier.assemble(inputs)) }
  },

  // The answer to a request; { none } if there is none, { code } if the request is refused.
  async prove ({ core, request: bytes }) {
    const it = cores.get(core)
    const request = c.decode(messages.wire.request, unhex(bytes))
    try {
      const proof = await prove(it, request)
      if (proof === null) return { none: true }
      const manifest = request.manifest && !it.core.compat ? it.core.header.manifest : null
      return { data: hex(c.encode(messages.wire.data, { request: request.id, ...proof, fork: request.fork, manifest })) }
    } catch (err) {
      return { code: err.code || err.name }
    }
  },

  // Whether a core takes these answers, one after the other, and the code where it refuses. One of a later fork is
  // verified and not applied.
  async verify ({ core, data: list }) {
    const it = cores.get(core)
    const results = []
    for (const bytes of list) results.push(await this.one(it, bytes))
    return { results, state: await this.info({ core }) }
  },

  // Takes an upgrade of a later fork, or a hash that the last one wants.
  async reorg ({ core, data }) {
    const it = cores.get(core)
    const proof = c.decode(messages.wire.data, unhex(data))
    if (proof.upgrade) reorgs.set(core, await it.core.verifyReorg(proof))
    else await reorgs.get(core).update(proof)
    const { want, ancestors } = reorgs.get(core)
    return { want, ancestors }
  },

  async applyReorg ({ core }) {
    await cores.get(core).core.reorg(reorgs.get(core), null)
    return this.info({ core })
  },

  async one (it, bytes) {
    let data
    try {
      data = c.decode(messages.wire.data, unhex(bytes))
    } catch (err) {
      return { accepted: false, code: 'MALFORMED' }
    }
    try {
      if (data.fork > state(it).fork && data.upgrade) {
        const { want, ancestors } = await it.core.verifyReorg(data)
        return { accepted: true, want, ancestors }
      }
      return { accepted: await it.core.verify(data, null), code: null }
    } catch (err) {
      return { accepted: false, code: err.code || err.name, message: err.message }
    }
  }
}

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')

async function answer ({ id, op, input }) {
  try {
    say({ id, ok: await ops[op](input) })
  } catch (err) {
    say({ id, error: { code: err.code, message: err.stack } })
  }
}

let buffered = []
let busy = Promise.resolve()
process.stdin.on('data', (chunk) => {
  for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10)) {
    const line = Buffer.concat([...buffered, chunk.subarray(0, end)])
    buffered = []
    chunk = chunk.subarray(end + 1)
    busy = busy.then(() => answer(JSON.parse(line)))
  }
  buffered.push(chunk)
})
// The test is gone.
process.stdin.on('end', () => process.exit())
