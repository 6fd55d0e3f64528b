// Records vectors/mux: records of protomux, and sessions with a bare protomux.

const { VectorFile, run } = require('../lib/vectors')
const { notes, prune, seen } = require('../lib/cases')
const { session, destroyed, itDies } = require('../lib/sessions')
const { u, text, string, buffer, data, open, reject, close, batch, nested } = require('../lib/records')

const MAX = Number.MAX_SAFE_INTEGER
const ID = 'a1'.repeat(32)
const FLAGS = {
  Clamped: 'An item of a batch claims more bytes than the batch has. It gets what there is.',
  EmptyRecord: 'A record of no bytes.',
  UnknownChannel: 'A channel that was never opened, or is closed.',
  UnknownMessage: 'A type of message that the channel does not have, or of control message that no release has.',
  InvalidOpen: 'An open with an id that is neither the next one nor free.',
  InvalidReject: 'A reject of an id that does not wait for an answer.',
  InvalidClose: 'A close of an id that is not open.',
  DeepNesting: 'Batches within batches. Protomux recurses and dies of 3,000; a peer must bound the depth.',
  LongName: 'A name that no protocol has any use for.',
  FreedTwice: 'Several local ids are free. Protomux takes the one freed last; a peer may take any.',
  ClosedEarly: 'The remote closes a channel before the local side can have answered its open. Whether what it sent in between is delivered is open.',
  Sequence: 'A sequence of messages that a well-behaved peer sends as well, though rarely.'
}
const fileNotes = () => notes(['Truncated', 'TrailingBytes', 'NonMinimalUint', 'UnsafeInteger', 'HostileLength', 'InvalidUtf8'], { ...FLAGS })

const WIDTHS = [['one-byte', 0xfc], ['three-bytes', 0xfd], ['five-bytes', 0x10000], ['nine-bytes', 2 ** 33], ['largest', MAX]]
const UNSAFE = [['2-53', '9007199254740992', '2^53'], ['2-62', '4611686018427387904', '2^62'], ['2-64-1', '18446744073709551615', '2^64-1']]

async function records () {
  const file = new VectorFile({
    layer: 'mux',
    subject: 'record',
    description: 'Plaintext records of protomux, parsed without regard to what is open: one message, a control message, or a batch.',
    script: 'mux',
    packages: ['protomux', 'compact-encoding'],
    notes: fileNotes()
  })
  const decode = file.group('decode', 'mux.decode', 'Parses one record into its messages; batches are flattened in order.')
  const encode = file.group('encode', 'mux.encode', 'Writes one record: a message, or with batch all messages as one batch.')
  const add = (slug, bytes, clauses, comment, more = {}) => seen(decode, `decode.${slug}`, { clauses, comment, input: { bytes }, ...more })
  const valid = (slug, bytes, clauses, comment, ...flags) => add(slug, bytes, clauses, comment, { flags, result: 'valid' })
  const invalid = (slug, bytes, clauses, comment, cls, ...flags) => add(slug, bytes, clauses, comment, { flags, class: cls, result: 'invalid' })
  // A record as written by protomux, in both directions.
  const both = async (slug, bytes, clauses, comment, messages) => {
    await valid(slug, bytes, clauses, comment)
    const got = await run('mux.decode', { bytes })
    const input = { messages: messages || got.output.messages, batch: bytes.startsWith('0000') }
    const back = await run('mux.encode', input)
    if (back.error || back.output.bytes !== bytes) throw new Error(`mux ${slug}: ${bytes} is written as ${JSON.stringify(back.output || back.error.message)}`)
    await seen(encode, `encode.${slug}`, { clauses, comment, input, result: 'valid' })
  }

  // Messages of a channel.
  await both('message', data(1, 0, 'aabbcc'), ['MUX-1'], 'Channel, type, body.')
  await both('message.no-body', data(1, 3), ['MUX-1'], 'A message may have no body.')
  for (const [name, n] of WIDTHS) {
    await both(`message.channel.${name}`, data(n, 1, 'ff'), ['MUX-1', 'ENC-1'], `Channel ${n}.`)
    await both(`message.type.${name}`, data(1, n, 'ff'), ['MUX-1', 'ENC-1'], `Type ${n}.`)
  }
  await valid('message.64-kib', { concat: ['0100', { repeat: '5a', times: 65536 }] }, ['MUX-1'], 'A body of 64 KiB.')
  await valid('empty', '', ['MUX-19'], 'A record of no bytes has no messages.', 'EmptyRecord')

  // Control messages.
  await both('open', open(1, 'hypercore/alpha', ID, 'c0ffee'), ['MUX-3', 'MUX-4'], 'Id, protocol, channel id, and what is left is the handshake.')
  await both('open.no-id', open(1, 'abc', null, 'c0ffee'), ['MUX-4', 'ENC-7'], 'No channel id: a length of 0.')
  await both('open.no-handshake', open(1, 'abc', 'a1a2'), ['MUX-4'], 'No handshake.')
  await both('open.neither', open(1, 'abc'), ['MUX-4'], 'Neither channel id nor handshake.')
  await both('open.no-name', open(1, ''), ['MUX-4', 'ENC-8'], 'A protocol without a name.')
  await both('open.utf-8-name', open(1, 'żółw-🐢'), ['MUX-4', 'ENC-8'], 'The length of a name counts bytes.')
  await both('open.long-name', open(1, 'n'.repeat(300)), ['MUX-4', 'ENC-8'], 'A name whose length takes three bytes.')
  await both('open.one-byte-id', open(1, 'abc', '00'), ['MUX-4'], 'A channel id of one byte, 0.')
  await both('open.long-id', open(1, 'abc', 'a1'.repeat(300)), ['MUX-4'], 'A channel id of 300 bytes.')
  await valid('open.id-0', open(0, 'abc'), ['MUX-4', 'MUX-23'], 'An open with id 0 can be parsed; a session refuses it.', 'InvalidOpen')
  for (const [name, n] of WIDTHS) {
    await both(`open.id.${name}`, open(n, 'abc'), ['MUX-4', 'ENC-1'], `An open with id ${n}.`)
    await both(`reject.id.${name}`, reject(n), ['MUX-6', 'ENC-1'], `A reject of ${n}.`)
    await both(`close.id.${name}`, close(n), ['MUX-8', 'ENC-1'], `A close of ${n}.`)
  }
  await valid('reject.id-0', reject(0), ['MUX-6'], 'A reject of 0 can be parsed; a session refuses it.', 'InvalidReject')
  await valid('close.id-0', close(0), ['MUX-8'], 'A close of 0 can be parsed; a session ignores it.', 'InvalidClose')
  for (const [name, type, body] of [['4', 4, 'aabb'], ['4-no-body', 4, ''], ['252', 252, 'aabb'], ['300', 300, 'aabb'], ['2-33', 2 ** 33, '']]) {
    await valid(`control.unknown-${name}`, data(0, type, body), ['MUX-3', 'MUX-18'], `Control type ${type} has no meaning.`, 'UnknownMessage')
  }

  // Batches.
  const one = data(1, 0, 'aa')
  const two = data(1, 1, 'bbbb')
  const other = data(2, 0, 'cc')
  await both('batch.one', batch([one]), ['MUX-10', 'MUX-26'], 'A batch of one message.')
  await both('batch.two', batch([one, two]), ['MUX-10', 'MUX-26'], 'Two messages of one channel: its id stands once.')
  await both('batch.switch', batch([one, other]), ['MUX-10', 'MUX-11', 'MUX-26'], 'A zero says that another channel follows.')
  await both('batch.switch-back', batch([one, other, two]), ['MUX-10', 'MUX-11', 'MUX-26'], 'There and back.')
  await both('batch.three-channels', batch([one, two, other, other, data(3, 0), data(3, 9, 'dd')]), ['MUX-10', 'MUX-11', 'MUX-26'], 'Two messages each of three channels.')
  await both('batch.no-body', batch([data(1, 2), data(1, 3)]), ['MUX-10'], 'Items without a body hold a type alone.')
  await both('batch.long-item', batch([data(1, 0, 'ab'.repeat(300)), one]), ['MUX-10', 'ENC-1'], 'An item whose length takes three bytes.')
  await both('batch.control', batch([open(1, 'abc', null, 'ff'), data(1, 0, 'aa'), close(1), reject(2)]), ['MUX-10', 'MUX-11', 'MUX-27'], 'Control messages among others: channel 0 is a channel like another here.')
  await both('batch.control-only', batch([open(1, 'abc'), open(2, 'def')]), ['MUX-10', 'MUX-27'], 'A batch of control messages begins with three zeros.')
  await both('batch.large-channel', '0000' + 'fd2c01' + '02' + '00aa' + '00' + 'fe00000100' + '02' + '00bb', ['MUX-10', 'MUX-11'], 'Channel ids of three and of five bytes.')
  await valid('batch.no-items', '000001', ['MUX-10'], 'A channel and no items.', 'Sequence')
  await valid('batch.switch-to-same', '000001' + '0200aa' + '0001' + '0200bb', ['MUX-11'], 'A switch to the channel that it is already.', 'Sequence')
  await valid('batch.switch-first', '000001' + '0002' + '0200aa', ['MUX-11'], 'A switch before the first item.', 'Sequence')
  await valid('batch.switch-twice', '000001' + '00020003' + '0200aa', ['MUX-11'], 'Two switches with nothing between.', 'Sequence')
  await valid('batch.switch-last', '000001' + '0200aa' + '0002', ['MUX-11'], 'A switch that nothing follows.', 'Sequence')
  await valid('batch.unknown-control', batch([data(0, 7, 'ff'), one]), ['MUX-10', 'MUX-18'], 'An unknown control message within a batch.', 'UnknownMessage')
  await valid('batch.handshake-ends-with-item', batch([open(1, 'abc', null, 'f0f1'), one]), ['MUX-4', 'MUX-27'], 'A handshake ends with its item, not with the record.')
  for (const depth of [2, 4, 8]) {
    await valid(`batch.nested-${depth}`, nested(one, depth), ['MUX-10', 'MUX-13'], `A message within ${depth} batches.`, 'DeepNesting')
  }
  await valid('batch.nested-among-others', batch([one, batch([other, two]), data(3, 0, 'dd')]), ['MUX-10', 'MUX-13'], 'A batch between two messages: order is kept.', 'DeepNesting')
  await valid('batch.long-run-of-switches', { concat: ['000001', { repeat: '0002', times: 5000 }, '0200aa'] }, ['MUX-11'], '5,000 switches cost a peer nothing but their bytes.', 'Sequence')

  // Items that are too long.
  for (const [name, length] of [['by-one', u(3)], ['by-much', u(0xffff)], ['2-32', u(2 ** 32)], ['2-53-1', u(MAX)]]) {
    await valid(`batch.over-long.${name}`, '000001' + length + '00aa', ['MUX-12'], 'An item claims more than there is, and gets what there is.', 'Clamped')
  }
  await valid('batch.over-long.second', '000001' + '0200aa' + '7f' + '01bbbb', ['MUX-12'], 'The second of two items is over-long.', 'Clamped')
  await valid('batch.over-long.within', batch([batch([one]).slice(0, -6) + '7f00aa', two]), ['MUX-12', 'MUX-13'], 'An over-long item of an inner batch ends with the inner batch.', 'Clamped')

  // Unsafe integers, and non-shortest forms.
  for (const [name, n, said] of UNSAFE) {
    await invalid(`message.channel.${name}`, u(n) + '00ff', ['MUX-1', 'ENC-4', 'MUX-20'], `A channel of ${said}.`, 'unsafe-integer', 'UnsafeInteger')
    await invalid(`message.type.${name}`, '01' + u(n) + 'ff', ['MUX-1', 'ENC-4', 'MUX-20'], `A type of ${said}.`, 'unsafe-integer', 'UnsafeInteger')
    await invalid(`open.id.${name}`, '0001' + u(n) + '0361626300', ['MUX-4', 'ENC-4', 'MUX-20'], `An open with id ${said}.`, 'unsafe-integer', 'UnsafeInteger')
    await invalid(`reject.id.${name}`, '0002' + u(n), ['MUX-6', 'ENC-4', 'MUX-20'], `A reject of ${said}.`, 'unsafe-integer', 'UnsafeInteger')
    await invalid(`close.id.${name}`, '0003' + u(n), ['MUX-8', 'ENC-4', 'MUX-20'], `A close of ${said}.`, 'unsafe-integer', 'UnsafeInteger')
    await invalid(`batch.channel.${name}`, '0000' + u(n) + '0200aa', ['MUX-10', 'ENC-4', 'MUX-20'], `A batch of channel ${said}.`, 'unsafe-integer', 'UnsafeInteger')
    await invalid(`batch.length.${name}`, '000001' + u(n) + '00aa', ['MUX-10', 'ENC-4', 'MUX-20'], `An item of ${said} bytes is not clamped: its length is no integer.`, 'unsafe-integer', 'UnsafeInteger')
    await invalid(`batch.switch.${name}`, '000001' + '00' + u(n) + '0200aa', ['MUX-11', 'ENC-4', 'MUX-20'], `A switch to channel ${said}.`, 'unsafe-integer', 'UnsafeInteger')
  }
  await seen(encode, 'encode.message.channel.2-53', { clauses: ['MUX-1', 'ENC-4'], comment: 'A channel of 2^53 is not written.', flags: ['UnsafeInteger'], input: { messages: [{ channel: '9007199254740992', type: 0, body: '' }], batch: false }, class: 'unsafe-integer' })
  for (const width of [3, 5, 9]) {
    const longer = (n) => u(n, width)
    await valid(`in-${width}-bytes.channel`, longer(1) + '00aa', ['MUX-1', 'ENC-3'], `A channel in ${width} bytes.`, 'NonMinimalUint')
    await valid(`in-${width}-bytes.control`, longer(0) + '0301', ['MUX-3', 'ENC-3'], `Channel 0 in ${width} bytes is control all the same.`, 'NonMinimalUint')
    await valid(`in-${width}-bytes.type`, '01' + longer(0) + 'aa', ['MUX-1', 'ENC-3'], `A type in ${width} bytes.`, 'NonMinimalUint')
    await valid(`in-${width}-bytes.control-type`, '00' + longer(3) + '01', ['MUX-8', 'ENC-3'], `A control type in ${width} bytes.`, 'NonMinimalUint')
    await valid(`in-${width}-bytes.open-id`, '0001' + longer(1) + '0361626300', ['MUX-4', 'ENC-3'], `The id of an open in ${width} bytes.`, 'NonMinimalUint')
    await valid(`in-${width}-bytes.open-lengths`, '000101' + longer(3) + '616263' + longer(2) + 'a1a2' + 'ff', ['MUX-4', 'ENC-3'], `The lengths of an open in ${width} bytes.`, 'NonMinimalUint')
    await valid(`in-${width}-bytes.batch-lengths`, '0000' + longer(1) + longer(2) + '00aa' + longer(0) + longer(2) + longer(2) + '00bb', ['MUX-10', 'MUX-11', 'ENC-3'], `Lengths, a switch and channels of a batch in ${width} bytes.`, 'NonMinimalUint')
  }

  // Cut short at every byte.
  const cut = async (name, whole, clauses, from = 1) => {
    for (let i = from; i < whole.length / 2; i++) {
      const bytes = whole.slice(0, i * 2)
      const got = await run('mux.decode', { bytes })
      const flags = got.error ? ['Truncated'] : name === 'batch' ? ['Clamped'] : []
      if (!got.error && flags.length === 0) continue // cut within the body, which is a shorter body
      await add(`${name}.truncated-at-${i}`, bytes, [...clauses, ...(got.error ? ['MUX-20', 'ENC-13'] : ['MUX-12'])], got.error ? `Ends after ${i} bytes.` : `Ends after ${i} bytes, which ends an item, or leaves one that is shorter than it says.`, { flags })
    }
  }
  await cut('message', 'fd0001' + 'fe00000100', ['MUX-1'])
  await cut('open', open(300, 'hypercore/alpha', ID), ['MUX-4'])
  await cut('reject', reject(300), ['MUX-6'])
  await cut('close', close(65536), ['MUX-8'])
  await cut('batch', '0000' + 'fd2c01' + '0300aabb' + '00' + 'fd2d01' + 'fd0300' + '01ccdd' + '0201ee', ['MUX-10'])
  await invalid('open.name-too-long', '0001' + '01' + '04616263', ['MUX-4', 'MUX-20', 'ENC-15'], 'A name of one byte more than follows.', 'out-of-bounds', 'HostileLength')
  await invalid('open.name-2-53-1', '0001' + '01' + u(MAX) + '616263', ['MUX-4', 'MUX-20', 'ENC-15'], 'A name of 2^53-1 bytes.', 'out-of-bounds', 'HostileLength')
  await invalid('open.id-too-long', '0001' + '01' + '03616263' + '02a1', ['MUX-4', 'MUX-20', 'ENC-15'], 'A channel id of one byte more than follows.', 'out-of-bounds', 'HostileLength')
  await invalid('open.id-2-53-1', '0001' + '01' + '03616263' + u(MAX) + 'a1', ['MUX-4', 'MUX-20', 'ENC-15'], 'A channel id of 2^53-1 bytes.', 'out-of-bounds', 'HostileLength')
  await invalid('batch.name-beyond-item', '000000' + '04' + '01010461' + '05' + '0162636400', ['MUX-4', 'MUX-27', 'ENC-13'], 'A name that reaches beyond its item, into the next.', 'out-of-bounds', 'HostileLength')
  await invalid('batch.trailing-zero', '000001' + '0200aa' + '00', ['MUX-10', 'MUX-11', 'MUX-20'], 'A switch without a channel.', 'out-of-bounds', 'Truncated')
  await invalid('batch.empty-item', '000001' + '05', ['MUX-12', 'MUX-20'], 'An item of which nothing is there has no type.', 'out-of-bounds', 'Truncated')
  await invalid('batch.nested-cut', batch(['00' + '00']), ['MUX-13', 'MUX-20'], 'An inner batch without a channel.', 'out-of-bounds', 'Truncated')

  // With trailing bytes.
  await valid('reject.trailing', reject(1) + 'ffff', ['MUX-6', 'ENC-14'], 'Bytes after a reject.', 'TrailingBytes')
  await valid('close.trailing', close(1) + 'ffff', ['MUX-8', 'ENC-14'], 'Bytes after a close.', 'TrailingBytes')
  await valid('batch.trailing-in-item', batch([close(1) + 'ffff', one]), ['MUX-8', 'MUX-27', 'ENC-14'], 'Bytes after a close, within its item.', 'TrailingBytes')
  for (const [name, hex] of [['lone-byte', 'ff'], ['cut-sequence', '61e282'], ['surrogate', 'eda080']]) {
    await valid(`open.name.${name}`, '000101' + buffer(hex) + '00', ['MUX-4', 'ENC-8'], 'A protocol name that is not UTF-8.', 'InvalidUtf8')
  }

  // Deeper than any peer needs.
  const dies = async (slug, bytes, comment) => {
    itDies(bytes)
    await seen(decode, `decode.${slug}`, { clauses: ['MUX-13', 'MUX-25'], comment, flags: ['DeepNesting'], input: { bytes }, class: 'nesting-too-deep' })
    decode.cases.at(-1).node.outcome = 'process-dies'
  }
  await dies('batch.nested-3000', nested(one, 3000), 'A message within 3,000 batches: deeper than any sender goes.')
  await dies('batch.nested-20000', { concat: ['0000', { repeat: '00fdffff00', times: 20000 }] }, '20,000 batches, each in an over-long item of the one before.')
  return prune(file)
}

const local = (protocol, { aliases = [], id = null, handshake = null, messages = 2 } = {}) => ({ open: { protocol, aliases, id, handshake, messages } })
const pair = (protocol, { id = null, handshake = null, messages = 2 } = {}) => ({ pair: { protocol, id, handshake, messages } })
const receive = (record) => ({ receive: record })
const send = (channel, type, body = '') => ({ send: { channel, type, body } })
const CLOSE = (n) => ({ close: n })
const CORK = { cork: true }
const UNCORK = { uncork: true }

async function sessions () {
  const file = new VectorFile({
    layer: 'mux',
    subject: 'session',
    description: 'Sessions with a bare protomux: what is opened, delivered, closed and sent, record by record. The local side opens what its steps say and nothing else. A session in which the stream is destroyed is invalid; what came before the fault stands in its output, and later steps are empty.',
    script: 'mux',
    packages: ['protomux', 'compact-encoding'],
    notes: fileNotes()
  })

  const opening = file.group('opening', 'mux.session', 'Channels that are opened by either side, and how opens pair.')
  let group = opening
  const add = (slug, clauses, comment, steps, more = {}) => session(group, slug, { clauses, comment, input: { steps }, ...more })
  const ignored = (...flags) => ({ flags, outcome: 'ignores' })
  const answered = (...flags) => ({ flags, outcome: 'returns' })
  const fatal = (cls, ...flags) => ({ flags, ends: ['mux', cls] })
  const opened = [local('abc'), receive(open(1, 'abc'))]

  await add('open.local-first', ['MUX-2', 'MUX-4', 'MUX-14'], 'The local side opens, the remote answers with an open of its own.', [local('abc', { handshake: 'f0f1' }), receive(open(1, 'abc', null, 'e0e1'))])
  await add('open.remote-first', ['MUX-2', 'MUX-4', 'MUX-14'], 'The remote opens, and the local side, waiting for it, answers.', [pair('abc', { handshake: 'f0f1' }), receive(open(1, 'abc', null, 'e0e1'))])
  await add('open.both-at-once', ['MUX-4', 'MUX-14'], 'Both sides open before they hear of each other: the opens pair, and none is sent again.', [pair('abc'), local('abc'), receive(open(1, 'abc'))])
  await add('open.remote-too-early', ['MUX-21', 'MUX-22', 'MUX-14'], 'What is opened before anybody waits for it is rejected; the id is free again, and the next try pairs.', [receive(open(1, 'abc')), local('abc'), receive(open(1, 'abc'))])
  await add('open.with-id', ['MUX-4', 'MUX-14'], 'Opens with the same protocol and id pair.', [local('abc', { id: ID }), receive(open(1, 'abc', ID))])
  await add('open.other-id', ['MUX-14', 'MUX-21'], 'Opens of one protocol with other ids do not pair.', [local('abc', { id: ID }), receive(open(1, 'abc', 'b2'.repeat(32))), receive(open(1, 'abc')), receive(open(1, 'abc', ID))], answered('Sequence'))
  await add('open.id-of-no-bytes', ['MUX-4', 'ENC-7', 'MUX-14'], 'An id of no bytes is no id.', [local('abc', { id: null }), receive('0001' + '01' + string('abc') + '00')])
  await add('open.id-of-one-byte', ['MUX-4', 'MUX-14'], 'An id of one byte.', [local('abc', { id: '00' }), receive(open(1, 'abc', '00'))])
  await add('open.id-of-300-bytes', ['MUX-4', 'MUX-14'], 'An id of 300 bytes.', [local('abc', { id: 'a1'.repeat(300) }), receive(open(1, 'abc', 'a1'.repeat(300)))])
  await add('open.no-name', ['MUX-4', 'MUX-14'], 'A protocol without a name is a protocol like another.', [local(''), receive(open(1, ''))])
  await add('open.name-is-case-sensitive', ['MUX-14', 'MUX-21'], 'Names are compared byte by byte.', [local('abc'), receive(open(1, 'Abc'))], answered('Sequence'))
  await add('open.alias', ['MUX-14'], 'A remote that opens an alias of the protocol pairs.', [local('new', { aliases: ['old'] }), receive(open(1, 'old'))])
  await add('open.alias-of-two', ['MUX-14'], 'The second of two aliases.', [local('new', { aliases: ['old', 'older'], id: ID }), receive(open(1, 'older', ID))])
  await add('open.alias-other-id', ['MUX-14', 'MUX-21'], 'An alias with another id does not pair.', [local('new', { aliases: ['old'], id: ID }), receive(open(1, 'old'))], answered('Sequence'))
  await add('open.own-name-with-aliases', ['MUX-14'], 'With aliases the name of the protocol pairs as well.', [local('new', { aliases: ['old'] }), receive(open(1, 'new'))])
  await add('open.alias-after-close', ['MUX-14', 'MUX-21', 'MUX-22'], 'Once the channel is closed its alias is not known any more.', [local('new', { aliases: ['old'] }), receive(open(1, 'old')), receive(close(1)), receive(open(1, 'old'))], answered('Sequence'))
  await add('open.handshake-unread', ['MUX-4'], 'A local side without a handshake leaves that of the remote unread.', [local('abc'), receive(open(1, 'abc', null, 'e0e1'))], answered('TrailingBytes'))
  await add('open.handshake-empty', ['MUX-4'], 'A handshake of no bytes.', [local('abc', { handshake: 'f0' }), receive(open(1, 'abc'))])
  await add('open.handshake-64-kib', ['MUX-4'], 'A handshake of 64 KiB.', [local('abc', { handshake: 'f0' }), receive({ concat: [open(1, 'abc'), { repeat: 'e0', times: 65536 }] })])
  await add('open.crossed', ['MUX-2', 'MUX-14'], 'Each side numbers its own: what is the first channel here is the second there.', [local('abc'), local('def'), receive(open(1, 'def')), receive(open(2, 'abc')), receive(data(1, 0, 'd0')), receive(data(2, 0, 'a0')), send(1, 1, 'a1'), send(2, 1, 'd1')])
  await add('open.same-protocol-two-ids', ['MUX-14'], 'Two channels of one protocol with ids of their own.', [local('abc', { id: '01' }), local('abc', { id: '02' }), receive(open(1, 'abc', '02')), receive(open(2, 'abc', '01')), receive(data(1, 0, 'b2')), receive(data(2, 0, 'b1'))])
  await add('open.pair-any-id', ['MUX-14'], 'Waiting for a protocol without an id takes any id of it.', [pair('abc'), receive(open(1, 'abc', '01')), receive(open(2, 'abc', '02')), receive(open(3, 'abc')), receive(open(4, 'def'))], answered('Sequence'))
  await add('open.pair-one-id', ['MUX-14', 'MUX-21'], 'Waiting for one id leaves the others to be rejected.', [pair('abc', { id: '01' }), receive(open(1, 'abc', '02')), receive(open(1, 'abc', '01'))], answered('Sequence'))
  await add('open.pair-id-before-any', ['MUX-14'], 'Of two that wait, the one with the id is asked first.', [pair('abc', { handshake: 'aa' }), pair('abc', { id: '01', handshake: 'bb' }), receive(open(1, 'abc', '01')), receive(open(2, 'abc', '02'))])
  await add('open.twenty', ['MUX-2', 'MUX-14'], 'Twenty channels in one batch, answered in order.', [pair('abc', { messages: 0 }), receive(batch(Array.from({ length: 20 }, (_, i) => open(i + 1, 'abc', (i + 1).toString(16).padStart(2, '0')))))])
  await add('open.name-like-a-key', ['MUX-14', 'MUX-21'], 'Protocol abc with id 0xaa and protocol abc##aa without one are not the same; the second is rejected.', [local('abc', { id: 'aa' }), receive(open(1, 'abc##aa'))], answered('Sequence'))
  await add('open.long-name', ['MUX-4', 'MUX-21', 'MUX-25'], 'A name of 64 KiB: Node rejects the channel, others may take it for an attack.', [receive({ concat: ['000101' + u(65536), { repeat: '6e', times: 65536 }, '00'] })], { flags: ['LongName'], outcome: 'returns', or: destroyed('mux', 'limit') })

  await add('reopen.next-or-free', ['MUX-5', 'MUX-22'], 'With 1 and 2 open and 1 closed, the remote may take 1 or 3.', [pair('abc'), receive(open(1, 'abc', '01')), receive(open(2, 'abc', '02')), receive(close(1)), receive(open(3, 'abc', '03')), receive(open(1, 'abc', '04'))])
  await add('second-open.paired', ['MUX-24'], 'A second open of what is open already is rejected; the first lives on.', [pair('abc'), receive(open(1, 'abc')), receive(open(2, 'abc')), receive(data(1, 0, 'aa')), receive(open(2, 'def'))], answered('Sequence'))
  await add('second-open.after-local', ['MUX-24'], 'The same when the local side opened first and nothing waits.', [...opened, receive(open(2, 'abc')), receive(data(1, 0, 'aa'))], answered('Sequence'))
  await add('second-open.by-alias', ['MUX-24', 'MUX-14'], 'An alias of what is open already is rejected too.', [local('new', { aliases: ['old'] }), receive(open(1, 'new')), receive(open(2, 'old')), receive(data(1, 0, 'aa'))], answered('Sequence'))
  await add('unknown-protocol', ['MUX-21'], 'An unknown protocol is rejected and the stream lives.', [receive(open(1, 'xyz', null, 'ffff'))], answered('Sequence'))
  await add('unknown-protocol.id-free-again', ['MUX-21', 'MUX-22'], 'The id of a rejected open is free again.', [pair('abc'), receive(open(1, 'xyz')), receive(open(1, 'xyz')), receive(open(1, 'abc')), receive(data(1, 0, 'aa'))], answered('Sequence'))
  await add('unknown-protocol.next-id-instead', ['MUX-5', 'MUX-21'], 'After a rejected open the next id will do as well.', [pair('abc'), receive(open(1, 'xyz')), receive(open(2, 'abc')), receive(data(2, 0, 'aa'))], answered('Sequence'))
  await add('unknown-protocol.three-in-a-batch', ['MUX-21', 'MUX-27'], 'Three unknown protocols in a batch are rejected in order.', [receive(batch([open(1, 'x'), open(2, 'y'), open(3, 'z')]))], answered('Sequence'))
  await add('unknown-protocol.not-utf-8', ['MUX-21', 'ENC-8'], 'A protocol name that is not UTF-8 is a name that is not known.', [receive('000101' + '03ff80fe' + '00'), ...opened], answered('InvalidUtf8'))
  await add('unknown-protocol.with-messages', ['MUX-21', 'MUX-16'], 'Messages that were sent along with an open that is rejected are dropped.', [receive(batch([open(1, 'xyz'), data(1, 0, 'aa'), data(1, 1, 'bb')])), receive(data(1, 0, 'cc'))], ignored('UnknownChannel'))

  await add('open-id-0', ['MUX-23'], 'An open with id 0. Node destroys the stream by a slip: it means to reject 0, and fails to write it.', [pair('abc'), receive(open(0, 'abc')), receive(open(1, 'abc'))], {
    ...fatal('invalid-open', 'InvalidOpen'),
    or: (output) => [{
      steps: [output.steps[0], { events: [], sent: [{ control: 'reject', id: 0 }] }, { events: [{ opened: { local: 1, remote: 1, handshake: null } }], sent: [{ control: 'open', id: 1, protocol: 'abc', channelId: null, handshake: '' }] }],
      alive: true,
      error: null
    }]
  })
  const odd = [
    ['skipped', open(2, 'abc'), ['MUX-5'], 'The first open has to have id 1.', 'invalid-open', 'InvalidOpen'],
    ['2-33', open(2 ** 33, 'abc'), ['MUX-5', 'MUX-25'], 'An open with id 2^33: nothing may be allocated up to an id.', 'invalid-open', 'InvalidOpen'],
    ['2-53-1', open(MAX, 'abc'), ['MUX-5', 'MUX-25'], 'An open with id 2^53-1.', 'invalid-open', 'InvalidOpen'],
    ['2-62', '0001' + u('4611686018427387904') + '0361626300', ['MUX-5', 'MUX-20', 'ENC-4', 'MUX-25'], 'An open with id 2^62.', 'unsafe-integer', 'UnsafeInteger'],
    ['2-64-1', '0001' + u('18446744073709551615') + '0361626300', ['MUX-5', 'MUX-20', 'ENC-4', 'MUX-25'], 'An open with id 2^64-1.', 'unsafe-integer', 'UnsafeInteger']
  ]
  for (const [name, record, clauses, comment, cls, flag] of odd) {
    await add(`invalid-open.${name}`, clauses, comment, [pair('abc'), receive(record), receive(data(1, 0, 'aa'))], fatal(cls, flag))
  }
  await add('invalid-open.repeated', ['MUX-5'], 'The id of an open channel cannot be opened again.', [...opened, receive(open(1, 'def')), receive(data(1, 0, 'aa'))], fatal('invalid-open', 'InvalidOpen'))
  await add('invalid-open.repeated-same', ['MUX-5', 'MUX-24'], 'Nor by the very same open.', [...opened, receive(open(1, 'abc'))], fatal('invalid-open', 'InvalidOpen'))
  await add('invalid-open.skips-one', ['MUX-5'], 'With 1 open, 3 skips 2.', [...opened, receive(open(3, 'def'))], fatal('invalid-open', 'InvalidOpen'))
  await add('invalid-open.in-batch', ['MUX-5', 'MUX-27'], 'What came before the open in its batch was delivered.', [...opened, receive(batch([data(1, 0, 'aa'), open(9, 'def'), data(1, 0, 'bb')]))], fatal('invalid-open', 'InvalidOpen'))

  group = file.group('messages', 'mux.session', 'Messages of open channels, and of channels that are not open.')
  await add('message.received', ['MUX-1'], 'Two types, with and without a body.', [...opened, receive(data(1, 0, 'aa')), receive(data(1, 1))])
  await add('message.sent', ['MUX-1'], 'Two types, with and without a body.', [...opened, send(1, 0, 'aa'), send(1, 1)])
  await add('message.sent-before-answer', ['MUX-1', 'MUX-15'], 'A sender need not wait for the answer to its open.', [local('abc'), send(1, 0, 'aa'), receive(open(1, 'abc')), send(1, 0, 'bb')])
  await add('message.high-type', ['MUX-1', 'ENC-1'], 'A type that takes three bytes, both ways.', [local('abc', { messages: 300 }), receive(open(1, 'abc')), receive(data(1, 299, 'aa')), send(1, 299, 'bb')])
  await add('message.64-kib', ['MUX-1'], 'A body of 64 KiB, both ways.', [...opened, receive({ concat: ['0100', { repeat: 'aa', times: 65536 }] }), send(1, 1, { repeat: 'bb', times: 65536 })])
  await add('message.with-open', ['MUX-15', 'MUX-27'], 'Messages in one batch with the open wait until the local side has answered, and then come in order.', [pair('abc'), receive(batch([open(1, 'abc', null, 'ff'), data(1, 0, 'aa'), data(1, 1, 'bb')])), receive(data(1, 0, 'cc'))])
  await add('message.with-answer', ['MUX-15', 'MUX-27'], 'Messages in one batch with the answer to a local open.', [local('abc'), receive(batch([open(1, 'abc'), data(1, 0, 'aa'), data(1, 1, 'bb')]))])
  await add('message.many-with-open', ['MUX-15', 'MUX-25'], 'A hundred messages before the answer are more than protomux buffers without pausing the stream; none is lost.', [pair('abc'), receive(batch([open(1, 'abc'), ...Array.from({ length: 100 }, (_, i) => data(1, i & 1, i.toString(16).padStart(2, '0')))]))])
  await add('message.unknown-type', ['MUX-17'], 'Types that the channel does not have.', [...opened, receive(data(1, 2, 'aa')), receive(data(1, 252)), receive(data(1, MAX, 'bb')), receive(data(1, 1, 'cc'))], ignored('UnknownMessage'))
  await add('message.no-types', ['MUX-17'], 'A channel without any messages.', [local('abc', { messages: 0 }), receive(open(1, 'abc')), receive(data(1, 0, 'aa'))], ignored('UnknownMessage'))
  await add('message.unknown-type-with-open', ['MUX-15', 'MUX-17'], 'An unknown type among messages that wait for the answer.', [pair('abc'), receive(batch([open(1, 'abc'), data(1, 7, 'aa'), data(1, 0, 'bb')]))], ignored('UnknownMessage'))
  for (const [name, n] of [['1', 1], ['2', 2], ['253', 253], ['2-33', 2 ** 33], ['2-53-1', MAX]]) {
    await add(`message.never-opened-${name}`, ['MUX-16', ...(n > 1000 ? ['MUX-25'] : [])], `Channel ${n} was never opened: it may be in flight.`, [receive(data(n, 0, 'aa')), ...opened, receive(data(1, 0, 'bb'))], ignored('UnknownChannel'))
  }
  await add('message.before-remote-open', ['MUX-16'], 'That the local side has opened does not make the remote\'s channel exist.', [local('abc'), receive(data(1, 0, 'aa')), receive(open(1, 'abc')), receive(data(1, 0, 'bb'))], ignored('UnknownChannel'))
  await add('message.after-remote-close', ['MUX-9', 'MUX-16'], 'Messages after the remote\'s own close.', [...opened, receive(close(1)), receive(data(1, 0, 'aa'))], ignored('UnknownChannel'))
  await add('message.after-local-close', ['MUX-16'], 'Messages that were on their way when the local side closed.', [...opened, CLOSE(1), receive(data(1, 0, 'aa')), receive(close(1)), receive(data(1, 0, 'bb'))], ignored('UnknownChannel'))
  await add('message.after-reject', ['MUX-16', 'MUX-6'], 'Messages of a channel whose local half was rejected.', [local('abc'), receive(reject(1)), receive(data(1, 0, 'aa'))], ignored('UnknownChannel'))
  for (const [name, n] of [['2-53', '9007199254740992'], ['2-62', '4611686018427387904'], ['2-64-1', '18446744073709551615']]) {
    await add(`message.channel-${name}`, ['MUX-1', 'MUX-20', 'ENC-4', 'MUX-25'], `Channel ${name.replace('2-', '2^')} is no channel but a fault.`, [...opened, receive(u(n) + '00aa')], fatal('unsafe-integer', 'UnsafeInteger'))
    await add(`message.type-${name}`, ['MUX-1', 'MUX-20', 'ENC-4'], `Type ${name.replace('2-', '2^')} is not ignored.`, [...opened, receive('01' + u(n) + 'aa')], fatal('unsafe-integer', 'UnsafeInteger'))
  }
  await add('record.empty', ['MUX-19'], 'A record of no bytes.', [receive(''), ...opened, receive(''), receive(data(1, 0, 'aa'))], ignored('EmptyRecord'))
  for (const [name, record] of [['00', '00'], ['01', '01'], ['fc', 'fc'], ['fd', 'fd'], ['ff', 'ff'], ['0100-cut', 'fd01'], ['type-cut', '01fd']]) {
    await add(`record.cut-${name}`, ['MUX-20', 'ENC-13'], `The record ${record} ends within its head.`, [...opened, receive(record), receive(data(1, 0, 'aa'))], fatal('out-of-bounds', 'Truncated'))
  }

  group = file.group('control', 'mux.session', 'Reject and close, and control messages that are cut short or have no meaning.')
  await add('reject', ['MUX-6', 'MUX-22'], 'A rejected channel is closed by the remote, and its id is free again.', [local('abc'), receive(reject(1)), local('abc'), receive(open(1, 'abc'))])
  await add('reject.one-of-two', ['MUX-6'], 'The other channel lives on.', [local('abc'), local('def'), receive(reject(1)), receive(open(1, 'def')), receive(data(1, 0, 'aa'))])
  await add('reject.after-local-close', ['MUX-6', 'MUX-22'], 'A reject that crosses a close frees the id.', [local('abc'), CLOSE(1), receive(reject(1)), local('abc'), receive(open(1, 'abc'))])
  await add('reject.trailing', ['MUX-6', 'ENC-14'], 'Bytes after a reject.', [local('abc'), receive(reject(1) + 'ffff')], answered('TrailingBytes'))
  for (const [name, n] of [['0', 0], ['2', 2], ['2-33', 2 ** 33]]) {
    await add(`reject.unknown-${name}`, ['MUX-7', ...(n > 1000 ? ['MUX-25'] : [])], `Nothing was opened with id ${n}.`, [local('abc'), receive(reject(n)), receive(open(1, 'abc'))], fatal('invalid-reject', 'InvalidReject'))
  }
  await add('reject.first-record', ['MUX-7'], 'A reject before anything was opened.', [receive(reject(1)), local('abc')], fatal('invalid-reject', 'InvalidReject'))
  await add('reject.of-open', ['MUX-7'], 'A channel that both have opened cannot be rejected.', [...opened, receive(reject(1))], fatal('invalid-reject', 'InvalidReject'))
  await add('reject.twice', ['MUX-7'], 'A second reject of the same id.', [local('abc'), receive(reject(1)), receive(reject(1))], fatal('invalid-reject', 'InvalidReject'))
  await add('reject.of-closed', ['MUX-7'], 'A reject of what was open and is closed.', [...opened, CLOSE(1), receive(close(1)), receive(reject(1))], fatal('invalid-reject', 'InvalidReject'))
  await add('reject.2-62', ['MUX-7', 'MUX-20', 'ENC-4'], 'A reject of 2^62.', [local('abc'), receive('0002' + u('4611686018427387904'))], fatal('unsafe-integer', 'UnsafeInteger'))
  await add('reject.in-batch', ['MUX-6', 'MUX-27'], 'Two rejects in a batch.', [local('abc'), local('def'), receive(batch([reject(2), reject(1)]))])

  await add('close.by-remote', ['MUX-8', 'MUX-22'], 'The remote closes; nothing is sent in answer, and both ids are free.', [...opened, receive(close(1)), local('abc'), receive(open(1, 'abc'))])
  await add('close.by-local', ['MUX-8', 'MUX-22'], 'The local side closes; both ids are free at once, for the remote will not use the channel again.', [...opened, CLOSE(1), local('def'), receive(open(1, 'def'))])
  await add('close.by-both', ['MUX-8', 'MUX-9', 'MUX-22'], 'Both close before they hear of each other.', [...opened, CLOSE(1), receive(close(1)), local('abc'), receive(open(1, 'abc')), receive(data(1, 0, 'aa'))])
  await add('close.before-answer', ['MUX-8', 'MUX-22'], 'Closed before the answer: the answer is swallowed, and only then the id is free.', [local('abc'), CLOSE(1), local('def'), receive(open(1, 'abc')), receive(close(1)), local('ghi'), receive(open(1, 'ghi'))])
  await add('close.before-answer.with-messages', ['MUX-8', 'MUX-16'], 'Messages that come along with an answer that is swallowed.', [local('abc'), CLOSE(1), receive(batch([open(1, 'abc'), data(1, 0, 'aa')]))], ignored('UnknownChannel'))
  await add('close.before-answer.opened-again', ['MUX-8', 'MUX-14', 'MUX-22'], 'Closed and opened again before any answer: the first answer belongs to the first open and is swallowed, the second pairs, under the same id or the next.', [local('abc'), CLOSE(1), local('abc'), receive(open(1, 'abc')), receive(open(1, 'abc')), receive(data(1, 0, 'aa'))])
  await add('close.before-answer.opened-again.next-id', ['MUX-5', 'MUX-8', 'MUX-14'], 'The same with the next id.', [local('abc'), CLOSE(1), local('abc'), receive(open(1, 'abc')), receive(open(2, 'abc')), receive(data(1, 0, 'ff')), receive(data(2, 0, 'aa'))], ignored('UnknownChannel'))
  await add('close.before-answer.opened-again.rejected', ['MUX-6', 'MUX-8', 'MUX-22'], 'The first open is rejected once it is closed, and the second answered.', [local('abc'), CLOSE(1), local('abc'), receive(reject(1)), receive(open(1, 'abc')), receive(data(1, 0, 'aa'))])
  await add('close.before-own-answer', ['MUX-8', 'MUX-15', 'MUX-27'], 'Open, message and close in one batch, for a local side that was waiting: Node answers the open after the batch, when the channel is closed already, and delivers nothing.', [pair('abc'), receive(batch([open(1, 'abc'), data(1, 0, 'aa'), close(1)])), receive(open(1, 'abc'))], {
    flags: ['ClosedEarly'],
    outcome: 'returns',
    or: (output) => [{
      ...output,
      steps: output.steps.map((step, i) => i === 1 ? { ...step, events: [{ opened: { local: 1, remote: 1, handshake: null } }, { message: { local: 1, type: 0, body: 'aa' } }, ...step.events] } : step)
    }]
  })
  await add('close.remote-id-is-not-local-id', ['MUX-2', 'MUX-8'], 'The id in a close is the sender\'s own.', [local('abc'), local('def'), receive(open(1, 'def')), receive(open(2, 'abc')), receive(close(1))])
  await add('close.sent-id-is-local', ['MUX-2', 'MUX-8'], 'The id in a close that is sent is the local one.', [local('abc'), local('def'), receive(open(1, 'def')), receive(open(2, 'abc')), CLOSE(2)])
  await add('close.with-open', ['MUX-8', 'MUX-27'], 'Open, message and close in one batch, where nothing was opened before.', [local('abc'), receive(batch([open(1, 'abc'), data(1, 0, 'aa'), close(1)]))])
  await add('close.reopen-by-remote', ['MUX-8', 'MUX-22', 'MUX-14'], 'What waits for a protocol answers again once it is closed.', [pair('abc', { handshake: 'f0' }), receive(open(1, 'abc', null, 'e0')), receive(close(1)), receive(open(1, 'abc', null, 'e1'))])
  await add('close.freed-last-is-taken-first', ['MUX-22'], 'With two free ids protomux takes the one freed last.', [local('abc'), local('def'), receive(open(1, 'abc')), receive(open(2, 'def')), receive(close(1)), receive(close(2)), local('ghi')], {
    flags: ['FreedTwice'],
    outcome: 'returns',
    or: (output) => [1, 3].map((id) => ({ ...output, steps: output.steps.map((step, i) => i === 6 ? { events: [], sent: [{ ...step.sent[0], id }] } : step) }))
  })
  for (const [name, n] of [['0', 0], ['1', 1], ['7', 7], ['2-33', 2 ** 33], ['2-53-1', MAX]]) {
    await add(`close.unknown-${name}`, ['MUX-9', ...(n > 1000 ? ['MUX-25'] : [])], `A close of ${n}, which is not open.`, [local('abc'), receive(close(n)), receive(open(1, 'abc')), receive(data(1, 0, 'aa'))], ignored('InvalidClose'))
  }
  await add('close.twice', ['MUX-9'], 'A second close of the same channel.', [...opened, receive(close(1)), receive(close(1)), local('abc')], ignored('InvalidClose'))
  await add('close.trailing', ['MUX-8', 'ENC-14'], 'Bytes after a close.', [...opened, receive(close(1) + 'ffff')], answered('TrailingBytes'))
  await add('close.2-62', ['MUX-9', 'MUX-20', 'ENC-4'], 'A close of 2^62 is not ignored.', [...opened, receive('0003' + u('4611686018427387904'))], fatal('unsafe-integer', 'UnsafeInteger'))
  for (const [name, type] of [['4', 4], ['9', 9], ['252', 252], ['2-33', 2 ** 33]]) {
    await add(`control.unknown-${name}`, ['MUX-18'], `Control type ${type}.`, [receive(data(0, type, 'aabb')), ...opened, receive(data(0, type)), receive(data(1, 0, 'aa'))], ignored('UnknownMessage'))
  }
  const whole = open(1, 'abc', 'a1a2')
  for (let i = 1; i < whole.length / 2; i++) {
    await add(`open.truncated-at-${i}`, ['MUX-4', 'MUX-20', 'ENC-13'], `An open that ends after ${i} of ${whole.length / 2} bytes.`, [local('abc', { id: 'a1a2' }), receive(whole.slice(0, i * 2)), receive(whole)], fatal('out-of-bounds', 'Truncated'))
  }
  for (const [name, record] of [['reject', '0002'], ['reject-wide', '0002fd01'], ['close', '0003'], ['close-wide', '0003fe010000']]) {
    await add(`control.truncated-${name}`, ['MUX-20', 'ENC-13'], 'A control message that ends within its id.', [...opened, receive(record), receive(data(1, 0, 'aa'))], fatal('out-of-bounds', 'Truncated'))
  }
  await add('open.name-too-long', ['MUX-4', 'MUX-20', 'ENC-15'], 'A name of 2^53-1 bytes.', [receive('000101' + u(MAX) + '616263')], fatal('out-of-bounds', 'HostileLength'))
  await add('open.id-too-long', ['MUX-4', 'MUX-20', 'ENC-15'], 'A channel id of 2^32 bytes.', [receive('000101' + '03616263' + u(2 ** 32) + 'a1')], fatal('out-of-bounds', 'HostileLength'))
  await add('in-9-bytes', ['MUX-4', 'MUX-8', 'ENC-3'], 'Every integer of an open, a message and a close in nine bytes.', [local('abc', { id: 'a1a2' }), receive(u(0, 9) + u(1, 9) + u(1, 9) + u(3, 9) + text('abc') + u(2, 9) + 'a1a2'), receive(u(1, 9) + u(0, 9) + 'aa'), receive(u(0, 9) + u(3, 9) + u(1, 9))], answered('NonMinimalUint'))

  group = file.group('batches', 'mux.session', 'Several messages in a record, received and sent.')
  const twoOpen = [local('abc'), local('def'), receive(open(1, 'abc')), receive(open(2, 'def'))]
  const one = data(1, 0, 'a0')
  const two = data(1, 1, 'a1')
  const other = data(2, 0, 'd0')
  await add('batch.one-channel', ['MUX-10'], 'Three messages of one channel.', [...opened, receive(batch([one, two, one]))])
  await add('batch.two-channels', ['MUX-10', 'MUX-11'], 'Messages of two channels, back and forth.', [...twoOpen, receive(batch([one, other, two, data(2, 1, 'd1')]))])
  await add('batch.unknown-channel', ['MUX-10', 'MUX-16'], 'Items of a channel that is not open are skipped.', [...opened, receive(batch([one, data(7, 0, 'ff'), two]))], ignored('UnknownChannel'))
  await add('batch.unknown-type', ['MUX-10', 'MUX-17'], 'Items of an unknown type are skipped.', [...opened, receive(batch([one, data(1, 5, 'ff'), two]))], ignored('UnknownMessage'))
  await add('batch.unknown-control', ['MUX-10', 'MUX-18', 'MUX-27'], 'Unknown control messages are skipped.', [...opened, receive(batch([one, data(0, 5, 'ff'), two]))], ignored('UnknownMessage'))
  await add('batch.no-items', ['MUX-10'], 'A channel and no items, whether it is open or not.', [...opened, receive('000001'), receive('000007'), receive(one)], ignored('Sequence'))
  await add('batch.switches-only', ['MUX-11'], 'Switches and nothing else.', [...opened, receive('000001' + '0002' + '0007'), receive(one)], ignored('Sequence'))
  await add('batch.switch-to-same', ['MUX-11'], 'A switch to the channel that it is already.', [...opened, receive('000001' + '0200a0' + '0001' + '0201a1')], answered('Sequence'))
  await add('batch.switch-first', ['MUX-11'], 'A switch before the first item.', [...opened, receive('000007' + '0001' + '0200a0')], answered('Sequence'))
  await add('batch.close-then-message', ['MUX-8', 'MUX-16', 'MUX-27'], 'A message behind the close of its channel.', [...twoOpen, receive(batch([one, close(1), two, other]))], ignored('UnknownChannel'))
  await add('batch.close-then-reopen', ['MUX-8', 'MUX-22', 'MUX-27'], 'Close and open of one id in one batch.', [pair('abc', { handshake: 'f0' }), receive(open(1, 'abc', null, 'e0')), receive(batch([close(1), open(1, 'abc', null, 'e1')])), receive(one)])
  await add('batch.item-in-item', ['MUX-12', 'MUX-13'], 'A batch that is the item of a batch.', [...twoOpen, receive(batch([one, batch([other, two]), data(2, 1, 'd1')]))], answered('DeepNesting'))
  for (const depth of [2, 4, 8]) {
    await add(`batch.nested-${depth}`, ['MUX-13'], `A message within ${depth} batches.`, [...opened, receive(nested(one, depth))], answered('DeepNesting'))
  }
  await add('batch.nested-64', ['MUX-13', 'MUX-25'], 'A message within 64 batches: Node delivers it; a peer may have had enough before that.', [...opened, receive(nested(one, 64))], { flags: ['DeepNesting'], outcome: 'returns', or: destroyed('mux', 'nesting-too-deep') })
  const deep = { flags: ['DeepNesting'], ends: ['mux', 'nesting-too-deep'] }
  const levels = nested(one, 3000)
  await add('batch.nested-3000', ['MUX-13', 'MUX-25'], 'A message within 3,000 batches, behind an open channel: deeper than any sender goes.', [...opened, receive(levels)], { ...deep, dies: levels })
  const many = { concat: ['0000', { repeat: '00fdffff00', times: 20000 }] }
  await add('batch.nested-20000', ['MUX-13', 'MUX-25'], '20,000 batches, each in an over-long item of the one before.', [receive(many)], { ...deep, dies: many })
  for (const [name, length] of [['by-one', u(3)], ['by-much', u(0xffff)], ['2-53-1', u(MAX)]]) {
    await add(`batch.over-long.${name}`, ['MUX-12'], 'An over-long item is clamped and delivered.', [...opened, receive('000001' + '0201a1' + length + '00a0')], answered('Clamped'))
  }
  await add('batch.over-long.open', ['MUX-12', 'MUX-27'], 'An over-long open is clamped too.', [local('abc', { handshake: 'f0' }), receive('000000' + '7f' + open(1, 'abc', null, 'e0').slice(2))], answered('Clamped'))
  const cutAt = [
    ['no-channel', '0000', 'A batch without a channel'],
    ['trailing-zero', '000001' + '0200a0' + '0201a1' + '00', 'A switch without a channel'],
    ['length-cut', '000001' + '0200a0' + 'fd03', 'A length that is cut short'],
    ['item-empty', '000001' + '0200a0' + '05', 'An item of which nothing is there'],
    ['type-cut', '000001' + '0200a0' + '01fd', 'An item that ends within its type'],
    ['control-cut', '000001' + '0200a0' + '0000' + '0103', 'A close without an id'],
    ['inner-cut', '000001' + '0200a0' + '0000' + '0100', 'An inner batch without a channel']
  ]
  for (const [name, record, comment] of cutAt) {
    await add(`batch.truncated.${name}`, ['MUX-10', 'MUX-20', 'ENC-13'], `${comment}${record.length > 4 ? '; what came before it was delivered' : ''}.`, [...opened, receive(record), receive(one)], fatal('out-of-bounds', 'Truncated'))
  }
  await add('batch.length-2-62', ['MUX-12', 'MUX-20', 'ENC-4'], 'An item of 2^62 bytes is not clamped.', [...opened, receive('000001' + '0200a0' + u('4611686018427387904') + '01a1')], fatal('unsafe-integer', 'UnsafeInteger'))
  await add('batch.channel-2-62', ['MUX-10', 'MUX-20', 'ENC-4', 'MUX-25'], 'A batch of channel 2^62.', [...opened, receive('0000' + u('4611686018427387904') + '0200a0')], fatal('unsafe-integer', 'UnsafeInteger'))
  await add('batch.channel-2-33', ['MUX-10', 'MUX-16', 'MUX-25'], 'A batch of channel 2^33.', [...opened, receive('0000' + u(2 ** 33) + '0200ff' + '0001' + '0200a0')], ignored('UnknownChannel'))

  await add('cork.one', ['MUX-26'], 'Nothing leaves while corked.', [...opened, CORK, send(1, 0, 'aa'), UNCORK])
  await add('cork.several', ['MUX-26'], 'Messages of two channels leave together, in order.', [...twoOpen, CORK, send(1, 0, 'a0'), send(2, 0, 'd0'), send(2, 1, 'd1'), send(1, 1, 'a1'), UNCORK, send(1, 0, 'a2')])
  await add('cork.nothing', ['MUX-26'], 'With nothing to send, nothing leaves.', [...opened, CORK, UNCORK])
  await add('cork.twice', ['MUX-26'], 'Corked twice, it takes two to uncork.', [...opened, CORK, CORK, send(1, 0, 'aa'), UNCORK, send(1, 0, 'bb'), UNCORK])
  await add('cork.control', ['MUX-26', 'MUX-27'], 'Control messages are corked as well.', [...opened, CORK, local('def'), send(2, 0, 'd0'), CLOSE(1), UNCORK])
  await add('cork.answer', ['MUX-26', 'MUX-27'], 'An answer to what the remote opens waits too.', [pair('abc'), CORK, receive(open(1, 'abc')), receive(open(2, 'xyz')), UNCORK])
  return prune(file)
}

module.exports = async function () {
  return [await records(), await sessions()]
}
