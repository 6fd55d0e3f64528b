// Replications between two Node processes, each one directly and again through the proxy: both must end in the same
// state.
//
//   node proxy-soak.js PROGRAM [RUNS] [SEED]
//
// PROGRAM is the command hypercore-conformance. SEED, which is printed, determines the operations of each run.

const assert = require('assert')
const crypto = require('crypto')
const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const { fork } = require('child_process')
const { once } = require('events')
const { load } = require('./lib/release')
const { Proxy, within } = require('./lib/proxy')

const LIMIT = 10_000

// ---- Both processes: one end of a replication, driven by messages.

class End {
  constructor () {
    this.cores = []
    this.streams = new Set()
    // The channel of another protocol beside the cores', and its received messages.
    this.foreign = null
    this.foreignReceived = []
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'proxy-soak-'))
    this.count = 0
    this.server = net.createServer((socket) => this.connected(socket, false))
    process.on('exit', () => fs.rmSync(this.folder, { recursive: true, force: true }))
  }

  async listen () {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return this.server.address().port
  }

  // Opens the cores of a run: as their writer with a key pair, else as a reader of a key.
  async open ({ release, cores }) {
    this.ctx = load(release)
    flagged(this.ctx.messages.wire)
    fs.mkdirSync(this.folder, { recursive: true })
    this.cores = []
    for (const options of cores) {
      const core = await this.core(options)
      await core.ready()
      const received = []
      // Node decodes a message of 0 bytes to null.
      const onmessage = (message) => received.push(message === null ? '' : message.toString('hex'))
      const extension = core.registerExtension('soak', { onmessage })
      this.cores.push({ core, received, extension })
    }
    return this.cores.map(({ core }) => core.key.toString('hex'))
  }

  async core ({ key, seed, compat }) {
    const { Hypercore, crypto } = this.ctx
    const keyPair = seed ? crypto.keyPair(Buffer.from(seed, 'hex')) : undefined
    key = key ? Buffer.from(key, 'hex') : undefined
    if (this.ctx.major === 10) return new Hypercore(this.ctx.require('random-access-memory'), key, { keyPair })
    return new Hypercore(path.join(this.folder, `${this.count++}`), key, { keyPair, compat })
  }

  dial ({ port }) {
    const socket = net.connect(port, '127.0.0.1')
    return this.connected(socket, true)
  }

  connected (socket, isInitiator) {
    socket.on('error', () => {})
    const stream = this.ctx.Hypercore.createProtocolStream(isInitiator, { keepAlive: false })
    stream.noiseStream.on('error', () => {})
    socket.pipe(stream).pipe(socket)
    this.streams.add(stream)
    for (const { core } of this.cores) core.replicate(stream)
    this.foreignReceived = []
    this.foreign = stream.noiseStream.userData.createChannel({
      protocol: 'proxy-soak/foreign',
      id: Buffer.from('beside'),
      handshake: this.ctx.c.string,
      messages: [{ encoding: this.ctx.c.raw, onmessage: (message) => this.foreignReceived.push(message.toString('hex')) }],
      onopen: (handshake) => this.foreignReceived.push(handshake)
    })
    this.foreign.open(isInitiator ? 'from the initiator' : 'from the responder')
  }

  async disconnect () {
    for (const stream of this.streams) {
      const closed = stream.destroyed ? null : once(stream.noiseStream, 'close')
      stream.destroy()
      await closed
    }
    this.streams.clear()
  }

  // One operation on a core; resolves when its effect has arrived here.
  async step ({ op, at, args }) {
    const { core, received, extension } = this.cores[at]
    switch (op) {
      case 'append': return void await core.append(args.blocks.map((block) => Buffer.from(block, 'base64')))
      case 'truncate': return void await core.truncate(args.length)
      case 'clear': return void await core.clear(args.start, args.end)
      case 'follow':
        await until(async () => {
          await core.update({ wait: true })
          return core.length === args.length && core.fork === args.fork
        }, () => `length ${core.length}, fork ${core.fork}, ${core.peers.length} peers; wanted ${JSON.stringify(args)}`)
        return
      case 'get': return digest(await core.get(args.index, { timeout: LIMIT }))
      case 'download': return void await core.download({ start: args.start, end: args.end }).done()
      case 'seek': return await core.seek(args.bytes, { timeout: LIMIT })
      case 'peers':
        await until(() => core.peers.length > 0 || once(core, 'peer-add').then(() => core.peers.length > 0), () => 'no peer')
        return
      case 'foreign': return void this.foreign.messages[0].send(Buffer.from(args.message, 'base64'))
      case 'foreignReceived':
        await until(async () => this.foreignReceived.length > args.count || new Promise((resolve) => setImmediate(resolve)), () => `${this.foreignReceived.length - 1} messages of ${args.count}`)
        return
      case 'send': return void extension.broadcast(Buffer.from(args.message, 'base64'))
      case 'received':
        await until(async () => received.length >= args.count || new Promise((resolve) => setImmediate(resolve)), () => `${received.length} messages of ${args.count}`)
        return
      default: throw new Error(`no such operation: ${op}`)
    }
  }

  async state () {
    const states = []
    for (const { core, received } of this.cores) {
      const blocks = []
      for (let i = 0; i < core.length; i++) {
        blocks.push(await core.has(i) ? digest(await core.get(i, { wait: false })) : null)
      }
      // Not treeHash(): in 11.37.1 it never settles once the last blocks were cleared.
      const hash = this.ctx.major === 10 ? core.core.tree.hash() : core.core.header.tree.rootHash ?? Buffer.alloc(0)
      states.push({ length: core.length, fork: core.fork, byteLength: core.byteLength, hash: hash.toString('hex'), blocks, received })
    }
    states.push({ foreign: this.foreignReceived })
    return states
  }

  async close () {
    await this.disconnect()
    for (const { core } of this.cores) await core.close()
    this.cores = []
    fs.rmSync(this.folder, { recursive: true, force: true })
  }

  async end () {
    this.server.close()
    fs.rmSync(this.folder, { recursive: true, force: true })
  }
}

async function until (condition, describe) {
  const start = Date.now()
  while (await condition() !== true) {
    // If a condition settles at once, messages must still get their turn.
    await new Promise((resolve) => setImmediate(resolve))
    if (Date.now() - start > LIMIT / 2) throw new Error(`it never came to be: ${describe()}`)
  }
}

// Every sync, request and range has an unknown flag, from either peer.
function flagged (wire) {
  if (wire.sync.flagged) return
  wire.sync.flagged = true
  for (const message of [wire.sync, wire.request, wire.range]) {
    const { encode } = message
    message.encode = (state, value) => {
      const { start } = state
      encode(state, value)
      state.buffer[start] |= 64
    }
  }
}

function digest (block) {
  return crypto.createHash('sha256').update(block).digest('hex').slice(0, 16)
}

// ---- The other process.

function serve () {
  const end = new End()
  process.on('message', async ({ id, call, input }) => {
    try {
      process.send({ id, value: (await end[call](input)) ?? null })
    } catch (error) {
      process.send({ id, error: error.stack })
    }
  })
  process.on('disconnect', () => end.end())
}

class Remote {
  constructor () {
    this.child = fork(__filename, ['--serve'])
    this.waiting = new Map()
    this.last = 0
    this.child.on('message', ({ id, value, error }) => {
      const { resolve, reject } = this.waiting.get(id)
      this.waiting.delete(id)
      if (error) reject(new Error(error))
      else resolve(value)
    })
    for (const call of ['listen', 'open', 'dial', 'step', 'state', 'close']) {
      this[call] = (input) => new Promise((resolve, reject) => {
        const id = ++this.last
        this.waiting.set(id, { resolve, reject })
        this.child.send({ id, call, input })
      })
    }
  }
}

// ---- The plan of a run, decided before it.

class Random {
  constructor (seed) {
    this.seed = seed
    this.count = 0
  }

  bytes (length) {
    const key = crypto.createHash('sha256').update(`${this.seed}/${this.count++}`).digest()
    return crypto.createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
  }

  below (limit) {
    return this.bytes(6).readUIntBE(0, 6) % limit
  }

  of (items) {
    return items[this.below(items.length)]
  }
}

const PAIRS = [['11.37.1', '11.37.1'], ['10.38.2', '10.38.2'], ['10.38.2', '11.37.1'], ['11.37.1', '10.38.2']]

function plan (seed) {
  const random = new Random(seed)
  const [writer, reader] = random.of(PAIRS)
  const compat = writer.startsWith('11') ? random.below(2) === 0 : undefined
  const cores = Array.from({ length: 1 + random.below(3) }, () => ({
    seed: random.bytes(32).toString('hex'),
    compat,
    // The writer's blocks, and the blocks that the reader got.
    sizes: [],
    has: [],
    got: [],
    fork: 0,
    sent: { writer: 0, reader: 0 }
  }))
  const foreign = { writer: 0, reader: 0 }
  const steps = []
  const step = (who, op, at, args = {}) => steps.push({ who, op, at, args })
  const append = (core, at) => {
    const large = random.below(8) === 0
    const blocks = Array.from({ length: 1 + random.below(large ? 3 : 12) }, () => random.bytes(random.below(large ? 200_000 : 300)))
    step('writer', 'append', at, { blocks: blocks.map((block) => block.toString('base64')) })
    for (const block of blocks) {
      core.sizes.push(block.length)
      core.has.push(true)
      core.got.push(false)
    }
  }
  const follow = (core, at) => step('reader', 'follow', at, { length: core.sizes.length, fork: core.fork })
  const before = (core, at) => {
    if (random.below(4) > 0) append(core, at)
  }
  const operations = {
    append (core, at) {
      append(core, at)
      follow(core, at)
    },
    get (core, at) {
      for (let n = 1 + random.below(4); n > 0; n--) {
        const index = random.below(core.sizes.length || 1)
        if (!core.has[index] && !core.got[index]) continue
        step('reader', 'get', at, { index })
        core.got[index] = true
      }
    },
    download (core, at) {
      const start = random.below(core.sizes.length || 1)
      const end = Math.min(core.sizes.length, start + 1 + random.below(8))
      for (let i = start; i < end; i++) if (!core.has[i] && !core.got[i]) return
      if (end <= start) return
      step('reader', 'download', at, { start, end })
      core.got.fill(true, start, end)
    },
    clear (core, at) {
      if (core.sizes.length === 0) return
      const who = random.of(['writer', 'reader'])
      const start = random.below(core.sizes.length)
      const end = Math.min(core.sizes.length, start + 1 + random.below(3))
      step(who, 'clear', at, { start, end })
      core[who === 'writer' ? 'has' : 'got'].fill(false, start, end)
    },
    truncate (core, at) {
      // Readers of the other release miss blocks after a truncation, even without a proxy.
      if (core.sizes.length < 2 || writer !== reader) return
      const length = 1 + random.below(core.sizes.length - 1)
      step('writer', 'truncate', at, { length })
      for (const list of [core.sizes, core.has, core.got]) list.length = length
      core.fork++
      append(core, at)
      follow(core, at)
    },
    extension (core, at) {
      const [from, to] = random.of([['writer', 'reader'], ['reader', 'writer']])
      const messages = 1 + random.below(5)
      for (let n = 0; n < messages; n++) {
        step(from, 'send', at, { message: random.bytes(random.below(2000)).toString('base64') })
      }
      core.sent[from] += messages
      step(to, 'received', at, { count: core.sent[from] })
    },
    foreign (core, at) {
      const [from, to] = random.of([['writer', 'reader'], ['reader', 'writer']])
      step(from, 'foreign', at, { message: random.bytes(random.below(5000)).toString('base64') })
      step(to, 'foreignReceived', at, { count: ++foreign[from] })
    },
    seek (core, at) {
      // 10.38.2 sometimes does not find a byte soon after a truncation, even without a proxy.
      if (core.fork > 0 && reader.startsWith('10')) return
      const bytes = core.sizes.reduce((sum, size) => sum + size, 0)
      if (bytes === 0 || core.has.includes(false)) return
      step('reader', 'seek', at, { bytes: random.below(bytes) })
    }
  }
  const names = Object.keys(operations)
  cores.forEach(before)
  const first = steps.length
  cores.forEach((core, at) => {
    step('writer', 'peers', at)
    step('reader', 'peers', at)
    if (core.sizes.length > 0) follow(core, at)
  })
  for (let n = 3 + random.below(8); n > 0; n--) {
    const at = random.below(cores.length)
    operations[random.of(names)](cores[at], at)
  }
  return {
    seed,
    writer,
    reader,
    dialer: random.of(['writer', 'reader']),
    // Keys may come to the proxy after the peers have.
    lateKeys: random.below(2) === 0,
    cores: cores.map(({ seed, compat }) => ({ seed, compat })),
    before: steps.slice(0, first),
    steps: steps.slice(first)
  }
}

// ---- A run, directly or through a proxy.

async function replicate (plan, ends, port, proxy) {
  const { writer, reader } = ends
  const keys = await within(writer.open({ release: plan.writer, cores: plan.cores }), LIMIT, 'opening the writer')
  await within(reader.open({ release: plan.reader, cores: keys.map((key) => ({ key })) }), LIMIT, 'opening the reader')
  const addKeys = () => {
    for (const key of proxy ? keys : []) proxy.addKey(Buffer.from(key, 'hex'))
  }
  const results = []
  for (const { who, ...step } of plan.before) await within(ends[who].step(step), LIMIT, `${who} ${step.op}`)
  if (!plan.lateKeys) addKeys()
  await within(ends[plan.dialer].dial({ port }), LIMIT, 'dialling')
  if (plan.lateKeys) addKeys()
  for (const { who, ...step } of plan.steps) {
    const what = `${who} ${step.op} of core ${step.at} ${JSON.stringify(step.args).slice(0, 80)}`
    results.push(await within(ends[who].step(step), LIMIT, what))
  }
  const states = {
    writer: await within(writer.state(), LIMIT, 'the state of the writer'),
    reader: await within(reader.state(), LIMIT, 'the state of the reader')
  }
  await within(reader.close(), LIMIT, 'closing the reader')
  await within(writer.close(), LIMIT, 'closing the writer')
  return { keys, results, states }
}

function describe ({ writer, reader, dialer, cores }) {
  return `${cores.length} cores, writer ${writer}, reader ${reader}, the ${dialer} dials`
}

async function main (program, runs, seed) {
  console.log(`${runs} replications from seed ${seed}`)
  // The reader is in this process, the writer in another.
  const reader = new End()
  const writer = new Remote()
  const ends = { reader, writer }
  const ports = { reader: await reader.listen(), writer: await writer.listen() }
  const proxies = {
    reader: await Proxy.start(program, ports.reader, ['--quiet']),
    writer: await Proxy.start(program, ports.writer, ['--quiet'])
  }
  const counts = {}
  const time = { direct: 0, proxied: 0 }
  const unusable = []
  for (let run = 0, done = 0; done < runs; run++) {
    const what = plan(`${seed}/${run}`)
    const listener = what.dialer === 'reader' ? 'writer' : 'reader'
    const start = Date.now()
    let direct = null
    try {
      direct = await replicate(what, ends, ports[listener], null)
    } catch (error) {
      // If Node fails without a proxy, there is nothing to compare with: another run takes its place.
      unusable.push(`run ${run} (${describe(what)}): ${error.message}`)
      if (unusable.length > 2 + runs / 20) throw new Error(`Node itself fails too often:\n${unusable.join('\n')}`)
      for (const end of Object.values(ends)) await within(end.close(), LIMIT, 'closing')
      continue
    }
    const middle = Date.now()
    try {
      const proxied = await replicate(what, ends, proxies[listener].port, proxies[listener])
      assert.deepStrictEqual(proxied, direct)
    } catch (error) {
      const steps = what.steps.map(({ who, op, at, args }) => `${who} ${op} ${at} ${JSON.stringify(args).slice(0, 60)}`)
      throw new Error(`run ${run} of seed ${seed} (${describe(what)}): ${error.stack}\n${steps.join('\n')}`)
    }
    time.direct += middle - start
    time.proxied += Date.now() - middle
    for (const { op } of [...what.before, ...what.steps]) counts[op] = (counts[op] || 0) + 1
    done++
  }
  for (const proxy of Object.values(proxies)) assert.strictEqual(await proxy.stop(), 0)
  writer.child.disconnect()
  await reader.end()
  const operations = Object.entries(counts).map(([op, count]) => `${count} ${op}`).join(', ')
  for (const line of unusable) console.log(`left out, for Node fails without a proxy: ${line}`)
  console.log(`${runs} ended as the direct ones did: ${operations}; ${time.direct} ms direct, ${time.proxied} ms through the proxy`)
}

if (process.argv[2] === '--serve') serve()
else {
  const [program, runs = '200', seed = crypto.randomBytes(8).toString('hex')] = process.argv.slice(2)
  main(program, Number(runs), seed).catch((error) => {
    console.error(error.message)
    process.exit(1)
  })
}
