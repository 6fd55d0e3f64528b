// The wire layout of each message as a list of fields, independent of Node's codecs, so that the recorder can widen,
// cut and overstate one field at a time. Each list is checked against Node's encoder before use.

const b4a = require('b4a')

// A uint in a form of 1, 3, 5 or 9 bytes; the shortest without a width.
function uint (value, width = 0) {
  const n = BigInt(value)
  if (width === 0) width = n <= 0xfcn ? 1 : n <= 0xffffn ? 3 : n <= 0xffffffffn ? 5 : 9
  if (width === 1) return b4a.from([Number(n)])
  const out = b4a.alloc(width)
  out[0] = { 3: 0xfd, 5: 0xfe, 9: 0xff }[width]
  for (let i = 1; i < width; i++) out[i] = Number((n >> BigInt(8 * (i - 1))) & 0xffn)
  return out
}

// kind: "flags", "uint", "length" (of a buffer), "count" (of an array) or "id" (of a hash, signature, version or type).
const u = (name, value, kind = 'uint') => ({ name, kind, value })
const raw = (name, hex) => ({ name, kind: 'bytes', hex })
const buffer = (name, hex) => [u(`${name}.length`, hex === null ? 0 : hex.length / 2, 'length'), raw(name, hex || '')]
const array = (name, items, each) => [u(`${name}.count`, items.length, 'count'), ...items.flatMap((item, i) => each(`${name}.${i}`, item))]
const node = (name, n) => [u(`${name}.index`, n.index), u(`${name}.size`, n.size), raw(`${name}.hash`, n.hash)]
const nodes = (name, list) => array(name, list, node)
const when = (part, fn) => (part ? fn(part) : [])

const signer = (name, s) => [u(`${name}.signature`, 0, 'id'), raw(`${name}.namespace`, s.namespace), raw(`${name}.publicKey`, s.publicKey)]

function manifestV0 (m) {
  const head = [u('version', 0, 'id'), u('hash', 0, 'id')]
  if (m.prologue && m.signers.length === 0) return [...head, u('type', 0, 'id'), raw('prologue.hash', m.prologue.hash)]
  if (m.quorum === 1 && m.signers.length === 1 && !m.allowPatch) return [...head, u('type', 1, 'id'), ...signer('signers.0', m.signers[0])]
  return [...head, u('type', 2, 'id'), u('flags', m.allowPatch ? 1 : 0, 'flags'), u('quorum', m.quorum), ...array('signers', m.signers, signer)]
}

function manifest (m) {
  if (m.version === 0) return manifestV0(m)
  const flags = (m.allowPatch ? 1 : 0) | (m.prologue ? 2 : 0) | (m.linked ? 4 : 0) | (m.userData !== null ? 8 : 0)
  return [
    u('version', m.version, 'id'), u('flags', flags, 'flags'), u('hash', 0, 'id'), u('quorum', m.quorum),
    ...array('signers', m.signers, signer),
    ...when(m.prologue, (p) => [raw('prologue.hash', p.hash), u('prologue.length', p.length)]),
    ...when(m.linked, (l) => array('linked', l, (name, key) => [raw(name, key)])),
    ...(m.userData === null ? [] : buffer('userData', m.userData))
  ]
}

const pair = (name, a, b) => (v) => [u(`${name}.${a}`, v[a]), u(`${name}.${b}`, v[b])]

const messages = {
  handshake: (m) => [u('flags', m.seeks ? 1 : 0, 'flags'), raw('capability', m.capability)],
  sync: (m) => [
    u('flags', (m.canUpgrade ? 1 : 0) | (m.uploading ? 2 : 0) | (m.downloading ? 4 : 0) | (m.hasManifest ? 8 : 0) | (m.allowPush ? 16 : 0), 'flags'),
    u('fork', m.fork), u('length', m.length), u('remoteLength', m.remoteLength)
  ],
  request: (m) => [
    u('flags', (m.block ? 1 : 0) | (m.hash ? 2 : 0) | (m.seek ? 4 : 0) | (m.upgrade ? 8 : 0) | (m.manifest ? 16 : 0) | (m.priority ? 32 : 0), 'flags'),
    u('id', m.id), u('fork', m.fork),
    ...when(m.block, pair('block', 'index', 'nodes')), ...when(m.hash, pair('hash', 'index', 'nodes')),
    ...when(m.seek, pair('seek', 'bytes', 'padding')), ...when(m.upgrade, pair('upgrade', 'start', 'length')),
    ...when(m.priority, (p) => [u('priority', p)])
  ],
  cancel: (m) => [u('request', m.request)],
  data: (m) => [
    u('flags', (m.block ? 1 : 0) | (m.hash ? 2 : 0) | (m.seek ? 4 : 0) | (m.upgrade ? 8 : 0) | (m.manifest ? 16 : 0), 'flags'),
    u('request', m.request), u('fork', m.fork),
    ...when(m.block, (b) => [u('block.index', b.index), ...buffer('block.value', b.value), ...nodes('block.nodes', b.nodes)]),
    ...when(m.hash, (h) => [u('hash.index', h.index), ...nodes('hash.nodes', h.nodes)]),
    ...when(m.seek, (s) => [u('seek.bytes', s.bytes), ...nodes('seek.nodes', s.nodes)]),
    ...when(m.upgrade, (g) => [
      u('upgrade.start', g.start), u('upgrade.length', g.length), ...nodes('upgrade.nodes', g.nodes),
      ...nodes('upgrade.additionalNodes', g.additionalNodes), ...buffer('upgrade.signature', g.signature)
    ]),
    ...when(m.manifest, (x) => manifest(x).map((field) => ({ ...field, name: `manifest.${field.name}` })))
  ],
  noData: (m) => [u('request', m.request), u('flags', m.reason ? 1 : 0, 'flags'), ...(m.reason ? [u('reason', m.reason)] : [])],
  want: (m) => [u('start', m.start), u('length', m.length), ...(m.any ? [u('flags', 1, 'flags')] : [])],
  unwant: (m) => messages.want(m),
  bitfield: (m) => [
    u('start', m.start), u('bitfield.count', m.bitfield.length, 'count'),
    raw('bitfield', m.bitfield.map((word) => b4a.toString(uint(word, 5).subarray(1), 'hex')).join(''))
  ],
  range: (m) => [
    u('flags', (m.drop ? 1 : 0) | (m.length === 1 ? 2 : 0), 'flags'), u('start', m.start), ...(m.length === 1 ? [] : [u('length', m.length)])
  ],
  extension: (m) => [...buffer('name', b4a.toString(b4a.from(m.name), 'hex')), raw('message', m.message)]
}

const proof = (version) => (name, p) => version === 0
  ? [
      u(`${name}.flags`, p.patch ? 1 : 0, 'flags'), u(`${name}.signer`, p.signer), raw(`${name}.signature`, p.signature),
      ...when(p.patch, (x) => [
        u(`${name}.patch.start`, x.start), u(`${name}.patch.length`, x.length),
        ...array(`${name}.patch.nodes`, x.nodes, (at, n) => [u(at, n)])
      ])
    ]
  : [u(`${name}.signer`, p.signer), raw(`${name}.signature`, p.signature), u(`${name}.patch`, p.patch)]

const multisig = (version) => (s) => [...array('proofs', s.proofs, proof(version)), ...nodes('patch', s.patch)]

// The bytes of a list of fields as hex. `change` replaces fields by name: { value, width } of a uint, { hex } of bytes.
function render (fields, change = {}) {
  for (const name of Object.keys(change)) if (!fields.some((f) => f.name === name)) throw new Error(`no such field: ${name}`)
  return fields.map((f) => {
    const with_ = { ...f, ...change[f.name] }
    return f.kind === 'bytes' ? with_.hex : b4a.toString(uint(with_.value, with_.width), 'hex')
  }).join('')
}

module.exports = { uint, messages, manifest, multisig, render }
