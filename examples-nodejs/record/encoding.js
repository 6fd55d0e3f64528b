// Records vectors/encoding: single values of compact-encoding.

const { VectorFile } = require('../lib/vectors')

const NOTES = {
  Truncated: 'The input ends before the value does.',
  TrailingBytes: 'Bytes follow the value; they are left unread and `consumed` says where it ended.',
  NonMinimalUint: 'The integer is written in a longer form than it needs. Decoders accept it; encoders never write it.',
  UnsafeInteger: 'The integer is above 2^53-1, which Node cannot hold exactly.',
  LengthBeyondInput: 'A length or count claims more than the input holds; nothing may be allocated for it.',
  ArrayTooBig: 'The count is above 0x100000, the most that a decoder takes.',
  InvalidUtf8: 'The bytes are not UTF-8; each maximal ill-formed part becomes U+FFFD.',
  WrongSize: 'The value has another size than the type.',
  EmptyBuffer: 'A buffer of no bytes; compact-encoding 2 decodes it as null, compact-encoding 3 as an empty buffer.'
}

// Little-endian hex of a BigInt in n bytes.
const le = (value, n) => Buffer.from(value.toString(16).padStart(n * 2, '0'), 'hex').reverse().toString('hex')
const uint = (v) => {
  v = BigInt(v)
  if (v <= 0xfcn) return le(v, 1)
  if (v <= 0xffffn) return 'fd' + le(v, 2)
  if (v <= 0xffffffffn) return 'fe' + le(v, 4)
  return 'ff' + le(v, 8)
}
const run = (n, start = 0) => Buffer.from(Array.from({ length: n }, (_, i) => (start + i) & 255)).toString('hex')
const json = (v) => (v <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(v) : v.toString())

// A file whose notes are those of the flags used by its cases.
class Subject {
  constructor (subject, description) {
    this.file = new VectorFile({ layer: 'encoding', subject, description, script: 'encoding', packages: ['compact-encoding', 'hypercore10'] })
    this.decode = this.file.group('decode', 'compact.decode', 'One value from the start of the input.')
    this.encode = this.file.group('encode', 'compact.encode', 'One value to bytes.')
  }

  note (flags) {
    for (const flag of flags) this.file.notes[flag] = NOTES[flag]
  }

  async ok (slug, type, bytes, clauses, comment, flags = []) {
    this.note(flags)
    await this.decode.valid(`decode.${slug}`, { clauses, comment, flags, input: { type, bytes } })
  }

  async bad (slug, type, bytes, cls, clauses, comment, flags) {
    this.note(flags)
    await this.decode.invalid(`decode.${slug}`, { clauses, comment, flags, input: { type, bytes }, layer: 'encoding', class: cls })
  }

  // Truncated at every byte.
  async cuts (slug, type, whole, clauses, comment) {
    for (let n = 0; n < whole.length / 2; n++) {
      await this.bad(`${slug}.truncated-at-${n}`, type, whole.slice(0, n * 2), 'out-of-bounds', [...clauses, 'ENC-13'], `${comment} Cut after ${n} of ${whole.length / 2} bytes.`, ['Truncated'])
    }
  }

  async enc (slug, type, value, clauses, comment) {
    await this.encode.valid(`encode.${slug}`, { clauses, comment, input: { type, value } })
  }

  async encBad (slug, type, value, cls, clauses, comment, flags) {
    this.note(flags)
    await this.encode.invalid(`encode.${slug}`, { clauses, comment, flags, input: { type, value }, layer: 'encoding', class: cls })
  }
}

async function uints () {
  const s = new Subject('uint', 'Unsigned integers of variable length: one byte up to 0xfc, then fd and 2, fe and 4, ff and 8 bytes, little-endian.')
  const edges = [
    ['0', 0n], ['1', 1n], ['127', 127n], ['128', 128n], ['251', 251n], ['252', 252n], ['253', 253n], ['254', 254n], ['255', 255n], ['256', 256n],
    ['65534', 65534n], ['65535', 65535n], ['65536', 65536n], ['0x01020304', 0x01020304n], ['2-to-31', 1n << 31n], ['2-to-32-minus-1', (1n << 32n) - 1n],
    ['2-to-32', 1n << 32n], ['0x0102030405', 0x0102030405n], ['2-to-52', 1n << 52n], ['2-to-53-minus-1', (1n << 53n) - 1n]
  ]
  for (const [name, v] of edges) {
    const size = uint(v).length / 2
    await s.ok(name, 'uint', uint(v), ['ENC-1'], `${v} in ${size} byte${size > 1 ? 's' : ''}.`)
    await s.enc(name, 'uint', json(v), ['ENC-1', 'ENC-2'], `${v} takes the shortest form, ${size} byte${size > 1 ? 's' : ''}.`)
  }
  for (const [name, hex, comment] of [
    ['0-in-3', 'fd0000', 'Zero in the 3-byte form.'], ['252-in-3', 'fdfc00', '252 in the 3-byte form.'],
    ['0-in-5', 'fe00000000', 'Zero in the 5-byte form.'], ['253-in-5', 'fefd000000', '253 in the 5-byte form.'], ['65535-in-5', 'feffff0000', '65535 in the 5-byte form.'],
    ['0-in-9', 'ff' + le(0n, 8), 'Zero in the 9-byte form.'], ['65536-in-9', 'ff' + le(65536n, 8), '65536 in the 9-byte form.'],
    ['2-to-32-minus-1-in-9', 'ff' + le((1n << 32n) - 1n, 8), '2^32-1 in the 9-byte form.']
  ]) await s.ok(`non-minimal.${name}`, 'uint', hex, ['ENC-3'], comment, ['NonMinimalUint'])
  for (const [name, v] of [['2-to-53', 1n << 53n], ['2-to-53-plus-1', (1n << 53n) + 1n], ['2-to-60', 1n << 60n], ['2-to-62', 1n << 62n], ['2-to-63', 1n << 63n], ['2-to-64-minus-1', (1n << 64n) - 1n]]) {
    await s.bad(`unsafe.${name}`, 'uint', 'ff' + le(v, 8), 'unsafe-integer', ['ENC-4'], `${v} is above 2^53-1; compact-encoding 2 rounds it to a double.`, ['UnsafeInteger'])
  }
  await s.encBad('unsafe.2-to-53', 'uint', (1n << 53n).toString(), 'unsafe-integer', ['ENC-4'], '2^53 is not encoded.', ['UnsafeInteger'])
  await s.cuts('1-byte', 'uint', '00', ['ENC-1'], 'The 1-byte form.')
  await s.cuts('3-bytes', 'uint', 'fdfd00', ['ENC-1'], 'The 3-byte form.')
  await s.cuts('5-bytes', 'uint', 'fe01020304', ['ENC-1'], 'The 5-byte form.')
  await s.cuts('9-bytes', 'uint', 'ff0102030405060000', ['ENC-1'], 'The 9-byte form.')
  for (const [name, v] of [['1-byte', 5n], ['3-bytes', 300n], ['5-bytes', 70000n], ['9-bytes', 1n << 40n]]) {
    await s.ok(`trailing.${name}`, 'uint', uint(v) + 'ff', ['ENC-14'], `A byte after ${v} is left unread.`, ['TrailingBytes'])
  }
  return s.file
}

async function fixed () {
  const s = new Subject('fixed-width', 'Integers of 8 to 64 bits and byte strings of fixed size, without a length.')
  for (const bits of [8, 16, 24, 32, 64]) {
    const n = bits / 8
    const type = `uint${bits}`
    const top = bits === 64 ? (1n << 53n) - 1n : (1n << BigInt(bits)) - 1n
    const count = BigInt('0x' + run(n === 8 ? 6 : n, 1))
    for (const [name, v] of [['zero', 0n], ['counting', count], ['max', top]]) {
      await s.ok(`${type}.${name}`, type, le(v, n), ['ENC-5'], `${v} in ${n} byte${n > 1 ? 's' : ''}, little-endian.`)
      await s.enc(`${type}.${name}`, type, json(v), ['ENC-5'], `${v} in ${n} byte${n > 1 ? 's' : ''}, little-endian.`)
    }
    await s.cuts(type, type, le(count, n), ['ENC-5'], `A ${type}.`)
    await s.ok(`${type}.trailing`, type, le(1n, n) + 'aa', ['ENC-5', 'ENC-14'], 'A byte after it is left unread.', ['TrailingBytes'])
  }
  await s.bad('uint64.unsafe.2-to-53', 'uint64', le(1n << 53n, 8), 'unsafe-integer', ['ENC-4', 'ENC-5'], '2^53 does not fit a double exactly.', ['UnsafeInteger'])
  await s.bad('uint64.unsafe.2-to-64-minus-1', 'uint64', le((1n << 64n) - 1n, 8), 'unsafe-integer', ['ENC-4', 'ENC-5'], 'The largest 64-bit value.', ['UnsafeInteger'])
  for (const n of [32, 64]) {
    const type = `fixed${n}`
    await s.ok(`${type}.exact`, type, run(n), ['ENC-9'], `Exactly ${n} bytes.`)
    await s.ok(`${type}.trailing`, type, run(n) + 'aabb', ['ENC-9', 'ENC-14'], 'Two bytes after it are left unread.', ['TrailingBytes'])
    for (const cut of [0, 1, n - 1]) await s.bad(`${type}.truncated-at-${cut}`, type, run(cut), 'out-of-bounds', ['ENC-9', 'ENC-13'], `${cut} of ${n} bytes.`, ['Truncated'])
    await s.enc(`${type}.exact`, type, run(n), ['ENC-9'], `Exactly ${n} bytes, as they are.`)
    for (const size of [0, n - 1, n + 1]) await s.encBad(`${type}.size-${size}`, type, run(size), 'bad-length', ['ENC-9'], `${size} bytes are not ${n}.`, ['WrongSize'])
  }
  return s.file
}

async function buffers () {
  const s = new Subject('buffer', 'Byte strings with a length before them, optional ones, and the rest of the input.')
  const big = (n) => ({ repeat: 'a5', times: n })
  for (const type of ['buffer', 'optionalBuffer']) {
    const clause = type === 'buffer' ? 'ENC-6' : 'ENC-7'
    const name = type === 'buffer' ? 'buffer' : 'optional'
    await s.ok(`${name}.empty`, type, '00', [clause], type === 'buffer' ? 'Length 0: an empty buffer.' : 'Length 0: no buffer.', type === 'buffer' ? ['EmptyBuffer'] : [])
    await s.ok(`${name}.one`, type, '01ff', [clause], 'One byte.')
    await s.ok(`${name}.32`, type, '20' + run(32), [clause], '32 bytes.')
    await s.ok(`${name}.252`, type, { concat: ['fc', big(252)] }, [clause], 'The longest with a 1-byte length.')
    await s.ok(`${name}.253`, type, { concat: ['fdfd00', big(253)] }, [clause], 'The shortest with a 3-byte length.')
    await s.ok(`${name}.65535`, type, { concat: ['fdffff', big(65535)] }, [clause], 'The longest with a 3-byte length.')
    await s.ok(`${name}.65536`, type, { concat: ['fe00000100', big(65536)] }, [clause], 'The shortest with a 5-byte length.')
    await s.ok(`${name}.trailing`, type, '02aabbcc', [clause, 'ENC-14'], 'A byte after it is left unread.', ['TrailingBytes'])
    await s.ok(`${name}.non-minimal-length`, type, 'fd0200aabb', [clause, 'ENC-3'], 'A length of 2 in the 3-byte form.', ['NonMinimalUint'])
    await s.cuts(name, type, '03aabbcc', [clause], `A ${type} of 3 bytes.`)
    await s.cuts(`${name}.long-length`, type, 'fd0200aabb', [clause], `A ${type} whose length takes 3 bytes.`)
    for (const [size, v] of [['252', 252n], ['65535', 65535n], ['2-to-32', 1n << 32n], ['2-to-33', 1n << 33n], ['2-to-53-minus-1', (1n << 53n) - 1n]]) {
      await s.bad(`${name}.length.${size}`, type, uint(v) + 'aa', 'out-of-bounds', [clause, 'ENC-13', 'ENC-15'], `A length of ${v} and one byte.`, ['LengthBeyondInput'])
    }
    await s.bad(`${name}.length.2-to-60`, type, 'ff' + le(1n << 60n, 8) + 'aa', 'unsafe-integer', [clause, 'ENC-4', 'ENC-15'], 'A length of 2^60 is not even an integer that Node takes.', ['UnsafeInteger'])
    for (const [size, v] of [['empty', ''], ['one', 'ff'], ['32', run(32)], ['252', big(252)], ['253', big(253)], ['65535', big(65535)], ['65536', big(65536)]]) {
      await s.enc(`${name}.${size}`, type, v, [clause, 'ENC-2'], size === 'empty' ? 'No bytes: a zero length.' : `${size === 'one' ? 1 : size} byte${size === 'one' ? '' : 's'} after the shortest length.`)
    }
  }
  await s.enc('optional.null', 'optionalBuffer', null, ['ENC-7'], 'No buffer: a zero length.')
  await s.ok('raw.empty', 'raw', '', ['ENC-10'], 'Nothing is left, so the value is empty.')
  await s.ok('raw.rest', 'raw', '00fffd', ['ENC-10'], 'All that is left, without a length.')
  await s.enc('raw.empty', 'raw', '', ['ENC-10'], 'Nothing.')
  await s.enc('raw.rest', 'raw', '00fffd', ['ENC-10'], 'The bytes as they are.')
  return s.file
}

async function strings () {
  const s = new Subject('string', 'UTF-8 with a length in bytes before it.')
  const hex = (text) => Buffer.from(text).toString('hex')
  const whole = (text) => uint(Buffer.byteLength(text)) + hex(text)
  for (const [name, text, comment] of [
    ['empty', '', 'No characters.'], ['ascii', 'hypercore/alpha', 'ASCII.'], ['ascii-56', 'abcdefgh'.repeat(7), 'ASCII of 56 bytes, as long as Node decodes by itself.'],
    ['ascii-57', 'abcdefgh'.repeat(7) + 'i', 'ASCII of 57 bytes, which Node leaves to its runtime.'], ['nul', 'a\0b', 'A NUL is a character like any other.'],
    ['two-byte', 'é', 'A character of two bytes.'], ['three-byte', '漢字', 'Characters of three bytes.'], ['four-byte', '🐎', 'A character of four bytes.'],
    ['byte-order-mark', '\ufeffa', 'A byte-order mark is kept.'], ['combining', 'e\u0301', 'Combining characters are not composed.'], ['253', 'x'.repeat(253), 'A length of 3 bytes.']
  ]) {
    await s.ok(name, 'string', whole(text), ['ENC-8'], comment)
    await s.enc(name, 'string', text, ['ENC-8'], comment)
  }
  for (const [name, bytes, comment] of [
    ['continuation', '80', 'A continuation byte alone.'], ['lead-alone', 'c3', 'A lead byte without its continuation.'], ['overlong', 'c080', 'NUL in two bytes.'],
    ['surrogate', 'eda080', 'A surrogate half.'], ['cut-three', 'e282', 'A character of three bytes cut after two.'], ['above-range', 'f4908080', 'A code point above U+10FFFF.'],
    ['ff', 'ff', 'A byte that UTF-8 never has.'], ['between', '61ff62', 'A bad byte between good ones.'], ['cut-four', 'f09f9061', 'A character of four bytes cut after three, then a letter.'],
    ['many', 'fffefd', 'Three bad bytes in a row.']
  ]) await s.ok(`invalid-utf8.${name}`, 'string', uint(bytes.length / 2) + bytes, ['ENC-8'], comment, ['InvalidUtf8'])
  await s.ok('trailing', 'string', whole('ab') + '63', ['ENC-8', 'ENC-14'], 'A byte after it is left unread.', ['TrailingBytes'])
  await s.ok('non-minimal-length', 'string', 'fd0200' + hex('ab'), ['ENC-8', 'ENC-3'], 'A length of 2 in the 3-byte form.', ['NonMinimalUint'])
  await s.cuts('ascii', 'string', whole('abcd'), ['ENC-8'], 'A string of 4 bytes.')
  for (const [name, v] of [['2-to-32', 1n << 32n], ['2-to-53-minus-1', (1n << 53n) - 1n]]) {
    await s.bad(`length.${name}`, 'string', uint(v) + '61', 'out-of-bounds', ['ENC-8', 'ENC-13', 'ENC-15'], `A length of ${v} and one byte.`, ['LengthBeyondInput'])
  }
  await s.bad('length.2-to-60', 'string', 'ff' + le(1n << 60n, 8) + '61', 'unsafe-integer', ['ENC-8', 'ENC-4', 'ENC-15'], 'A length of 2^60 is not even an integer that Node takes.', ['UnsafeInteger'])
  return s.file
}

async function arrays () {
  const s = new Subject('array', 'Counts and the items after them, and arrays of 32-bit words.')
  const samples = {
    'array:uint': [['three', '0301fd2c01fe70110100', [1, 300, 70000], 'Three integers of 1, 3 and 5 bytes.']],
    'array:fixed32': [['two', '02' + run(32) + run(32, 32), [run(32), run(32, 32)], 'Two items of 32 bytes.']],
    'array:buffer': [['three', '0301aa00' + '02bbcc', ['aa', '', 'bbcc'], 'Three buffers, the second empty.']],
    'array:string': [['three', '030161' + '00' + '02c3a9', ['a', '', 'é'], 'Three strings, the second empty.']]
  }
  for (const type of Object.keys(samples)) {
    const kind = type.slice(6)
    await s.ok(`${kind}.empty`, type, '00', ['ENC-11'], 'No items.')
    await s.enc(`${kind}.empty`, type, [], ['ENC-11'], 'No items.')
    for (const [name, bytes, value, comment] of samples[type]) {
      await s.ok(`${kind}.${name}`, type, bytes, ['ENC-11'], comment)
      await s.enc(`${kind}.${name}`, type, value, ['ENC-11'], comment)
      await s.ok(`${kind}.${name}.trailing`, type, bytes + 'ee', ['ENC-11', 'ENC-14'], 'A byte after the last item is left unread.', ['TrailingBytes'])
      if (kind === 'fixed32') for (const cut of [0, 1, 32, 33, 64]) await s.bad(`${kind}.${name}.truncated-at-${cut}`, type, bytes.slice(0, cut * 2), 'out-of-bounds', ['ENC-11', 'ENC-13'], `Cut after ${cut} of 65 bytes.`, ['Truncated'])
      else await s.cuts(`${kind}.${name}`, type, bytes, ['ENC-11'], comment)
    }
    await s.bad(`${kind}.count.0x100000`, type, uint(0x100000n), 'out-of-bounds', ['ENC-11', 'ENC-13', 'ENC-15'], 'The largest count, and nothing after it.', ['LengthBeyondInput'])
    for (const [name, v] of [['0x100001', 0x100001n], ['2-to-32', 1n << 32n], ['2-to-53-minus-1', (1n << 53n) - 1n]]) {
      await s.bad(`${kind}.count.${name}`, type, uint(v), 'array-too-big', ['ENC-11', 'ENC-15'], `A count of ${v}.`, ['ArrayTooBig'])
    }
    // Refused for its count alone: every item is present.
    if (kind === 'uint') await s.bad('uint.count.0x100001-held', type, { concat: [uint(0x100001n), { repeat: '00', times: 0x100001 }] }, 'array-too-big', ['ENC-11'], 'One item more than the largest count, all of them there.', ['ArrayTooBig'])
    await s.bad(`${kind}.count.2-to-60`, type, 'ff' + le(1n << 60n, 8), 'unsafe-integer', ['ENC-11', 'ENC-4', 'ENC-15'], 'A count of 2^60.', ['UnsafeInteger'])
  }
  const words = '03' + '01000000' + 'ffffffff' + '04030201'
  await s.ok('uint32array.empty', 'uint32array', '00', ['ENC-12'], 'No words.')
  await s.ok('uint32array.three', 'uint32array', words, ['ENC-12'], 'Three little-endian words.')
  await s.ok('uint32array.trailing', 'uint32array', words + 'ee', ['ENC-12', 'ENC-14'], 'A byte after the last word is left unread.', ['TrailingBytes'])
  await s.enc('uint32array.empty', 'uint32array', [], ['ENC-12'], 'No words.')
  await s.enc('uint32array.three', 'uint32array', [1, 0xffffffff, 0x01020304], ['ENC-12'], 'Three little-endian words.')
  await s.enc('uint32array.253', 'uint32array', Array.from({ length: 253 }, (_, i) => i * 0x01010101 % 2 ** 32), ['ENC-12', 'ENC-2'], 'A count of 3 bytes.')
  await s.cuts('uint32array', 'uint32array', words, ['ENC-12'], 'Three words.')
  for (const [name, v] of [['4', 4n], ['2-to-30', 1n << 30n], ['2-to-32', 1n << 32n], ['2-to-53-minus-1', (1n << 53n) - 1n]]) {
    await s.bad(`uint32array.count.${name}`, 'uint32array', uint(v) + '00000000', 'out-of-bounds', ['ENC-12', 'ENC-13', 'ENC-15'], `A count of ${v} and one word.`, ['LengthBeyondInput'])
  }
  await s.bad('uint32array.count.2-to-60', 'uint32array', 'ff' + le(1n << 60n, 8), 'unsafe-integer', ['ENC-12', 'ENC-4', 'ENC-15'], 'A count of 2^60.', ['UnsafeInteger'])
  return s.file
}

module.exports = async () => [await uints(), await fixed(), await buffers(), await strings(), await arrays()]
