// Records vectors/key: hashes, namespaces, discovery keys, capabilities and key pairs.

const { VectorFile } = require('../lib/vectors')
const { seed } = require('../lib/deterministic')

const s = (n) => seed(n).toString('hex')
const run = (n) => Buffer.from(Array.from({ length: n }, (_, i) => i & 255)).toString('hex')

module.exports = async function () {
  const file = new VectorFile({
    layer: 'key',
    subject: 'keys',
    description: 'What is derived from keys: BLAKE2b-256 hashes, namespaces, discovery keys, capabilities and Ed25519 key pairs.',
    script: 'key',
    packages: ['hypercore', 'hypercore-crypto', 'sodium-universal'],
    notes: { WrongSize: 'The key or seed is not of 32 bytes.' }
  })

  const hash = file.group('hash', 'key.hash', 'BLAKE2b with 32 bytes of output over the parts one after the other, with a key or without.')
  for (const [slug, parts, key, comment] of [
    ['none', [], null, 'No part at all: the hash of nothing.'],
    ['empty', [''], null, 'One empty part: the same hash.'],
    ['abc', ['616263'], null, 'The usual "abc".'],
    ['parts', ['61', '62', '63'], null, 'Parts are joined without a mark between them.'],
    ['127', [run(127)], null, 'One byte short of a block.'],
    ['128', [run(128)], null, 'Exactly one block.'],
    ['129', [run(129)], null, 'One byte more than a block.'],
    ['64-kib', [{ repeat: '5a', times: 65536 }], null, 'Many blocks.'],
    ['keyed.32', ['616263'], s(1), 'With a key of 32 bytes.'],
    ['keyed.64', ['616263'], run(64), 'With a key of 64 bytes, as long as a handshake hash.'],
    ['keyed.empty', [''], s(1), 'A key and no data.'],
    ['keyed.parts', [run(100), run(100)], run(64), 'A key and two parts across a block.']
  ]) await hash.valid(`hash.${slug}`, { clauses: ['KEY-1'], comment, input: { parts, key } })

  const namespace = file.group('namespace', 'key.namespace', 'Constants made of a name and a number.')
  for (const [name, count, clauses, comment] of [
    ['hypercore', 6, ['KEY-2', 'KEY-6'], 'Tree, initiator, responder, manifest, default signer namespace, default encryption.'],
    ['hypercore', 1, ['KEY-2', 'KEY-6'], 'A smaller count changes no constant.'],
    ['hyperswarm/secret-stream', 3, ['KEY-2', 'KEY-5'], 'Initiator, responder, send.'],
    ['hyperswarm/secret-stream', 2, ['KEY-2', 'KEY-5'], 'The two that streams had before there were datagrams.'],
    ['', 1, ['KEY-2'], 'An empty name.'],
    ['é', 2, ['KEY-2'], 'Names are hashed as UTF-8.'],
    ['hypercore', 0, ['KEY-2'], 'None.']
  ]) {
    const slug = `namespace.${{ '': 'empty', é: 'utf-8' }[name] || name.replace('/', '-')}.${count}`
    await namespace.valid(slug, { clauses, comment, input: { name, count } })
  }

  const discovery = file.group('discovery-key', 'key.discoveryKey', 'What a core is announced by.')
  for (const [slug, key, comment] of [['zero', s(0), 'A key of zeros.'], ['ones', s(0xff), 'A key of ones.'], ['counting', run(32), 'Bytes 0 to 31.'], ['public-key', '8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c', 'The public key of seed 01…01.']]) {
    await discovery.valid(`discovery-key.${slug}`, { clauses: ['KEY-3'], comment, input: { key } })
  }
  for (const n of [0, 31, 33, 64]) {
    await discovery.invalid(`discovery-key.size-${n}`, { clauses: ['KEY-3'], comment: `A key of ${n} bytes.`, flags: ['WrongSize'], input: { key: run(n) }, layer: 'key', class: 'bad-length' })
  }

  const capability = file.group('capability', 'key.capability', 'What a peer proves with that it knows the key, bound to this connection and to its role.')
  for (const isInitiator of [true, false]) {
    const role = isInitiator ? 'initiator' : 'responder'
    for (const [slug, key, handshakeHash, comment] of [
      ['counting', run(32), run(64), 'A key and a handshake hash.'], ['other-key', s(7), run(64), 'Another key.'], ['other-hash', run(32), s(7) + s(8), 'Another connection.']
    ]) await capability.valid(`capability.${role}.${slug}`, { clauses: ['KEY-7', 'KEY-8'], comment: `${comment} Sent by the ${role}.`, input: { isInitiator, key, handshakeHash } })
  }

  const pair = file.group('key-pair', 'key.keyPair', 'Ed25519 key pairs from seeds; the secret key is the seed and the public key.')
  for (const [slug, value, comment] of [
    ['zero', s(0), 'A seed of zeros.'], ['ones', s(1), 'A seed of ones.'], ['ff', s(0xff), 'A seed of all bits.'], ['counting', run(32), 'Bytes 0 to 31.'],
    ['rfc8032', '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'The first test of RFC 8032.']
  ]) await pair.valid(`key-pair.${slug}`, { clauses: ['KEY-4'], comment, input: { seed: value } })
  for (const n of [0, 31, 33]) {
    await pair.invalid(`key-pair.size-${n}`, { clauses: ['KEY-4'], comment: `A seed of ${n} bytes.`, flags: ['WrongSize'], input: { seed: run(n) }, layer: 'key', class: 'bad-length' })
  }
  return [file]
}
