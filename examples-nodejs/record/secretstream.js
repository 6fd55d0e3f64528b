// Records vectors/secretstream: ids and header records, and the records of crypto_secretstream from given states.

const b4a = require('b4a')
const sodium = require('sodium-native')
const SecretStream = require('@hyperswarm/secret-stream')
const { VectorFile, run } = require('../lib/vectors')
const { seed } = require('../lib/deterministic')

const PACKAGES = ['@hyperswarm/secret-stream', 'sodium-secretstream', 'sodium-universal']
const hex = (b) => b4a.toString(b, 'hex')
const s = (n) => hex(seed(n))
const count = (n, start = 0) => hex(Buffer.from(Array.from({ length: n }, (_, i) => (start + i) & 255)))
const fill = (n, byte = '5a') => (n <= 64 ? byte.repeat(n) : { repeat: byte, times: n })
const HASH = count(64)
const KEY = s(0x31)
const HEADER = count(24, 0x40)
const TAGS = ['message', 'push', 'rekey', 'final']

function flip (record, offset, bit = 1) {
  const b = b4a.from(record, 'hex')
  b[offset < 0 ? b.byteLength + offset : offset] ^= bit
  return hex(b)
}

async function headers () {
  const file = new VectorFile({
    layer: 'secretstream',
    subject: 'header',
    description: 'Stream ids, and the first record in each direction: the sender\'s id and the header of its secretstream.',
    script: 'secretstream',
    packages: PACKAGES,
    notes: {
      WrongLength: 'The record is not of 56 bytes.',
      WrongStreamId: 'The id is not that of the remote\'s role on this connection.',
      Reflected: 'The id is the receiver\'s own.'
    }
  })
  const ids = file.group('id', 'stream.id', 'The id of the sender of a direction.')
  for (const isInitiator of [true, false]) {
    const role = isInitiator ? 'initiator' : 'responder'
    for (const [slug, handshakeHash] of [['counting', HASH], ['zero', '00'.repeat(64)], ['other', s(0x51) + s(0x52)]]) {
      await ids.valid(`id.${role}.${slug}`, { clauses: ['STREAM-1', 'KEY-5'], comment: `The ${role}'s id, ${slug === 'other' ? 'another' : `a ${slug}`} handshake hash.`, input: { handshakeHash, isInitiator } })
    }
  }
  const group = file.group('record', 'stream.header', 'The header record as it arrives at one side.')
  for (const isInitiator of [true, false]) {
    const role = isInitiator ? 'initiator' : 'responder'
    const id = (who, hash = HASH) => hex(SecretStream.id(b4a.from(hash, 'hex'), who))
    const good = id(!isInitiator) + HEADER
    const input = (record) => ({ handshakeHash: HASH, isInitiator, record })
    await group.valid(`record.${role}.valid`, { clauses: ['STREAM-2', 'FLOW-4'], comment: `What the other side sends, at the ${role}.`, input: input(good) })
    await group.valid(`record.${role}.zero-header`, { clauses: ['STREAM-2'], comment: 'Any 24 bytes are a header.', input: input(id(!isInitiator) + '00'.repeat(24)) })
    for (const n of [0, 1, 17, 24, 31, 32, 33, 54, 55, 57, 58, 72, 112]) {
      await group.invalid(`record.${role}.length-${n}`, { clauses: ['STREAM-2', 'STREAM-3'], comment: `A record of ${n} bytes.`, flags: ['WrongLength'], input: input((good + good).slice(0, n * 2)), layer: 'secretstream', class: 'bad-length' })
    }
    const wrong = (slug, record, flag, comment) => group.invalid(`record.${role}.${slug}`, { clauses: ['STREAM-2', 'STREAM-4'], comment, flags: [flag], input: input(record), layer: 'secretstream', class: 'wrong-stream-id' })
    await wrong('reflected', id(isInitiator) + HEADER, 'Reflected', 'The receiver\'s own header record comes back.')
    await wrong('other-connection', id(!isInitiator, s(0x51) + s(0x52)) + HEADER, 'WrongStreamId', 'The id of another connection.')
    await wrong('zero', '00'.repeat(32) + HEADER, 'WrongStreamId', 'An id of zeros.')
    await wrong('header-first', HEADER + id(!isInitiator), 'WrongStreamId', 'The header before the id.')
    for (const at of [0, 15, 31]) await wrong(`flipped-${at}`, flip(good, at), 'WrongStreamId', `One bit of byte ${at} of the id is changed.`)
    await wrong('flipped-top-bit', flip(good, 31, 0x80), 'WrongStreamId', 'The last bit of the id is changed.')
  }
  return file
}

const NOTES = {
  Tag: 'The tag is not that of a message; streams send none such, and receivers take any as a message.',
  Rekey: 'The key changes: the counter wrapped, or the tag said so.',
  Truncated: 'The record is shorter than what was sent.',
  FlippedBit: 'One bit of the record was changed.',
  Reordered: 'A record is missing, comes twice or out of its order.',
  WrongKey: 'The receiver has another key or header.',
  TrailingBytes: 'The record is followed by more bytes.'
}
const pick = (flags) => Object.fromEntries(flags.map((f) => [f, NOTES[f]]))

async function push () {
  const file = new VectorFile({
    layer: 'secretstream',
    subject: 'push',
    description: 'Messages to records, and the state afterwards: key, nonce of 8 bytes, and counter.',
    script: 'secretstream',
    packages: PACKAGES,
    notes: pick(['Tag', 'Rekey'])
  })
  const start = { key: KEY, header: HEADER }
  const one = file.group('sizes', 'stream.push', 'One message of each size from a fresh state.')
  for (const n of [0, 1, 2, 15, 16, 17, 31, 32, 46, 47, 48, 63, 64, 65, 79, 80, 127, 128, 129, 255, 256, 257, 1024, 2047, 2048, 4095, 4096, 65519, 65535, 65536, 65537]) {
    await one.valid(`sizes.${n}`, {
      clauses: ['STREAM-5', 'STREAM-6', 'STREAM-7', ...(n === 0 ? ['STREAM-14'] : [])], comment: n === 0 ? 'Nothing: 17 bytes, a keep-alive.' : `${n} byte${n > 1 ? 's' : ''}.`, input: { ...start, messages: [{ plaintext: fill(n), tag: 0 }] }
    })
  }
  await one.valid('sizes.largest', { clauses: ['STREAM-15', 'FRAME-2'], comment: '2^24-1-17 bytes, the most that a record holds.', input: { ...start, messages: [{ plaintext: fill(0xffffff - 17), tag: 0 }] } })
  await one.valid('sizes.every-to-160', { clauses: ['STREAM-6', 'STREAM-7', 'STREAM-8'], comment: 'Every size from 0 to 160, one after the other.', input: { ...start, messages: Array.from({ length: 161 }, (_, n) => ({ plaintext: fill(n), tag: 0 })) } })
  await one.valid('sizes.random-bytes', { clauses: ['STREAM-6', 'STREAM-7'], comment: 'Bytes that all differ.', input: { ...start, messages: [{ plaintext: count(256), tag: 0 }] } })
  await one.valid('sizes.keep-alives', { clauses: ['STREAM-8', 'STREAM-14', 'FLOW-5'], comment: 'Three empty messages differ, for the counter moves.', input: { ...start, messages: Array(3).fill({ plaintext: '', tag: 0 }) } })

  const tags = file.group('tags', 'stream.push', 'The four tags, and what a rekeying one does to the next message.')
  for (const tag of [0, 1, 2, 3]) {
    const rekeys = tag > 1
    for (const n of [0, 1, 64, 100]) {
      await tags.valid(`tags.${TAGS[tag]}.${n}`, {
        clauses: ['STREAM-6', 'STREAM-8', ...(rekeys ? ['STREAM-10'] : ['STREAM-11'])],
        comment: `${n} byte${n === 1 ? '' : 's'} with tag ${tag}, then a message.`,
        flags: tag ? (rekeys ? ['Tag', 'Rekey'] : ['Tag']) : [],
        input: { ...start, messages: [{ plaintext: fill(n), tag }, { plaintext: 'aabb', tag: 0 }] }
      })
    }
  }
  await tags.valid('tags.all', { clauses: ['STREAM-8', 'STREAM-10'], comment: 'Each tag after each other one.', flags: ['Tag', 'Rekey'], input: { ...start, messages: [0, 1, 2, 3, 3, 2, 1, 0, 2, 0, 3, 1, 1].map((tag, i) => ({ plaintext: count(i), tag })) } })

  const wrap = file.group('wrap', 'stream.push', 'From a counter near its end: at the wrap the key changes and the counter starts again at 1.')
  for (const counter of [1, 2, 0x7fffffff, 0x80000000, 0xfffffffd, 0xfffffffe, 0xffffffff]) {
    const state = { key: s(0x32), nonce: count(8, 0xe0), counter }
    await wrap.valid(`wrap.${counter.toString(16).padStart(8, '0')}`, {
      clauses: ['STREAM-8', ...(counter >= 0xfffffffd ? ['STREAM-9'] : [])],
      comment: `Four messages from counter 0x${counter.toString(16)}.`,
      flags: counter >= 0xfffffffd ? ['Rekey'] : [],
      input: { state, messages: ['', '01', fill(64), fill(65)].map((plaintext) => ({ plaintext, tag: 0 })) }
    })
  }
  for (const tag of [2, 3]) {
    await wrap.valid(`wrap.with-tag-${TAGS[tag]}`, { clauses: ['STREAM-9', 'STREAM-10'], comment: `Tag ${tag} at the very message that wraps: the key changes once.`, flags: ['Tag', 'Rekey'], input: { state: { key: s(0x32), nonce: count(8, 0xe0), counter: 0xffffffff }, messages: [{ plaintext: 'aa', tag }, { plaintext: 'bb', tag: 0 }] } })
  }
  const init = file.group('init', 'stream.push', 'States from other keys and headers.')
  for (const [slug, key, header] of [['zero', s(0), '00'.repeat(24)], ['ones', s(0xff), 'ff'.repeat(24)], ['other-key', s(0x33), HEADER], ['other-header', KEY, count(24, 0x41)], ['other-tail', KEY, HEADER.slice(0, 46) + '00']]) {
    await init.valid(`init.${slug}`, { clauses: ['STREAM-5'], comment: `${slug.replace('-', ' ')}: one message.`.replace(/^./, (c) => c.toUpperCase()), input: { key, header, messages: [{ plaintext: 'aabbcc', tag: 0 }] } })
  }
  return file
}

async function pull () {
  const file = new VectorFile({
    layer: 'secretstream',
    subject: 'pull',
    description: 'Records to messages, and all that is refused: short, changed, repeated or reordered ones.',
    script: 'secretstream',
    packages: PACKAGES,
    notes: pick(['Tag', 'Rekey', 'Truncated', 'FlippedBit', 'Reordered', 'WrongKey', 'TrailingBytes'])
  })
  const start = { key: KEY, header: HEADER }
  const sealed = async (messages, from = start) => (await run('stream.push', { ...from, messages })).output.records

  const good = file.group('valid', 'stream.pull', 'What was pushed, pulled again.')
  for (const n of [0, 1, 15, 16, 17, 31, 32, 47, 48, 63, 64, 65, 127, 128, 129, 1024]) {
    await good.valid(`valid.size-${n}`, { clauses: ['STREAM-5', 'STREAM-6', 'STREAM-7', ...(n === 0 ? ['STREAM-14'] : [])], comment: `${n} byte${n === 1 ? '' : 's'}.`, input: { ...start, records: await sealed([{ plaintext: fill(n), tag: 0 }]) } })
  }
  for (const n of [65536, 0xffffff - 17]) {
    const clauses = ['STREAM-6', 'STREAM-7', ...(n > 65536 ? ['STREAM-15'] : [])]
    await good.valid(`valid.size-${n}`, { clauses, comment: `${n} bytes, chosen so that the ciphertext repeats.`, input: { ...start, records: [uniform(start, n)] } })
  }
  for (const tag of [1, 2, 3]) {
    await good.valid(`valid.tag-${TAGS[tag]}`, { clauses: ['STREAM-11', ...(tag > 1 ? ['STREAM-10'] : [])], comment: `Tag ${tag} is a message, and the stream goes on.`, flags: tag > 1 ? ['Tag', 'Rekey'] : ['Tag'], input: { ...start, records: await sealed([{ plaintext: 'aa', tag }, { plaintext: 'bb', tag: 0 }, { plaintext: '', tag: 0 }]) } })
  }
  const near = (counter) => ({ state: { key: s(0x32), nonce: count(8, 0xe0), counter } })
  for (const counter of [0xfffffffe, 0xffffffff]) {
    await good.valid(`valid.wrap-${counter.toString(16)}`, { clauses: ['STREAM-8', 'STREAM-9'], comment: `Three messages from counter 0x${counter.toString(16)}.`, flags: ['Rekey'], input: { ...near(counter), records: await sealed([{ plaintext: '01', tag: 0 }, { plaintext: '02', tag: 0 }, { plaintext: '03', tag: 0 }], near(counter)) } })
  }

  const bad = file.group('invalid', 'stream.pull', 'What Node refuses; a stream is then destroyed.')
  const refuse = (slug, records, cls, clause, flag, comment, from = start) => bad.invalid(slug, { clauses: [clause].flat(), comment, flags: [flag].flat(), input: { ...from, records }, layer: 'secretstream', class: cls })
  const [record] = await sealed([{ plaintext: count(20), tag: 0 }])
  const whole = record.length / 2
  for (let n = 0; n < whole; n++) {
    const short = n < 17
    await refuse(`truncated.at-${n}`, [record.slice(0, n * 2)], short ? 'bad-length' : 'bad-mac', short ? 'STREAM-12' : 'STREAM-13', 'Truncated', `A record of ${whole} bytes cut after ${n}.`)
  }
  const [empty] = await sealed([{ plaintext: '', tag: 0 }])
  for (const n of [0, 1, 15, 16]) await refuse(`truncated.empty.at-${n}`, [empty.slice(0, n * 2)], 'bad-length', 'STREAM-12', 'Truncated', `A keep-alive of 17 bytes cut after ${n}.`)
  await refuse('trailing.message', [record + '00'], 'bad-mac', 'STREAM-13', 'TrailingBytes', 'A byte after the record.')
  await refuse('trailing.empty', [empty + '00'], 'bad-mac', 'STREAM-13', 'TrailingBytes', 'A byte after a keep-alive.')
  for (const [where, offsets] of [['tag', [0]], ['ciphertext', [1, 10, 20]], ['mac', [21, 28, 36]]]) {
    for (const offset of offsets) {
      for (const bit of [0x01, 0x80]) await refuse(`flipped.${where}.${offset}.bit-${bit === 1 ? 0 : 7}`, [flip(record, offset, bit)], 'bad-mac', 'STREAM-13', 'FlippedBit', `Bit ${bit === 1 ? 0 : 7} of byte ${offset}, in the ${where}.`)
    }
  }
  await refuse('flipped.empty.tag', [flip(empty, 0)], 'bad-mac', 'STREAM-13', 'FlippedBit', 'One bit of the tag of a keep-alive.')
  await refuse('flipped.empty.mac', [flip(empty, -1)], 'bad-mac', 'STREAM-13', 'FlippedBit', 'One bit of the MAC of a keep-alive.')
  const three = await sealed([{ plaintext: '01', tag: 0 }, { plaintext: '02', tag: 0 }, { plaintext: '03', tag: 0 }])
  await refuse('order.swapped', [three[1], three[0]], 'bad-mac', ['STREAM-8', 'STREAM-13'], 'Reordered', 'The second record first.')
  await refuse('order.repeated', [three[0], three[0]], 'bad-mac', ['STREAM-8', 'STREAM-13'], 'Reordered', 'The first record twice.')
  await refuse('order.missing', [three[0], three[2]], 'bad-mac', ['STREAM-8', 'STREAM-13'], 'Reordered', 'The second record is missing.')
  await refuse('order.late-repeat', [three[0], three[1], three[2], three[1]], 'bad-mac', ['STREAM-8', 'STREAM-13'], 'Reordered', 'The second record again after the third.')
  for (const n of [0, 1, 2]) await refuse(`flipped.in-sequence.${n}`, three.map((r, i) => (i === n ? flip(r, 1) : r)), 'bad-mac', 'STREAM-13', 'FlippedBit', `One bit of record ${n} of three.`)
  for (const tag of [2, 3]) {
    const [first] = await sealed([{ plaintext: '01', tag }])
    await refuse(`rekey.ignored.${TAGS[tag]}`, [first, three[1]], 'bad-mac', ['STREAM-10', 'STREAM-13'], ['Tag', 'Rekey'], `After tag ${tag} a record of the old key.`)
  }
  const wrapped = await sealed([{ plaintext: '01', tag: 0 }], near(0xffffffff))
  await refuse('rekey.wrap-ignored', [wrapped[0], ...(await sealed([{ plaintext: '02', tag: 0 }], near(1)))], 'bad-mac', ['STREAM-9', 'STREAM-13'], 'Rekey', 'After the wrap a record of the old key and nonce.', near(0xffffffff))
  await refuse('wrong.key', [record], 'bad-mac', 'STREAM-5', 'WrongKey', 'Another key.', { key: s(0x33), header: HEADER })
  await refuse('wrong.header-first-half', [record], 'bad-mac', 'STREAM-5', 'WrongKey', 'A header that differs where the key is made.', { key: KEY, header: flip(HEADER, 0) })
  await refuse('wrong.header-last-byte', [record], 'bad-mac', 'STREAM-5', 'WrongKey', 'A header that differs where the nonce is made.', { key: KEY, header: flip(HEADER, 23) })
  await refuse('wrong.counter', [record], 'bad-mac', 'STREAM-8', 'WrongKey', 'The right key and nonce, one count too far.', { state: { ...(await run('stream.pull', { ...start, records: [] })).output.state, counter: 2 } })
  await refuse('zeros', ['00'.repeat(17)], 'bad-mac', 'STREAM-13', 'FlippedBit', 'A record of 17 zeros.')
  return file
}

// A record of n bytes of plaintext whose ciphertext is one repeated byte, so that it has a short form. The plaintext is
// the key stream xor that byte; the tag is 0.
function uniform ({ key, header }, n, byte = 0xab) {
  const fresh = () => {
    const state = b4a.alloc(52)
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, b4a.from(header, 'hex'), b4a.from(key, 'hex'))
    return state
  }
  const sealed = b4a.alloc(n + 17)
  sodium.crypto_secretstream_xchacha20poly1305_push(fresh(), sealed, b4a.alloc(n), null, 0)
  const plaintext = b4a.from(sealed.subarray(1, n + 1))
  for (let i = 0; i < n; i++) plaintext[i] ^= byte
  sodium.crypto_secretstream_xchacha20poly1305_push(fresh(), sealed, plaintext, null, 0)
  return { concat: [hex(sealed.subarray(0, 1)), { repeat: byte.toString(16).padStart(2, '0'), times: n }, hex(sealed.subarray(n + 1))] }
}

module.exports = async () => [await headers(), await push(), await pull()]
module.exports.uniform = uniform
