// Decoded messages, manifests and multisignatures as JSON, from and to the objects of Node's codecs.

const { bytes, optional, plain } = require('./bytes')
const { BadRequest } = require('./outcome')

const int = (v) => (typeof v === 'string' ? Number(v) : v)
const maybe = (fn) => (v) => (v === null || v === undefined ? null : fn(v))
const list = (fn) => (v) => v.map(fn)

const node = (n) => ({ index: int(n.index), size: int(n.size), hash: bytes(n.hash, 'hash') })

const signer = (s) => ({
  signature: s.signature,
  namespace: bytes(s.namespace, 'namespace'),
  publicKey: bytes(s.publicKey, 'publicKey')
})

const manifest = (m) => ({
  version: int(m.version),
  hash: m.hash,
  allowPatch: m.allowPatch,
  quorum: int(m.quorum),
  signers: m.signers.map(signer),
  prologue: maybe((p) => ({ hash: bytes(p.hash, 'prologue.hash'), length: int(p.length) }))(m.prologue),
  linked: maybe(list((key) => bytes(key, 'linked')))(m.linked),
  userData: optional(m.userData, 'userData')
})

// From 10.22.2 until 10.32.3 there was one version of manifests, and each kind of them had its own field; the bytes of
// version 0 are the same.
function olderManifest (m) {
  const { hash, allowPatch, quorum, signers, prologue } = manifest(m)
  const isStatic = prologue !== null && signers.length === 0
  const isSingle = quorum === 1 && signers.length === 1 && !allowPatch
  return {
    hash,
    static: isStatic ? prologue.hash : null,
    signer: !isStatic && isSingle ? signers[0] : null,
    multipleSigners: isStatic || isSingle ? null : { allowPatched: allowPatch, quorum, signers }
  }
}

function fromOlderManifest ({ hash, static: treeHash, signer, multipleSigners }) {
  const several = multipleSigners ?? { allowPatched: false, quorum: signer ? 1 : 0, signers: signer ? [signer] : [] }
  return {
    version: 0,
    hash,
    allowPatch: several.allowPatched,
    quorum: several.quorum,
    signers: several.signers,
    prologue: treeHash ? { hash: treeHash, length: 0 } : null
  }
}

const pair = (a, b) => (v) => ({ [a]: int(v[a]), [b]: int(v[b]) })

const messages = {
  handshake: (m) => ({ seeks: m.seeks, capability: bytes(m.capability, 'capability') }),
  sync: (m) => ({ ...m, fork: int(m.fork), length: int(m.length), remoteLength: int(m.remoteLength) }),
  request: (m) => ({
    id: int(m.id),
    fork: int(m.fork),
    block: maybe(pair('index', 'nodes'))(m.block),
    hash: maybe(pair('index', 'nodes'))(m.hash),
    seek: maybe(pair('bytes', 'padding'))(m.seek),
    upgrade: maybe(pair('start', 'length'))(m.upgrade),
    manifest: m.manifest,
    priority: int(m.priority)
  }),
  cancel: (m) => ({ request: int(m.request) }),
  data: (m) => ({
    request: int(m.request),
    fork: int(m.fork),
    block: maybe((b) => ({ index: int(b.index), value: optional(b.value, 'block.value'), nodes: b.nodes.map(node) }))(m.block),
    hash: maybe((h) => ({ index: int(h.index), nodes: h.nodes.map(node) }))(m.hash),
    seek: maybe((s) => ({ bytes: int(s.bytes), nodes: s.nodes.map(node) }))(m.seek),
    upgrade: maybe((u) => ({
      start: int(u.start),
      length: int(u.length),
      nodes: u.nodes.map(node),
      additionalNodes: u.additionalNodes.map(node),
      signature: optional(u.signature, 'upgrade.signature')
    }))(m.upgrade),
    manifest: maybe(manifest)(m.manifest)
  }),
  noData: (m) => ({ request: int(m.request), reason: int(m.reason) }),
  want: (m) => ({ start: int(m.start), length: int(m.length), any: m.any }),
  unwant: (m) => ({ start: int(m.start), length: int(m.length), any: m.any }),
  bitfield: (m) => ({ start: int(m.start), bitfield: Uint32Array.from(m.bitfield) }),
  range: (m) => ({ drop: m.drop, start: int(m.start), length: int(m.length) }),
  extension: (m) => ({ name: m.name, message: bytes(m.message, 'message') })
}

const multisig = {
  0: (s) => ({
    proofs: s.proofs.map((p) => ({
      signer: int(p.signer),
      signature: bytes(p.signature, 'signature'),
      patch: maybe((u) => ({ start: int(u.start), length: int(u.length), nodes: u.nodes.map(int) }))(p.patch)
    })),
    patch: s.patch.map(node)
  }),
  1: (s) => ({
    proofs: s.proofs.map((p) => ({ signer: int(p.signer), signature: bytes(p.signature, 'signature'), patch: int(p.patch) })),
    patch: s.patch.map(node)
  })
}

// Fields that an older release omits have their value for "not sent" in JSON.
const LATER = { sync: { allowPush: false }, noData: { reason: 0 }, want: { any: false }, unwant: { any: false } }

function messageToJSON (name, value) {
  const out = { ...plain(value), ...missing(LATER[name], value) }
  if (out.manifest && name === 'data') out.manifest = manifestToJSON(value.manifest)
  return out
}

function manifestToJSON (value) {
  const today = 'multipleSigners' in value ? fromOlderManifest(value) : value
  return { ...plain(today), ...missing({ linked: null, userData: null }, today) }
}

function missing (later, value) {
  const out = {}
  for (const key of Object.keys(later || {})) if (value[key] === undefined) out[key] = later[key]
  return out
}

// In the form of a release's codecs.
function message (name, value, { hasManifestVersions }) {
  if (!Object.hasOwn(messages, name)) throw new BadRequest(`unknown message: ${name}`)
  const out = messages[name](value)
  if (name === 'data' && out.manifest && !hasManifestVersions) out.manifest = olderManifest(value.manifest)
  return out
}

const manifestOf = (value, { hasManifestVersions }) => (hasManifestVersions ? manifest : olderManifest)(value)

module.exports = { int, node, manifest: manifestOf, message, multisig, messageToJSON, manifestToJSON, NAMES: Object.keys(messages) }
