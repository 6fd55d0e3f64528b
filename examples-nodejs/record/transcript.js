// Records vectors/transcript: whole conversations between two real hypercores.
//
// transcript.decode takes the view of an observer who taps the wire and holds the keys:
//   handshakeHash   64 bytes, of the Noise handshake that came before (recorded as connection.replay beside it)
//   coreKey         32 bytes, the key of the replicated core; the capabilities are derived from it
//   initiator, responder   one object for each side: `release` (of hypercore), `staticSeed` and `ephemeralSeed` (of its
//                   Noise keys, 32 bytes), `publicKey` (its static one), `key` (32 bytes, of the secretstream of what
//                   it SENDS) and `header` (24 bytes, of that secretstream; it is also in its first record).
//                   Only `key` is needed.
//   chunks          what went over the wire after the Noise handshake, in the order in which it left:
//                   { from: 'initiator' | 'responder', bytes }. The first record of each side is its header record.
// and returns:
//   initiator, responder   { header, plaintexts }: the header of 24 bytes, and each decrypted record that it sent
//   messages        all messages, in the order of the chunks that completed them, batches flattened, each with
//                   `from` and `record` (index into that side's plaintexts), then as mux.decode has them:
//     open          { control: 'open', id, protocol, channelId, handshake, value }: value is the decoded channel handshake
//                   { seeks, capability } on a hypercore channel (protocol hypercore/alpha or hypercore), else null
//     others        { control: 'reject' | 'close', id }, or { control: 'unknown', type, body }
//     channel's     { channel, type, body, name, value }: `channel` is the sender's own id. On a hypercore channel, name is
//                   that of the message and value what message.decode gives; otherwise, and for types above 9, both are null.
// A refused encrypted record is reported by `record`, the index that its plaintext would have had.
// A capability that doesn't fit coreKey, handshakeHash and its sender's role is refused (channel, invalid-capability).

const b4a = require('b4a')
const { ROLES, KEYS, SCENARIOS, converse, expect, slugOf } = require('../lib/conversation')
const { load } = require('../lib/release')
const { VectorFile, run } = require('../lib/vectors')

const hex = (b) => b4a.toString(b, 'hex')

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
      const { talk, input } = await converse(scenario, writerRole, load)
      const slug = slugOf(scenario, writerRole)
      await decode.valid(`decode.${slug}`, {
        clauses: ['FLOW-1', 'FLOW-2', 'FLOW-3', 'FLOW-4', 'STREAM-2', 'STREAM-6', 'MUX-1', 'MUX-4', 'CHAN-1', 'CHAN-2', 'CHAN-6', 'CHAN-7', 'KEY-7', 'KEY-8', ...(scenario.extends ? ['EXT-2'] : [])],
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
