// The Node side of benches/compare: performs the Rust side's work on request, and reports the time.
//
// One JSON request per line on stdin, {case, size, batch, count, message}, and one JSON answer per line on stdout:
// {cpu}, the nanoseconds that the main thread was running, without other threads.
//
//   node bench/compare.js               in one process
//   node bench/compare.js listen        receives over TCP: prints its port, and answers what it is asked for
//   node bench/compare.js dial PORT     sends over TCP

const fs = require('fs')
const net = require('net')
const readline = require('readline')
const b4a = require('b4a')
const c = require('compact-encoding')
const sodium = require('sodium-native')
const Protomux = require('protomux')
const SecretStream = require('@hyperswarm/secret-stream')
const { Push, Pull } = require('sodium-secretstream')
const { wire } = require('hypercore/lib/messages')

const KEY = b4a.alloc(32, 3)
const WINDOW = 1 << 18

// Running time of the main thread, where the system reports it; else that of the whole process.
function cpu () {
  try {
    return Number(fs.readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0])
  } catch {
    const { user, system } = process.cpuUsage()
    return (user + system) * 1000
  }
}

function block (index, size) {
  return { request: index, fork: 0, block: { index, value: b4a.alloc(size, index), nodes: [] }, hash: null, seek: null, upgrade: null, manifest: null }
}

function nodes (count) {
  return Array.from({ length: count }, (_, at) => ({ index: 2 ** at, size: 1000 * 2 ** at, hash: b4a.alloc(32, at) }))
}

const MESSAGES = {
  range: [wire.range, { drop: false, start: 70000, length: 300 }],
  request: [wire.request, { id: 300, fork: 0, block: { index: 70000, nodes: 2 }, hash: null, seek: null, upgrade: null, manifest: false, priority: 0 }],
  'block of 1 KiB': [wire.data, block(70000, 1024)],
  'block with a proof of 17 nodes': [wire.data, { ...block(70000, 1024), block: { index: 70000, value: b4a.alloc(1024), nodes: nodes(17) } }]
}

// A channel with a core's messages, as many as are needed.
function channel (stream, onmessage) {
  const mux = Protomux.from(stream)
  const channel = mux.createChannel({ protocol: 'hypercore/alpha', id: KEY, handshake: wire.handshake, messages: new Array(3).fill({ encoding: c.raw }), unique: true })
  const data = channel.addMessage({ encoding: wire.data, onmessage })
  const opened = new Promise((resolve) => { channel.onopen = resolve })
  channel.open({ seeks: true, capability: b4a.alloc(32) })
  return { mux, channel, data, opened }
}

const PAIRS = [true, false].map((is) => SecretStream.keyPair(b4a.alloc(32, is ? 2 : 1)))

async function pair (onmessage) {
  const [a, b] = [new SecretStream(true, null, { keyPair: PAIRS[0] }), new SecretStream(false, null, { keyPair: PAIRS[1] })]
  a.on('error', () => {})
  b.on('error', () => {})
  a.rawStream.pipe(b.rawStream).pipe(a.rawStream)
  const [from, to] = [channel(a, () => {}), channel(b, onmessage)]
  await Promise.all([from.opened, to.opened])
  return { from, to, close () { a.destroy(); b.destroy() } }
}

// Sends this many at once and waits for the last to arrive.
function sender (from, received) {
  return async function send ({ size, batch, count }) {
    const messages = Array.from({ length: 32 }, (_, at) => block(at, size))
    const window = Math.max(batch, Math.floor(WINDOW / size))
    for (let sent = 0; sent < count;) {
      const end = Math.min(count, sent + window)
      const arrived = received(end - sent)
      while (sent < end) {
        if (batch > 1) from.mux.cork()
        for (let at = 0; at < batch; at++, sent++) from.data.send(messages[sent % 32])
        if (batch > 1) from.mux.uncork()
      }
      await arrived
    }
  }
}

let inProcess = null

async function messages (request) {
  if (inProcess === null) {
    let missing = 0
    let done = null
    const ends = await pair(() => { if (--missing === 0) done() })
    inProcess = sender(ends.from, (count) => {
      missing = count
      return new Promise((resolve) => { done = resolve })
    })
  }
  await inProcess(request)
}

async function handshake ({ count }) {
  for (let at = 0; at < count; at++) (await pair(() => {})).close()
}

const streams = new Map()

function seal ({ size, count }) {
  const plain = b4a.alloc(size, 7)
  const cipher = b4a.alloc(size + 17)
  const push = new Push(b4a.alloc(32, 1))
  for (let at = 0; at < count; at++) push.next(plain, cipher)
}

function sealOpen ({ size, count }) {
  if (!streams.has(size)) {
    const push = new Push(b4a.alloc(32, 1))
    const pull = new Pull(b4a.alloc(32, 1))
    pull.init(push.header)
    streams.set(size, { push, pull, plain: b4a.alloc(size, 7), cipher: b4a.alloc(size + 17) })
  }
  const { push, pull, plain, cipher } = streams.get(size)
  for (let at = 0; at < count; at++) {
    push.next(plain, cipher)
    pull.next(cipher, plain)
  }
}

// Encodes into allocated memory, as protomux does, and decodes from a record's memory.
function codec ({ message, count }) {
  const [encoding, value] = MESSAGES[message]
  const record = c.encode(encoding, value)
  const buffer = b4a.alloc(1 << 16)
  for (let at = 0; at < count; at++) {
    const state = { start: 0, end: 0, buffer }
    encoding.preencode(state, value)
    encoding.encode(state, value)
    encoding.decode({ start: 0, end: record.byteLength, buffer: record })
  }
}

const CASES = { messages, handshake, seal, sealOpen, codec }

async function answer (request) {
  const started = cpu()
  await CASES[request.case](request)
  return { cpu: cpu() - started }
}

function serve (answer) {
  const lines = readline.createInterface({ input: process.stdin })
  let last = Promise.resolve()
  lines.on('line', (line) => {
    last = last.then(() => answer(JSON.parse(line))).then((result) => console.log(JSON.stringify(result)))
    last.catch((err) => {
      console.error(err)
      process.exit(1)
    })
  })
  lines.on('close', () => process.exit())
}

// Over TCP each side is a process: one sends on request, the other reports when everything has arrived.
function overTcp (socket, isInitiator) {
  socket.setNoDelay(true)
  const stream = new SecretStream(isInitiator, socket, { keyPair: PAIRS[isInitiator ? 0 : 1] })
  stream.on('error', () => {})
  let missing = 0
  let done = null
  // The answer reports that all of a window has arrived.
  const end = channel(stream, (message) => {
    if (isInitiator) return done()
    // The first message of a window gives their number.
    if (missing === 0) missing = message.request
    if (--missing === 0) end.data.send(block(0, 0))
  })
  const confirmed = () => new Promise((resolve) => { done = resolve })
  return { end, confirmed }
}

async function listen () {
  let tcp = null
  const server = net.createServer((socket) => { tcp = overTcp(socket, false) })
  server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })))
  serve(async () => ({ cpu: tcp ? cpu() : 0 }))
}

async function dial (port) {
  const { end, confirmed } = overTcp(net.connect(port, '127.0.0.1'), true)
  await end.opened
  serve(async (request) => {
    const started = cpu()
    const wall = process.hrtime.bigint()
    const times = []
    if (request.case === 'ping') {
      const message = block(1, request.size)
      for (let at = 0; at < request.count; at++) {
        const sent = process.hrtime.bigint()
        const answer = confirmed()
        end.data.send({ ...message, request: 1 })
        await answer
        times.push(Number(process.hrtime.bigint() - sent))
      }
    } else {
      const values = Array.from({ length: 32 }, (_, at) => block(at, request.size))
      const answer = confirmed()
      for (let at = 0; at < request.count; at++) {
        const message = at === 0 ? { ...values[0], request: request.count } : values[at % 32]
        end.data.send(message)
        if (!end.channel.drained) await new Promise((resolve) => { end.channel.ondrain = resolve })
      }
      await answer
    }
    return { cpu: cpu() - started, wall: Number(process.hrtime.bigint() - wall), times }
  })
}

const [command, port] = process.argv.slice(2)
if (command === undefined) serve(answer)
else if (command === 'listen') listen()
else if (command === 'dial') dial(Number(port))
else {
  console.error('usage: compare.js [listen | dial PORT]')
  process.exit(2)
}
