// Cores of one hypercore release, and the streams that replicate them, for the crate's tests of impl/tests/replication.
//
//   node interop/replication.js '{"release":"11.37.1"}'
//   node interop/replication.js '{"packages":"DIR"}'     with the hypercore in DIR/node_modules, of any release
//
// Requests are lines of JSON, { id, op, input }, answered by { id, ok } or { id, error }. Events come between them.

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const { createHash } = require('crypto')
const b4a = require('b4a')
const { load, loadFolder } = require('../lib/release')

const { release, packages } = JSON.parse(process.argv[2])
const { Hypercore, c, crypto, major, messages, require: own } = packages ? loadFolder(packages) : load(release)
const isOld = major === 10
// Up to 10.22 a truncation takes the number of the fork instead of options.
const truncatesByFork = !Hypercore.prototype.truncate.toString().split('{')[0].includes('opts')

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-replication-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))

const cores = new Map()
const streams = new Set()
const downloads = new Map()
let signersMade = 0

// Node prints warnings of conflicts to stdout, which is for answers here.
console.log = console.error
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const hex = (buffer) => b4a.toString(buffer, 'hex')
const unhex = (text) => b4a.from(text, 'hex')
const keyPair = (seed) => crypto.keyPair(b4a.alloc(32, seed))

// The i-th block of a generated core, the same as on the other side.
function block (index, size) {
  const block = b4a.alloc(size)
  for (let i = 0; i < size; i++) block[i] = (index * 31 + i * 7 + (i >> 8)) & 0xff
  return block
}

function core ({ core = 'core' }) {
  return cores.get(core)
}

const ops = {
  // Answered once the packages are loaded.
  ready () {
    return {}
  },

  // A core: with `key` to be read; else to be written, by the key pair of a byte `seed` or under a `manifest` in hex,
  // where the `signers` of each append sign it if the `seed` is null.
  async open ({ core: name = 'core', key, seed = 1, compat, manifest }) {
    const opts = {}
    if (compat !== undefined) opts.compat = compat
    if (key === undefined) opts.keyPair = seed === null ? null : keyPair(seed)
    if (manifest !== undefined) {
      opts.compat = false
      opts.manifest = c.decode(messages.manifest, unhex(manifest))
    }
    const made = await create(name, key === undefined ? null : unhex(key), opts)
    cores.set(name, made)
    watch(name, made)
    for (const stream of streams) made.replicate(stream)
    return { key: hex(made.key), manifest: made.manifest !== null }
  },

  listen () {
    const server = net.createServer((socket) => {
      server.close()
      connect(false, socket)
    })
    return new Promise((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port }))
    })
  },

  dial ({ port }) {
    connect(true, net.connect(port, '127.0.0.1'))
    return {}
  },

  // Ends all streams.
  async disconnect () {
    const closed = [...streams].map((stream) => new Promise((resolve) => stream.on('close', resolve)))
    for (const stream of streams) stream.destroy()
    await Promise.all(closed)
    return {}
  },

  // With `signers`, the seeds of the signers; `ahead` says how many more blocks each has signed.
  async append (input) {
    const { blocks, from = core(input).length, count = 0, size = 0, signers, ahead = [] } = input
    const values = blocks ? blocks.map(unhex) : Array.from({ length: count }, (_, at) => block(from + at, size))
    const more = ahead.map((length) => Array.from({ length }, (_, at) => block(from + count + at, size)))
    await core(input).append(values, signers ? { signature: await sign(core(input), values, signers, more) } : {})
    return { length: core(input).length }
  },

  async truncate (input) {
    const { length, signers } = input
    const it = core(input)
    const opts = { fork: it.fork + 1 }
    if (signers) opts.signature = assemble(it, signers, await truncated(it, length, opts.fork))
    await it.truncate(length, truncatesByFork ? opts.fork : opts)
    return { fork: it.fork }
  },

  async clear (input) {
    await core(input).clear(input.start, input.end)
    return {}
  },

  async info (input) {
    const it = core(input)
    return {
      length: it.length,
      byteLength: it.byteLength,
      fork: it.fork,
      contiguousLength: it.contiguousLength,
      treeHash: it.length === 0 ? null : hex(await it.treeHash())
    }
  },

  async update (input) {
    return { updated: await core(input).update({ wait: true }) }
  },

  async get (input) {
    const value = await core(input).get(input.index, { timeout: 25_000 })
    return { length: value.byteLength, value: value.byteLength <= 1024 ? hex(value) : null, sha256: digest([value]) }
  },

  // Requests a block without waiting.
  want (input) {
    core(input).get(input.index).catch(() => {})
    return {}
  },

  async has (input) {
    return { has: await core(input).has(input.index) }
  },

  async seek (input) {
    const [index, offset] = await core(input).seek(input.bytes, { timeout: 25_000 })
    return { index, offset }
  },

  // Downloads until all blocks are here.
  async download (input) {
    const range = core(input).download({ start: input.start || 0, end: input.end, linear: !!input.linear })
    // The name in 10.0.0.
    await (range.done ? range.done() : range.downloaded())
    return {}
  },

  // Keeps the core complete from now on.
  follow (input) {
    downloads.set(input.core || 'core', core(input).download({ start: 0, end: -1 }))
    return {}
  },

  // Waits until this many blocks, of a fork, are held.
  async whole (input) {
    const it = core(input)
    const { length, fork = it.fork } = input
    while (it.fork !== fork || it.length < length || it.contiguousLength < length) {
      await new Promise((resolve) => changed.push(resolve))
    }
    return {}
  },

  // Of blocks, each with its length.
  async digest (input) {
    const it = core(input)
    const hash = createHash('sha256')
    for (let index = input.start || 0; index < (input.end || it.length); index++) add(hash, await it.get(index))
    return { sha256: hash.digest('hex') }
  },

  // Corrupts a part of all later data messages: block, node, upgradeNode, signature or manifest.
  tamper (input) {
    const spoil = (peer) => {
      const send = peer.wireData.send
      peer.wireData.send = function (data) {
        return send.call(this, spoiled(data, input.part))
      }
    }
    core(input).on('peer-add', spoil)
    return {}
  },

  // Closes a core.
  async close (input) {
    await core(input).close()
    cores.delete(input.core || 'core')
    return {}
  }
}

// Callbacks for changes of a core.
let changed = []
function change () {
  const waiting = changed
  changed = []
  for (const resolve of waiting) resolve()
}

function watch (name, it) {
  it.on('append', () => { say({ event: 'append', core: name, length: it.length }); change() })
  it.on('truncate', (length, fork) => { say({ event: 'truncate', core: name, length, fork }); change() })
  it.on('download', change)
  it.on('conflict', (length, fork) => say({ event: 'conflict', core: name, length, fork }))
  it.on('peer-add', () => say({ event: 'peerAdded', core: name }))
  it.on('peer-remove', () => say({ event: 'peerRemoved', core: name }))
  it.on('verification-error', (err) => {
    say({ event: 'verificationError', core: name, code: err.code, message: err.message })
  })
}

function connect (isInitiator, socket) {
  socket.setNoDelay(true)
  const stream = Hypercore.createProtocolStream(isInitiator)
  streams.add(stream)
  stream.on('error', (err) => say({ event: 'streamError', code: err.code, message: err.message }))
  stream.on('close', () => {
    streams.delete(stream)
    say({ event: 'streamClosed' })
  })
  socket.on('error', () => {})
  socket.pipe(stream).pipe(socket)
  for (const it of cores.values()) it.replicate(stream)
}

function add (hash, value) {
  const length = b4a.alloc(4)
  length.writeUInt32LE(value.byteLength)
  hash.update(length).update(value)
}

function digest (values) {
  const hash = createHash('sha256')
  for (const value of values) add(hash, value)
  return hash.digest('hex')
}

function flipped (buffer, at = buffer.byteLength - 1) {
  const copy = b4a.from(buffer)
  copy[at] ^= 1
  return copy
}

function spoiled (data, part) {
  const node = ([first, ...rest]) => [{ ...first, hash: flipped(first.hash) }, ...rest]
  const { block, upgrade, manifest } = data
  if (part === 'block' && block && block.value.byteLength > 0) {
    return { ...data, block: { ...block, value: flipped(block.value) } }
  }
  if (part === 'node' && block && block.nodes.length > 0) {
    return { ...data, block: { ...block, nodes: node(block.nodes) } }
  }
  if (part === 'upgradeNode' && upgrade && upgrade.nodes.length > 0) {
    return { ...data, upgrade: { ...upgrade, nodes: node(upgrade.nodes) } }
  }
  if (part === 'signature' && upgrade) {
    // Within the first signature, even if there are several.
    return { ...data, upgrade: { ...upgrade, signature: flipped(upgrade.signature, 40) } }
  }
  if (part === 'manifest' && manifest) {
    const [first, ...rest] = manifest.signers
    return { ...data, manifest: { ...manifest, signers: [{ ...first, publicKey: flipped(first.publicKey) }, ...rest] } }
  }
  return data
}

// The batch of a tree extended by these blocks.
function extended (it, values) {
  const batch = isOld ? it.core.tree.batch() : it.core.state.createTreeBatch()
  for (const value of values) batch.append(value)
  return batch
}

// The batch of a truncated tree.
async function truncated (it, length, fork) {
  if (isOld) return it.core.tree.truncate(length, fork)
  const batch = it.core.state.createTreeBatch()
  await own('./lib/merkle-tree.js').MerkleTree.truncate(it.core.state, length, batch, fork)
  return batch
}

// The index of a seed's signer in the manifest.
function placeOf (it, seed) {
  const { publicKey } = keyPair(seed)
  return it.core.verifier.signers.findIndex((signer) => b4a.equals(signer.publicKey, publicKey))
}

// These seeds' signatures of a batch, combined in the format of the manifest's version.
function assemble (it, seeds, batch) {
  const { verifier } = it.core
  return verifier.assemble(seeds.map((seed) => {
    const signer = placeOf(it, seed)
    return { signer, signature: verifier.signers[signer].sign(batch, keyPair(seed)), patch: 0, nodes: null }
  }))
}

// A multi-signature for these blocks; each signer signs a core that also has its part of `more`.
async function sign (it, values, seeds, more) {
  if (more.every((values) => values.length === 0)) return assemble(it, seeds, extended(it, values))
  const { verifier } = it.core
  const length = it.length + values.length
  const parts = []
  for (const [at, seed] of seeds.entries()) {
    const signer = await create(`signer-${signersMade++}`, null, { keyPair: keyPair(seed), manifest: it.core.header.manifest })
    if (it.fork > 0) await signer.truncate(0, it.fork)
    for (let index = 0; index < it.length; index++) await signer.append(await it.get(index))
    await signer.append([...values, ...more[at]])
    parts.push(await own('./lib/multisig.js').partialSignature(isOld ? signer.core.tree : signer.core, placeOf(it, seed), length))
    await signer.close()
  }
  return verifier.assemble(parts)
}

async function create (name, key, opts) {
  const it = new Hypercore(path.join(folder, name), key, opts)
  await it.ready()
  return it
}

let buffered = ''
process.stdin.setEncoding('utf8')
process.stdin.on('data', (chunk) => {
  buffered += chunk
  const lines = buffered.split('\n')
  buffered = lines.pop()
  for (const line of lines) answer(JSON.parse(line))
})
// The test is gone.
process.stdin.on('end', () => process.exit())

async function answer ({ id, op, input }) {
  try {
    say({ id, ok: await ops[op](input) })
  } catch (err) {
    say({ id, error: { code: err.code, message: err.message } })
  }
}
