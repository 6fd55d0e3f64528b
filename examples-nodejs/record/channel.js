// Records vectors/channel: sessions of the hypercore channel, with a real core behind them.

const b4a = require('b4a')
const { VectorFile } = require('../lib/vectors')
const { load } = require('../lib/release')
const layout = require('../lib/layout')
const { NAMES } = require('../lib/core')
const { notes, prune } = require('../lib/cases')
const { session, destroyed } = require('../lib/sessions')
const { u, size, data, open, reject, close, batch } = require('../lib/records')

const { caps, crypto } = load()
const hex = (buffer) => b4a.toString(buffer, 'hex')
const KEY = b4a.alloc(32, 0x2a)
const OTHER_KEY = b4a.alloc(32, 0x2b)
const HASH = b4a.from(Array.from({ length: 64 }, (_, i) => (i * 5 + 3) & 0xff))
const OTHER_HASH = b4a.alloc(64, 0x77)
const DISCOVERY = hex(crypto.discoveryKey(KEY))
const OTHER_DISCOVERY = hex(crypto.discoveryKey(OTHER_KEY))
const MAX = Number.MAX_SAFE_INTEGER

// The capability that the remote must show to a local side in this role.
const capability = (isInitiator, key = KEY, hash = HASH) => hex(caps.replicate(!isInitiator, key, hash))
const flip = (bytes, bit) => {
  const out = b4a.from(bytes, 'hex')
  out[bit >> 3] ^= 1 << (bit & 7)
  return hex(out)
}

const FLAGS = {
  WrongCapability: 'The capability is not that of the remote for this key, role and handshake.',
  UnknownDiscoveryKey: 'An open for a core that the local side does not have.',
  UnknownMessage: 'A type of message that no release has.',
  UnknownChannel: 'A channel that was never opened, or is closed.',
  OpensAgain: 'The remote opens anew what was closed or rejected. Whether to answer is the local side\'s affair: Node\'s core does, another may reject.',
  Sequence: 'A sequence of messages that a well-behaved peer sends as well, though rarely.',
  ReadsBeyondItem: 'An array of words claims more than its item of a batch holds. Node reads on into the items that follow; a decoder that is bound to the item refuses it.',
  HugeRange: 'A range far beyond what a core can hold. It is a value like another; nothing may be allocated or looped over for it.'
}

const HASHES = ['1a', '2b', '3c'].map((b) => b.repeat(32))
const VALUES = {
  sync: { fork: 0, length: 5, remoteLength: 0, canUpgrade: true, uploading: true, downloading: true, hasManifest: true, allowPush: false },
  request: { id: 1, fork: 0, block: { index: 2, nodes: 0 }, hash: null, seek: null, upgrade: { start: 0, length: 5 }, manifest: true, priority: 0 },
  cancel: { request: 1 },
  data: { request: 1, fork: 0, block: { index: 2, value: '68656c6c6f', nodes: [{ index: 6, size: 4, hash: HASHES[0] }] }, hash: null, seek: null, upgrade: null, manifest: null },
  noData: { request: 1, reason: 1 },
  want: { start: 0, length: 2097152, any: false },
  unwant: { start: 0, length: 2097152, any: false },
  bitfield: { start: 0, bitfield: [31, 0] },
  range: { drop: false, start: 0, length: 5 },
  extension: { name: 'example', message: '0102' }
}
const CLAUSE = { sync: 'SYNC-1', request: 'REQ-1', cancel: 'CANCEL-1', data: 'DATA-1', noData: 'NODATA-1', want: 'WANT-1', unwant: 'UNWANT-1', bitfield: 'BITFIELD-1', range: 'RANGE-1', extension: 'EXT-1' }

const body = (name, value = VALUES[name]) => layout.render(layout.messages[name](value))
const message = (name, value) => data(1, NAMES.indexOf(name), body(name, value))
const raw = (name, bytes) => data(1, NAMES.indexOf(name), bytes)
const receive = (record) => ({ receive: record })

module.exports = async function () {
  const file = new VectorFile({
    layer: 'channel',
    subject: 'session',
    description: 'Sessions of the hypercore channel. The local side opens the channel for its key at once, which is the first step of the output and has no counterpart in the input. Messages are decoded; their names are as on the wire. Of what is sent only control messages stand here: what a core has to say is its own business. A session in which the stream is destroyed is invalid; what came before the fault stands in its output, and later steps are empty.',
    script: 'channel',
    packages: ['hypercore', 'hypercore10', 'protomux', 'compact-encoding'],
    notes: notes(['Truncated', 'TrailingBytes', 'NonMinimalUint', 'UnsafeInteger', 'HostileCount', 'HostileLength', 'UnknownFlag', 'UnknownVersion', 'OlderForm', 'OptionalTail'], FLAGS)
  })

  let group
  const add = (slug, clauses, comment, steps, { isInitiator = true, key = KEY, hash = HASH, ...more } = {}) => session(group, slug, {
    clauses, comment, input: { isInitiator, handshakeHash: hex(hash), key: hex(key), steps: steps.map(receive) }, ...more
  })
  const ignored = (...flags) => ({ flags, outcome: 'ignores' })
  const answered = (...flags) => ({ flags, outcome: 'returns' })
  const fatal = (layer, cls, ...flags) => ({ flags, ends: [layer, cls] })

  const opens = (isInitiator = true, { id = 1, flags = '01', key = KEY } = {}) =>
    open(id, 'hypercore/alpha', hex(crypto.discoveryKey(key)), flags + capability(isInitiator, key))
  const answer = opens()

  group = file.group('open', 'channel.session', 'The opens of both sides, and the capability in them.')
  for (const isInitiator of [true, false]) {
    const role = isInitiator ? 'initiator' : 'responder'
    const remote = isInitiator ? 'responder' : 'initiator'
    const more = { isInitiator }
    await add(`${role}.opened`, ['CHAN-1', 'CHAN-2', 'CHAN-7', 'KEY-3', 'KEY-6', 'KEY-7', 'KEY-8', 'FLOW-1'], `The local side is the ${role} and shows its capability; the remote shows that of the ${remote}.`, [opens(isInitiator)], more)
    await add(`${role}.reflected`, ['CHAN-3', 'KEY-8'], `The remote sends the capability of the ${role} back, which is of the wrong role.`, [open(1, 'hypercore/alpha', DISCOVERY, '01' + capability(!isInitiator)), answer], { ...more, ...fatal('channel', 'invalid-capability', 'WrongCapability') })
    await add(`${role}.no-seeks`, ['CHAN-2', 'CHAN-7'], 'The remote cannot seek, as releases before 10.29.1.', [opens(isInitiator, { flags: '00' })], { ...more, ...answered('OlderForm') })
    await add(`${role}.alias`, ['CHAN-1', 'CHAN-7'], 'The remote opens the channel by its alias, hypercore.', [open(1, 'hypercore', DISCOVERY, '01' + capability(isInitiator))], { ...more, ...answered('OlderForm') })
    await add(`${role}.other-key`, ['CHAN-1', 'CHAN-7', 'KEY-3', 'KEY-7'], 'Another key has another discovery key and another capability.', [opens(isInitiator, { key: OTHER_KEY })], { ...more, key: OTHER_KEY })
    await add(`${role}.other-handshake`, ['CHAN-2', 'CHAN-7', 'KEY-7'], 'Another handshake hash has another capability.', [open(1, 'hypercore/alpha', DISCOVERY, '01' + capability(isInitiator, KEY, OTHER_HASH))], { ...more, hash: OTHER_HASH })
    await add(`${role}.never-answered`, ['CHAN-1', 'CHAN-2'], 'Nothing comes.', [], more)
  }
  for (const bit of [0, 7, 100, 255]) {
    await add(`capability.bit-${bit}`, ['CHAN-3', 'KEY-7'], `Bit ${bit} of the capability is wrong.`, [open(1, 'hypercore/alpha', DISCOVERY, '01' + flip(capability(true), bit)), answer], fatal('channel', 'invalid-capability', 'WrongCapability'))
  }
  await add('capability.of-other-key', ['CHAN-3', 'KEY-7'], 'The capability of another key, under the discovery key of this one: the remote does not know the key.', [open(1, 'hypercore/alpha', DISCOVERY, '01' + capability(true, OTHER_KEY))], fatal('channel', 'invalid-capability', 'WrongCapability'))
  await add('capability.of-other-handshake', ['CHAN-3', 'KEY-7'], 'A capability from another connection: it cannot be replayed.', [open(1, 'hypercore/alpha', DISCOVERY, '01' + capability(true, KEY, OTHER_HASH))], fatal('channel', 'invalid-capability', 'WrongCapability'))
  await add('capability.zeros', ['CHAN-3'], 'A capability of zeros.', [open(1, 'hypercore/alpha', DISCOVERY, '01' + '00'.repeat(32))], fatal('channel', 'invalid-capability', 'WrongCapability'))
  await add('capability.is-the-key', ['CHAN-3'], 'The key itself.', [open(1, 'hypercore/alpha', DISCOVERY, '01' + hex(KEY))], fatal('channel', 'invalid-capability', 'WrongCapability'))
  await add('capability.wrong-with-messages', ['CHAN-3'], 'Messages in one batch with a wrong capability are not delivered.', [batch([open(1, 'hypercore/alpha', DISCOVERY, '01' + '00'.repeat(32)), message('sync'), message('range')])], fatal('channel', 'invalid-capability', 'WrongCapability'))
  await add('capability.wrong-by-alias', ['CHAN-1', 'CHAN-3'], 'The alias needs the capability as well.', [open(1, 'hypercore', DISCOVERY, '01' + '00'.repeat(32))], fatal('channel', 'invalid-capability', 'WrongCapability'))
  const shake = '01' + capability(true)
  for (let i = 0; i < 33; i++) {
    await add(`handshake.truncated-at-${i}`, ['CHAN-2', 'CHAN-5', 'ENC-13'], i === 0 ? 'No handshake at all.' : `A handshake of ${i} of 33 bytes.`, [open(1, 'hypercore/alpha', DISCOVERY, shake.slice(0, i * 2)), answer], fatal('channel', 'out-of-bounds', 'Truncated'))
  }
  await add('handshake.truncated-by-item', ['CHAN-5', 'MUX-27'], 'In a batch the handshake ends with its item, whatever follows.', [batch([open(1, 'hypercore/alpha', DISCOVERY, shake.slice(0, 40)), message('sync')])], fatal('channel', 'out-of-bounds', 'Truncated'))
  for (const [name, n] of [['2-53', '9007199254740992'], ['2-64-1', '18446744073709551615']]) {
    await add(`handshake.flags-${name}`, ['CHAN-2', 'CHAN-5', 'ENC-4'], `Flags of ${name.replace('2-', '2^')}.`, [open(1, 'hypercore/alpha', DISCOVERY, u(n) + capability(true))], fatal('channel', 'unsafe-integer', 'UnsafeInteger'))
  }
  await add('handshake.trailing', ['CHAN-2', 'MSG-2', 'ENC-14'], 'Bytes after the capability are left unread.', [open(1, 'hypercore/alpha', DISCOVERY, shake + 'ffff')], answered('TrailingBytes'))
  for (const bit of [1, 2, 7, 31, 32, 52]) {
    await add(`handshake.unknown-flag-${bit}`, ['CHAN-4'], `Bit ${bit} of the flags is set, which means nothing.`, [open(1, 'hypercore/alpha', DISCOVERY, u((1n | (1n << BigInt(bit))).toString()) + capability(true))], answered('UnknownFlag'))
  }
  for (const width of [3, 5, 9]) {
    await add(`handshake.flags-in-${width}-bytes`, ['CHAN-2', 'ENC-3'], `The flags in ${width} bytes.`, [open(1, 'hypercore/alpha', DISCOVERY, u(1, width) + capability(true))], answered('NonMinimalUint'))
  }
  await add('unknown-discovery-key', ['CHAN-1', 'MUX-21', 'FLOW-7'], 'An open for another core is rejected, and the channel for this one opens all the same.', [open(1, 'hypercore/alpha', OTHER_DISCOVERY, '01' + capability(true, OTHER_KEY)), answer, message('sync')], answered('UnknownDiscoveryKey'))
  await add('unknown-discovery-key.any-handshake', ['MUX-21', 'FLOW-7'], 'The handshake of a channel that is rejected is not read.', [open(1, 'hypercore/alpha', OTHER_DISCOVERY), answer], answered('UnknownDiscoveryKey'))
  await add('no-discovery-key', ['CHAN-1', 'MUX-21'], 'An open of the protocol without an id.', [open(1, 'hypercore/alpha', null, shake), answer], answered('UnknownDiscoveryKey'))
  await add('short-discovery-key', ['CHAN-1', 'MUX-21'], 'An id of 31 bytes.', [open(1, 'hypercore/alpha', DISCOVERY.slice(2), shake), answer], answered('UnknownDiscoveryKey'))
  await add('key-in-place-of-discovery-key', ['CHAN-1', 'MUX-21'], 'The key itself is not the id.', [open(1, 'hypercore/alpha', hex(KEY), shake), answer], answered('UnknownDiscoveryKey'))
  await add('other-protocol', ['CHAN-1', 'MUX-21'], 'Another protocol with this discovery key.', [open(1, 'hypercore/beta', DISCOVERY, shake), open(1, 'Hypercore/alpha', DISCOVERY, shake), answer], answered('UnknownDiscoveryKey'))
  await add('second-channel-id', ['CHAN-1', 'MUX-2', 'MUX-21'], 'The remote\'s first channel is for something else: the ids of the two sides differ.', [batch([open(1, 'hypercore/alpha', OTHER_DISCOVERY), opens(true, { id: 2 })]), data(2, 0, body('sync')), data(1, 0, body('sync'))], answered('UnknownDiscoveryKey'))
  await add('opened-twice', ['CHAN-7', 'MUX-24'], 'A second open of what is open is rejected, and the first lives on.', [answer, opens(true, { id: 2 }), message('sync')], answered('Sequence'))
  await add('opened-again-by-alias', ['CHAN-1', 'MUX-24', 'MUX-14'], 'So is a second open by the alias.', [answer, open(2, 'hypercore', DISCOVERY, shake), message('sync')], answered('Sequence'))
  await add('rejected', ['CHAN-7', 'MUX-6', 'FLOW-7'], 'The remote does not have the core.', [reject(1)])
  // From this step on: the open is rejected, and later messages are ignored.
  const rejecting = (from) => (output) => [{
    steps: output.steps.map((step, i) => i < from ? step : { events: [], sent: i === from ? [{ control: 'reject', id: 1 }] : [] }),
    alive: true,
    error: null
  }]
  const again = (from) => ({ flags: ['OpensAgain'], outcome: 'returns', or: rejecting(from) })
  await add('rejected-then-opened', ['CHAN-7', 'MUX-6', 'MUX-14'], 'The remote gets the core later and opens the channel itself; the local side answers.', [reject(1), answer, message('sync')], again(2))
  await add('rejected-then-opened-wrongly', ['CHAN-3', 'MUX-14'], 'That the local side answers does not spare the remote its capability.', [reject(1), open(1, 'hypercore/alpha', DISCOVERY, '01' + '00'.repeat(32))], { ...fatal('channel', 'invalid-capability', 'WrongCapability', 'OpensAgain'), or: rejecting(2) })
  await add('closed', ['CHAN-7', 'MUX-8'], 'The remote closes the channel.', [answer, message('sync'), close(1), message('range')], ignored('UnknownChannel'))
  await add('closed-then-opened', ['CHAN-7', 'MUX-8', 'MUX-22'], 'The remote closes the channel and opens it again; the local side answers.', [answer, close(1), answer, message('sync')], again(3))

  group = file.group('messages', 'channel.session', 'Messages of an open channel.')
  for (const name of NAMES) {
    await add(`message.${name === 'noData' ? 'no-data' : name}`, ['CHAN-6', CLAUSE[name]], `Type ${NAMES.indexOf(name)} is ${name}.`, [answer, message(name)])
  }
  await add('message.to-responder', ['CHAN-6', 'SYNC-1', 'RANGE-1', 'FLOW-1', 'FLOW-2'], 'Sync and range in the batch that follows the open.', [opens(false), batch([message('sync'), message('range')])], { isInitiator: false })
  await add('message.all-in-a-batch', ['CHAN-6', 'MUX-10', ...Object.values(CLAUSE)], 'One of each in one batch.', [answer, batch(NAMES.map((name) => message(name)))])
  await add('message.with-open', ['CHAN-7', 'MUX-15', 'SYNC-1', 'RANGE-1'], 'Open, sync and range in one batch.', [batch([answer, message('sync'), message('range')])])
  await add('message.before-open', ['CHAN-7', 'MUX-16'], 'What comes before the remote\'s open belongs to no channel.', [message('sync'), answer, message('range')], ignored('UnknownChannel'))
  await add('message.unsolicited', ['CHAN-6', 'DATA-1', 'NODATA-1', 'CANCEL-1', 'UNWANT-1'], 'Answers to nothing that was asked for are messages like others on the wire.', [answer, message('data'), message('noData'), message('cancel'), message('unwant')])
  await add('message.same-request-twice', ['CHAN-6', 'REQ-1', 'FLOW-3'], 'One id of a request twice.', [answer, message('request'), message('request')])
  await add('message.request-of-nothing', ['REQ-1', 'CHAN-6'], 'A request without a part.', [answer, message('request', { ...VALUES.request, block: null, upgrade: null, manifest: false })])
  for (const [name, type] of [['10', 10], ['11', 11], ['252', 252], ['253', 253], ['2-33', 2 ** 33], ['2-53-1', MAX]]) {
    await add(`unknown-type-${name}`, ['CHAN-6', 'MUX-17'], `Type ${type} has no meaning.`, [answer, data(1, type, 'ffff'), message('sync')], ignored('UnknownMessage'))
  }
  await add('unknown-type-in-batch', ['CHAN-6', 'MUX-17', 'MUX-10'], 'An unknown type between two known ones.', [answer, batch([message('sync'), data(1, 10, 'ff'), message('range')])], ignored('UnknownMessage'))

  for (const name of NAMES) {
    const whole = body(name)
    const flat = name === 'noData' ? 'no-data' : name
    // Neither where a noData may end, nor within the message of an extension.
    const at = [...new Set([0, 1, whole.length >> 2, whole.length / 2 - 1])].filter((n) => n < whole.length / 2)
    for (const length of at) {
      if ((name === 'extension' && length > 7) || (name === 'noData' && length === 1)) continue
      await add(`${flat}.truncated-at-${length}`, ['CHAN-6', CLAUSE[name], 'MSG-1', 'ENC-13'], `A ${name} of ${length} of ${whole.length / 2} bytes; nothing after it is delivered.`, [answer, raw(name, whole.slice(0, length * 2)), message('sync')], fatal('message', 'out-of-bounds', 'Truncated'))
    }
    if (name !== 'extension') {
      const tail = ['want', 'unwant'].includes(name) ? '00ffff' : 'ffff'
      await add(`${flat}.trailing`, ['CHAN-6', CLAUSE[name], 'MSG-2', 'ENC-14'], `Bytes after a ${name}.`, [answer, raw(name, whole + tail), message('sync')], answered('TrailingBytes'))
    }
  }
  await add('batch.truncated', ['MSG-1', 'MUX-10', 'ENC-13'], 'The second of three items is truncated: the first was delivered.', [answer, batch([message('sync'), raw('range', '0000'), message('cancel')]), message('sync')], fatal('message', 'out-of-bounds', 'Truncated'))
  await add('batch.truncated-by-item', ['MSG-1', 'MUX-10', 'ENC-13'], 'A message does not reach into the next item.', [answer, batch([raw('sync', '0700'), message('cancel')])], fatal('message', 'out-of-bounds', 'Truncated'))
  await add('batch.no-data-of-10-0', ['NODATA-1', 'NODATA-2', 'MUX-10'], 'An item ends a noData without flags, though more items follow.', [answer, batch([raw('noData', '01'), raw('noData', '02'), message('range')])], answered('OlderForm', 'OptionalTail'))
  await add('batch.want-without-flags', ['WANT-1', 'WANT-2', 'MUX-10'], 'An item ends a want without flags, though more items follow.', [answer, batch([message('want'), message('unwant'), message('range')])])
  await add('batch.extension', ['EXT-1', 'ENC-10', 'MUX-10'], 'An item ends the message of an extension.', [answer, batch([message('extension'), message('extension', { name: 'other', message: '' }), message('range')])])
  const beyond = batch([raw('bitfield', '0002' + '01000000'), raw('extension', '0161' + '00'.repeat(8))])
  await add('batch.bitfield-beyond-item', ['BITFIELD-1', 'ENC-12', 'MSG-1'], 'A bitfield of two words in an item that holds one: Node takes the bytes of the next item for the second.', [answer, beyond], { flags: ['ReadsBeyondItem'], outcome: 'returns', or: destroyed('message', 'out-of-bounds') })

  group = file.group('hostile', 'channel.session', 'Messages that claim what they do not have, and values that must not be believed.')
  const node = '0004' + HASHES[0]
  const claims = [
    ['data.block-nodes', 'data', '0101000001ff', 'block nodes', 'DATA-2'],
    ['data.hash-nodes', 'data', '02010000', 'hash nodes', 'DATA-3'],
    ['data.seek-nodes', 'data', '04010000', 'seek nodes', 'DATA-4'],
    ['data.upgrade-nodes', 'data', '0801000005', 'upgrade nodes', 'DATA-5'],
    ['data.additional-nodes', 'data', '080100000501' + node, 'additional nodes', 'DATA-5'],
    ['data.manifest-signers', 'data', '10010001000001', 'signers', 'DATA-6']
  ]
  for (const [slug, name, head, what, clause] of claims) {
    for (const [count, n, cls] of [['one', 1, 'out-of-bounds'], ['most', 0x100000, 'out-of-bounds'], ['one-too-many', 0x100001, 'array-too-big'], ['2-32', 2 ** 32, 'array-too-big'], ['2-60', '1152921504606846976', 'unsafe-integer']]) {
      await add(`${slug}.${count}`, ['MSG-1', 'ENC-11', 'ENC-15', clause], `${what[0].toUpperCase()}${what.slice(1)}: ${count === 'one' ? 'one is' : `${count === '2-60' ? '2^60' : n} are`} claimed, none follows.`, [answer, raw(name, head + u(n)), message('sync')], fatal('message', cls, 'HostileCount'))
    }
  }
  for (const [slug, name, head, clause, what] of [['data.block-value', 'data', '01010000', 'DATA-2', 'A block'], ['data.signature', 'data', '08010000050000', 'DATA-5', 'A signature'], ['extension.name', 'extension', '', 'EXT-1', 'A name']]) {
    for (const [length, n, cls] of [['one', 1, 'out-of-bounds'], ['2-32', 2 ** 32, 'out-of-bounds'], ['2-53-1', MAX, 'out-of-bounds'], ['2-62', '4611686018427387904', 'unsafe-integer']]) {
      await add(`${slug}.${length}`, ['MSG-1', 'ENC-13', 'ENC-15', clause], `${what} of ${length === 'one' ? 'one byte' : `${length.replace('2-', '2^')} bytes`}, of which none follow.`, [answer, raw(name, head + u(n)), message('sync')], fatal('message', cls, 'HostileLength'))
    }
  }
  for (const [count, n, cls] of [['one', 1, 'out-of-bounds'], ['2-30', 2 ** 30, 'out-of-bounds'], ['2-32', 2 ** 32, 'out-of-bounds'], ['2-53-1', MAX, 'out-of-bounds'], ['2-62', '4611686018427387904', 'unsafe-integer']]) {
    await add(`bitfield.words.${count}`, ['MSG-1', 'ENC-12', 'ENC-15', 'BITFIELD-1'], `${count === 'one' ? 'One word' : `${count.replace(/^2-/, '2^')} words`}, of which none follow.`, [answer, raw('bitfield', '00' + u(n)), message('sync')], fatal('message', cls, 'HostileCount'))
  }
  await add('range.2-40', ['RANGE-1'], 'A range of 2^40 blocks. 10.0.0 hangs on it.', [answer, message('range', { drop: false, start: 0, length: 2 ** 40 }), message('sync')], answered('HugeRange'))
  await add('range.2-53-1', ['RANGE-1'], 'A range that ends beyond 2^53-1.', [answer, message('range', { drop: false, start: MAX, length: MAX }), message('sync')], answered('HugeRange'))
  await add('range.drop-2-40', ['RANGE-1', 'RANGE-3'], 'A drop of 2^40 blocks.', [answer, message('range', { drop: true, start: 0, length: 2 ** 40 }), message('sync')], answered('HugeRange'))
  await add('want.2-40', ['WANT-1'], 'A want of 2^40 blocks.', [answer, message('want', { start: 0, length: 2 ** 40, any: false }), message('sync')], answered('HugeRange'))
  await add('sync.2-53-1', ['SYNC-1'], 'A core of 2^53-1 blocks.', [answer, message('sync', { ...VALUES.sync, length: MAX }), message('range')], answered('HugeRange'))
  await add('bitfield.start-2-53-1', ['BITFIELD-1'], 'A bitfield that starts at 2^53-1.', [answer, message('bitfield', { start: MAX, bitfield: [1] }), message('sync')], answered('HugeRange'))
  for (const [name, head, tail] of [['sync', '07', '0500'], ['request', '00', '00'], ['cancel', '', ''], ['data', '00', '00'], ['noData', '', '00'], ['want', '', '01'], ['unwant', '', '01'], ['bitfield', '', '00'], ['range', '00', '01']]) {
    const flat = name === 'noData' ? 'no-data' : name
    await add(`${flat}.2-53`, ['MSG-1', 'ENC-4', CLAUSE[name]], `The first integer of a ${name} is 2^53.`, [answer, raw(name, head + u('9007199254740992') + tail), message('range')], fatal('message', 'unsafe-integer', 'UnsafeInteger'))
    await add(`${flat}.in-9-bytes`, ['ENC-3', CLAUSE[name]], `The first integer of a ${name} is 1, in nine bytes.`, [answer, raw(name, head + u(1, 9) + tail), message('range')], answered('NonMinimalUint'))
  }
  for (const [name, bytes, clause] of [['sync', 'a0000500', 'SYNC-2'], ['request', 'c00100', 'REQ-1'], ['data', 'e00100', 'DATA-1'], ['noData', '01fc', 'NODATA-2'], ['want', '0001fc', 'WANT-2'], ['unwant', '0001fc', 'WANT-2'], ['range', 'fc0001', 'RANGE-1']]) {
    await add(`${name === 'noData' ? 'no-data' : name}.unknown-flags`, ['MSG-3', clause, CLAUSE[name]].filter((x, i, all) => all.indexOf(x) === i), `All the flags of a ${name} that mean nothing.`, [answer, raw(name, bytes), message('cancel')], answered('UnknownFlag'))
  }
  await add('data.manifest-4', ['MSG-1', 'DATA-6', 'MAN-9'], 'A manifest of version 4.', [answer, raw('data', '10010004000001')], fatal('message', 'unknown-version', 'UnknownVersion'))
  await add('data.block-of-64-kib', ['DATA-2'], 'A block of 64 KiB.', [answer, { concat: ['0103', '01010000', u(65536), { repeat: 'a5', times: 65536 }, '00'] }])
  await add('extension.64-kib', ['EXT-1'], 'A message of an extension of 64 KiB.', [answer, { concat: ['0109', size('6162') + '6162', { repeat: '5a', times: 65536 }] }])
  return [prune(file)]
}
