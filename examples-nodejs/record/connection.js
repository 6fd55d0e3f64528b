// Records vectors/connection: whole streams over an in-memory raw stream, with all the faults on the way.

const b4a = require('b4a')
const Noise = require('noise-handshake')
const curve = require('noise-curve-ed')
const sodium = require('sodium-native')
const { VectorFile, run } = require('../lib/vectors')
const { seed, header, keyPair } = require('../lib/deterministic')
const { expand } = require('../lib/bytes')
const { Replay } = require('../ops/connection')
const { uniform } = require('./secretstream')
const points = require('../lib/points')

const PACKAGES = ['@hyperswarm/secret-stream', 'noise-handshake', 'noise-curve-ed', 'sodium-secretstream', 'sodium-universal']
const NOTES = {
  Payload: 'A handshake message carries a payload; a stream sends none, and takes one.',
  KeepAlive: 'An empty plaintext.',
  Tag: 'The tag is not that of a message; it is taken for one.',
  HalfOpen: 'The remote has ended, and the local side goes on.',
  ZeroLengthRecord: 'A record without a body. Node takes note of it only when another byte arrives.',
  Truncated: 'The stream ends within a record. Node takes any end for a clean one; an implementation tells them apart.',
  ShortRecord: 'The record is too short for a tag and a MAC.',
  WrongLength: 'The header record is not of 56 bytes.',
  WrongStreamId: 'The id is not that of the remote\'s role on this connection.',
  Reflected: 'The local side gets its own bytes back.',
  FlippedBit: 'One bit was changed on the way.',
  Reordered: 'A record is missing, comes twice or out of its order.',
  WrongKey: 'The remote means another static key.',
  WrongPattern: 'The two sides do not speak the same pattern.',
  BadPoint: 'A key that was sent is no point of the subgroup of prime order.',
  TooLarge: 'The plaintext does not fit a record.',
  LongClaim: 'A handshake record claims more bytes than a Noise message can have.',
  NotTheProtocol: 'The remote speaks another protocol.'
}
const hex = (b) => b4a.toString(b, 'hex')
const s = (n) => hex(seed(n))
const fill = (n) => ({ repeat: 'a5', times: n })
const head = (n) => hex(b4a.from([n & 255, (n >> 8) & 255, n >> 16]))
const frame = (body) => head(body.length / 2) + body
const frames = (bytes) => {
  const out = []
  for (let at = 0; at < bytes.length;) {
    const n = b4a.from(bytes.slice(at, at + 6), 'hex')
    const end = at + 6 + (n[0] + n[1] * 256 + n[2] * 65536) * 2
    out.push(bytes.slice(at, end))
    at = end
  }
  return out
}
const flip = (bytes, offset) => {
  const b = b4a.from(bytes, 'hex')
  b[offset < 0 ? b.byteLength + offset : offset] ^= 1
  return hex(b)
}
const ROLES = ['initiator', 'responder']
const publicKey = (seedHex) => hex(keyPair(b4a.from(seedHex, 'hex')).publicKey)

function side (pattern, role) {
  const initiator = role === 'initiator'
  return {
    isInitiator: initiator,
    pattern,
    staticSeed: s(initiator ? 0x11 : 0x21),
    ephemeralSeed: s(initiator ? 0x12 : 0x22),
    header: hex(header(initiator ? 0xa1 : 0xb1)),
    remotePublicKey: initiator && pattern !== 'XX' ? publicKey(s(0x21)) : null
  }
}

// Two real streams connected to each other; keeps each one's steps, and its received records, one per entry.
class Pair {
  constructor (pattern) {
    this.pattern = pattern
    this.ends = { initiator: new Replay(side(pattern, 'initiator')), responder: new Replay(side(pattern, 'responder')) }
    this.steps = { initiator: [], responder: [] }
    this.got = { initiator: [], responder: [] }
  }

  async run (role, step) {
    this.steps[role].push(step)
    const { sent } = await this.ends[role].step(expand(step))
    if (sent) await this.deliver(role === 'initiator' ? 'responder' : 'initiator', sent)
  }

  async deliver (role, bytes) {
    this.got[role].push(...frames(bytes))
    await this.run(role, { receive: bytes })
  }

  close () {
    for (const end of Object.values(this.ends)) end.stream.on('error', () => {}).destroy()
  }

  // A conversation: the handshake, then these plaintexts with their senders.
  static async talk (pattern, lines = []) {
    const pair = new Pair(pattern)
    // The responder must exist before it can receive.
    await pair.run('initiator', { start: true })
    for (const [role, write] of lines) await pair.run(role, { write })
    pair.close()
    return pair
  }

  input (role, steps = this.steps[role]) {
    return { ...side(this.pattern, role), steps }
  }
}

const TALK = [['initiator', hex(b4a.from('ping'))], ['responder', hex(b4a.from('pong'))], ['initiator', hex(b4a.from('one'))], ['initiator', hex(b4a.from('two'))], ['responder', hex(b4a.from('three'))]]
const CLAUSE = { XX: 'NOISE-8', IK: 'NOISE-9', XK: 'NOISE-10' }
const lower = (t) => t.toLowerCase()
// What a role must do before it can receive.
const first = (role) => (role === 'initiator' ? [{ start: true }] : [])

function file (subject, description) {
  return new VectorFile({ layer: 'connection', subject, description, script: 'connection', packages: PACKAGES, notes: {} })
}

// A group whose cases add the notes of their flags.
function group (f, name, description) {
  const g = f.group(name, 'connection.replay', description)
  const note = (flags) => { for (const flag of flags) f.notes[flag] = NOTES[flag] }
  return {
    async valid (slug, clauses, comment, input, flags = []) {
      note(flags)
      await g.valid(`${name}.${slug}`, { clauses, comment, flags, input })
    },
    async invalid (slug, clauses, comment, input, flag, layer, cls) {
      note([flag])
      await g.invalid(`${name}.${slug}`, { clauses, comment, flags: [flag], input, layer, class: cls })
    },
    async given (slug, args) {
      note(args.flags)
      await g.given(`${name}.${slug}`, args)
    }
  }
}

async function conversations () {
  const f = file('conversation', 'Streams that go well: handshake, header records, messages both ways, large ones, keep-alives, any chunking, a clean end.')
  const open = group(f, 'open', 'The handshake and the header records.')
  for (const pattern of ['XX', 'IK', 'XK']) {
    const pair = await Pair.talk(pattern)
    for (const role of ROLES) {
      await open.valid(`${lower(pattern)}.${role}`, [CLAUSE[pattern], 'FRAME-6', 'FLOW-4', 'STREAM-1', 'STREAM-2', 'NOISE-14', 'NOISE-18', 'NOISE-19'], `${pattern} from the ${role}'s side, as far as both headers.`, pair.input(role))
      // The stream is usable once the handshake is complete, but not open until the remote's header has arrived.
      const steps = pair.steps[role]
      await open.valid(`${lower(pattern)}.${role}.started`, [CLAUSE[pattern], 'FLOW-4'], 'After the first step only: what is sent, and no hash yet.', pair.input(role, steps.slice(0, 1)))
    }
  }
  const xx = await Pair.talk('XX')
  await open.valid('xx.header-missing', ['NOISE-8', 'FLOW-4'], 'The remote\'s header has not come, so the stream is not open, though the handshake is complete.', xx.input('initiator', [{ start: true }, { receive: xx.got.initiator[0] }]))

  const talk = group(f, 'messages', 'Messages both ways.')
  for (const pattern of ['XX', 'IK', 'XK']) {
    const pair = await Pair.talk(pattern, TALK)
    for (const role of ROLES) await talk.valid(`${lower(pattern)}.${role}`, [CLAUSE[pattern], 'STREAM-5', 'STREAM-6', 'STREAM-8', 'STREAM-11'], `A conversation over ${pattern}, the ${role}'s side.`, pair.input(role))
  }
  for (const role of ROLES) {
    const early = new Pair('XX')
    if (role === 'initiator') {
      early.steps.initiator.push({ write: 'aa01' })
      await early.ends.initiator.step({ write: 'aa01' }).then(({ sent }) => early.deliver('responder', sent))
    } else {
      early.steps.responder.push({ write: 'aa02' })
      await early.ends.responder.step({ write: 'aa02' })
      await early.run('initiator', { start: true })
    }
    early.close()
    await talk.valid(`xx.${role}.write-early`, ['FLOW-4', 'STREAM-2'], 'What is written before the handshake is complete leaves right after the header.', early.input(role))
  }

  const alive = group(f, 'keep-alive', 'Empty plaintexts.')
  const empties = await Pair.talk('XX', [['initiator', ''], ['responder', ''], ['initiator', ''], ['initiator', 'ff'], ['responder', '']])
  for (const role of ROLES) await alive.valid(`xx.${role}`, ['STREAM-14', 'FLOW-5'], `Keep-alives both ways, the ${role}'s side.`, empties.input(role), ['KeepAlive'])

  const chunks = group(f, 'chunks', 'The same bytes in other chunks.')
  const pair = await Pair.talk('XX', TALK)
  for (const role of ROLES) {
    const whole = pair.got[role].join('')
    await chunks.valid(`xx.${role}.one`, ['FRAME-3', 'FRAME-6'], 'All that the remote sends in one chunk.', pair.input(role, [...first(role), { receive: whole }]))
    await chunks.valid(`xx.${role}.bytewise`, ['FRAME-3', 'FRAME-6'], 'Byte by byte.', pair.input(role, [...first(role), ...whole.match(/../g).map((receive) => ({ receive }))]))
    await chunks.valid(`xx.${role}.sevens`, ['FRAME-3', 'FRAME-6'], 'Seven bytes at a time.', pair.input(role, [...first(role), ...whole.match(/.{1,14}/g).map((receive) => ({ receive }))]))
  }

  const large = group(f, 'large', 'Records of 64 KiB, and the largest there are.')
  for (const role of ROLES) {
    for (const [slug, n] of [['64-kib', 65536], ['65535-in-record', 65535 - 17], ['65536-in-record', 65536 - 17], ['largest', 0xffffff - 17]]) {
      const clauses = ['STREAM-6', 'FRAME-1', ...(slug === 'largest' ? ['STREAM-15', 'FRAME-2'] : [])]
      await large.valid(`xx.${role}.write-${slug}`, clauses, `The ${role} sends ${n} bytes.`, xx.input(role, [...xx.steps[role], { write: fill(n) }]))
      const record = await incoming(xx, role, n)
      await large.valid(`xx.${role}.receive-${slug}`, clauses, `The ${role} gets ${n} bytes, chosen so that the ciphertext repeats.`, xx.input(role, [...xx.steps[role], { receive: record }]))
    }
    await large.invalid(`xx.${role}.write-too-large`, ['STREAM-15', 'FRAME-2'], '2^24-17 bytes do not fit a record.', xx.input(role, [...xx.steps[role], { write: fill(0xffffff - 16) }]), 'TooLarge', 'frame', 'too-large')
    await large.valid(`xx.${role}.receive-in-pieces`, ['FRAME-3', 'STREAM-6'], '64 KiB in three chunks.', xx.input(role, [...xx.steps[role], ...await pieces(xx, role, 65536)]))
  }

  const tags = group(f, 'tags', 'Tags that streams never send, and take.')
  for (const role of ROLES) {
    for (const [tag, name] of [[1, 'push'], [2, 'rekey'], [3, 'final']]) {
      const records = seal(xx, role, [['aa', tag], ['bb', 0]])
      await tags.valid(`xx.${role}.${name}`, ['STREAM-11', ...(tag > 1 ? ['STREAM-10'] : [])], `The ${role} gets tag ${tag}, then another message.`, xx.input(role, [...xx.steps[role], ...records.map((r) => ({ receive: frame(r) }))]), ['Tag'])
    }
  }

  const payload = group(f, 'payload', 'A payload in the first handshake message.')
  await payload.valid('xx.responder', ['NOISE-14'], 'Bytes after the initiator\'s ephemeral are a payload.', xx.input('responder', [{ receive: frame(xx.got.responder[0].slice(6) + 'c0ffee') }]), ['Payload'])

  const ends = group(f, 'end', 'Ends between records.')
  for (const role of ROLES) {
    const steps = pair.steps[role]
    const got = pair.got[role]
    for (let n = 0; n <= got.length; n++) {
      const bytes = got.slice(0, n).join('')
      await ends.valid(`xx.${role}.after-${n}`, ['FRAME-5', 'FLOW-6'], n === 0 ? 'An end before anything else.' : `An end after record ${n} of ${got.length}.`, pair.input(role, [...first(role), ...(bytes ? [{ receive: bytes }] : []), { end: true }]))
    }
    await ends.valid(`xx.${role}.write-after`, ['FLOW-6'], 'The remote has ended; the local side still sends.', pair.input(role, [...steps, { end: true }, { write: 'aabb' }]), ['HalfOpen'])
  }
  return f
}

// The state with which a role pulls: the remote's key and header, found by replaying the handshake.
function secrets (pair, role) {
  const stream = pair.ends[role].stream
  const remote = role === 'initiator' ? 'responder' : 'initiator'
  return { key: hex(stream._decrypt.key), header: side(pair.pattern, remote).header }
}

// A record of n bytes for this role, the first after the header.
async function incoming (pair, role, n) {
  const body = uniform(secrets(pair, role), n)
  return { concat: [head(n + 17), ...body.concat] }
}

async function pieces (pair, role, n) {
  const { concat: [tag, { repeat }, mac] } = uniform(secrets(pair, role), n)
  const part = (times) => ({ repeat, times })
  return [{ receive: { concat: [head(n + 17), tag, part(20000)] } }, { receive: part(40000) }, { receive: { concat: [part(n - 60000), mac] } }]
}

// Records for this role from [plaintext, tag] pairs.
function seal (pair, role, messages) {
  const { key, header } = secrets(pair, role)
  const state = b4a.alloc(52)
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, b4a.from(header, 'hex'), b4a.from(key, 'hex'))
  return messages.map(([plaintext, tag]) => {
    const m = b4a.from(plaintext, 'hex')
    const record = b4a.alloc(m.byteLength + 17)
    sodium.crypto_secretstream_xchacha20poly1305_push(state, record, m, null, tag)
    return hex(record)
  })
}

async function faults () {
  const f = file('fault', 'Streams that fail, layer by layer, and ends within records.')
  const pair = await Pair.talk('XX', TALK)
  const xx = await Pair.talk('XX')
  const ik = await Pair.talk('IK', TALK)
  const join = (list) => list.join('')

  const noise = group(f, 'handshake', 'Handshakes that fail; Node says no more than that.')
  const failing = (slug, clauses, comment, input, flag) => noise.invalid(slug, clauses, comment, input, flag, 'noise', 'handshake-failed')
  for (const [pattern, p] of [['XX', pair], ['IK', ik]]) {
    for (const role of ROLES) {
      const own = p.input(role)
      const messages = p.got[role].filter((r, i) => i < { XX: { initiator: 1, responder: 2 }, IK: { initiator: 1, responder: 1 } }[pattern][role])
      for (const [i, message] of messages.entries()) {
        const size = message.length / 2 - 3
        const before = join(messages.slice(0, i))
        const input = (bytes) => ({ ...own, steps: [...first(role), { receive: before + bytes }] })
        for (const length of new Set([1, 31, size - 1])) {
          await failing(`${lower(pattern)}.${role}.short-${i + 1}.${length}`, [CLAUSE[pattern], 'NOISE-17'], `Handshake message ${i + 1} that it gets is a whole record, but ${length} of ${size} bytes long.`, input(frame(message.slice(6, 6 + length * 2))), 'WrongLength')
        }
        // The first message of XX has nothing to verify, as long as its point is valid.
        const offsets = size === 32 ? [] : [['first', 3], ['middle', 3 + (size >> 1)], ['last', 2 + size]]
        for (const [where, offset] of offsets) await failing(`${lower(pattern)}.${role}.flipped-${i + 1}.${where}`, [CLAUSE[pattern], 'NOISE-17'], `The ${where} byte of handshake message ${i + 1} that it gets is changed.`, input(flip(message, offset)), 'FlippedBit')
        await failing(`${lower(pattern)}.${role}.empty-${i + 1}`, [CLAUSE[pattern], 'NOISE-17', 'FRAME-4'], `A record without a body in place of handshake message ${i + 1}.`, input('000000' + message), 'ZeroLengthRecord')
      }
    }
  }
  for (const [kind, point] of [['zero', '00'.repeat(32)], ['identity', points.IDENTITY], ['order-8', points.smallOrder[0].point], ['off-subgroup', points.add(publicKey(s(9)), points.smallOrder[3].point)], ['non-canonical', 'ff'.repeat(32)]]) {
    await failing(`xx.responder.ephemeral-${kind}`, ['NOISE-8', 'NOISE-2', { zero: 'NOISE-5', identity: 'NOISE-5', 'order-8': 'NOISE-5', 'off-subgroup': 'NOISE-6', 'non-canonical': 'NOISE-4' }[kind]], `The initiator's ephemeral: ${kind.replace('-', ' ')}.`, xx.input('responder', [{ receive: frame(point) }]), 'BadPoint')
    const bad = { publicKey: b4a.from(point, 'hex'), secretKey: keyPair(seed(9)).secretKey }
    const responder = new Noise('XX', false, keyPair(seed(0x21)), { curve })
    responder.initialise(b4a.alloc(0), null)
    responder.e = bad
    responder.recv(b4a.from(xx.got.responder[0].slice(6), 'hex'))
    await failing(`xx.initiator.ephemeral-${kind}`, ['NOISE-8', 'NOISE-2'], `The responder's ephemeral: ${kind.replace('-', ' ')}.`, xx.input('initiator', [{ start: true }, { receive: frame(hex(responder.send())) }]), 'BadPoint')
  }
  await failing('xx.initiator.reflected', ['NOISE-8', 'NOISE-18'], 'The initiator gets its own first message back.', xx.input('initiator', [{ start: true }, { receive: xx.got.responder[0] }]), 'Reflected')
  await failing('xx.responder.reflected', ['NOISE-8', 'NOISE-18'], 'The responder gets its own second message back.', xx.input('responder', [{ receive: xx.got.responder[0] }, { receive: xx.got.initiator[0] }]), 'Reflected')
  await failing('ik.responder.wrong-key', ['NOISE-9', 'NOISE-17'], 'An IK initiator that means another responder.', { ...ik.input('responder', [{ receive: ik.got.responder[0] }]), staticSeed: s(0x29) }, 'WrongKey')
  await failing('ik.responder.xx', ['NOISE-9', 'NOISE-1'], 'An XX initiator to an IK responder.', ik.input('responder', [{ receive: xx.got.responder[0] }]), 'WrongPattern')
  await failing('xx.initiator.ik', ['NOISE-8', 'NOISE-1'], 'An IK answer to an XX initiator.', xx.input('initiator', [{ start: true }, { receive: ik.got.initiator[0] }]), 'WrongPattern')
  await failing('xx.responder.text', ['NOISE-8', 'NOISE-17'], 'A record of text in place of the first message.', xx.input('responder', [{ receive: frame(hex(b4a.from('hello'))) }]), 'NotTheProtocol')

  const heads = group(f, 'header', 'Header records that Node refuses.')
  for (const role of ROLES) {
    const good = xx.got[role].at(-1).slice(6)
    const before = join(xx.got[role].slice(0, -1))
    const input = (body, more = '') => xx.input(role, [...first(role), { receive: before + frame(body) + more }])
    for (const length of [1, 17, 32, 54, 55, 57, 112]) {
      await heads.invalid(`xx.${role}.length-${length}`, ['STREAM-2', 'STREAM-3'], `A header record of ${length} bytes, to the ${role}.`, input((good + good).slice(0, length * 2)), 'WrongLength', 'secretstream', 'bad-length')
    }
    await heads.invalid(`xx.${role}.length-0`, ['STREAM-3', 'FRAME-4'], 'A record without a body where the header is due, and another byte.', input('', '01'), 'ZeroLengthRecord', 'secretstream', 'bad-length')
    const own = xx.got[role === 'initiator' ? 'responder' : 'initiator'].at(-1).slice(6)
    for (const [slug, body, flag, comment] of [['reflected', own, 'Reflected', 'The own header record comes back.'], ['flipped-first', flip(good, 0), 'WrongStreamId', 'The first bit of the id is changed.'], ['flipped-last', flip(good, 31), 'WrongStreamId', 'A bit of the id\'s last byte is changed.'], ['other-connection', ik.got[role][1].slice(6), 'WrongStreamId', 'The header record of another connection.'], ['zeros', '00'.repeat(56), 'WrongStreamId', 'A header record of zeros.']]) {
      await heads.invalid(`xx.${role}.${slug}`, ['STREAM-2', 'STREAM-4'], comment, input(body), flag, 'secretstream', 'wrong-stream-id')
    }
    await heads.invalid(`xx.${role}.record-first`, ['STREAM-2', 'STREAM-3', 'FLOW-4'], 'A message where the header is due.', input(seal(xx, role, [['aabb', 0]])[0]), 'Reordered', 'secretstream', 'bad-length')
    for (const offset of [32, 47, 48, 55]) {
      const [record] = seal(xx, role, [['aabb', 0]])
      await heads.invalid(`xx.${role}.flipped-header-${offset}`, ['STREAM-5', 'STREAM-13'], `A bit of byte ${offset}, in the secretstream header, is changed: the first message does not open.`, input(flip(good, offset), frame(record)), 'FlippedBit', 'secretstream', 'bad-mac')
    }
  }

  const records = group(f, 'record', 'Records that Node refuses after the header.')
  for (const role of ROLES) {
    const good = pair.got[role]
    const start = good.length - { initiator: 2, responder: 3 }[role]
    const open = join(good.slice(0, start))
    const input = (...bytes) => pair.input(role, [...first(role), { receive: open }, ...bytes.map((receive) => ({ receive }))])
    const bad = (slug, clauses, comment, bytes, flag, cls = 'bad-mac') => records.invalid(`xx.${role}.${slug}`, clauses, comment, input(...bytes), flag, 'secretstream', cls)
    const mine = good.slice(start)
    for (const [i, record] of mine.entries()) {
      for (const [where, offset] of [['tag', 3], ['ciphertext', 4], ['mac', -1]]) {
        await bad(`flipped-${i + 1}.${where}`, ['STREAM-13'], `A bit of the ${where} of message ${i + 1} is changed; what came before it is delivered.`, mine.map((r, j) => (j === i ? flip(record, offset) : r)), 'FlippedBit')
      }
    }
    await bad('repeated', ['STREAM-8', 'STREAM-13'], 'The first message twice.', [mine[0], mine[0]], 'Reordered')
    await bad('swapped', ['STREAM-8', 'STREAM-13'], 'The second message first.', [mine[1], mine[0]], 'Reordered')
    await bad('missing', ['STREAM-8', 'STREAM-13'], 'The first message is missing.', mine.slice(1), 'Reordered')
    const other = pair.got[role === 'initiator' ? 'responder' : 'initiator'].at(-1)
    await bad('reflected', ['STREAM-5', 'STREAM-13'], 'A message that the local side sent.', [other], 'Reflected')
    for (let n = 1; n < 17; n++) await bad(`short-${n}`, ['STREAM-12'], `A record of ${n} byte${n > 1 ? 's' : ''}.`, [frame('00'.repeat(n))], 'ShortRecord', 'bad-length')
    await bad('zeros-17', ['STREAM-13'], 'A record of 17 zeros.', [frame('00'.repeat(17))], 'FlippedBit')
    await bad('cut', ['STREAM-13'], 'The first message without its last byte, in a whole record.', [frame(mine[0].slice(6, -2))], 'FlippedBit')
    await bad('longer', ['STREAM-13'], 'The first message with a byte more, in a whole record.', [frame(mine[0].slice(6) + '00')], 'FlippedBit')
    await bad('zero-length', ['FRAME-4', 'STREAM-12'], 'A record without a body, then a good one.', ['000000' + mine[0]], 'ZeroLengthRecord', 'bad-length')
    // Without a position: an implementation may refuse the record at once, Node does with the next byte.
    await records.given(`xx.${role}.zero-length.next-chunk`, {
      clauses: ['FRAME-4', 'STREAM-12'],
      comment: 'A record without a body, and a byte with the next chunk.',
      flags: ['ZeroLengthRecord'],
      input: input('000000', '01'),
      result: 'invalid',
      expect: { error: { layer: 'secretstream', class: 'bad-length' } },
      node: { outcome: 'destroys', message: (await run('connection.replay', input('000000', '01'))).error.message }
    })
    const last = input('000000')
    const seen = await run('connection.replay', last)
    await records.given(`xx.${role}.zero-length.last`, {
      clauses: ['FRAME-4', 'STREAM-12'],
      comment: 'A record without a body and nothing after it: Node still waits.',
      flags: ['ZeroLengthRecord'],
      input: last,
      result: 'acceptable',
      expect: { outputs: [seen.output], error: { layer: 'secretstream', class: 'bad-length' } },
      node: { outcome: 'returns' }
    })
  }

  const ends = group(f, 'end', 'Ends within a record: after every byte at the responder, and next to each boundary at the initiator.')
  for (const role of ROLES) {
    const got = pair.got[role].slice(0, role === 'initiator' ? 3 : 4)
    const whole = join(got)
    const total = whole.length / 2
    const bounds = got.reduce((list, r) => [...list, list.at(-1) + r.length / 2], [0])
    const points = role === 'responder' ? [...Array(total).keys()] : bounds.flatMap((b) => [b - 1, b + 1, b + 2, b + 3, b + 4]).filter((n) => n > 0 && n < total)
    for (const n of [...new Set(points)].filter((n) => !bounds.includes(n))) {
      const record = bounds.findLastIndex((b) => b < n)
      await ends.invalid(`xx.${role}.at-${n}`, ['FRAME-5', 'FLOW-6'], `An end after byte ${n} of ${total}, ${n - bounds[record]} bytes into record ${record + 1}.`, pair.input(role, [...first(role), { receive: whole.slice(0, n * 2) }, { end: true }]), 'Truncated', 'frame', 'truncated')
    }
  }
  await ends.invalid('xx.responder.largest-noise-claim', ['FRAME-5'], 'A length of 65,535, the largest of a Noise message, as the very first bytes, and the end.', xx.input('responder', [{ receive: 'ffff00' }, { end: true }]), 'Truncated', 'frame', 'truncated')

  // Node waits for as much as is claimed; a Noise message has at most 65,535 bytes, so a longer one may be refused at
  // once.
  for (const [slug, receive, flag, comment] of [
    ['http', hex(b4a.from('GET / HTTP/1.1\r\n\r\n')), 'NotTheProtocol', 'A web browser: its first three letters are a length of 5 MB.'],
    ['largest-claim', 'ffffff', 'LongClaim', 'A length of 2^24-1 as the very first bytes.']
  ]) {
    const input = xx.input('responder', [{ receive }])
    await noise.given(`xx.responder.${slug}`, {
      clauses: ['FRAME-2', 'FRAME-6', 'NOISE-17'],
      comment,
      flags: [flag],
      input,
      result: 'acceptable',
      expect: { outputs: [(await run('connection.replay', input)).output], error: { layer: 'noise', class: 'handshake-failed' } },
      node: { outcome: 'returns' }
    })
  }
  return f
}

module.exports = async () => [await conversations(), await faults()]
