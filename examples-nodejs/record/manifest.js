// Records vectors/manifest: manifests of every version in all their forms, their hashes, and damaged ones.

const b4a = require('b4a')
const { VectorFile, run } = require('../lib/vectors')
const { load } = require('../lib/release')
const layout = require('../lib/layout')
const { notes, prune, seen, slug } = require('../lib/cases')

const { caps } = load()
const DEFAULT_NAMESPACE = b4a.toString(caps.DEFAULT_NAMESPACE, 'hex')
const bytes32 = (first) => Array.from({ length: 32 }, (_, i) => ((first + i * 7) & 0xff).toString(16).padStart(2, '0')).join('')
const SIGNERS = [0x11, 0x32, 0x53, 0x74, 0x95].map((n) => ({ signature: 'ed25519', namespace: bytes32(n + 1), publicKey: bytes32(n) }))
const PROLOGUE = { hash: bytes32(0xb6), length: 4 }
const LINKED = [bytes32(0xc7), bytes32(0xd8), bytes32(0xe9)]

const EMPTY = { version: 1, hash: 'blake2b', allowPatch: false, quorum: 1, signers: [SIGNERS[0]], prologue: null, linked: null, userData: null }
const with_ = (more) => ({ ...EMPTY, ...more })

const V0 = [
  ['prologue', with_({ version: 0, quorum: 0, signers: [], prologue: { hash: PROLOGUE.hash, length: 0 } }), ['MAN-2'], 'A prologue and no signers: a core that is complete as it was made. The length is not on the wire.'],
  ['single', with_({ version: 0 }), ['MAN-3'], 'One signer, no patches.'],
  ['single-default-namespace', with_({ version: 0, signers: [{ ...SIGNERS[0], namespace: DEFAULT_NAMESPACE }] }), ['MAN-3', 'MAN-11', 'KEY-6'], 'One signer in the default namespace. This is the manifest of a compat core too, whose key is the public key here and not this hash.'],
  ['multi-one-with-patch', with_({ version: 0, allowPatch: true }), ['MAN-4'], 'One signer that allows patches is written as several signers are.'],
  ['multi-quorum-0', with_({ version: 0, quorum: 0 }), ['MAN-4'], 'A quorum of 0 of one signer.'],
  ['multi-none', with_({ version: 0, quorum: 0, signers: [] }), ['MAN-4'], 'No signers and no prologue.'],
  ['multi-1-of-2', with_({ version: 0, quorum: 1, signers: SIGNERS.slice(0, 2) }), ['MAN-4'], 'One of two signers.'],
  ['multi-2-of-2-with-patch', with_({ version: 0, quorum: 2, signers: SIGNERS.slice(0, 2), allowPatch: true }), ['MAN-4'], 'Two of two signers, patches allowed.'],
  ['multi-2-of-3', with_({ version: 0, quorum: 2, signers: SIGNERS.slice(0, 3) }), ['MAN-4'], 'Two of three signers.'],
  ['multi-3-of-5-with-patch', with_({ version: 0, quorum: 3, signers: SIGNERS, allowPatch: true }), ['MAN-4'], 'Three of five signers, patches allowed.'],
  ['multi-quorum-beyond-signers', with_({ version: 0, quorum: 9, signers: SIGNERS.slice(0, 2) }), ['MAN-4'], 'A quorum of more than there are signers is no fault of the encoding.']
]

const FLAGS = [
  ['allow-patch', { allowPatch: true }],
  ['prologue', { prologue: PROLOGUE }],
  ['linked', { linked: LINKED.slice(0, 1) }],
  ['user-data', { userData: 'c0ffee' }]
]

function flagged () {
  const out = []
  for (const version of [1, 2, 3]) {
    for (let bits = 0; bits < 16; bits++) {
      const set = FLAGS.filter((_, i) => bits & (1 << i))
      const value = set.reduce((all, [, part]) => ({ ...all, ...part }), with_({ version }))
      const later = version === 1 && bits & 12
      out.push([
        `v${version}-${set.length ? set.map(([name]) => name).join('-') : 'plain'}`, value,
        ['MAN-5', ...(version > 1 || later ? ['MAN-6'] : [])],
        `Version ${version}, flags: ${set.length ? set.map(([name]) => name).join(', ') : 'none'}.${later ? ' Node writes and reads these flags in version 1 too, though its manifests get version 2 for them; 10.38.2 leaves what they flag unread.' : ''}`
      ])
    }
  }
  return out
}

const SHAPES = [
  ['v1-default-namespace', with_({ signers: [{ ...SIGNERS[0], namespace: DEFAULT_NAMESPACE }] }), ['MAN-5', 'MAN-13', 'KEY-6'], 'What a default core of hypercore 11 has: one signer in the default namespace. Its hash is the key.'],
  ['v2-default-namespace-user-data', with_({ version: 2, userData: 'c0ffee', signers: [{ ...SIGNERS[0], namespace: DEFAULT_NAMESPACE }] }), ['MAN-6', 'MAN-13'], 'The same signer and user data: another hash. As the manifest of a compat core it would name the same key, and nothing would vouch for the user data.'],
  ['v1-no-signers', with_({ quorum: 0, signers: [] }), ['MAN-5'], 'No signers.'],
  ['v1-no-signers-prologue', with_({ quorum: 0, signers: [], prologue: PROLOGUE }), ['MAN-5'], 'A prologue and no signers: nobody can append.'],
  ...[2, 3, 4, 5].map((n) => [`v1-${n}-signers`, with_({ quorum: (n >> 1) + 1, signers: SIGNERS.slice(0, n) }), ['MAN-5'], `${n} signers, a majority as quorum.`]),
  ['v1-5-signers-reversed', with_({ quorum: 3, signers: [...SIGNERS].reverse() }), ['MAN-5'], 'The order of signers is part of the manifest.'],
  ['v1-same-signer-twice', with_({ quorum: 2, signers: [SIGNERS[0], SIGNERS[0]] }), ['MAN-5'], 'One signer twice is no fault of the encoding.'],
  ['v1-quorum-0', with_({ quorum: 0 }), ['MAN-5'], 'A quorum of 0.'],
  ['v1-prologue-length-0', with_({ prologue: { ...PROLOGUE, length: 0 } }), ['MAN-5'], 'A prologue of no blocks.'],
  ['v2-no-signers', with_({ version: 2, quorum: 0, signers: [] }), ['MAN-5'], 'No signers in version 2.'],
  ['v2-3-signers', with_({ version: 2, quorum: 2, signers: SIGNERS.slice(0, 3) }), ['MAN-5'], 'Three signers in version 2.'],
  ['v2-linked-0', with_({ version: 2, linked: [] }), ['MAN-6'], 'An empty list of linked cores is not the same as none: its flag is set.'],
  ['v2-linked-3', with_({ version: 2, linked: LINKED }), ['MAN-6'], 'Three linked cores.'],
  ['v2-user-data-empty', with_({ version: 2, userData: '' }), ['MAN-6', 'ENC-6'], 'User data of no bytes is not the same as none: its flag is set.'],
  ['v2-user-data-300', with_({ version: 2, userData: 'd0'.repeat(300) }), ['MAN-6', 'ENC-6'], 'User data whose length takes three bytes.'],
  ['v3-linked-3-user-data-empty', with_({ version: 3, linked: LINKED, userData: '' }), ['MAN-6', 'ENC-6'], 'Version 3 is laid out as version 2.'],
  ['v3-5-signers-everything', with_({ version: 3, allowPatch: true, quorum: 3, signers: SIGNERS, prologue: PROLOGUE, linked: LINKED, userData: '00ff' }), ['MAN-6'], 'Everything at once.']
]

const WIDTHS = [['one-byte', 0xfc], ['three-bytes', 0xfd], ['five-bytes', 0x10000], ['nine-bytes', Number.MAX_SAFE_INTEGER]]

const RICH = [
  ['v0-prologue', V0[0][1], ['MAN-2']],
  ['v0-single', V0[1][1], ['MAN-3']],
  ['v0-multi', with_({ version: 0, allowPatch: true, quorum: 1 }), ['MAN-4']],
  ['v1', with_({ allowPatch: true, prologue: PROLOGUE }), ['MAN-5']],
  ['v3', with_({ version: 3, quorum: 0, signers: [], prologue: { ...PROLOGUE, length: 300 }, linked: LINKED.slice(0, 1), userData: 'c0ffee' }), ['MAN-6']]
]

module.exports = async function () {
  const file = (subject, description) => new VectorFile({
    layer: 'manifest',
    subject,
    description,
    script: 'manifest',
    packages: ['hypercore', 'hypercore10', 'compact-encoding'],
    notes: notes(['Truncated', 'TrailingBytes', 'NonMinimalUint', 'UnsafeInteger', 'HostileCount', 'HostileLength', 'UnknownFlag', 'UnknownVersion', 'UnknownId', 'OlderForm', 'LaterForm'], { LongerForm: 'The manifest has a shorter form, which is what an encoder writes and what the key is the hash of.' })
  })

  const forms = file('forms', 'Manifests of versions 0 to 3 in all their forms, decoded, encoded and hashed. A core\'s key is the hash of its manifest, unless it is a compat core.')
  const groups = {
    decode: forms.group('decode', 'manifest.decode', 'Decodes one manifest from the start of the input and says how many bytes it took.'),
    encode: forms.group('encode', 'manifest.encode', 'Encodes one manifest as Node does.'),
    hash: forms.group('hash', 'manifest.hash', 'BLAKE2b-256 of the manifest namespace and the encoded manifest: the key of the core.')
  }
  const add = async (name, value, clauses, comment) => {
    const bytes = layout.render(layout.manifest(value))
    const got = await run('manifest.encode', { value })
    if (got.error || got.output.bytes !== bytes) throw new Error(`manifest ${name}: the layout gives ${bytes}, Node ${JSON.stringify(got)}`)
    const c = ['MAN-1', 'MAN-7', ...(value.signers.length ? ['MAN-8'] : []), ...clauses]
    await seen(groups.decode, `decode.${name}`, { clauses: c, comment, input: { bytes }, result: 'valid' })
    await seen(groups.encode, `encode.${name}`, { clauses: c, comment, input: { value }, result: 'valid' })
    await seen(groups.hash, `hash.${name}`, { clauses: ['MAN-10', 'KEY-1', ...clauses], comment, input: { value }, result: 'valid' })
  }
  for (const [name, value, clauses, comment] of V0) await add(`v0-${name}`, value, clauses, comment)
  for (const [name, value, clauses, comment] of flagged()) await add(name, value, clauses, comment)
  for (const [name, value, clauses, comment] of SHAPES) await add(name, value, clauses, comment)
  for (const [name, n] of WIDTHS) {
    await add(`v1-quorum.${name}`, with_({ quorum: n }), ['MAN-5', 'ENC-1'], `A quorum of ${n}.`)
    await add(`v1-prologue-length.${name}`, with_({ prologue: { ...PROLOGUE, length: n } }), ['MAN-5', 'ENC-1'], `A prologue of ${n} blocks.`)
    await add(`v0-quorum.${name}`, with_({ version: 0, quorum: n }), ['MAN-4', 'ENC-1'], `A quorum of ${n} in version 0.`)
  }

  const damaged = file('damaged', 'Manifests cut short, overstated, followed by other bytes, of unknown versions and kinds.')
  const decode = damaged.group('decode', 'manifest.decode', 'Decodes one manifest from the start of the input and says how many bytes it took.')
  const encode = damaged.group('encode', 'manifest.encode', 'Encodes one manifest.')
  for (const [name, value, clauses] of RICH) {
    const fields = layout.manifest(value)
    const whole = layout.render(fields)
    const offset = (i) => layout.render(fields.slice(0, i)).length / 2
    for (let length = 0; length < whole.length / 2; length++) {
      const i = fields.findLastIndex((_, k) => offset(k) <= length)
      await seen(decode, `${name}.truncated-at-${length}`, { clauses: [...clauses, 'ENC-13'], comment: `Ends ${offset(i) === length ? 'before' : 'within'} ${fields[i].name}.`, flags: ['Truncated'], input: { bytes: whole.slice(0, length * 2) }, class: 'out-of-bounds' })
    }
    for (const [tail, comment] of [['00', 'one byte'], ['ff'.repeat(33), '33 bytes']]) {
      await seen(decode, `${name}.trailing-${tail.length / 2}`, { clauses: [...clauses, 'ENC-14'], comment: `Followed by ${comment}.`, flags: ['TrailingBytes'], input: { bytes: whole + tail }, result: 'valid' })
    }
    for (const field of fields.filter((f) => f.kind !== 'bytes')) {
      for (const width of [3, 9]) {
        if (layout.uint(field.value).length >= width) continue
        await seen(decode, `${name}.${slug(field.name)}.in-${width}-bytes`, { clauses: [...clauses, 'ENC-3'], comment: `${field.name} in ${width} bytes where fewer would do.`, flags: ['NonMinimalUint'], input: { bytes: layout.render(fields, { [field.name]: { width } }) }, result: 'valid' })
      }
      for (const [what, n] of [['2-53', '9007199254740992'], ['2-64-1', '18446744073709551615']]) {
        await seen(decode, `${name}.${slug(field.name)}.unsafe-${what}`, { clauses: [...clauses, 'ENC-4'], comment: `${field.name} is ${what === '2-53' ? '2^53' : '2^64-1'}.`, flags: ['UnsafeInteger'], input: { bytes: layout.render(fields, { [field.name]: { value: n } }) }, class: 'unsafe-integer' })
      }
      if (field.kind === 'count') {
        const upto = fields.slice(0, fields.indexOf(field) + 1)
        for (const [what, n, comment] of [['one-short', field.value + 1, 'one item more than there is'], ['most', 0x100000, 'the most items that a decoder takes'], ['one-too-many', 0x100001, 'one item more than a decoder takes'], ['2-32', 0x100000000, '2^32 items'], ['2-60', '1152921504606846976', '2^60 items']]) {
          // A count that is only one too large keeps the items; larger ones have none.
          const items = fields.findLast((f) => f === field || f.name.startsWith(field.name.replace('count', '')))
          const bytes = layout.render(what === 'one-short' ? fields.slice(0, fields.indexOf(items) + 1) : upto, { [field.name]: { value: n } })
          await seen(decode, `${name}.${slug(field.name)}.${what}`, { clauses: [...clauses, 'ENC-11', 'ENC-15'], comment: `${field.name} claims ${comment}.`, flags: ['HostileCount'], input: { bytes }, result: 'invalid' })
        }
      }
      if (field.kind === 'length') {
        for (const [what, n, comment] of [['one-too-long', field.value + 1, 'one byte more than follows'], ['2-32', 0x100000000, '2^32 bytes'], ['2-53-1', Number.MAX_SAFE_INTEGER, '2^53-1 bytes']]) {
          await seen(decode, `${name}.${slug(field.name)}.${what}`, { clauses: [...clauses, 'ENC-13', 'ENC-15'], comment: `${field.name} claims ${comment}.`, flags: ['HostileLength'], input: { bytes: layout.render(fields, { [field.name]: { value: n } }) }, class: 'out-of-bounds' })
        }
      }
      if (field.name === 'flags') {
        for (const bit of value.version === 0 ? [1, 2, 3, 4, 5, 6, 7, 8, 31, 32, 52] : [4, 5, 6, 7, 8, 31, 32, 52]) {
          await seen(decode, `${name}.unknown-flag-${bit}`, { clauses: [...clauses, 'MAN-12'], comment: `Bit ${bit} of the flags is set, which means nothing${value.version === 0 ? ' in version 0' : ''}.`, flags: ['UnknownFlag'], input: { bytes: layout.render(fields, { flags: { value: (BigInt(field.value) | (1n << BigInt(bit))).toString() } }) }, result: 'valid' })
        }
      }
      for (const [at, cls, clause] of [['hash', 'unknown-hash', 'MAN-7'], ['signers.0.signature', 'unknown-signature', 'MAN-8'], ['type', 'unknown-type', 'MAN-1']]) {
        if (field.name !== at) continue
        for (const n of at === 'type' ? [3, 4, 255] : [1, 2, 255]) {
          await seen(decode, `${name}.${slug(at)}-${n}`, { clauses: [...clauses, clause], comment: `${at} is ${n}.`, flags: ['UnknownId'], input: { bytes: layout.render(fields, { [at]: { value: n } }) }, class: cls })
        }
      }
    }
  }
  const plain = layout.manifest(with_({}))
  for (const version of [4, 5, 127, 252, 253, 255, 65536, Number.MAX_SAFE_INTEGER]) {
    await seen(decode, `version-${version}`, { clauses: ['MAN-1', 'MAN-9'], comment: `Version ${version}, followed by what would make a whole manifest of version 1.`, flags: ['UnknownVersion'], input: { bytes: layout.render(plain, { version: { value: version } }) }, class: 'unknown-version' })
  }
  await seen(decode, 'version-4-alone', { clauses: ['MAN-1', 'MAN-9'], comment: 'An unknown version is refused before anything that follows is read.', flags: ['UnknownVersion', 'Truncated'], input: { bytes: '04' }, class: 'unknown-version' })
  for (const version of [2, 3]) {
    await seen(decode, `version-${version}-to-older`, { clauses: ['MAN-6', 'MAN-9'], comment: `Version ${version} is refused by releases that do not know it.`, flags: ['LaterForm'], input: { bytes: layout.render(layout.manifest(with_({ version }))) }, result: 'valid' })
  }
  const one = with_({ version: 0, allowPatch: true })
  await seen(decode, 'v0-multi.one-signer-written-long', { clauses: ['MAN-4', 'MAN-3'], comment: 'One signer, quorum 1 and no patches in the form of several signers: it decodes to what MAN-3 has a shorter form for.', flags: ['LongerForm'], input: { bytes: layout.render(layout.manifest(one), { flags: { value: 0 } }) }, result: 'valid' })
  await seen(decode, 'unencrypted-of-11-0-13', { clauses: ['MAN-5', 'MAN-6', 'ENC-13'], comment: 'Releases 11.0.13 to 11.0.48 set flag 4 for an unencrypted core; the flag now promises linked cores, which are not there.', flags: ['OlderForm', 'Truncated'], input: { bytes: layout.render(plain, { flags: { value: 4 } }) }, class: 'out-of-bounds' })

  const unsafe = (name, value, clauses, comment) => seen(encode, `encode.${name}`, { clauses: [...clauses, 'ENC-4'], comment, flags: ['UnsafeInteger'], input: { value }, class: 'unsafe-integer' })
  await unsafe('quorum-2-53', with_({ quorum: '9007199254740992' }), ['MAN-5'], 'An encoder refuses a quorum of 2^53.')
  await unsafe('prologue-length-2-53', with_({ prologue: { ...PROLOGUE, length: '9007199254740992' } }), ['MAN-5'], 'An encoder refuses a prologue of 2^53 blocks.')
  return [prune(forms), prune(damaged)]
}
