// Records vectors/frame: records on the wire.

const { VectorFile } = require('../lib/vectors')

const run = (n, start = 0) => Buffer.from(Array.from({ length: n }, (_, i) => (start + i) & 255)).toString('hex')
const fill = (n) => (n <= 64 ? 'a5'.repeat(n) : { repeat: 'a5', times: n })
const head = (n) => [n & 255, (n >> 8) & 255, n >> 16].map((b) => b.toString(16).padStart(2, '0')).join('')
const frame = (n) => (n <= 64 ? head(n) + fill(n) : { concat: [head(n), fill(n)] })
const split = (hex, ...at) => [0, ...at].map((from, i) => hex.slice(from * 2, at[i] === undefined ? undefined : at[i] * 2))
const bytewise = (hex) => hex.match(/../g)

module.exports = async function () {
  const file = new VectorFile({
    layer: 'frame',
    subject: 'frame',
    description: 'Records on the wire: a little-endian length of 3 bytes and that many bytes, in whatever chunks they arrive.',
    script: 'frame',
    packages: ['@hyperswarm/secret-stream'],
    notes: {
      Truncated: 'The stream ends within a record. Node takes any end for a clean one; an implementation tells them apart.',
      ZeroLengthRecord: 'A record without a body. Node takes note of it only when another byte arrives.',
      TooLarge: 'The body does not fit a length of 3 bytes.',
      Empty: 'The chunk has no bytes.'
    }
  })
  const encode = file.group('encode', 'frame.encode', 'A body to a record.')
  for (const n of [0, 1, 2, 16, 17, 56, 252, 253, 255, 256, 257, 65535, 65536, 65537, 0xfffffe, 0xffffff]) {
    await encode.valid(`encode.${n}`, { clauses: n === 0 ? ['FRAME-1', 'FRAME-4'] : n === 0xffffff ? ['FRAME-1', 'FRAME-2'] : ['FRAME-1'], comment: n === 0 ? 'No body.' : `${n} byte${n > 1 ? 's' : ''}.`, input: { body: fill(n) } })
  }
  await encode.valid('encode.bytes', { clauses: ['FRAME-1'], comment: 'Bytes that all differ.', input: { body: run(32) } })
  await encode.invalid('encode.too-large', { clauses: ['FRAME-2'], comment: '2^24 bytes: the length would be 0.', flags: ['TooLarge'], input: { body: fill(0x1000000) }, layer: 'frame', class: 'too-large' })

  const decode = file.group('decode', 'frame.decode', 'Records from one chunk each.')
  const ok = (slug, chunks, comment, { clauses = ['FRAME-1'], end = false, flags = [] } = {}) => decode.valid(`decode.${slug}`, { clauses, comment, flags, input: { chunks, end } })
  for (const n of [1, 2, 16, 17, 56, 252, 253, 255, 256, 257, 65535, 65536, 65537, 0xffffff]) await ok(`size-${n}`, [frame(n)], `${n} byte${n > 1 ? 's' : ''}.`, { clauses: n === 0xffffff ? ['FRAME-1', 'FRAME-2'] : ['FRAME-1'], end: true })
  await ok('nothing', [], 'Nothing arrived yet.', { clauses: ['FRAME-3'] })
  await ok('nothing.end', [], 'An end before anything.', { clauses: ['FRAME-5'], end: true })

  const three = head(1) + 'aa' + head(5) + '0102030405' + head(2) + 'bbcc'
  const total = three.length / 2
  const chunked = file.group('chunks', 'frame.decode', 'The same three records in other chunks, and records that are not whole yet.')
  const chunk = (slug, chunks, comment, { end = true, flags = [], clauses = ['FRAME-3'] } = {}) => chunked.valid(`chunks.${slug}`, { clauses, comment, flags, input: { chunks, end } })
  await chunk('one', [three], 'All in one chunk.')
  await chunk('bytewise', bytewise(three), 'Byte by byte.')
  for (let at = 1; at < total; at++) await chunk(`split-at-${at}`, split(three, at), `Two chunks, the second from byte ${at}.`)
  await chunk('records', split(three, 4, 12), 'A chunk each.')
  await chunk('across', split(three, 2, 6, 13, 15), 'Each boundary within a record or a header.')
  await chunk('empty-chunks', ['', three.slice(0, 8), '', three.slice(8, 12), '', three.slice(12), ''], 'Chunks without bytes between the others.', { flags: ['Empty'] })
  await chunk('large-split', [{ concat: [head(65536), { repeat: 'a5', times: 30000 }] }, { repeat: 'a5', times: 30000 }, { concat: [{ repeat: 'a5', times: 5536 }, head(1), 'ee'] }], 'A record of 64 KiB over three chunks, with the next in the last.')
  await chunk('largest-split', [{ concat: [head(0xffffff), { repeat: 'a5', times: 0x800000 }] }, { repeat: 'a5', times: 0x7fffff }], 'The largest record in two chunks.', { clauses: ['FRAME-2', 'FRAME-3'] })
  for (let at = 0; at < total; at++) {
    await chunk(`pending-at-${at}`, [three.slice(0, at * 2)], `After ${at} of ${total} bytes: what is whole is delivered, and the rest is held.`, { end: false })
  }
  await chunk('pending-largest-claim', ['ffffff'], 'A length of 2^24-1 and nothing of it: nothing may be allocated for the claim.', { end: false, clauses: ['FRAME-2', 'FRAME-3'] })
  await chunk('pending-largest-claim-one', ['ffffff00'], 'A length of 2^24-1 and one byte of it.', { end: false, clauses: ['FRAME-2', 'FRAME-3'] })

  const ends = file.group('end', 'frame.decode', 'The end of the stream after every byte of three records.')
  for (let at = 0; at <= total; at++) {
    const args = { clauses: ['FRAME-5', 'FLOW-6'], input: { chunks: at ? [three.slice(0, at * 2)] : [], end: true } }
    if ([0, 4, 12, total].includes(at)) await ends.valid(`end.at-${at}`, { ...args, comment: `An end after byte ${at}, between records, is clean.` })
    else await ends.invalid(`end.at-${at}`, { ...args, comment: `An end after byte ${at} is within a record.`, flags: ['Truncated'], layer: 'frame', class: 'truncated' })
  }
  await ends.invalid('end.largest-claim', { clauses: ['FRAME-2', 'FRAME-5'], comment: 'A length of 2^24-1, one byte and the end.', flags: ['Truncated'], input: { chunks: ['ffffff00'], end: true }, layer: 'frame', class: 'truncated' })
  await ends.invalid('end.bytewise', { clauses: ['FRAME-3', 'FRAME-5'], comment: 'Byte by byte, all but the last.', flags: ['Truncated'], input: { chunks: bytewise(three).slice(0, -1), end: true }, layer: 'frame', class: 'truncated' })

  const zero = file.group('zero-length', 'frame.decode', 'Records without a body.')
  await zero.valid('zero-length.followed', { clauses: ['FRAME-4'], comment: 'A record without a body, then another one.', flags: ['ZeroLengthRecord'], input: { chunks: ['000000' + head(1) + 'aa'], end: true } })
  await zero.valid('zero-length.between', { clauses: ['FRAME-4'], comment: 'Between two others.', flags: ['ZeroLengthRecord'], input: { chunks: [head(1) + 'aa000000' + head(1) + 'bb'], end: true } })
  await zero.valid('zero-length.next-chunk', { clauses: ['FRAME-3', 'FRAME-4'], comment: 'The next record comes with the next chunk.', flags: ['ZeroLengthRecord'], input: { chunks: ['000000', head(1) + 'aa'], end: true } })
  await zero.valid('zero-length.many', { clauses: ['FRAME-4'], comment: 'Four in a row, then one with a body.', flags: ['ZeroLengthRecord'], input: { chunks: ['000000'.repeat(4) + head(1) + 'aa'], end: true } })
  await zero.given('zero-length.last', {
    clauses: ['FRAME-4'],
    comment: 'Nothing follows yet: Node still holds its header.',
    flags: ['ZeroLengthRecord'],
    input: { chunks: ['000000'], end: false },
    result: 'acceptable',
    expect: { outputs: [{ frames: [], pending: 3 }, { frames: [''], pending: 0 }] },
    node: { outcome: 'returns' }
  })
  await zero.valid('zero-length.header-follows', { clauses: ['FRAME-4'], comment: 'A byte of the next header is enough for Node to see it.', flags: ['ZeroLengthRecord'], input: { chunks: ['00000001'], end: false } })
  await zero.given('zero-length.end', {
    clauses: ['FRAME-4', 'FRAME-5'],
    comment: 'The end comes right after it.',
    flags: ['ZeroLengthRecord'],
    input: { chunks: ['000000'], end: true },
    result: 'acceptable',
    expect: { outputs: [{ frames: [''], pending: 0 }], error: { layer: 'frame', class: 'truncated' } },
    node: { outcome: 'ignores' }
  })
  return [file]
}
