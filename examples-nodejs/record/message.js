// Records vectors/message: every message of the hypercore channel, whole and damaged.

const { VectorFile, run } = require('../lib/vectors')
const layout = require('../lib/layout')
const { notes, prune, seen, slug } = require('../lib/cases')

const HASHES = ['1a', '2b', '3c', '4d', '5e', '6f'].map((b) => b.repeat(32))
const SIGNATURE = Array.from({ length: 64 }, (_, i) => i.toString(16).padStart(2, '0')).join('')
const KEY = '7e'.repeat(32)
const NAMESPACE = '8f'.repeat(32)
const NODE = (index, size, i) => ({ index, size, hash: HASHES[i] })

// One value for each form of a uint, and one beyond.
const WIDTHS = [
  ['one-byte', 0xfc, 'the largest value of one byte'],
  ['three-bytes', 0xfd, 'the smallest value that takes three bytes'],
  ['five-bytes', 0x10000, 'the smallest value that takes five bytes'],
  ['nine-bytes', Number.MAX_SAFE_INTEGER, 'the largest value, 2^53-1, which takes nine bytes']
]
const UNSAFE = [['2-53', '9007199254740992', '2^53'], ['2-64-1', '18446744073709551615', '2^64-1']]
const COUNTS = [
  ['most', 0x100000, 'the most items that a decoder takes, of which none follow'],
  ['one-too-many', 0x100001, 'one item more than a decoder takes'],
  ['2-32', 0x100000000, '2^32 items'],
  ['2-60', '1152921504606846976', '2^60 items']
]
const WORDS = [
  ['2-20', 0x100000, '2^20 words, of which none follow; an array of words has no other limit than its bytes'],
  ['2-32', 0x100000000, '2^32 words'],
  ['2-60', '1152921504606846976', '2^60 words']
]
const LENGTHS = [
  ['one-too-long', null, 'one byte more than follows'],
  ['2-32', 0x100000000, '2^32 bytes'],
  ['2-53-1', Number.MAX_SAFE_INTEGER, '2^53-1 bytes'],
  ['2-60', '1152921504606846976', '2^60 bytes']
]

const MANIFEST = {
  version: 1,
  hash: 'blake2b',
  allowPatch: false,
  quorum: 1,
  signers: [{ signature: 'ed25519', namespace: NAMESPACE, publicKey: KEY }],
  prologue: null,
  linked: null,
  userData: null
}

const REQUEST = { id: 7, fork: 1, block: null, hash: null, seek: null, upgrade: null, manifest: false, priority: 0 }
const DATA = { request: 7, fork: 1, block: null, hash: null, seek: null, upgrade: null, manifest: null }

const REQUEST_PARTS = [
  ['block', { block: { index: 5, nodes: 2 } }, 'REQ-2'],
  ['hash', { hash: { index: 12, nodes: 3 } }, 'REQ-3'],
  ['seek', { seek: { bytes: 4096, padding: 8 } }, 'REQ-4'],
  ['upgrade', { upgrade: { start: 3, length: 9 } }, 'REQ-5'],
  ['manifest', { manifest: true }, 'REQ-6'],
  ['priority', { priority: 2 }, 'REQ-7']
]
const DATA_PARTS = [
  ['block', { block: { index: 5, value: '68656c6c6f', nodes: [NODE(8, 5, 0)] } }, 'DATA-2'],
  ['hash', { hash: { index: 12, nodes: [NODE(14, 7, 1)] } }, 'DATA-3'],
  ['seek', { seek: { bytes: 300, nodes: [] } }, 'DATA-4'],
  ['upgrade', { upgrade: { start: 3, length: 9, nodes: [NODE(7, 400, 2)], additionalNodes: [], signature: SIGNATURE } }, 'DATA-5'],
  ['manifest', { manifest: MANIFEST }, 'DATA-6']
]

const SYNC_FLAGS = ['canUpgrade', 'uploading', 'downloading', 'hasManifest', 'allowPush']

// Every subset of a list, in the order of its binary counter.
const subsets = (list) => Array.from({ length: 2 ** list.length }, (_, bits) => list.filter((_, i) => bits & (1 << i)))

const named = (parts) => parts.length === 0 ? 'none' : parts.map((p) => slug(Array.isArray(p) ? p[0] : p)).join('-')
const said = (parts) => parts.length === 0 ? 'no part' : parts.map((p) => p[0]).join(', ')

// Each message's name in clauses, its forms, and the value whose fields are varied.
const FAMILIES = [
  {
    message: 'handshake',
    subject: 'handshake',
    description: 'The handshake inside the open of a hypercore channel: flags and the capability.',
    clauses: ['CHAN-2'],
    decodeClauses: { unknown: 'CHAN-4', truncated: 'CHAN-5' },
    rich: { seeks: true, capability: HASHES[0] },
    forms: () => [true, false].map((seeks) => ({
      slug: seeks ? 'seeks' : 'no-seeks',
      value: { seeks, capability: HASHES[0] },
      comment: seeks ? 'The sender can seek (from 10.29.1).' : 'No flag, as releases before 10.29.1 send it.',
      flags: []
    })),
    unknown: [1, 2, 3, 4, 5, 6, 7, 8, 31, 32, 52]
  },
  {
    message: 'sync',
    subject: 'sync',
    description: 'What each side has and wants: flags, fork, length and the length last seen of the remote.',
    clauses: ['SYNC-1'],
    fields: { flags: ['SYNC-2'] },
    rich: { fork: 1, length: 300, remoteLength: 70000, canUpgrade: true, uploading: true, downloading: true, hasManifest: true, allowPush: false },
    forms: () => subsets(SYNC_FLAGS).map((set) => ({
      slug: named(set),
      value: { fork: 0, length: 3, remoteLength: 2, ...Object.fromEntries(SYNC_FLAGS.map((f) => [f, set.includes(f)])) },
      clauses: ['SYNC-2'],
      comment: `Flags set: ${set.length ? set.join(', ') : 'none'}.`
    })),
    unknown: [5, 6, 7, 8, 31, 32, 52]
  },
  {
    message: 'request',
    subject: 'request',
    description: 'A request for a block, a hash, a byte offset, an upgrade and the manifest, in any combination.',
    clauses: ['REQ-1'],
    fields: Object.fromEntries(REQUEST_PARTS.map(([part, , clause]) => [part, [clause]])),
    rich: REQUEST_PARTS.reduce((all, [, part]) => ({ ...all, ...part }), REQUEST),
    forms: () => subsets(REQUEST_PARTS).map((set) => ({
      slug: named(set),
      value: set.reduce((all, [, part]) => ({ ...all, ...part }), REQUEST),
      clauses: set.map(([, , clause]) => clause),
      comment: `Parts: ${said(set)}.`
    })),
    unknown: [6, 7, 8, 31, 32, 52]
  },
  {
    message: 'cancel',
    subject: 'cancel',
    description: 'Takes a request back.',
    clauses: ['CANCEL-1'],
    rich: { request: 70000 },
    forms: () => [0, 1, 300].map((request) => ({ slug: `request-${request}`, value: { request }, comment: `Cancels request ${request}.` })),
    unknown: []
  },
  {
    message: 'data',
    subject: 'data',
    description: 'The answer to a request: a block, a hash, a seek, an upgrade and the manifest, in any combination, each with its tree nodes.',
    clauses: ['DATA-1'],
    fields: Object.fromEntries(DATA_PARTS.map(([part, , clause]) => [part, [clause]])),
    nodes: ['NODE-1'],
    rich: DATA_PARTS.reduce((all, [, part]) => ({ ...all, ...part }), DATA),
    wide: {
      ...DATA,
      block: { index: 5, value: '68656c6c6f', nodes: [NODE(8, 5, 0)] },
      hash: { index: 12, nodes: [] },
      seek: { bytes: 300, nodes: [] },
      upgrade: { start: 3, length: 9, nodes: [], additionalNodes: [], signature: SIGNATURE }
    },
    forms: () => subsets(DATA_PARTS).map((set) => ({
      slug: named(set),
      value: set.reduce((all, [, part]) => ({ ...all, ...part }), DATA),
      clauses: set.flatMap(([part, , clause]) => ['seek', 'manifest'].includes(part) ? [clause] : [clause, 'NODE-1']),
      comment: `Parts: ${said(set)}.`
    })).concat([
      { slug: 'empty-block', value: { ...DATA, block: { index: 0, value: '', nodes: [] } }, clauses: ['DATA-2', 'ENC-6'], comment: 'A block of no bytes stays a block.' },
      { slug: 'block-of-300-bytes', value: { ...DATA, block: { index: 0, value: 'ab'.repeat(300), nodes: [] } }, clauses: ['DATA-2', 'ENC-6'], comment: 'A block whose length takes three bytes.' },
      { slug: 'upgrade-without-signature', value: { ...DATA, upgrade: { start: 0, length: 1, nodes: [NODE(0, 1, 0)], additionalNodes: [], signature: null } }, clauses: ['DATA-5', 'ENC-7', 'NODE-1'], comment: 'An absent signature is a length of 0.' },
      { slug: 'upgrade-with-additional-nodes', value: { ...DATA, upgrade: { start: 1, length: 2, nodes: [NODE(2, 1, 0), NODE(4, 1, 1)], additionalNodes: [NODE(9, 2, 2), NODE(12, 1, 3)], signature: SIGNATURE } }, clauses: ['DATA-5', 'NODE-1', 'ENC-11'], comment: 'Two nodes and two additional nodes, in this order.' },
      { slug: 'six-nodes', value: { ...DATA, block: { index: 1, value: '00', nodes: HASHES.map((_, i) => NODE(i * 2, i, i)) } }, clauses: ['DATA-2', 'NODE-1', 'ENC-11'], comment: 'Six nodes beside a block.' },
      { slug: 'node-of-size-0', value: { ...DATA, hash: { index: 2, nodes: [NODE(0, 0, 0)] } }, clauses: ['DATA-3', 'NODE-1'], comment: 'A node over an empty block has size 0.' },
      { slug: 'long-signature', value: { ...DATA, upgrade: { start: 0, length: 1, nodes: [], additionalNodes: [], signature: `0100${SIGNATURE}0000` } }, clauses: ['DATA-5', 'TREE-6'], comment: 'The signature of a core that is not compat is a multisignature, here of one signer.' },
      { slug: 'manifest-0', value: { ...DATA, manifest: { ...MANIFEST, version: 0 } }, clauses: ['DATA-6', 'MAN-3'], comment: 'A manifest of version 0.' },
      { slug: 'manifest-2', value: { ...DATA, manifest: { ...MANIFEST, version: 2, linked: [KEY], userData: 'beef' } }, clauses: ['DATA-6', 'MAN-6'], comment: 'A manifest of version 2.' },
      { slug: 'manifest-3', value: { ...DATA, manifest: { ...MANIFEST, version: 3, prologue: { hash: HASHES[0], length: 4 } } }, clauses: ['DATA-6', 'MAN-6'], comment: 'A manifest of version 3.' }
    ]),
    unknown: [5, 6, 7, 8, 31, 32, 52]
  },
  {
    message: 'noData',
    subject: 'no-data',
    description: 'Says that a request is not answered with data, and from 11.13.0 why.',
    clauses: ['NODATA-1'],
    fields: { flags: ['NODATA-2'], reason: ['NODATA-2'] },
    rich: { request: 70000, reason: 300 },
    forms: () => [
      { slug: 'no-reason', value: { request: 7, reason: 0 }, clauses: ['NODATA-2'], comment: 'No reason; the flags byte is sent all the same.' },
      { slug: 'not-available', value: { request: 7, reason: 1 }, clauses: ['NODATA-2'], comment: 'Reason 1: not available.' },
      { slug: 'invalid-request', value: { request: 7, reason: 2 }, clauses: ['NODATA-2'], comment: 'Reason 2: an invalid request.' },
      { slug: 'reason-3', value: { request: 7, reason: 3 }, clauses: ['NODATA-2'], comment: 'A reason that no release gives is passed on.' }
    ],
    unknown: [1, 2, 3, 4, 5, 6, 7, 8, 31, 32, 52]
  },
  ...['want', 'unwant'].map((message) => ({
    message,
    subject: message,
    description: message === 'want' ? 'Asks to be told of the blocks of a range.' : 'Takes a want back.',
    clauses: [message === 'want' ? 'WANT-1' : 'UNWANT-1'],
    fields: { flags: ['WANT-2'] },
    rich: { start: 300, length: 70000, any: true },
    forms: () => [
      { slug: 'plain', value: { start: 0, length: 1048576, any: false }, comment: 'No flags are sent when none is set, as before 11.23.1.' },
      { slug: 'any', value: { start: 0, length: 1048576, any: true }, clauses: ['WANT-2'], comment: 'Any block of the range will do (from 11.23.1): a trailing byte of flags.' },
      { slug: 'empty', value: { start: 5, length: 0, any: false }, comment: 'A range of no blocks.' }
    ],
    unknown: [1, 2, 3, 4, 5, 6, 7, 8, 31, 32, 52]
  })),
  {
    message: 'bitfield',
    subject: 'bitfield',
    description: 'Which blocks of a range are held, as 32-bit words, little-endian, the lowest bit first.',
    clauses: ['BITFIELD-1', 'ENC-12'],
    rich: { start: 32768, bitfield: [0xffffffff, 1, 0x80000000] },
    forms: () => [
      { slug: 'no-words', value: { start: 0, bitfield: [] }, comment: 'No words at all.' },
      { slug: 'one-word', value: { start: 0, bitfield: [1] }, comment: 'One word with its lowest bit set.' },
      { slug: 'two-words', value: { start: 64, bitfield: [0x01020304, 0xfffefdfc] }, comment: 'Two words show the order of bytes.' },
      { slug: 'all-ones', value: { start: 0, bitfield: [0xffffffff, 0xffffffff] }, comment: 'Words with every bit set.' },
      { slug: '32-words', value: { start: 1024, bitfield: Array.from({ length: 32 }, (_, i) => i * 0x01010101) }, comment: '32 words.' },
      { slug: '253-words', value: { start: 0, bitfield: Array.from({ length: 253 }, (_, i) => i) }, comment: 'The smallest count that takes three bytes.' },
      { slug: '1024-words', value: { start: 32768, bitfield: Array.from({ length: 1024 }, (_, i) => (i * 0x9e3779b1) >>> 0) }, comment: '1,024 words, or 32,768 blocks: a whole page, the most that Node sends at once.' }
    ],
    unknown: []
  },
  {
    message: 'range',
    subject: 'range',
    description: 'A range of blocks that is now held, or with drop no longer held.',
    clauses: ['RANGE-1'],
    fields: { flags: ['RANGE-2', 'RANGE-3'] },
    rich: { drop: true, start: 300, length: 70000 },
    forms: () => [
      { slug: 'have', value: { drop: false, start: 4, length: 6 }, comment: 'Blocks 4 to 9 are held.' },
      { slug: 'have-one', value: { drop: false, start: 4, length: 1 }, clauses: ['RANGE-2'], comment: 'One block: a flag stands for the length.' },
      { slug: 'drop', value: { drop: true, start: 4, length: 6 }, clauses: ['RANGE-3'], comment: 'Blocks 4 to 9 are no longer held.' },
      { slug: 'drop-one', value: { drop: true, start: 4, length: 1 }, clauses: ['RANGE-2', 'RANGE-3'], comment: 'One block is no longer held.' },
      { slug: 'empty', value: { drop: false, start: 4, length: 0 }, comment: 'A range of no blocks.' },
      { slug: '2-40-blocks', value: { drop: false, start: 0, length: 2 ** 40 }, comment: '2^40 blocks: a decoder must not act on the size of a range. 10.0.0 hangs on it.' }
    ],
    unknown: [2, 3, 4, 5, 6, 7, 8, 31, 32, 52]
  },
  {
    message: 'extension',
    subject: 'extension',
    description: 'A message of an extension: its name, and the rest. How an empty name is resolved is in vectors/extension.',
    clauses: ['EXT-1'],
    rich: { name: 'example', message: '' },
    forms: () => [
      { slug: 'named', value: { name: 'example', message: '0102030405' }, clauses: ['ENC-8', 'ENC-10'], comment: 'A name and five bytes.' },
      { slug: 'no-name', value: { name: '', message: '0102030405' }, clauses: ['EXT-2', 'ENC-8'], comment: 'An empty name stands for the name last sent.' },
      { slug: 'no-message', value: { name: 'example', message: '' }, clauses: ['ENC-10'], comment: 'A name and nothing else.' },
      { slug: 'neither', value: { name: '', message: '' }, clauses: ['EXT-2'], comment: 'One byte.' },
      { slug: 'utf-8-name', value: { name: 'żółw-🐢', message: 'ff' }, clauses: ['ENC-8'], comment: 'The length counts bytes, not characters.' },
      { slug: 'long-name', value: { name: 'n'.repeat(300), message: '00' }, clauses: ['ENC-8'], comment: 'A name whose length takes three bytes.' }
    ],
    unknown: []
  }
]

// The clauses of a case that varies one field.
function clausesOf (family, field, more) {
  const part = field.name.split('.')[0]
  const own = (family.fields && family.fields[part]) || []
  const node = /nodes\.\d|additionalNodes\.\d/i.test(field.name) ? family.nodes || [] : []
  return [...new Set([...family.clauses, ...own, ...node, ...more])]
}

const byteOffset = (fields, index) => layout.render(fields.slice(0, index)).length / 2

async function family (f) {
  const file = new VectorFile({
    layer: 'message',
    subject: f.subject,
    description: f.description,
    script: 'message',
    packages: ['hypercore', 'hypercore10', 'compact-encoding'],
    notes: notes(['Truncated', 'TrailingBytes', 'NonMinimalUint', 'UnsafeInteger', 'HostileCount', 'HostileLength', 'UnknownFlag', 'OlderForm', 'LaterForm', 'OptionalTail', 'InvalidUtf8', 'UnknownVersion', 'UnknownId'])
  })
  const decode = file.group('decode', 'message.decode', `Decodes one ${f.message} message from the start of the input and says how many bytes it took.`)
  const encode = file.group('encode', 'message.encode', `Encodes one ${f.message} message as Node does.`)
  const input = (bytes) => ({ message: f.message, bytes })
  const fieldsOf = (value) => layout.messages[f.message](value)

  for (const form of f.forms()) {
    const fields = fieldsOf(form.value)
    const bytes = layout.render(fields)
    const clauses = [...new Set([...f.clauses, ...(form.clauses || [])])]
    await agree(f.message, form.value, bytes)
    await seen(decode, `decode.${form.slug}`, { clauses, comment: form.comment, input: input(bytes), result: 'valid' })
    await seen(encode, `encode.${form.slug}`, { clauses: [...clauses, 'ENC-2'], comment: form.comment, input: { message: f.message, value: form.value }, result: 'valid' })
  }

  const wide = f.wide || f.rich
  const fields = fieldsOf(wide)
  for (const field of fields.filter((x) => x.kind === 'uint')) {
    for (const [name, value, comment] of WIDTHS) {
      // A length of 1 is not written and a reason or priority of 0 is not sent; these values avoid both.
      const bytes = layout.render(fields, { [field.name]: { value } })
      await seen(decode, `decode.${slug(field.name)}.${name}`, {
        clauses: clausesOf(f, field, ['ENC-1']), comment: `${field.name}: ${comment}.`, input: input(bytes), result: 'valid'
      })
      await seen(encode, `encode.${slug(field.name)}.${name}`, {
        clauses: clausesOf(f, field, ['ENC-1', 'ENC-2']), comment: `${field.name}: ${comment}.`, input: { message: f.message, value: (await run('message.decode', input(bytes))).output.value }, result: 'valid'
      })
    }
    for (const [name, value, comment] of UNSAFE) {
      await seen(decode, `decode.${slug(field.name)}.unsafe-${name}`, {
        clauses: clausesOf(f, field, ['ENC-4', 'MSG-1']), comment: `${field.name} is ${comment}.`, flags: ['UnsafeInteger'], input: input(layout.render(fields, { [field.name]: { value } })), class: 'unsafe-integer'
      })
    }
    const [name, value, comment] = UNSAFE[0]
    await seen(encode, `encode.${slug(field.name)}.unsafe-${name}`, {
      clauses: clausesOf(f, field, ['ENC-4']),
      comment: `${field.name} is ${comment}: an encoder refuses it too.`,
      flags: ['UnsafeInteger'],
      input: { message: f.message, value: set((await run('message.decode', input(layout.render(fields)))).output.value, field.name, value) },
      class: 'unsafe-integer'
    })
  }

  for (const field of fields.filter((x) => x.kind !== 'bytes')) {
    for (const width of [3, 5, 9]) {
      if (layout.uint(field.value).length >= width) continue
      await seen(decode, `decode.${slug(field.name)}.in-${width}-bytes`, {
        clauses: clausesOf(f, field, ['ENC-3']), comment: `${field.name} in ${width} bytes where fewer would do.`, flags: ['NonMinimalUint'], input: input(layout.render(fields, { [field.name]: { width } })), result: 'valid'
      })
    }
  }

  await damaged(f, decode, input, fieldsOf)
  await particular(f, decode, encode, input, fieldsOf)
  return prune(file)
}

// The rich value truncated, extended, with unknown flags, and with false counts and lengths.
async function damaged (f, decode, input, fieldsOf) {
  const fields = fieldsOf(f.rich)
  const whole = layout.render(fields)
  const at = (offset) => fields.findLast((_, i) => byteOffset(fields, i) <= offset)

  for (let length = 0; length < whole.length / 2; length++) {
    const field = at(length)
    await seen(decode, `decode.truncated-at-${length}`, {
      clauses: clausesOf(f, field, [f.decodeClauses?.truncated || 'MSG-1', 'ENC-13']),
      comment: `Ends ${byteOffset(fields, fields.indexOf(field)) === length ? 'before' : 'within'} ${field.name}.`,
      flags: ['Truncated', ...(optionalFrom(f, fields) === length ? ['OptionalTail'] : [])],
      input: input(whole.slice(0, length * 2))
    })
  }
  // A message cut at an optional tail is complete, not truncated.
  for (const c of decode.cases) if (c.flags.includes('OptionalTail') && c.result === 'valid') c.flags = ['OptionalTail']

  if (f.message !== 'extension') {
    for (const [name, tail, comment] of [['one-byte', '00', 'One byte follows'], ['five-bytes', 'ffffffffff', 'Five bytes follow']]) {
      await seen(decode, `decode.trailing-${name}`, {
        clauses: [...f.clauses, 'MSG-2', 'ENC-14'], comment: `${comment} the message.`, flags: ['TrailingBytes'], input: input(whole + tail), result: 'valid'
      })
    }
  }

  for (const bit of f.unknown) {
    const field = fields.find((x) => x.name === 'flags')
    const value = (BigInt(field.value) | (1n << BigInt(bit))).toString()
    await seen(decode, `decode.unknown-flag-${bit}`, {
      clauses: clausesOf(f, field, [f.decodeClauses?.unknown || 'MSG-3']), comment: `Bit ${bit} of the flags is set, which means nothing.`, flags: ['UnknownFlag'], input: input(layout.render(fields, { flags: { value } })), result: 'valid'
    })
  }
  if (fields.some((x) => x.name === 'flags')) {
    const field = fields.find((x) => x.name === 'flags')
    for (const [name, value, comment] of UNSAFE) {
      await seen(decode, `decode.flags.unsafe-${name}`, {
        clauses: clausesOf(f, field, ['ENC-4', 'MSG-1']), comment: `The flags are ${comment}.`, flags: ['UnsafeInteger'], input: input(layout.render(fields, { flags: { value } })), class: 'unsafe-integer'
      })
    }
  }

  const wide = fieldsOf(f.wide || f.rich)
  for (const field of wide.filter((x) => x.kind === 'count')) {
    // Everything after the count is left out, so that the count alone decides.
    const upto = wide.slice(0, wide.indexOf(field) + 1)
    for (const [name, value, comment] of f.message === 'bitfield' ? WORDS : COUNTS) {
      await seen(decode, `decode.${slug(field.name)}.${name}`, {
        clauses: clausesOf(f, field, [f.message === 'bitfield' ? 'ENC-15' : 'ENC-11', 'ENC-15', 'MSG-1']), comment: `${field.name} claims ${comment}.`, flags: ['HostileCount'], input: input(layout.render(upto, { [field.name]: { value } })), result: 'invalid'
      })
    }
  }
  for (const field of wide.filter((x) => x.kind === 'length')) {
    const upto = wide.slice(0, wide.indexOf(field) + 2)
    for (const [name, value, comment] of LENGTHS) {
      await seen(decode, `decode.${slug(field.name)}.${name}`, {
        clauses: clausesOf(f, field, ['ENC-15', 'ENC-13', 'MSG-1']), comment: `${field.name} claims ${comment}.`, flags: ['HostileLength'], input: input(layout.render(upto, { [field.name]: { value: value === null ? field.value + 1 : value } })), result: 'invalid'
      })
    }
  }
}

// Where the rich value may end early, in bytes; -1 where it may not.
function optionalFrom (f, fields) {
  if (!['noData', 'want', 'unwant'].includes(f.message)) return -1
  return byteOffset(fields, fields.findIndex((x) => x.name === 'flags'))
}

// Cases of single messages: forms of other releases, and combinations of values.
async function particular (f, decode, encode, input, fieldsOf) {
  const older = (name, bytes, clauses, comment, flags = ['OlderForm']) =>
    seen(decode, `decode.${name}`, { clauses: [...f.clauses, ...clauses], comment, flags, input: input(bytes) })

  if (f.message === 'sync') {
    await older('as-10-0', '07000302', ['SYNC-2'], 'As releases before 10.24.10 send it: three flags at most.')
    await older('as-10-38', '0f000302', ['SYNC-2'], 'As 10.24.10 to 11.21.0 send it: no allowPush.')
    await older('allow-push-to-older', '1f000302', ['SYNC-2', 'MSG-3'], 'allowPush came with 11.21.1; what is older ignores the bit.', ['LaterForm'])
    await seen(decode, 'decode.length-below-remote-length', { clauses: f.clauses, comment: 'A remoteLength beyond length is no fault of the encoding.', input: input('07000109'), result: 'valid' })
  }
  if (f.message === 'request') {
    await older('priority-as-10-18', '110701050002', ['REQ-6', 'REQ-7', 'MSG-2'], 'A request of 10.18 to 10.20 with priority 2 under flag 16: today it asks for the manifest, and the priority is a trailing byte.', ['OlderForm', 'TrailingBytes'])
    await older('seek-without-padding', '0407010a', ['REQ-4', 'MSG-1'], 'A seek of releases before 10.29.1 has no padding; when nothing follows, it is now cut short.', ['OlderForm', 'Truncated'])
    await older('seek-without-padding-and-upgrade', '0c07010a0309', ['REQ-4', 'REQ-5', 'MSG-1'], 'A seek without padding swallows the start of the upgrade behind it, which is then cut short.', ['OlderForm', 'Truncated'])
    await seen(decode, 'decode.priority-0', { clauses: [...f.clauses, 'REQ-7'], comment: 'A priority of 0 may be sent; Node leaves it out.', input: input('20070100'), result: 'valid' })
    await seen(decode, 'decode.upgrade-of-0', { clauses: [...f.clauses, 'REQ-5'], comment: 'An upgrade of no blocks is still a part.', input: input('0807010000'), result: 'valid' })
  }
  if (f.message === 'data') {
    await seen(decode, 'decode.manifest.unknown-version', { clauses: [...f.clauses, 'DATA-6', 'MAN-9'], comment: 'A manifest of version 4 within data.', flags: ['UnknownVersion'], input: input('10070104000001'), class: 'unknown-version' })
    await seen(decode, 'decode.manifest.unknown-hash', { clauses: [...f.clauses, 'DATA-6', 'MAN-7'], comment: 'A manifest with hash 1 within data.', flags: ['UnknownId'], input: input('10070101000100'), class: 'unknown-hash' })
    await seen(decode, 'decode.manifest.unknown-signature', { clauses: [...f.clauses, 'DATA-6', 'MAN-8'], comment: 'A manifest whose signer has signature 1 within data.', flags: ['UnknownId'], input: input(`100701010000010101${NAMESPACE}${KEY}`), class: 'unknown-signature' })
    for (const part of ['hash.nodes', 'seek.nodes', 'upgrade.nodes', 'upgrade.additionalNodes']) {
      const fields = fieldsOf({ ...f.wide, seek: { bytes: 300, nodes: [NODE(0, 1, 0)] }, hash: { index: 1, nodes: [NODE(0, 1, 0)] }, upgrade: { ...f.wide.upgrade, nodes: [NODE(0, 1, 0)], additionalNodes: [NODE(2, 1, 1)] } })
      await seen(decode, `decode.${slug(part)}.one-short`, {
        clauses: [...f.clauses, 'NODE-1', 'ENC-13', 'MSG-1'],
        comment: `${part} claims one node more than there is.`,
        flags: ['HostileCount'],
        input: input(layout.render(fields.slice(0, fields.findIndex((x) => x.name === `${part}.0.hash`) + 1), { [`${part}.count`]: { value: 2 } })),
        class: 'out-of-bounds'
      })
    }
    const node = fieldsOf({ ...DATA, hash: { index: 2, nodes: [NODE(4, 2, 1)] } })
    for (const field of node.filter((x) => /nodes\.0\.(index|size)/.test(x.name))) {
      for (const [name, value, comment] of WIDTHS) {
        await seen(decode, `decode.node.${field.name.split('.').pop()}.${name}`, { clauses: ['NODE-1', 'DATA-3', 'ENC-1'], comment: `The ${field.name.split('.').pop()} of a node: ${comment}.`, input: input(layout.render(node, { [field.name]: { value } })), result: 'valid' })
      }
    }
    await seen(decode, 'decode.block.64-kib', {
      clauses: [...f.clauses, 'DATA-2', 'ENC-6'], comment: 'A block of 64 KiB.', input: { message: 'data', bytes: { concat: ['01070105fe00000100', { repeat: 'a5', times: 65536 }, '00'] } }, result: 'valid'
    })
    await seen(encode, 'encode.block.64-kib', {
      clauses: [...f.clauses, 'DATA-2', 'ENC-6'], comment: 'A block of 64 KiB.', input: { message: 'data', value: { ...DATA, block: { index: 5, value: { repeat: 'a5', times: 65536 }, nodes: [] } } }, result: 'valid'
    })
  }
  if (f.message === 'noData') {
    await older('as-10-0', '07', ['NODATA-2'], 'As releases before 11.13.0 send it: the request alone.', ['OlderForm', 'OptionalTail'])
    await older('reason-missing', '0701', ['NODATA-2', 'MSG-1', 'ENC-13'], 'The flags promise a reason that is not there.', ['Truncated'])
    await older('reason-unflagged', '070002', ['NODATA-2', 'MSG-2'], 'A byte after flags of 0 is no reason.', ['TrailingBytes'])
    await seen(decode, 'decode.reason-0', { clauses: [...f.clauses, 'NODATA-2'], comment: 'A reason of 0 may be flagged; Node leaves it out.', input: input('070100'), result: 'valid' })
  }
  if (f.message === 'want' || f.message === 'unwant') {
    await older('flags-0', '000a00', ['WANT-2'], 'Flags of 0 may be sent; Node leaves them out.', ['NonMinimalUint'])
    decode.cases.at(-1).flags = []
    decode.cases.at(-1).node = null
    await older('any-to-older', '000a01', ['WANT-2', 'MSG-2'], 'Releases before 11.23.1 leave the byte of flags unread.', ['LaterForm'])
  }
  if (f.message === 'bitfield') {
    await older('half-a-word', '0001ffff', ['ENC-13', 'MSG-1'], 'Half of the only word.', ['Truncated'])
    await older('count-larger-than-words', '000201000000', ['ENC-13', 'MSG-1'], 'Two words are claimed and one follows.', ['HostileCount'])
    await older('2-30-words', '00fe00000040', ['ENC-15', 'MSG-1'], '2^30 words, whose size in bytes is 2^32: it must not wrap around to 0.', ['HostileCount'])
    await older('2-53-1-words', '00ffffffffffffff1f00', ['ENC-15', 'MSG-1'], '2^53-1 words, whose size in bytes is not a safe integer.', ['HostileCount'])
    await older('2-62-words', '00ff0000000000000040', ['ENC-15', 'ENC-4', 'MSG-1'], '2^62 words, whose size in bytes is 2^64: it must not wrap around to 0.', ['HostileCount'])
    await seen(decode, 'decode.unaligned', { clauses: f.clauses, comment: 'Words need no alignment: start takes three bytes here.', input: input('fdfd000201000000020000ff'), result: 'valid' })
  }
  if (f.message === 'range') {
    await seen(decode, 'decode.length-1-written-out', { clauses: [...f.clauses, 'RANGE-2'], comment: 'A length of 1 may be written out; Node uses the flag.', input: input('000401'), result: 'valid' })
    await older('length-beside-flag', '020409', ['RANGE-2', 'MSG-2'], 'With the flag the length is 1, whatever follows.', ['TrailingBytes'])
    await seen(decode, 'decode.end-beyond-2-53', { clauses: f.clauses, comment: 'start + length is beyond 2^53-1: each of them is a value on its own, and a receiver must add with care.', input: input('00ffffffffffffff1f00ffffffffffffff1f00'), result: 'valid' })
    await older('length-missing', '0004', ['RANGE-2', 'MSG-1', 'ENC-13'], 'No length, and no flag that stands for it.', ['Truncated'])
  }
  if (f.message === 'extension') {
    const bad = [
      ['lone-continuation', '80', 'A continuation byte on its own'],
      ['cut-sequence', 'e282', 'A sequence that is cut short'],
      ['overlong', 'c0af', 'An overlong form of a slash'],
      ['surrogate', 'eda080', 'A surrogate'],
      ['beyond-unicode', 'f4908080', 'A code point beyond U+10FFFF'],
      ['among-letters', '61ff62', 'A byte that never occurs, between two letters']
    ]
    for (const [name, hex, comment] of bad) {
      await seen(decode, `decode.name.${name}`, { clauses: [...f.clauses, 'ENC-8'], comment: `${comment} in a name.`, flags: ['InvalidUtf8'], input: input(`0${hex.length / 2}${hex}ff`), result: 'valid' })
    }
    await seen(decode, 'decode.name.nul', { clauses: [...f.clauses, 'ENC-8'], comment: 'A NUL in a name is a character like another.', input: input('03610062ff'), result: 'valid' })
    await seen(decode, 'decode.name.byte-order-mark', { clauses: [...f.clauses, 'ENC-8'], comment: 'A byte order mark at the start of a name.', input: input('05efbbbf6162ff'), result: 'valid' })
    await seen(decode, 'decode.message.64-kib', { clauses: [...f.clauses, 'ENC-10'], comment: 'A message of 64 KiB takes no length.', input: { message: 'extension', bytes: { concat: ['0161', { repeat: '5a', times: 65536 }] } }, result: 'valid' })
    await seen(encode, 'encode.message.64-kib', { clauses: [...f.clauses, 'ENC-10'], comment: 'A message of 64 KiB takes no length.', input: { message: 'extension', value: { name: 'a', message: { repeat: '5a', times: 65536 } } }, result: 'valid' })
  }
}

// The value with one field, named by its path, replaced.
function set (value, path, to) {
  const out = structuredClone(value)
  const keys = path.split('.')
  const last = keys.pop()
  let at = out
  for (const key of keys) at = at[key]
  at[last] = to
  return out
}

// The layout written here and Node's encoder must give the same bytes.
async function agree (message, value, bytes) {
  const got = await run('message.encode', { message, value })
  if (got.error) throw got.error
  if (got.output.bytes !== bytes) throw new Error(`${message}: the layout gives ${bytes}, Node ${got.output.bytes}`)
}

module.exports = async function () {
  const files = []
  for (const f of FAMILIES) files.push(await family(f))
  return files
}
