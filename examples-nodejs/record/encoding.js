// Records vectors/encoding: single values of compact-encoding.

const { VectorFile } = require('../lib/vectors')

module.exports = async function () {
  const file = new VectorFile({
    layer: 'encoding',
    subject: 'uint',
    description: 'Variable-length and fixed-width unsigned integers.',
    script: 'encoding',
    packages: ['compact-encoding'],
    notes: { Truncated: 'The input ends before the value does.' }
  })
  const decode = file.group('decode', 'compact.decode', 'One integer from the start of the input.')
  await decode.valid('decode.zero', { clauses: ['ENC-1'], comment: 'The smallest value takes one byte.', input: { type: 'uint', bytes: '00' } })
  await decode.invalid('decode.empty', {
    clauses: ['ENC-13'], comment: 'No byte at all.', flags: ['Truncated'], input: { type: 'uint', bytes: '' }, layer: 'encoding', class: 'out-of-bounds'
  })
  return [file]
}
