// Records vectors/noise: the curve, and handshakes of every pattern from both sides.

const Noise = require('noise-handshake')
const curve = require('noise-curve-ed')
const { VectorFile, run } = require('../lib/vectors')
const { seed, keyPair } = require('../lib/deterministic')
const points = require('../lib/points')

const PACKAGES = ['noise-handshake', 'noise-curve-ed', 'sodium-universal']
const NOTES = {
  SmallOrderPoint: 'The point has an order of 1, 2, 4 or 8, so the result would not depend on the secret.',
  NonCanonicalPoint: 'The encoding is not the one an encoder writes: y is not below p, or there is a sign bit where x is 0.',
  OffSubgroupPoint: 'The point is on the curve but outside the subgroup of prime order.',
  NotOnCurve: 'No point has this y coordinate.',
  WrongSize: 'The key is not of 32 bytes.',
  Truncated: 'The message ends before its last part does.',
  FlippedBit: 'One bit of the message was changed.',
  TrailingBytes: 'The message is followed by more bytes.',
  WrongKey: 'The two sides do not mean the same static key.',
  WrongPsk: 'The two sides do not share the pre-shared key.',
  WrongPrologue: 'The two sides do not share the prologue.',
  WrongPattern: 'The two sides do not speak the same pattern.',
  WrongOrder: 'A message comes when none is due, or not the one that is due.',
  Payload: 'The message carries a payload; a stream sends none, and takes one.',
  LongMessage: 'The message is longer than the 65,535 bytes that the Noise specification allows; Node checks only single fields.'
}
const PATTERNS = {
  XX: { clause: 'NOISE-8', messages: ['i', 'r', 'i'], statics: true },
  IK: { clause: 'NOISE-9', messages: ['i', 'r'], statics: true, known: true },
  XK: { clause: 'NOISE-10', messages: ['i', 'r', 'i'], statics: true, known: true },
  NN: { clause: 'NOISE-11', messages: ['i', 'r'], statics: false },
  XXpsk0: { clause: 'NOISE-8', messages: ['i', 'r', 'i'], statics: true, psk: true },
  NNpsk0: { clause: 'NOISE-11', messages: ['i', 'r'], statics: false, psk: true }
}

const hex = (b) => b.toString('hex')
const s = (n) => hex(seed(n))
const PROLOGUE = hex(Buffer.from('hypercore conformance prologue'))
const PAYLOADS = ['first', 'second one', 'the third payload'].map((t) => hex(Buffer.from(t)))
const PSK = s(0x77)
const SEEDS = { i: { static: s(0x11), ephemeral: s(0x12) }, r: { static: s(0x21), ephemeral: s(0x22) } }
const publicKey = (seedHex) => hex(keyPair(Buffer.from(seedHex, 'hex')).publicKey)

// The op's input for one role, without its steps.
function side (pattern, role, { prologue = '', psk, remote } = {}) {
  const p = PATTERNS[pattern]
  return {
    pattern,
    isInitiator: role === 'i',
    staticSeed: p.statics ? SEEDS[role].static : null,
    ephemeralSeed: SEEDS[role].ephemeral,
    remotePublicKey: p.known && role === 'i' ? (remote || publicKey(SEEDS.r.static)) : null,
    psk: p.psk ? (psk || PSK) : null,
    prologue
  }
}

// Plays a whole handshake and returns each role's steps and the messages.
async function play (pattern, { prologue = '', payloads = [] } = {}) {
  const steps = { i: [], r: [] }
  const messages = []
  for (const [n, sender] of PATTERNS[pattern].messages.entries()) {
    const receiver = sender === 'i' ? 'r' : 'i'
    steps[sender].push({ write: payloads[n] || '' })
    const { output, error } = await run('noise.handshake', { ...side(pattern, sender, { prologue }), steps: steps[sender] })
    if (error) throw error
    const message = output.steps.at(-1).message
    messages.push(message)
    steps[receiver].push({ read: message })
  }
  return { steps, messages }
}

const ROLE = { i: 'initiator', r: 'responder' }
const clauses = (pattern, ...more) => [PATTERNS[pattern].clause, ...(PATTERNS[pattern].psk ? ['NOISE-12'] : []), ...more]

async function dh () {
  const file = new VectorFile({
    layer: 'noise',
    subject: 'curve',
    description: 'Diffie-Hellman over Ed25519 points, as libsodium computes it and with all that it refuses.',
    script: 'noise',
    packages: PACKAGES,
    notes: pick(['SmallOrderPoint', 'NonCanonicalPoint', 'OffSubgroupPoint', 'NotOnCurve', 'WrongSize'])
  })
  const keys = file.group('public-key', 'noise.publicKey', 'The public key of a seed: the clamped first half of its SHA-512 times the base point.')
  for (const n of [0x00, 0x01, 0x11, 0x21, 0x80, 0xff]) await keys.valid(`public-key.${s(n).slice(0, 2)}`, { clauses: ['NOISE-2', 'NOISE-3', 'KEY-4'], comment: `Seed of 32 bytes ${s(n).slice(0, 2)}.`, input: { seed: s(n) } })

  const group = file.group('dh', 'noise.dh', 'The shared secret of a point and the secret scalar of a seed.')
  const remote = publicKey(s(3))
  for (const [a, b] of [[1, 2], [2, 1], [0x00, 0xff], [0xff, 0x00], [0x11, 0x21], [0x21, 0x11], [5, 5]]) {
    await group.valid(`dh.valid.${s(a).slice(0, 2)}-${s(b).slice(0, 2)}`, { clauses: ['NOISE-2', 'NOISE-3'], comment: `Seed ${s(a).slice(0, 2)}… with the key of seed ${s(b).slice(0, 2)}…; the other way round gives the same.`, input: { publicKey: publicKey(s(b)), seed: s(a) } })
  }
  await group.valid('dh.valid.base-point', { clauses: ['NOISE-2', 'NOISE-3'], comment: 'The base point itself: the result is the own public key.', input: { publicKey: '58' + '66'.repeat(31), seed: s(1) } })
  const negative = Buffer.from(remote, 'hex')
  negative[31] ^= 0x80
  await group.valid('dh.valid.negated', { clauses: ['NOISE-2'], comment: 'The key of seed 03… with its sign flipped is a point like any other.', input: { publicKey: hex(negative), seed: s(1) } })

  const bad = (slug, point, clause, comment, flags, cls = 'bad-point') => group.invalid(`dh.${slug}`, { clauses: [clause].flat(), comment, flags, input: { publicKey: point, seed: s(1) }, layer: 'noise', class: cls })
  for (const p of points.smallOrder) {
    if (p.order === 1) await bad('small-order.identity', p.point, ['NOISE-5', 'NOISE-7'], 'The identity.', ['SmallOrderPoint'])
    else if (/^0+$/.test(p.point)) await bad('small-order.zero', p.point, ['NOISE-5', 'NOISE-7'], 'All zero: y = 0, a point of order 4.', ['SmallOrderPoint'])
    else await bad(`small-order.${p.slug}`, p.point, 'NOISE-5', `A point of order ${p.order}.`, ['SmallOrderPoint'])
  }
  for (const p of points.nonCanonicalSmallOrder) await bad(`non-canonical.${p.slug}`, p.point, 'NOISE-4', `${cap(p.what)}.`, ['NonCanonicalPoint', 'SmallOrderPoint'])
  for (const p of points.nonCanonical) await bad(`non-canonical.${p.slug}`, p.point, 'NOISE-4', `${cap(p.what)}; no such point lies in the subgroup of prime order either.`, ['NonCanonicalPoint', 'OffSubgroupPoint'])
  for (const p of points.nonCanonical.filter((_, i) => i % 3 === 0)) await bad(`off-subgroup.y-${p.slug.slice(7)}`, p.canonical, 'NOISE-6', `The canonical encoding of y = ${p.slug.slice(7).replace('-signed', ' with the sign bit')}, outside the subgroup.`, ['OffSubgroupPoint'])
  for (const p of points.smallOrder.filter((p) => p.order !== 1)) await bad(`off-subgroup.plus-order-${p.order}-${p.multiple}`, points.add(remote, p.point), 'NOISE-6', `A public key plus a point of order ${p.order}.`, ['OffSubgroupPoint'])
  for (const p of points.notOnCurve.slice(0, 6)) await bad(`not-on-curve.${p.slug}`, p.point, 'NOISE-2', `No point has ${p.what}.`, ['NotOnCurve'])
  await bad('not-on-curve.ones', 'ff'.repeat(32), 'NOISE-4', 'All bits set: y = p+18 with the sign bit.', ['NonCanonicalPoint'])
  for (const n of [0, 31, 33]) await bad(`size-${n}`, remote.repeat(2).slice(0, n * 2), 'NOISE-2', `A key of ${n} bytes.`, ['WrongSize'], 'bad-length')
  return file
}

async function handshakes () {
  const file = new VectorFile({
    layer: 'noise',
    subject: 'handshake',
    description: 'Whole handshakes: every pattern, from each side, with and without a prologue and payloads.',
    script: 'noise',
    packages: PACKAGES,
    notes: pick(['Payload'])
  })
  const variants = [
    ['plain', {}, [], 'No prologue and empty payloads, as streams do it.'],
    ['prologue', { prologue: PROLOGUE }, ['NOISE-13'], 'With a prologue.'],
    ['payloads', { payloads: PAYLOADS }, ['NOISE-14'], 'With a payload on each message.'],
    ['prologue-payloads', { prologue: PROLOGUE, payloads: PAYLOADS }, ['NOISE-13', 'NOISE-14'], 'With a prologue and a payload on each message.']
  ]
  for (const pattern of Object.keys(PATTERNS)) {
    const group = file.group(pattern.toLowerCase(), 'noise.handshake', `Noise_${pattern}_Ed25519_ChaChaPoly_BLAKE2b.`)
    for (const [slug, opts, extra, comment] of variants) {
      const { steps } = await play(pattern, opts)
      for (const role of ['i', 'r']) {
        const more = [...extra, 'NOISE-1', 'NOISE-15', 'NOISE-16', ...(PATTERNS[pattern].statics ? ['NOISE-19'] : []), ...(slug === 'plain' ? ['NOISE-18'] : [])]
        await group.valid(`${pattern.toLowerCase()}.${slug}.${ROLE[role]}`, {
          clauses: clauses(pattern, ...more), comment: `${comment} The ${ROLE[role]}'s side.`, flags: opts.payloads ? ['Payload'] : [], input: { ...side(pattern, role, opts), steps: steps[role] }
        })
      }
    }
    // Half-way: nothing is split yet, so there are no keys.
    const { steps } = await play(pattern)
    await group.valid(`${pattern.toLowerCase()}.incomplete.initiator`, {
      clauses: clauses(pattern, 'NOISE-18'), comment: 'After the first message nothing is complete and no key is there.', input: { ...side(pattern, 'i'), steps: steps.i.slice(0, 1) }
    })
  }
  return file
}

// The receiver of message n and its steps up to reading `message` in its place.
function receiving (pattern, steps, n, message) {
  const role = PATTERNS[pattern].messages[n] === 'i' ? 'r' : 'i'
  const before = steps[role].slice(0, n)
  return { role, steps: [...before, { read: message }] }
}

async function refusals () {
  const file = new VectorFile({
    layer: 'noise',
    subject: 'refusal',
    description: 'Handshakes that fail: messages cut, changed, out of place, or made with a bad point or another key.',
    script: 'noise',
    packages: PACKAGES,
    notes: pick(['SmallOrderPoint', 'OffSubgroupPoint', 'Truncated', 'FlippedBit', 'TrailingBytes', 'WrongKey', 'WrongPsk', 'WrongPrologue', 'WrongPattern', 'WrongOrder', 'Payload', 'LongMessage'])
  })

  const cut = file.group('truncated', 'noise.handshake', 'Messages cut short.')
  for (const pattern of Object.keys(PATTERNS)) {
    const { steps, messages } = await play(pattern)
    for (const [n, message] of messages.entries()) {
      const size = message.length / 2
      const lengths = pattern === 'XX' ? [...Array(size).keys()] : [...new Set([0, 1, 31, 32, 47, 48, 79, size - 1])].filter((x) => x < size).sort((a, b) => a - b)
      for (const length of lengths) {
        const at = receiving(pattern, steps, n, message.slice(0, length * 2))
        await cut.invalid(`truncated.${pattern.toLowerCase()}.message-${n + 1}.at-${length}`, {
          clauses: clauses(pattern, 'NOISE-17'), comment: `Message ${n + 1} cut after ${length} of ${size} bytes.`, flags: ['Truncated'], input: { ...side(pattern, at.role), steps: at.steps }, layer: 'noise', class: 'handshake-failed'
        })
      }
    }
  }

  // A changed ephemeral may only be detected when it is used, so the receiver continues with its next step.
  const flip = file.group('flipped-bit', 'noise.handshake', 'Messages with one bit changed: in the ephemeral key, the static key, its tag, the payload and its tag.')
  for (const pattern of ['XX', 'IK', 'XK', 'NN', 'XXpsk0', 'NNpsk0']) {
    const { steps, messages } = await play(pattern, { payloads: PAYLOADS })
    for (const [n, message] of messages.entries()) {
      const bytes = Buffer.from(message, 'hex')
      for (const [where, offset] of regions(pattern, n, bytes.byteLength)) {
        const changed = Buffer.from(bytes)
        changed[offset] ^= 0x01
        const at = receiving(pattern, steps, n, hex(changed))
        const next = steps[at.role][n + 1]
        const input = { ...side(pattern, at.role), steps: next ? [...at.steps, next] : at.steps }
        const seen = await run('noise.handshake', input)
        if (!seen.error) continue // Only the peer can find out: see the transcript's hash.
        await flip.invalid(`flipped-bit.${pattern.toLowerCase()}.message-${n + 1}.${where}`, {
          clauses: clauses(pattern, 'NOISE-17', ...(seen.error.class === 'bad-point' ? ['NOISE-6'] : [])),
          comment: `The lowest bit of byte ${offset} of message ${n + 1} is changed: ${where.replace(/-/g, ' ')}.`,
          flags: ['FlippedBit'],
          input,
          layer: 'noise'
        })
      }
    }
  }

  // The sender is Node's own library with a public key that does not match its secret key.
  const forged = file.group('bad-point', 'noise.handshake', 'Keys sent that are no good points, in messages that are otherwise right.')
  const off = points.add(publicKey(s(9)), points.smallOrder[3].point)
  const kinds = [['order-8', points.smallOrder[0].point, 'SmallOrderPoint', 'NOISE-5'], ['identity', points.IDENTITY, 'SmallOrderPoint', 'NOISE-5', 'NOISE-7'], ['zero', '00'.repeat(32), 'SmallOrderPoint', 'NOISE-5', 'NOISE-7'], ['off-subgroup', off, 'OffSubgroupPoint', 'NOISE-6']]
  for (const [kind, point, flag, ...clause] of kinds) {
    const bad = { publicKey: Buffer.from(point, 'hex'), secretKey: keyPair(seed(9)).secretKey }
    // The first message's ephemeral: XX detects it when it answers, the others when they read.
    for (const pattern of ['XX', 'IK', 'XK', 'NN']) {
      const { messages, steps } = await play(pattern)
      const made = node(pattern, 'i', { e: bad })
      const first = pattern === 'IK' || pattern === 'XK' ? hex(made.send()) : point + messages[0].slice(64)
      await forged.invalid(`bad-point.${kind}.${pattern.toLowerCase()}.first-ephemeral`, {
        clauses: clauses(pattern, ...clause), comment: `The initiator's ephemeral is ${describe(kind)}.`, flags: [flag], input: { ...side(pattern, 'r'), steps: [{ read: first }, steps.r[1]] }, layer: 'noise', class: 'bad-point'
      })
    }
    for (const pattern of ['XX', 'XK', 'NN', 'IK']) {
      const { steps } = await play(pattern)
      const made = node(pattern, 'r', { e: bad })
      made.recv(Buffer.from(steps.r[0].read, 'hex'))
      await forged.invalid(`bad-point.${kind}.${pattern.toLowerCase()}.second-ephemeral`, {
        clauses: clauses(pattern, ...clause), comment: `The responder's ephemeral is ${describe(kind)}.`, flags: [flag], input: { ...side(pattern, 'i'), steps: [steps.i[0], { read: hex(made.send()) }] }, layer: 'noise', class: 'bad-point'
      })
    }
    const { steps } = await play('XX')
    const responder = node('XX', 'r', { s: bad })
    responder.recv(Buffer.from(steps.r[0].read, 'hex'))
    await forged.invalid(`bad-point.${kind}.xx.responder-static`, {
      clauses: ['NOISE-8', ...clause], comment: `The responder's static key is ${describe(kind)}.`, flags: [flag], input: { ...side('XX', 'i'), steps: [steps.i[0], { read: hex(responder.send()) }] }, layer: 'noise', class: 'bad-point'
    })
    const initiator = node('XX', 'i', { s: bad })
    initiator.send()
    initiator.recv(Buffer.from(steps.i[1].read, 'hex'))
    await forged.invalid(`bad-point.${kind}.xx.initiator-static`, {
      clauses: ['NOISE-8', ...clause], comment: `The initiator's static key is ${describe(kind)}.`, flags: [flag], input: { ...side('XX', 'r'), steps: [steps.r[0], steps.r[1], { read: hex(initiator.send()) }] }, layer: 'noise', class: 'bad-point'
    })
    await forged.invalid(`bad-point.${kind}.ik.initiator-static`, {
      clauses: ['NOISE-9', ...clause], comment: `The initiator's static key is ${describe(kind)}.`, flags: [flag], input: { ...side('IK', 'r'), steps: [{ read: hex(node('IK', 'i', { s: bad }).send()) }] }, layer: 'noise', class: 'bad-point'
    })
    for (const pattern of ['IK', 'XK']) {
      await forged.invalid(`bad-point.${kind}.${pattern.toLowerCase()}.known-remote`, {
        clauses: clauses(pattern, ...clause), comment: `The responder's key, known before, is ${describe(kind)}.`, flags: [flag], input: { ...side(pattern, 'i', { remote: point }), steps: [{ write: '' }] }, layer: 'noise', class: 'bad-point'
      })
    }
  }

  const apart = file.group('mismatch', 'noise.handshake', 'Two sides that do not agree on something.')
  const fails = (slug, pattern, role, opts, steps, clause, flag, comment) => apart.invalid(`mismatch.${slug}`, { clauses: clauses(pattern, clause), comment, flags: [flag], input: { ...side(pattern, role, opts), steps }, layer: 'noise', class: 'handshake-failed' })
  for (const pattern of ['IK', 'XK']) {
    const wrong = await run('noise.handshake', { ...side(pattern, 'i', { remote: publicKey(s(0x31)) }), steps: [{ write: '' }] })
    await fails(`remote-key.${pattern.toLowerCase()}`, pattern, 'r', {}, [{ read: wrong.output.steps[0].message }], 'NOISE-17', 'WrongKey', 'The initiator means another responder, so its first message does not decrypt.')
  }
  for (const pattern of ['XXpsk0', 'NNpsk0']) {
    const wrong = await run('noise.handshake', { ...side(pattern, 'i', { psk: s(0x78) }), steps: [{ write: '' }] })
    await fails(`psk.${pattern.toLowerCase()}`, pattern, 'r', {}, [{ read: wrong.output.steps[0].message }], 'NOISE-17', 'WrongPsk', 'Another pre-shared key: the first message does not decrypt.')
  }
  for (const pattern of Object.keys(PATTERNS)) {
    const { steps, messages } = await play(pattern)
    const early = PATTERNS[pattern].psk || PATTERNS[pattern].known
    if (early) await fails(`prologue.${pattern.toLowerCase()}`, pattern, 'r', { prologue: PROLOGUE }, [{ read: messages[0] }], 'NOISE-13', 'WrongPrologue', 'A prologue on one side only; the first message has a tag already.')
    else await fails(`prologue.${pattern.toLowerCase()}`, pattern, 'i', { prologue: PROLOGUE }, [steps.i[0], { read: messages[1] }], 'NOISE-13', 'WrongPrologue', 'A prologue on one side only; the second message is the first with a tag.')
  }
  const xx = await play('XX')
  const ik = await play('IK')
  const nn = await play('NN')
  const psk = await play('NNpsk0')
  await fails('pattern.ik-to-xx', 'IK', 'r', {}, [{ read: xx.messages[0] }], 'NOISE-1', 'WrongPattern', 'An XX initiator to an IK responder.')
  await fails('pattern.psk-to-nn', 'NNpsk0', 'r', {}, [{ read: nn.messages[0] }], 'NOISE-12', 'WrongPattern', 'An NN initiator to an NNpsk0 responder.')
  await fails('pattern.nn-to-xx', 'XX', 'i', {}, [xx.steps.i[0], { read: nn.messages[1] }], 'NOISE-1', 'WrongPattern', 'An NN responder to an XX initiator.')
  await fails('pattern.ik-answers-xx', 'XX', 'i', {}, [xx.steps.i[0], { read: ik.messages[1] }], 'NOISE-1', 'WrongPattern', 'An IK answer to an XX initiator.')
  await fails('pattern.psk-answers-nn', 'NN', 'i', {}, [nn.steps.i[0], { read: psk.messages[1] }], 'NOISE-12', 'WrongPattern', 'An NNpsk0 answer to an NN initiator.')

  const order = file.group('order', 'noise.handshake', 'Messages out of their order.')
  const disorder = (slug, role, steps, comment) => order.invalid(`order.${slug}`, { clauses: ['NOISE-8', 'NOISE-18'], comment, flags: ['WrongOrder'], input: { ...side('XX', role), steps }, layer: 'noise' })
  await disorder('reflected', 'i', [xx.steps.i[0], { read: xx.messages[0] }], 'The initiator gets its own first message back.')
  await disorder('third-for-second', 'i', [xx.steps.i[0], { read: xx.messages[2] }], 'The third message where the second is due.')
  await disorder('first-for-third', 'r', [xx.steps.r[0], xx.steps.r[1], { read: xx.messages[0] }], 'The first message again where the third is due.')
  await disorder('second-for-third', 'r', [xx.steps.r[0], xx.steps.r[1], { read: xx.messages[1] }], 'The responder gets its own second message back.')
  await disorder('fourth.initiator', 'i', [...xx.steps.i, { read: xx.messages[1] }], 'A message after the last one, to the initiator.')
  await disorder('fourth.responder', 'r', [...xx.steps.r, { read: xx.messages[2] }], 'The last message twice.')
  await disorder('write-after-last', 'i', [...xx.steps.i, { write: '' }], 'A write after the last message.')

  const more = file.group('trailing', 'noise.handshake', 'Bytes after a message, and payloads where streams send none.')
  for (const [n, message] of xx.messages.entries()) {
    const at = receiving('XX', xx.steps, n, message + 'ee')
    const args = { clauses: ['NOISE-8', 'NOISE-14'], input: { ...side('XX', at.role), steps: at.steps } }
    if (n === 0) await more.valid('trailing.xx.message-1', { ...args, comment: 'A byte after the first message, which has no tag, is its payload.', flags: ['Payload'] })
    else await more.invalid(`trailing.xx.message-${n + 1}`, { ...args, clauses: ['NOISE-8', 'NOISE-17'], comment: `A byte after message ${n + 1} breaks its tag.`, flags: ['TrailingBytes'], layer: 'noise', class: 'handshake-failed' })
  }
  await more.valid('trailing.xx.message-1.kilobyte', { clauses: ['NOISE-8', 'NOISE-14'], comment: 'A payload of 1 KiB in the first message.', flags: ['Payload'], input: { ...side('XX', 'r'), steps: [{ read: { concat: [xx.messages[0], { repeat: '5a', times: 1024 }] } }] } })
  const longest = { ...side('XX', 'r'), steps: [{ read: { concat: [xx.messages[0], { repeat: '5a', times: 65535 - 32 }] } }] }
  await more.valid('trailing.xx.message-1.longest', { clauses: ['NOISE-8', 'NOISE-14'], comment: 'A first message of 65,535 bytes, the most that Noise allows.', flags: ['Payload'], input: longest })
  const over = { ...side('XX', 'r'), steps: [{ read: { concat: [xx.messages[0], { repeat: '5a', times: 65536 - 32 }] } }] }
  const seen = await run('noise.handshake', over)
  const { digest } = require('../lib/bytes')
  await more.given('trailing.xx.message-1.too-long', {
    clauses: ['NOISE-8', 'NOISE-14'],
    comment: 'A first message of 65,536 bytes: the specification forbids it and Node takes it.',
    flags: ['LongMessage'],
    input: over,
    result: 'acceptable',
    expect: { outputs: [digest(seen.output)], error: { layer: 'noise', class: 'handshake-failed' } },
    node: { outcome: 'returns' }
  })
  return file
}

// Node's handshake library itself, for messages that the operation cannot express.
function node (pattern, role, keys) {
  const own = side(pattern, role)
  const noise = new Noise(pattern, role === 'i', keys.s || (own.staticSeed && keyPair(Buffer.from(own.staticSeed, 'hex'))), { curve, psk: own.psk && Buffer.from(own.psk, 'hex') })
  noise.initialise(Buffer.alloc(0), own.remotePublicKey && Buffer.from(own.remotePublicKey, 'hex'))
  // The library wipes ephemerals when it is done, so each gets its own copy.
  noise.e = keys.e ? { publicKey: Buffer.from(keys.e.publicKey), secretKey: Buffer.from(keys.e.secretKey) } : keyPair(Buffer.from(own.ephemeralSeed, 'hex'))
  return noise
}

// Named offsets into message n, from the pattern.
function regions (pattern, n, size) {
  const base = pattern.replace('psk0', '')
  const last = (base === 'XX' || base === 'XK') && n === 2
  const first = last ? [] : [['ephemeral-first', 0], ['ephemeral-last', 31]]
  const start = last ? 0 : 32
  const hasStatic = last || (base === 'XX' && n === 1) || (base === 'IK' && n === 0)
  const stat = hasStatic ? [['static', start], ['static-tag', start + 32 + 15]] : []
  const body = start + (hasStatic ? 48 : 0)
  const tagged = pattern !== 'XX' && pattern !== 'NN' ? true : n > 0
  return [...first, ...stat, ['payload', body], ...(tagged ? [['payload-tag', size - 1]] : [])]
}

function describe (kind) {
  return { 'order-8': 'a point of order 8', identity: 'the identity', zero: 'all zero', 'off-subgroup': 'outside the subgroup of prime order' }[kind]
}

const cap = (t) => t[0].toUpperCase() + t.slice(1)
const pick = (flags) => Object.fromEntries(flags.map((f) => [f, NOTES[f]]))

module.exports = async () => [await dh(), await handshakes(), await refusals()]
