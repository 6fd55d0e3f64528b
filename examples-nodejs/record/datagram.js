// Records vectors/datagram: the unordered messages beside a stream.

const { VectorFile, run } = require('../lib/vectors')
const { seed } = require('../lib/deterministic')

const s = (n) => seed(n).toString('hex')
const count = (n) => Buffer.from(Array.from({ length: n }, (_, i) => i & 255)).toString('hex')
const HASH = count(64)

module.exports = async function () {
  const file = new VectorFile({
    layer: 'datagram',
    subject: 'datagram',
    description: 'Datagrams of a stream: a counter of 8 bytes, then a secretbox. What does not open is dropped, and the stream lives.',
    script: 'datagram',
    packages: ['@hyperswarm/secret-stream', 'sodium-universal'],
    notes: {
      Truncated: 'The datagram is shorter than what was sent.',
      FlippedBit: 'One bit of the datagram was changed.',
      Reflected: 'The datagram is the receiver\'s own.',
      WrongKey: 'The datagram is of another connection.',
      TrailingBytes: 'The datagram is followed by more bytes.',
      CounterWrap: 'The counter passes from its largest value to zero.'
    }
  })
  const keys = file.group('keys', 'datagram.keys', 'The key of each direction, by role.')
  for (const isInitiator of [true, false]) {
    for (const [slug, handshakeHash] of [['counting', HASH], ['zero', '00'.repeat(64)], ['other', s(0x51) + s(0x52)]]) {
      await keys.valid(`keys.${isInitiator ? 'initiator' : 'responder'}.${slug}`, { clauses: ['DGRAM-1', 'KEY-5'], comment: `The ${isInitiator ? 'initiator' : 'responder'}'s keys; ${slug === 'other' ? 'another' : `a ${slug}`} handshake hash.`, input: { handshakeHash, isInitiator } })
    }
  }
  const seal = file.group('seal', 'datagram.seal', 'Datagrams as they leave; the counter is counted up first.')
  const counters = [['zero', '0000000000000000', 'The counter is little-endian: 0 becomes 1.'], ['carry', 'ff00000000000000', 'A carry into the second byte.'], ['carry-far', 'ffffffffffffff00', 'A carry into the last byte.'], ['wrap', 'ffffffffffffffff', 'The largest counter wraps to 0.'], ['middle', '0123456789abcdef', 'Any other.']]
  for (const isInitiator of [true, false]) {
    for (const [slug, counter, comment] of counters) {
      await seal.valid(`seal.${isInitiator ? 'initiator' : 'responder'}.${slug}`, { clauses: ['DGRAM-2', 'DGRAM-3'], comment, flags: slug === 'wrap' ? ['CounterWrap'] : [], input: { handshakeHash: HASH, isInitiator, counter, plaintext: 'cafe' } })
    }
  }
  const input = (n) => ({ handshakeHash: HASH, isInitiator: true, counter: counters[4][1], plaintext: n > 64 ? { repeat: '5a', times: n } : '5a'.repeat(n) })
  for (const n of [0, 1, 15, 16, 17, 63, 64, 65, 1178, 65536]) await seal.valid(`seal.size-${n}`, { clauses: ['DGRAM-2'], comment: `${n} byte${n === 1 ? '' : 's'} of plaintext.`, input: input(n) })

  const open = file.group('open', 'datagram.open', 'Datagrams as they arrive at the other side.')
  const sealed = async (n, over = {}) => (await run('datagram.seal', { ...input(n), ...over })).output.datagram
  const at = (datagram, isInitiator = false) => ({ handshakeHash: HASH, isInitiator, datagram })
  for (const n of [0, 1, 16, 32, 33, 64, 1178]) await open.valid(`open.size-${n}`, { clauses: ['DGRAM-1', 'DGRAM-2'], comment: `${n} byte${n === 1 ? '' : 's'} of plaintext, from initiator to responder.`, input: at(await sealed(n)) })
  await open.valid('open.from-responder', { clauses: ['DGRAM-1', 'DGRAM-2'], comment: 'From responder to initiator.', input: at(await sealed(5, { isInitiator: false }), true) })
  for (const [slug, counter] of counters) await open.valid(`open.counter.${slug}`, { clauses: ['DGRAM-3'], comment: 'Receivers take any counter, in any order.', flags: slug === 'wrap' ? ['CounterWrap'] : [], input: at(await sealed(3, { counter })) })

  const whole = await sealed(4)
  const size = whole.length / 2
  for (let n = 0; n < size; n++) {
    const short = n < 24
    await open.invalid(`open.truncated-at-${n}`, { clauses: short ? ['DGRAM-4'] : ['DGRAM-5'], comment: `A datagram of ${size} bytes cut after ${n}.`, flags: ['Truncated'], input: at(whole.slice(0, n * 2)), layer: 'datagram', class: short ? 'bad-length' : 'bad-mac' })
  }
  const drop = (slug, datagram, flag, comment, isInitiator = false) => open.invalid(`open.${slug}`, { clauses: ['DGRAM-5'], comment, flags: [flag], input: at(datagram, isInitiator), layer: 'datagram', class: 'bad-mac' })
  for (const [where, offset] of [['counter', 0], ['counter', 7], ['mac', 8], ['mac', 23], ['ciphertext', 24], ['ciphertext', 27]]) {
    const b = Buffer.from(whole, 'hex')
    b[offset] ^= 1
    await drop(`flipped.${where}.${offset}`, b.toString('hex'), 'FlippedBit', `One bit of byte ${offset}, in the ${where}.`)
  }
  await drop('trailing', whole + '00', 'TrailingBytes', 'A byte after the datagram.')
  await drop('reflected', whole, 'Reflected', 'The initiator gets its own datagram back.', true)
  await drop('other-connection', await sealed(4, { handshakeHash: s(0x51) + s(0x52) }), 'WrongKey', 'A datagram of another connection.')
  await drop('zeros', '00'.repeat(24), 'FlippedBit', 'A datagram of zeros.')
  return [file]
}
