// Records vectors/extension: names of extensions, which are sent once and then left out.

const { VectorFile, run } = require('../lib/vectors')
const layout = require('../lib/layout')
const { notes, prune, seen } = require('../lib/cases')

const FLAGS = {
  EmptyName: 'An extension without a name. On the wire it cannot be told from a name that is left out.',
  NoNameYet: 'A name is left out before any was sent.'
}

const sent = (...messages) => messages.map(([name, message]) => ({ name, message }))
const wire = (name, message) => layout.render(layout.messages.extension({ name, message }))

// The sent names, and the purpose of each run.
const RUNS = [
  ['one', sent(['a', '01']), 'The first message carries its name.'],
  ['repeated', sent(['a', '01'], ['a', '02'], ['a', '03']), 'A name that repeats the last one is left out.'],
  ['alternating', sent(['a', '01'], ['b', '02'], ['a', '03'], ['b', '04']), 'Names that alternate are written each time.'],
  ['runs', sent(['a', '01'], ['a', '02'], ['b', '03'], ['b', '04'], ['a', '05'], ['a', '06']), 'Each run begins with its name.'],
  ['prefix', sent(['ab', '01'], ['a', '02'], ['abc', '03']), 'Names that begin alike are not the same.'],
  ['case', sent(['a', '01'], ['A', '02']), 'Case matters.'],
  ['no-message', sent(['a', ''], ['a', '']), 'Messages of no bytes.'],
  ['utf-8', sent(['żółw-🐢', '01'], ['żółw-🐢', '02']), 'A name that is not ASCII.'],
  ['composed', sent(['\u00e9', '01'], ['e\u0301', '02']), 'Names are not normalised.'],
  ['long', sent(['n'.repeat(300), '01'], ['n'.repeat(300), '02']), 'A name of 300 bytes.'],
  ['message-like-a-name', sent(['a', '0162'], ['a', '00'], ['a', '0161']), 'Messages that look like a name are messages.']
]

module.exports = async function () {
  const file = new VectorFile({
    layer: 'extension',
    subject: 'names',
    description: 'Messages of extensions in one direction of a channel, in order. A sender leaves a name out when it is that of the message before; a receiver puts it back. Each direction has a last name of its own.',
    script: 'extension',
    packages: ['hypercore', 'hypercore10', 'compact-encoding'],
    notes: notes(['Truncated', 'UnsafeInteger', 'HostileLength', 'InvalidUtf8', 'NonMinimalUint'], FLAGS)
  })
  const send = file.group('send', 'extension.send', 'What a sender writes for these messages.')
  const receive = file.group('receive', 'extension.receive', 'What a receiver makes of these messages.')

  for (const [name, messages, comment] of RUNS) {
    await seen(send, `send.${name}`, { clauses: ['EXT-1', 'EXT-2'], comment, input: { messages }, result: 'valid' })
    const { output } = await run('extension.send', { messages })
    await seen(receive, `receive.${name}`, { clauses: ['EXT-1', 'EXT-2'], comment, input: { messages: output.messages }, result: 'valid' })
    await seen(receive, `receive.${name}.written-out`, { clauses: ['EXT-1', 'EXT-2'], comment: `${comment.slice(0, -1)}; a sender may as well write them all.`, input: { messages: messages.map((m) => wire(m.name, m.message)) }, result: 'valid' })
  }

  const take = (slug, clauses, comment, messages, flags = [], more = {}) => seen(receive, `receive.${slug}`, { clauses: ['EXT-1', ...clauses], comment, flags, input: { messages }, ...more })
  await take('empty-first', ['EXT-2'], 'A name that is left out of the first message is an empty name.', [wire('', '01')], ['NoNameYet'], { result: 'valid' })
  await take('empty-first-then-named', ['EXT-2'], 'A name that comes later does not reach back.', [wire('', '01'), wire('a', '02'), wire('', '03')], ['NoNameYet'], { result: 'valid' })
  await take('nothing', ['EXT-2'], 'No messages.', [], [], { result: 'valid' })
  await take('length-in-3-bytes', ['ENC-3', 'EXT-2'], 'A length of 0 in three bytes is an empty name too.', [wire('a', '01'), 'fd0000' + '02'], ['NonMinimalUint'], { result: 'valid' })
  for (const [name, hex] of [['lone-byte', 'ff'], ['cut-sequence', 'e282'], ['surrogate', 'eda080'], ['overlong', 'c080']]) {
    await take(`name.${name}`, ['ENC-8', 'EXT-2'], 'A name that is not UTF-8, and one that is left out after it.', [`0${hex.length / 2}${hex}01`, wire('', '02')], ['InvalidUtf8'], { result: 'valid' })
  }
  await take('name.replaced-alike', ['ENC-8', 'EXT-2'], 'Two names that are not UTF-8 may be read as the same.', ['01ff01', '01fe02'], ['InvalidUtf8'], { result: 'valid' })
  await take('truncated.no-name', ['MSG-1', 'ENC-13'], 'A message of no bytes at all.', [wire('a', '01'), ''], ['Truncated'], { class: 'out-of-bounds' })
  await take('truncated.length', ['MSG-1', 'ENC-13'], 'A length that is cut short.', ['fd05'], ['Truncated'], { class: 'out-of-bounds' })
  await take('truncated.name', ['MSG-1', 'ENC-13'], 'A name that is cut short.', ['056162'], ['Truncated'], { class: 'out-of-bounds' })
  await take('truncated.second', ['MSG-1', 'ENC-13'], 'The second of three is cut short.', [wire('a', '01'), '0261', wire('a', '03')], ['Truncated'], { class: 'out-of-bounds' })
  await take('name.2-32-bytes', ['MSG-1', 'ENC-15'], 'A name of 2^32 bytes.', ['ff' + '0000000001000000' + '61'], ['HostileLength'], { class: 'out-of-bounds' })
  await take('name.2-53-1-bytes', ['MSG-1', 'ENC-15'], 'A name of 2^53-1 bytes.', ['ffffffffffffff1f00' + '61'], ['HostileLength'], { class: 'out-of-bounds' })
  await take('name.2-53-bytes', ['MSG-1', 'ENC-4'], 'A name of 2^53 bytes.', ['ff' + '0000000000002000' + '61'], ['UnsafeInteger'], { class: 'unsafe-integer' })
  await take('name.2-64-1-bytes', ['MSG-1', 'ENC-4'], 'A name of 2^64-1 bytes.', ['ff' + 'ff'.repeat(8) + '61'], ['UnsafeInteger'], { class: 'unsafe-integer' })

  // Node sends an extension without a name like any other; its receiver takes it for the one before.
  for (const [slug, messages, comment] of [
    ['empty-name', sent(['', '01']), 'An extension without a name, first of all.'],
    ['empty-name-after-named', sent(['a', '01'], ['', '02'], ['a', '03']), 'An extension without a name after another: a receiver takes it for that one.']
  ]) {
    const { output } = await run('extension.send', { messages })
    await send.given(`send.${slug}`, {
      clauses: ['EXT-1', 'EXT-2'], comment, flags: ['EmptyName'], input: { messages }, result: 'acceptable', expect: { outputs: [output], error: { layer: 'message', class: 'bad-input' } }, node: { outcome: 'returns' }
    })
  }
  await seen(send, 'send.message-of-64-kib', { clauses: ['EXT-1', 'EXT-2'], comment: 'A message of 64 KiB takes no length.', input: { messages: [{ name: 'a', message: { repeat: '5a', times: 65536 } }] }, result: 'valid' })
  return [prune(file)]
}
