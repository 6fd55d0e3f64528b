// Whole conversations between two real hypercores, with fixed keys, so that the same releases send the same bytes each
// time. record/transcript.js records them as vectors; interop/conversations.js replays them with other releases.

const fs = require('fs')
const os = require('os')
const path = require('path')
const b4a = require('b4a')
const RAM = require('random-access-memory')
const { Duplex } = require('streamx')
const { own } = require('./packages')
const { fix, seed, header, keyPair } = require('./deterministic')

const SecretStream = own('@hyperswarm/secret-stream')

const hex = (b) => b4a.toString(b, 'hex')
const ROLES = ['initiator', 'responder']
const KEYS = {
  initiator: { staticSeed: seed(0x11), ephemeralSeed: seed(0x12), header: header(0xa1) },
  responder: { staticSeed: seed(0x21), ephemeralSeed: seed(0x22), header: header(0xb1) }
}

// Resolves when the event loop is idle: every read and write of both cores is done.
const quiet = () => new Promise((resolve) => process.once('beforeExit', () => setImmediate(resolve)))

// Waits for a promise whose work may have no handle of its own.
async function finish (promise) {
  const settled = promise.then((value) => ({ value }))
  for (;;) {
    const seen = await Promise.race([settled, quiet()])
    if (seen !== undefined) return seen.value
  }
}

class Conversation {
  // `load` returns the packages of a release.
  constructor (load) {
    this.load = load
    this.folders = []
    this.cores = []
    this.ends = {}
    this.sent = [] // { from, bytes } in the order in which they left
    this.delivered = 0
    this.log = [] // { role, write } and { role, receive }, as each side lived it
  }

  async open (release, key, opts) {
    const { Hypercore } = this.load(release)
    let storage = () => new RAM()
    if (!release.startsWith('10.')) {
      storage = fs.mkdtempSync(path.join(os.tmpdir(), 'transcript-'))
      this.folders.push(storage)
    }
    const core = key ? new Hypercore(storage, key, opts) : new Hypercore(storage, opts)
    this.cores.push(core)
    await finish(core.ready())
    return core
  }

  replicate (role, core) {
    const raw = new Duplex({
      write: (data, cb) => {
        this.sent.push({ from: role, bytes: hex(data) })
        cb(null)
      }
    })
    const stream = new SecretStream(role === 'initiator', raw, { keyPair: keyPair(KEYS[role].staticSeed) })
    fix(stream, KEYS[role])
    const end = { raw, stream, key: null, handshakeHash: null }
    const setup = stream._setupSecretStream
    stream._setupSecretStream = function (tx, rx, hash, ...rest) {
      end.key = hex(tx.subarray(0, 32))
      end.handshakeHash = hex(hash)
      return setup.call(this, tx, rx, hash, ...rest)
    }
    const write = stream._write
    stream._write = (data, cb) => {
      this.log.push({ role, write: hex(data) })
      return write.call(stream, data, cb)
    }
    stream.on('error', (err) => { end.error = err })
    core.replicate(stream, { keepAlive: false })
    this.ends[role] = end
  }

  // Delivers one chunk at a time, each when both sides have processed the ones before it.
  async settle () {
    for (;;) {
      await quiet()
      if (this.delivered === this.sent.length) return
      const { from, bytes } = this.sent[this.delivered++]
      const role = from === 'initiator' ? 'responder' : 'initiator'
      this.log.push({ role, receive: bytes })
      this.ends[role].raw.push(b4a.from(bytes, 'hex'))
    }
  }

  // Does something to a core and lets both sides settle.
  async act (promise) {
    const waiting = Promise.resolve(promise).then((value) => ({ value }), (error) => ({ error }))
    await this.settle()
    const seen = await Promise.race([waiting, quiet()])
    if (seen === undefined) throw new Error('a core is still waiting, though nothing is on its way')
    if (seen.error) throw seen.error
    return seen.value
  }

  async close () {
    for (const end of Object.values(this.ends)) {
      if (end.error) throw end.error
      end.stream.destroy()
    }
    for (const core of this.cores) await finish(core.close())
    for (const folder of this.folders) fs.rmSync(folder, { recursive: true, force: true })
  }

  // As the input of transcript.decode.
  input (coreKey, releases) {
    const side = (role) => ({
      release: releases[role],
      staticSeed: hex(KEYS[role].staticSeed),
      ephemeralSeed: hex(KEYS[role].ephemeralSeed),
      publicKey: hex(keyPair(KEYS[role].staticSeed).publicKey),
      key: this.ends[role].key,
      header: hex(KEYS[role].header)
    })
    // Three chunks are Noise's, one message each.
    const chunks = this.sent.slice(3)
    return { handshakeHash: this.ends.initiator.handshakeHash, coreKey, initiator: side('initiator'), responder: side('responder'), chunks }
  }

  // One side's events as steps of connection.replay.
  steps (role) {
    const steps = this.log.filter((entry) => entry.role === role).map(({ write, receive }) => (write === undefined ? { receive } : { write }))
    return role === 'initiator' ? [{ start: true }, ...steps] : steps
  }
}

const expect = (condition, what) => {
  if (!condition) throw new Error(`transcript: ${what}`)
}

// A core of three blocks is read: first its state, then blocks 0 and 2, another one that is appended meanwhile, and
// extension messages both ways, two in a row with the same name.
async function basic (talk, writer, reader) {
  await talk.settle()
  const messages = []
  const wext = writer.registerExtension('example', { onmessage: (m) => messages.push(`w:${m}`) })
  const rext = reader.registerExtension('example', { onmessage: (m) => messages.push(`r:${m}`) })
  expect(b4a.equals(await talk.act(reader.get(0)), b4a.from('hello')), 'block 0')
  expect(b4a.equals(await talk.act(reader.get(2)), b4a.from('!')), 'block 2')
  await talk.act(writer.append('more'))
  expect(b4a.equals(await talk.act(reader.get(3)), b4a.from('more')), 'block 3')
  await talk.act(wext.broadcast(b4a.from('from the writer')))
  await talk.act(rext.broadcast(b4a.from('from the reader')))
  await talk.act(rext.broadcast(b4a.from('again')))
  expect(messages.join() === 'r:from the writer,w:from the reader,w:again', `extensions: ${messages}`)
}

// More kinds of messages: a seek, a block that the writer drops, a truncation and an append after it.
async function more (talk, writer, reader) {
  await talk.settle()
  const [block, offset] = await talk.act(reader.seek(7))
  expect(block === 1 && offset === 2, 'seek')
  await talk.act(writer.clear(1))
  await talk.act(writer.truncate(2))
  await talk.act(writer.append(['new', 'tail']))
  expect(b4a.equals(await talk.act(reader.get(3)), b4a.from('tail')), 'block after the truncation')
  expect(reader.fork === 1, 'fork')
}

const SCENARIOS = [
  { slug: '11-11', writer: '11.37.1', reader: '11.37.1', play: basic, extends: true, text: 'Two peers of 11, a default core' },
  { slug: '11-11-compat', writer: '11.37.1', reader: '11.37.1', compat: true, play: basic, extends: true, text: 'Two peers of 11, a compat core' },
  { slug: '11-11-more', writer: '11.37.1', reader: '11.37.1', play: more, text: 'Two peers of 11: a seek, a cleared block, a truncation' },
  { slug: '10-10', writer: '10.38.2', reader: '10.38.2', play: basic, extends: true, text: 'Two peers of 10, a default core' },
  { slug: '10-10-more', writer: '10.38.2', reader: '10.38.2', play: more, text: 'Two peers of 10: a seek, a cleared block, a truncation' },
  { slug: '10-11', writer: '10.38.2', reader: '11.37.1', play: basic, extends: true, text: 'A core of 10 read by 11' },
  { slug: '11-10', writer: '11.37.1', reader: '10.38.2', play: basic, extends: true, text: 'A default core of 11 read by 10' },
  { slug: '11-10-compat', writer: '11.37.1', reader: '10.38.2', compat: true, play: basic, extends: true, text: 'A compat core of 11 read by 10' }
]

async function converse ({ writer, reader, compat, play }, writerRole, load) {
  const talk = new Conversation(load)
  const random = Math.random
  Math.random = () => 0.5 // replicators pick blocks and peers by it
  try {
    const w = await talk.open(writer, null, { keyPair: load(writer).crypto.keyPair(seed(0x41)), ...(compat ? { compat: true } : {}) })
    await finish(w.append(['hello', 'world', '!']))
    const r = await talk.open(reader, w.key, {})
    const readerRole = ROLES.find((role) => role !== writerRole)
    talk.replicate(writerRole, w)
    talk.replicate(readerRole, r)
    await play(talk, w, r)
    const releases = { [writerRole]: writer, [readerRole]: reader }
    return { talk, input: talk.input(hex(w.key), releases) }
  } finally {
    Math.random = random
    await talk.close()
  }
}

// The ending of a case's id, from the scenario and the writer's role.
const slugOf = (scenario, writerRole) => `${scenario.slug}.writer-${writerRole === 'initiator' ? 'initiates' : 'responds'}`

module.exports = { ROLES, KEYS, SCENARIOS, converse, expect, slugOf }
