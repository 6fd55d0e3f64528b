// Records vectors/tree: hashes of the Merkle tree, signables, and multisignatures.

const { VectorFile, run } = require('../lib/vectors')
const layout = require('../lib/layout')
const { notes, prune, seen, slug } = require('../lib/cases')

const hash = (n) => n.toString(16).padStart(2, '0').repeat(32)
const NODE = (index, size, n) => ({ index, size, hash: hash(n) })
const SIGNATURE = (first) => Array.from({ length: 64 }, (_, i) => ((first + i) & 0xff).toString(16).padStart(2, '0')).join('')
const MAX = Number.MAX_SAFE_INTEGER
const BEYOND = '9007199254740992'

const NUMBERS = [
  ['0', 0, '0'], ['1', 1, '1'], ['252', 0xfc, '252'], ['253', 0xfd, '253'], ['2-16', 0x10000, '2^16'], ['2-32-1', 0xffffffff, '2^32-1'],
  ['2-32', 0x100000000, '2^32'], ['2-53-1', MAX, '2^53-1']
]

const make = (subject, description) => new VectorFile({
  layer: 'tree',
  subject,
  description,
  script: 'tree',
  packages: ['hypercore', 'hypercore10', 'hypercore-crypto', 'compact-encoding'],
  notes: notes(['Truncated', 'TrailingBytes', 'NonMinimalUint', 'UnsafeInteger', 'HostileCount', 'UnknownFlag'])
})

async function hashes () {
  const file = make('hashes', 'Hashes of leaves, parents and roots of the Merkle tree.')

  const leaf = file.group('leaf', 'tree.leaf', 'BLAKE2b-256(0x00, uint64 size, data).')
  const data = [
    ['empty', '', 'No data.'], ['one-byte', '00', 'One byte.'], ['hello', '68656c6c6f', 'Five bytes.'],
    ['64-bytes', '5a'.repeat(64), '64 bytes.'], ['127-bytes', '5a'.repeat(127), 'One byte below BLAKE2b\'s block, less the nine that come first.'],
    ['119-bytes', '5a'.repeat(119), 'A whole block of BLAKE2b with the nine bytes that come first.'], ['120-bytes', '5a'.repeat(120), 'One byte more than a block of BLAKE2b.'],
    ['64-kib', { repeat: 'a5', times: 65536 }, '64 KiB.']
  ]
  for (const [name, bytes, comment] of data) await leaf.valid(`leaf.${name}`, { clauses: ['TREE-1', 'KEY-1'], comment, input: { data: bytes } })

  const parent = file.group('parent', 'tree.parent', 'BLAKE2b-256(0x01, uint64 sum of the sizes, left hash, right hash). The node with the lower index is the left one.')
  const pair = (name, left, right, comment) => parent.valid(`parent.${name}`, { clauses: ['TREE-2', 'KEY-1'], comment, input: { left, right } })
  await pair('leaves', NODE(0, 5, 1), NODE(2, 7, 2), 'Two leaves.')
  const open = (name, left, right, comment) => parent.valid(`parent.${name}`, { clauses: ['TREE-2', 'TREE-8'], comment, input: { left, right } })
  await open('sizes-shifted', NODE(0, 11, 1), NODE(2, 1, 2), 'The same two with other sizes of the same sum: the hash is the same.')
  await open('sizes-left-alone', NODE(0, 12, 1), NODE(2, 0, 2), 'All of the sum in one of them: still the same hash.')
  await pair('swapped', NODE(2, 7, 2), NODE(0, 5, 1), 'The same two the other way round: the lower index goes first.')
  await pair('parents', NODE(1, 12, 3), NODE(5, 30, 4), 'Two parents.')
  await pair('empty', NODE(0, 0, 1), NODE(2, 0, 2), 'Two empty blocks.')
  await pair('same-hash', NODE(4, 1, 9), NODE(6, 1, 9), 'Two equal blocks.')
  for (const [name, size, said] of NUMBERS) await pair(`size-${name}`, NODE(0, 0, 1), NODE(2, size, 2), `Sizes that add up to ${said}.`)
  await parent.invalid('parent.size-2-53', { clauses: ['TREE-2', 'ENC-4'], comment: 'Sizes that add up to 2^53 are refused.', flags: ['UnsafeInteger'], input: { left: NODE(0, 1, 1), right: NODE(2, MAX, 2) }, layer: 'tree', class: 'unsafe-integer' })

  const root = file.group('root', 'tree.root', 'BLAKE2b-256(0x02, and for each root: hash, uint64 index, uint64 size).')
  const roots = (name, list, comment) => root.valid(`root.${name}`, { clauses: ['TREE-3', 'KEY-1'], comment, input: { roots: list } })
  await roots('none', [], 'The hash of an empty core.')
  await roots('one', [NODE(0, 5, 1)], 'One block.')
  await roots('two-blocks', [NODE(1, 12, 3)], 'Two blocks have one root.')
  await roots('three-blocks', [NODE(1, 12, 3), NODE(4, 7, 5)], 'Three blocks have two roots.')
  await roots('seven-blocks', [NODE(3, 40, 1), NODE(9, 20, 2), NODE(12, 10, 3)], 'Seven blocks have three roots.')
  await roots('order', [NODE(4, 7, 5), NODE(1, 12, 3)], 'Roots are taken in the order given.')
  for (const [name, n, said] of NUMBERS) {
    await roots(`index-${name}`, [NODE(n, 1, 7)], `A root with index ${said}.`)
    await roots(`size-${name}`, [NODE(0, n, 7)], `A root with size ${said}.`)
  }
  await root.invalid('root.index-2-53', { clauses: ['TREE-3', 'ENC-4'], comment: 'An index of 2^53 is refused.', flags: ['UnsafeInteger'], input: { roots: [NODE(BEYOND, 1, 7)] }, layer: 'tree', class: 'unsafe-integer' })
  await root.invalid('root.size-2-53', { clauses: ['TREE-3', 'ENC-4'], comment: 'A size of 2^53 is refused.', flags: ['UnsafeInteger'], input: { roots: [NODE(0, BEYOND, 7)] }, layer: 'tree', class: 'unsafe-integer' })
  return prune(file)
}

async function signables () {
  const file = make('signables', 'What the signers of a core sign: 112 bytes, and for compat cores 80 or, the oldest, 48.')
  const full = file.group('signable', 'tree.signable', 'Tree namespace, manifest hash, tree hash, uint64 length, uint64 fork: 112 bytes.')
  const compat = file.group('compat', 'tree.signableCompat', 'Without the manifest hash: 80 bytes; with noHeader without the namespace too: 48 bytes.')
  const base = { manifestHash: hash(0xa1), treeHash: hash(0xb2), length: 3, fork: 0 }
  const { manifestHash, ...rest } = base
  const forms = [['length', 'length'], ['fork', 'fork']]
  for (const [field] of forms) {
    for (const [name, n, said] of NUMBERS) {
      const comment = `A ${field} of ${said}.`
      await full.valid(`signable.${field}-${name}`, { clauses: ['TREE-4', 'KEY-6'], comment, input: { ...base, [field]: n } })
      for (const noHeader of [false, true]) {
        await compat.valid(`compat.${noHeader ? '48' : '80'}-bytes.${field}-${name}`, { clauses: ['TREE-5', 'MAN-11', ...(noHeader ? [] : ['KEY-6'])], comment, input: { ...rest, [field]: n, noHeader } })
      }
    }
    const bad = { clauses: ['TREE-4', 'ENC-4'], comment: `A ${field} of 2^53 is refused.`, flags: ['UnsafeInteger'], layer: 'tree', class: 'unsafe-integer' }
    await seen(full, `signable.${field}-2-53`, { ...bad, input: { ...base, [field]: BEYOND } })
    await seen(compat, `compat.${field}-2-53`, { ...bad, clauses: ['TREE-5', 'ENC-4'], input: { ...rest, [field]: BEYOND, noHeader: false } })
  }
  return prune(file)
}

const PROOF = (signer, patch) => ({ signer, signature: SIGNATURE(signer * 16), patch })
const NODES = [NODE(0, 5, 1), NODE(5, 12, 2), NODE(8, 7, 3)]

// Values by version: version 1 gives the length of the patch, version 0 the whole upgrade.
const MULTISIGS = {
  1: [
    ['none', { proofs: [], patch: [] }, 'No proofs.'],
    ['one', { proofs: [PROOF(0, 0)], patch: [] }, 'One proof: the signature of a default core, 68 bytes.'],
    ['two', { proofs: [PROOF(0, 0), PROOF(1, 0)], patch: [] }, 'Two proofs.'],
    ['three-out-of-order', { proofs: [PROOF(4, 0), PROOF(2, 0), PROOF(0, 0)], patch: [] }, 'Three proofs; signers come in any order.'],
    ['same-signer-twice', { proofs: [PROOF(1, 0), PROOF(1, 0)], patch: [] }, 'One signer twice is no fault of the encoding.'],
    ['patch', { proofs: [PROOF(0, 0), PROOF(1, 3)], patch: NODES }, 'The second signer signed three blocks more, proven by three nodes.'],
    ['patch-without-nodes', { proofs: [PROOF(0, 2)], patch: [] }, 'A patch without nodes.'],
    ['nodes-without-patch', { proofs: [PROOF(0, 0)], patch: NODES.slice(0, 1) }, 'A node that no proof needs.']
  ],
  0: [
    ['none', { proofs: [], patch: [] }, 'No proofs.'],
    ['one', { proofs: [PROOF(0, null)], patch: [] }, 'One proof.'],
    ['two', { proofs: [PROOF(0, null), PROOF(1, null)], patch: [] }, 'Two proofs.'],
    ['patch', { proofs: [PROOF(0, null), PROOF(1, { start: 4, length: 3, nodes: [0, 2, 1] })], patch: NODES }, 'The second signer signed three blocks more; its nodes are indexes into the patch.'],
    ['patch-shared', { proofs: [PROOF(0, { start: 2, length: 5, nodes: [0, 1] }), PROOF(1, { start: 2, length: 6, nodes: [0, 2] })], patch: NODES }, 'Two patches share a node.'],
    ['patch-without-nodes', { proofs: [PROOF(0, { start: 4, length: 0, nodes: [] })], patch: [] }, 'An empty patch.'],
    ['node-beyond-patch', { proofs: [PROOF(0, { start: 4, length: 1, nodes: [9] })], patch: [] }, 'An index beyond the patch is no fault of the encoding.']
  ]
}
const RICH = {
  1: { proofs: [PROOF(1, 3)], patch: [NODES[0]] },
  0: { proofs: [PROOF(1, { start: 4, length: 3, nodes: [0] })], patch: [NODES[0]] }
}

async function multisigs () {
  const file = make('multisig', 'Signatures of several signers: version 1 goes with manifests of version 1 and later, version 0 with manifests of version 0.')
  const decode = file.group('decode', 'multisig.decode', 'Decodes a whole signature.')
  const encode = file.group('encode', 'multisig.encode', 'Encodes a signature as Node does.')
  for (const version of [1, 0]) {
    const clause = version === 1 ? 'TREE-6' : 'TREE-7'
    for (const [name, value, comment] of MULTISIGS[version]) {
      const bytes = layout.render(layout.multisig(version)(value))
      const got = await run('multisig.encode', { value, version })
      if (got.error || got.output.bytes !== bytes) throw new Error(`multisig ${name}: the layout gives ${bytes}, Node ${JSON.stringify(got)}`)
      await seen(decode, `decode.v${version}.${name}`, { clauses: [clause], comment, input: { bytes, version }, result: 'valid' })
      await seen(encode, `encode.v${version}.${name}`, { clauses: [clause], comment, input: { value, version }, result: 'valid' })
    }

    const fields = layout.multisig(version)(RICH[version])
    const whole = layout.render(fields)
    const bytes = (change) => ({ bytes: layout.render(fields, change), version })
    const offset = (i) => layout.render(fields.slice(0, i)).length / 2
    for (let length = 0; length < whole.length / 2; length++) {
      const i = fields.findLastIndex((_, k) => offset(k) <= length)
      await seen(decode, `decode.v${version}.truncated-at-${length}`, { clauses: [clause, 'ENC-13'], comment: `Ends ${offset(i) === length ? 'before' : 'within'} ${fields[i].name}.`, flags: ['Truncated'], input: { bytes: whole.slice(0, length * 2), version }, class: 'out-of-bounds' })
    }
    await seen(decode, `decode.v${version}.trailing`, { clauses: [clause, 'ENC-14'], comment: 'Bytes follow.', flags: ['TrailingBytes'], input: { bytes: whole + 'ffff', version }, result: 'valid' })
    for (const field of fields.filter((f) => f.kind !== 'bytes')) {
      const at = `decode.v${version}.${slug(field.name)}`
      await seen(decode, `${at}.in-9-bytes`, { clauses: [clause, 'ENC-3'], comment: `${field.name} in nine bytes where fewer would do.`, flags: ['NonMinimalUint'], input: bytes({ [field.name]: { width: 9 } }), result: 'valid' })
      await seen(decode, `${at}.unsafe-2-53`, { clauses: [clause, 'ENC-4'], comment: `${field.name} is 2^53.`, flags: ['UnsafeInteger'], input: bytes({ [field.name]: { value: BEYOND } }), class: 'unsafe-integer' })
      if (field.kind === 'uint') {
        await seen(decode, `${at}.2-53-1`, { clauses: [clause, 'ENC-1'], comment: `${field.name} is 2^53-1.`, input: bytes({ [field.name]: { value: MAX } }), result: 'valid' })
      }
      if (field.kind === 'count') {
        const upto = fields.slice(0, fields.indexOf(field) + 1)
        for (const [name, n, comment] of [['most', 0x100000, 'the most items that a decoder takes'], ['one-too-many', 0x100001, 'one item more than a decoder takes'], ['2-32', 0x100000000, '2^32 items'], ['2-60', '1152921504606846976', '2^60 items']]) {
          await seen(decode, `${at}.${name}`, { clauses: [clause, 'ENC-11', 'ENC-15'], comment: `${field.name} claims ${comment}, of which none follow.`, flags: ['HostileCount'], input: { bytes: layout.render(upto, { [field.name]: { value: n } }), version }, result: 'invalid' })
        }
      }
    }
    if (version === 0) {
      for (const bit of [1, 2, 3, 4, 5, 6, 7, 8, 31, 32, 52]) {
        await seen(decode, `decode.v0.unknown-flag-${bit}`, { clauses: [clause, 'MSG-3'], comment: `Bit ${bit} of a proof's flags is set, which means nothing.`, flags: ['UnknownFlag'], input: bytes({ 'proofs.0.flags': { value: (1n | (1n << BigInt(bit))).toString() } }), result: 'valid' })
      }
    }
  }
  return prune(file)
}

module.exports = async function () {
  return [await hashes(), await signables(), await multisigs()]
}
