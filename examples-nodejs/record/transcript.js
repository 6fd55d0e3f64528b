// Records vectors/transcript: whole conversations between two real hypercores.
//
// transcript.decode takes what somebody sees who taps the wire and holds the keys:
//   handshakeHash   64 bytes, of the Noise handshake that came before (recorded as connection.replay beside it)
//   coreKey         32 bytes, the key of the core that is replicated; the capabilities are made of it
//   initiator, responder   one object for each side: `release` (of hypercore), `staticSeed` and `ephemeralSeed` (of its
//                   Noise keys, 32 bytes), `publicKey` (its static one), `key` (32 bytes, of the secretstream of what
//                   it SENDS) and `header` (24 bytes, of that secretstream; it is also in its first record).
//                   Only `key` is needed.
//   chunks          what went over the wire after the Noise handshake, in the order in which it left:
//                   { from: 'initiator' | 'responder', bytes }. The first record of each side is its header record.
// and gives:
//   initiator, responder   { header, plaintexts }: the header of 24 bytes, and each decrypted record of what it sent
//   messages        all messages, in the order of the chunks that completed them, batches flattened, each with
//                   `from` and `record` (index into that side's plaintexts), then as mux.decode has them:
//     open          { control: 'open', id, protocol, channelId, handshake, value }: value is the decoded channel handshake
//                   { seeks, capability } on a hypercore channel (protocol hypercore/alpha or hypercore), else null
//     others        { control: 'reject' | 'close', id }, or { control: 'unknown', type, body }
//     channel's     { channel, type, body, name, value }: `channel` is the sender's own id. On a hypercore channel, name is
//                   that of the message and value what message.decode gives; otherwise, and for types above 9, both are null.
// An encrypted record that is refused is told by `record`, the index that its plaintext would have had.
// A capability that doesn't fit coreKey, handshakeHash and its sender's role is refused (channel, invalid-capability).

const fs = require('fs')
const os = require('os')
const path = require('path')
const b4a = require('b4a')
const RAM = require('random-access-memory')
const { Duplex } = require('streamx')
const SecretStream = require('@hyperswarm/secret-stream')
const { VectorFile, run } = require('../lib/vectors')
const { fix, seed, header, keyPair } = require('../lib/deterministic')
const { load } = require('../lib/release')

const hex = (b) => b4a.toString(b, 'hex')
const ROLES = ['initiator', 'responder']
const KEYS = {
  initiator: { staticSeed: seed(0x11), ephemeralSeed: seed(0x12), header: header(0xa1) },
  responder: { staticSeed: seed(0x21), ephemeralSeed: seed(0x22), header: header(0xb1) }
}

// Resolves when the event loop has nothing left to do: every read and write of both cores is done.
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
  constructor () {
    this.folders = []
    this.cores = []
    this.ends = {}
    this.sent = [] // { from, bytes } in the order in which they left
    this.delivered = 0
    this.log = [] // { role, write } and { role, receive }, as each side lived it
  }

  async open (release, key, opts) {
    const { Hypercore } = load(release)
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

  // Delivers one chunk at a time, each when both sides have done all that the ones before it gave them to do.
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

  // One side's life as steps of connection.replay.
  steps (role) {
    const steps = this.log.filter((entry) => entry.role === role).map(({ write, receive }) => (write === undefined ? { receive } : { write }))
    return role === 'initiator' ? [{ start: true }, ...steps] : steps
  }
}

const expect = (condition, what) => {
  if (!condition) throw new Error(`transcript: ${what}`)
}

// A core of three blocks is read: first what it is, then blocks 0 and 2, one more that is appended meanwhile,
// and extension messages both ways, two in a row of the same name.
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

// More kinds of messages: a seek, a block that the writer drops, a truncation and what is written after it.
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
  { slug: '11-11', writer: '11.37.1', reader: '11.37.1', play: basic, text: 'Two peers of 11, a default core' },
  { slug: '11-11-compat', writer: '11.37.1', reader: '11.37.1', compat: true, play: basic, text: 'Two peers of 11, a compat core' },
  { slug: '11-11-more', writer: '11.37.1', reader: '11.37.1', play: more, text: 'Two peers of 11: a seek, a cleared block, a truncation' },
  { slug: '10-10', writer: '10.38.2', reader: '10.38.2', play: basic, text: 'Two peers of 10, a default core' },
  { slug: '10-10-more', writer: '10.38.2', reader: '10.38.2', play: more, text: 'Two peers of 10: a seek, a cleared block, a truncation' },
  { slug: '10-11', writer: '10.38.2', reader: '11.37.1', play: basic, text: 'A core of 10 read by 11' },
  { slug: '11-10', writer: '11.37.1', reader: '10.38.2', play: basic, text: 'A default core of 11 read by 10' },
  { slug: '11-10-compat', writer: '11.37.1', reader: '10.38.2', compat: true, play: basic, text: 'A compat core of 11 read by 10' }
]

async function converse ({ writer, reader, compat, play }, writerRole) {
  const talk = new Conversation()
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
    return { talk, coreKey: hex(w.key), releases: { [writerRole]: writer, [readerRole]: reader } }
  } finally {
    Math.random = random
    await talk.close()
  }
}

module.exports = async function () {
  const file = new VectorFile({
    layer: 'transcript',
    subject: 'hypercore',
    description: 'Whole conversations between two real hypercores, 10 and 11 with each other, each end as initiator, with every key that is needed to follow them.',
    script: 'transcript',
    packages: ['hypercore', 'hypercore10', 'protomux', '@hyperswarm/secret-stream', 'compact-encoding', 'random-access-memory'],
    notes: {
      BadMac: 'One bit of one record was changed.',
      WrongKey: 'The keys are those of another connection or of the other direction.',
      WrongCapability: 'The key of the core is another one.',
      WrongStreamId: 'The two sides are taken for each other.'
    }
  })
  const decode = file.group('decode', 'transcript.decode', 'Both directions from the wire to the messages.')
  const replay = file.group('replay', 'connection.replay', 'One side of the same conversations: given what it gets and writes, it must send these very bytes.')
  const bad = []
  for (const scenario of SCENARIOS) {
    for (const writerRole of ROLES) {
      const { talk, coreKey, releases } = await converse(scenario, writerRole)
      const { handshakeHash } = talk.ends.initiator
      const side = (role) => ({
        release: releases[role],
        staticSeed: hex(KEYS[role].staticSeed),
        ephemeralSeed: hex(KEYS[role].ephemeralSeed),
        publicKey: hex(keyPair(KEYS[role].staticSeed).publicKey),
        key: talk.ends[role].key,
        header: hex(KEYS[role].header)
      })
      // Three chunks are Noise's, one message each.
      const input = { handshakeHash, coreKey, initiator: side('initiator'), responder: side('responder'), chunks: talk.sent.slice(3) }
      const slug = `${scenario.slug}.writer-${writerRole === 'initiator' ? 'initiates' : 'responds'}`
      await decode.valid(`decode.${slug}`, {
        clauses: ['FLOW-1', 'FLOW-2', 'FLOW-3', 'FLOW-4', 'STREAM-2', 'STREAM-6', 'MUX-1', 'MUX-4', 'CHAN-1', 'CHAN-2', 'CHAN-6', 'CHAN-7', 'KEY-7', 'KEY-8', ...(scenario.play === basic ? ['EXT-2'] : [])],
        comment: `${scenario.text}; the writer is the ${writerRole}.`,
        input
      })
      bad.push({ slug, input })
      for (const role of ROLES) {
        const keys = KEYS[role]
        const steps = talk.steps(role)
        const one = { isInitiator: role === 'initiator', pattern: 'XX', staticSeed: hex(keys.staticSeed), ephemeralSeed: hex(keys.ephemeralSeed), header: hex(keys.header), remotePublicKey: null, steps }
        const { output, error } = await run('connection.replay', one)
        if (error) throw error
        const sent = talk.sent.filter((chunk) => chunk.from === role).map((chunk) => chunk.bytes).join('')
        expect(output.steps.map((step) => step.sent).join('') === sent, `${slug}: the replay of the ${role} differs from what it sent`)
        await replay.valid(`replay.${slug}.${role}`, { clauses: ['NOISE-8', 'STREAM-5', 'STREAM-8', 'FLOW-4', 'FRAME-1'], comment: `${scenario.text}; the writer is the ${writerRole}. The ${role}'s side.`, input: one })
      }
    }
  }

  const refused = file.group('refused', 'transcript.decode', 'The first conversation with wrong keys or a changed bit.')
  const { input } = bad[0]
  const { initiator, responder, coreKey, chunks } = input
  const flip = (bytes, at) => {
    const b = b4a.from(bytes, 'hex')
    b[at < 0 ? b.byteLength + at : at] ^= 1
    return hex(b)
  }
  const refuse = (slug, over, clauses, flag, comment, layer, cls) => refused.invalid(`refused.${slug}`, { clauses, comment, flags: [flag], input: { ...input, ...over }, layer, class: cls })
  await refuse('core-key', { coreKey: flip(coreKey, 0) }, ['KEY-7', 'CHAN-3'], 'WrongCapability', 'The capabilities are of another core.', 'channel', 'invalid-capability')
  await refuse('sides-swapped', { initiator: responder, responder: initiator, chunks: chunks.map(({ from, bytes }) => ({ from: ROLES.find((r) => r !== from), bytes })) }, ['STREAM-4'], 'WrongStreamId', 'The directions are taken for each other.', 'secretstream', 'wrong-stream-id')
  await refuse('keys-swapped', { initiator: { ...initiator, key: responder.key }, responder: { ...responder, key: initiator.key } }, ['STREAM-5'], 'WrongKey', 'Each direction has the other\'s key.', 'secretstream', 'bad-mac')
  await refuse('handshake-hash', { handshakeHash: flip(input.handshakeHash, 0) }, ['STREAM-1', 'STREAM-4'], 'WrongKey', 'The hash of another handshake.', 'secretstream', 'wrong-stream-id')
  for (const n of [2, 3, chunks.length - 1]) {
    await refuse(`flipped-${n}`, { chunks: chunks.map((chunk, i) => (i === n ? { ...chunk, bytes: flip(chunk.bytes, -1) } : chunk)) }, ['STREAM-13'], 'BadMac', `The last bit of chunk ${n} is changed.`, 'secretstream', 'bad-mac')
  }
  return [file]
}
