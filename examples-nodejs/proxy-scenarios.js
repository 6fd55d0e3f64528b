// Tests the proxy record by record: of two streams of Node, one writes records and the other gets them from the proxy.
//
//   node proxy-scenarios.js PROGRAM
//
// PROGRAM is the command hypercore-conformance. Prints a line per scenario; exits with 1 at the first that fails.

const assert = require('assert')
const crypto = require('crypto')
const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const { execFileSync } = require('child_process')
const { once } = require('events')
const { load } = require('./lib/release')
const { Proxy, within } = require('./lib/proxy')

const LIMIT = 20_000
const ctx = load()
const KEY = Buffer.alloc(32, 7)
const hex = (text) => Buffer.from(text.replace(/ /g, ''), 'hex')

// An end of an encrypted stream over a socket, and its received records.
class End {
  constructor (isInitiator, socket, options) {
    this.socket = socket
    this.records = []
    this.waiting = []
    this.error = null
    this.socketError = null
    this.ended = false
    this.stream = new ctx.SecretStream(isInitiator, null, options)
    // By hand instead of as a pipe, so that an end and a reset are distinguished.
    const { rawStream } = this.stream
    this.flushed = 0
    rawStream.on('data', (data) => socket.write(data, () => {
      this.flushed += data.length
      this.changed()
    }))
    rawStream.on('end', () => socket.end())
    rawStream.on('close', () => socket.destroy())
    rawStream.on('error', () => {})
    socket.on('data', (data) => rawStream.write(data))
    socket.on('end', () => {
      this.ended = true
      rawStream.end()
    })
    socket.on('error', (error) => { this.socketError = error.code })
    socket.on('close', () => this.changed())
    this.stream.on('data', (record) => {
      this.records.push(record)
      this.changed()
    })
    this.stream.on('error', (error) => {
      this.error = error.message
      this.changed()
    })
    this.stream.on('end', () => this.changed())
  }

  changed () {
    for (const check of this.waiting.splice(0)) check()
  }

  until (condition, what) {
    const come = async () => {
      while (!condition(this)) await new Promise((resolve) => this.waiting.push(resolve))
    }
    return within(come(), LIMIT, what).catch((error) => {
      error.message += `; got ${this.records.map((record) => record.toString('hex').slice(0, 40))}, error ${this.error}, socket ${this.socketError}`
      throw error
    })
  }

  get (count) {
    return this.until(() => this.records.length >= count, `${count} records`)
  }
}

// Two ends with a proxy between them.
async function connect (program, args, fn) {
  const isReversed = args.includes('--reversed')
  const server = net.createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy = await Proxy.start(program, server.address().port, ['--quiet', ...args])
  const accepted = once(server, 'connection')
  const dialer = new End(!isReversed, net.connect(proxy.port, '127.0.0.1'))
  const [socket] = await within(accepted, LIMIT, 'the connection')
  const listener = new End(isReversed, socket)
  await within(Promise.all([dialer.stream.opened, listener.stream.opened]), LIMIT, 'the handshake')
  try {
    await fn({ dialer, listener, proxy })
  } finally {
    dialer.socket.destroy()
    listener.socket.destroy()
    server.close()
    assert.strictEqual(await proxy.stop(), 0)
  }
}

// The namespaces of hypercore's capabilities for the initiator and the responder.
function capability (stream, senderIsInitiator, key = KEY) {
  const [, initiator, responder] = ctx.crypto.namespace('hypercore', 6)
  const out = Buffer.alloc(32)
  ctx.sodium.crypto_generichash_batch(out, [senderIsInitiator ? initiator : responder, key], stream.handshakeHash)
  return out
}

function openOf (stream, senderIsInitiator, { id = 1, flags = '01', trailing = '', key = KEY } = {}) {
  const discoveryKey = ctx.crypto.discoveryKey(key)
  return Buffer.concat([
    hex(`00 01 0${id} 0f`), Buffer.from('hypercore/alpha'), hex('20'), discoveryKey,
    hex(flags), capability(stream, senderIsInitiator, key), hex(trailing)
  ])
}

const FOREIGN = Buffer.concat([hex('00 01 01 07'), Buffer.from('foreign'), hex('02 aabb cafe 00 01')])
const message = (text) => Buffer.concat([hex('01 00'), Buffer.from(text)])
const texts = (end, from = 1) => end.records.slice(from).map((record) => record.subarray(2).toString())
const args = (...more) => ['--key', KEY.toString('hex'), ...more]

const scenarios = {
  async 'records of every form pass as they are, opens of cores with a capability of their own' (program) {
    await connect(program, args(), async ({ dialer, listener }) => {
      const records = (end, isInitiator) => [
        // Unknown flags and trailing bytes stay, around a recomputed capability.
        openOf(end.stream, isInitiator, { flags: 'fd 4101', trailing: 'c0ffee' }),
        hex('01 00 0f 00 03 00'),
        hex('01 00 4f 00 03 fd 0000 ff'), // sync: an unknown flag, an integer longer than need be, a trailing byte
        hex('01 04 05'), // noData as hypercore 10 sends it
        hex('01 63 0102'), // an unknown type
        hex('01 03 01 01'), // data, cut off
        hex('00 00 01 05 00 0f 00 03 00 04 08 00 00 03'), // a batch
        hex('00 00 01 03 08 02 03 00 02 02 00 aa'), // a batch of two channels
        hex('00 00 00 07 00 01 04 08 00 00 03'), // a batch in a batch
        hex('00 00'), // a batch without a channel
        hex('00 00 01 ff'), // a batch that is cut off
        hex('00 07 aabb'), // an unknown type of control
        hex('05 00 aa'), // a channel that neither side opened
        hex('00 01 02 07 666f726569676e 02 aabb cafe 00'), // an open of another protocol, its handshake its own
        hex('02 00 deadbeef'),
        hex('00 03 02'), hex('00 02 09'), hex('00 03 01 ee'), hex('01'), Buffer.alloc(300_000, 3)
      ]
      for (const [from, to] of [[dialer, listener], [listener, dialer]]) {
        const isInitiator = from === dialer
        const sent = records(from, isInitiator)
        const wanted = records(to, isInitiator)
        for (const record of sent) from.stream.write(record)
        await to.get(sent.length)
        assert.deepStrictEqual(to.records.map((record) => record.toString('hex')), wanted.map((record) => record.toString('hex')))
        assert.notDeepStrictEqual(sent[0], wanted[0])
      }
    })
  },

  async 'an open in a batch has its capability made anew, and one that is wrong stays wrong' (program) {
    await connect(program, args(), async ({ dialer, listener }) => {
      const batch = (stream) => {
        const open = openOf(stream, true).subarray(1)
        return Buffer.concat([hex('00 00 00'), Buffer.from([open.length]), open, hex('00 01 02 63 aa')])
      }
      const wrong = openOf(dialer.stream, false, { id: 2 })
      dialer.stream.write(batch(dialer.stream))
      dialer.stream.write(wrong)
      await listener.get(2)
      assert.deepStrictEqual(listener.records, [batch(listener.stream), wrong])
    })
  },

  async 'an open waits for its key, and what came before it does not' (program) {
    await connect(program, ['--key-wait', '20'], async ({ dialer, listener, proxy }) => {
      dialer.stream.write(FOREIGN)
      dialer.stream.write(openOf(dialer.stream, true, { id: 2 }))
      dialer.stream.write(hex('02 00 0f 00 03 00'))
      await listener.get(1)
      proxy.child.stdin.write('nonsense\nkey 00\n')
      listener.stream.write(message('the other way is free'))
      await dialer.get(1)
      assert.strictEqual(listener.records.length, 1)
      proxy.addKey(KEY)
      await listener.get(3)
      assert.deepStrictEqual(listener.records[1], openOf(listener.stream, true, { id: 2 }))
    })
  },

  async 'a core whose key never comes is rejected by the other peer, and the rest passes' (program) {
    await connect(program, ['--key-wait', '0.05'], async ({ dialer, listener }) => {
      const mux = new ctx.Protomux(listener.stream)
      dialer.stream.write(openOf(dialer.stream, true))
      await dialer.get(1)
      assert.deepStrictEqual(dialer.records, [hex('00 02 01')])
      mux.createChannel({ protocol: 'foreign', id: hex('aabb') }).open()
      await dialer.get(2)
    })
  },

  async 'an end reaches the other as an end, after all that came before, and leaves the other way open' (program) {
    for (const side of ['dialer', 'listener']) {
      await connect(program, args(), async (ends) => {
        const [from, to] = side === 'dialer' ? [ends.dialer, ends.listener] : [ends.listener, ends.dialer]
        for (let n = 0; n < 100; n++) from.stream.write(Buffer.alloc(10_000, n))
        from.stream.end()
        await to.until(() => to.records.length === 100 && to.ended, 'the end')
        assert.deepStrictEqual([to.error, to.socketError], [null, null])
      })
    }
  },

  async 'a reset reaches the other as a reset, after all that came before' (program) {
    for (const side of ['dialer', 'listener']) {
      await connect(program, args(), async (ends) => {
        const [from, to] = side === 'dialer' ? [ends.dialer, ends.listener] : [ends.listener, ends.dialer]
        for (let n = 0; n < 100; n++) from.stream.write(Buffer.alloc(1000, n))
        await to.get(100)
        from.stream.write(Buffer.from('last'))
        await to.get(101)
        from.socket.resetAndDestroy()
        await to.until(() => to.socketError !== null, 'the reset')
        assert.deepStrictEqual([to.socketError, to.ended], ['ECONNRESET', false])
      })
    }
  },

  async 'the end of stdin is an end for both peers, after all that was read' (program) {
    await connect(program, args(), async ({ dialer, listener, proxy }) => {
      for (const [from, to] of [[dialer, listener], [listener, dialer]]) {
        for (let n = 0; n < 50; n++) from.stream.write(Buffer.alloc(1000, n))
        await to.get(50)
      }
      assert.strictEqual(await proxy.stop(), 0)
      for (const end of [dialer, listener]) {
        await end.until(() => end.ended, 'the end')
        assert.deepStrictEqual([end.error, end.socketError, end.records.length], [null, null, 50])
      }
    })
  },

  async 'the dialling peer may be the responder, an address may be told, and there may be several keys' (program) {
    const other = Buffer.alloc(32, 8)
    const more = ['--key', other.toString('hex'), '--reversed', '--listen', '127.0.0.1:0', '--key-wait', '0']
    await connect(program, args(...more), async ({ dialer, listener, proxy }) => {
      assert.match(proxy.address, /^127\.0\.0\.1:[1-9]\d*$/)
      for (const [from, to, isInitiator] of [[dialer, listener, false], [listener, dialer, true]]) {
        const opens = (end) => [KEY, other].map((key, at) => openOf(end.stream, isInitiator, { id: at + 1, key }))
        for (const open of opens(from)) from.stream.write(open)
        await to.get(2)
        assert.deepStrictEqual(to.records, opens(to))
      }
    })
  },

  async 'what cannot be opened reaches the other as what cannot be opened' (program) {
    for (const side of ['dialer', 'listener']) {
      await connect(program, args(), async (ends) => {
        const [from, to] = side === 'dialer' ? [ends.dialer, ends.listener] : [ends.listener, ends.dialer]
        for (let n = 0; n < 10; n++) from.stream.write(Buffer.alloc(1000, n))
        // Node itself drops undelivered records when a later one cannot be decrypted.
        await to.get(10)
        from.socket.write(Buffer.concat([hex('200000'), crypto.randomBytes(32)]))
        await to.until(() => to.error !== null, 'the error')
        assert.strictEqual(to.records.length, 10)
        assert.match(to.error, /Invalid message received|pull failed/i)
      })
    }
  },

  async 'a dialler learns that there is nobody upstream' (program) {
    const proxy = await Proxy.start(program, 1, ['--quiet'])
    const socket = net.connect(proxy.port, '127.0.0.1')
    const [error] = await within(once(socket, 'error'), LIMIT, 'the reset')
    assert.strictEqual(error.code, 'ECONNRESET')
    assert.strictEqual(await proxy.stop(), 0)
  },

  async 'static keys are those of the seeds' (program) {
    const seeds = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
    const more = ['--seed-listen', seeds[0].toString('hex'), '--seed-upstream', seeds[1].toString('hex')]
    await connect(program, args(...more), async ({ dialer, listener }) => {
      const [listen, upstream] = seeds.map((seed) => ctx.SecretStream.keyPair(seed).publicKey)
      assert.deepStrictEqual([dialer.stream.remotePublicKey, listener.stream.remotePublicKey], [listen, upstream])
    })
  },

  async 'messages are dropped, moved, cut, changed and taken out of their batch, as they are told' (program) {
    const cases = [
      ['drop:message:1', ['a0', 'c2']],
      ['reorder:message:0', ['b1', 'a0', 'c2']],
      ['reorder:message:0:dialer=2', ['b1', 'c2', 'a0']],
      ['truncate:message:1=1', ['a0', 'b', 'c2']],
      ['corrupt:message:2', ['a0', 'b1', 'c3']],
      ['corrupt:message:1+=0', ['a0', 'c1', 'b2']],
      ['split:message', ['a0', 'b1', 'c2']],
      ['drop:message:0:upstream', ['a0', 'b1', 'c2']]
    ]
    for (const [spec, wanted] of cases) {
      await connect(program, args('--inject', spec), async ({ dialer, listener }) => {
        dialer.stream.write(FOREIGN)
        for (const text of ['a0', 'b1', 'c2']) dialer.stream.write(message(text))
        await listener.get(1 + wanted.length)
        assert.deepStrictEqual(texts(listener), wanted, spec)
      })
    }
    await connect(program, args('--inject', 'unbatch:message:1'), async ({ dialer, listener }) => {
      dialer.stream.write(FOREIGN)
      dialer.stream.write(hex('00 00 01 03 00 6130 03 00 6231'))
      await listener.get(3)
      assert.deepStrictEqual(texts(listener), ['a0', 'b1'])
    })
    await connect(program, args('--inject', 'drop:message:0'), async ({ dialer, listener }) => {
      dialer.stream.write(FOREIGN)
      dialer.stream.write(hex('00 00 01 03 00 6130 03 00 6231'))
      await listener.get(2)
      assert.deepStrictEqual(listener.records[1], hex('00 00 01 03 00 6231'))
    })
    await connect(program, args('--inject', 'delay:message:1=300'), async ({ dialer, listener }) => {
      dialer.stream.write(FOREIGN)
      dialer.stream.write(message('a0'))
      await listener.get(2)
      const start = process.hrtime.bigint()
      dialer.stream.write(message('b1'))
      await listener.get(3)
      assert.ok(process.hrtime.bigint() - start >= 290_000_000n)
    })
  },

  async 'sealed records that are tampered with cannot be opened' (program) {
    for (const spec of ['drop:record:1', 'truncate:record:1', 'corrupt:record:1', 'corrupt:record:1=0', 'reorder:record:1']) {
      await connect(program, args('--inject', spec), async ({ dialer, listener }) => {
        dialer.stream.write(FOREIGN)
        await listener.get(1)
        for (const text of ['a0', 'b1', 'c2']) dialer.stream.write(message(text))
        await listener.until(() => listener.error !== null, 'the error')
        assert.strictEqual(listener.records.length, 1, spec)
      })
    }
  },

  async 'the trace is told again by explain' (program) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'proxy-trace-'))
    const file = path.join(folder, 'trace.jsonl')
    await connect(program, args('--trace', file, '--inject', 'drop:sync:1'), async ({ dialer, listener }) => {
      dialer.stream.write(openOf(dialer.stream, true))
      dialer.stream.write(hex('00 00 01 05 00 0f 00 03 00 05 00 0f 00 04 00'))
      dialer.stream.write(hex('01 03 01'))
      await listener.get(3)
      assert.deepStrictEqual(listener.records[1], hex('00 00 01 05 00 0f 00 03 00'))
    })
    const lines = fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line))
    const open = lines.find((line) => line.record === 0)
    assert.strictEqual(open.from, 'dialer')
    const field = open.fields[0].fields.find(({ name }) => name === 'capability')
    assert.deepStrictEqual([field.offset, field.length, field.meaning], [53, 32, 'proves that the sender knows the core\'s key'])
    // Both were decoded and encoded again, and stayed the same.
    for (const record of [0, 1]) {
      const { notes = [] } = lines.find((line) => line.record === record)
      assert.deepStrictEqual(notes, [])
    }
    const text = execFileSync(program, ['explain', file], { encoding: 'utf8' })
    for (const wanted of ['flags  15, canUpgrade | uploading', 'injected: drop:sync:1 (message 1, sync)', 'error out-of-bounds (message) in request']) {
      assert.ok(text.includes(wanted), `${wanted} is not in\n${text}`)
    }
    fs.rmSync(folder, { recursive: true })
  },

  async 'the trace tells of records in pieces and of keep-alives, with the bytes of short records only' (program) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'proxy-trace-'))
    const file = path.join(folder, 'trace.jsonl')
    const more = ['--trace', file, '--trace-bytes', '4', '--inject', 'split:message:1=7', '--inject', 'drop:keep-alive', '--inject', 'delay:record:1=1']
    await connect(program, args(...more), async ({ dialer, listener }) => {
      dialer.stream.write(FOREIGN)
      dialer.stream.write(message('a0'))
      dialer.stream.write(Buffer.alloc(0))
      dialer.stream.write(message('longer'))
      await listener.get(3)
      assert.deepStrictEqual(texts(listener), ['a0', 'longer'])
    })
    const lines = fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line))
    const records = lines.filter((line) => line.record !== undefined)
    assert.deepStrictEqual(records.map(({ bytes }) => bytes !== undefined), [false, true, true, false])
    assert.deepStrictEqual(records.map(({ injected = [] }) => injected.join()), [
      '', '', 'drop:keep-alive (message 0, keep-alive)', 'split:message:1=7 (message 0, message)'
    ])
    assert.ok(lines.some(({ event }) => event === 'injected: delay:record:1=1'))
    fs.rmSync(folder, { recursive: true })
  },

  async '100 MB pass in seconds, and a peer that does not read stops the other' (program) {
    await connect(program, args(), async ({ dialer, listener }) => {
      const record = Buffer.concat([hex('01 00'), Buffer.alloc(65_000, 1)])
      dialer.stream.write(FOREIGN)
      await listener.get(1)
      listener.socket.pause()
      const total = Math.ceil(100e6 / record.length)
      let written = 0
      const write = async (limit) => {
        const before = dialer.flushed
        dialer.stream.write(record)
        written++
        await within(dialer.until(() => dialer.flushed - before >= record.length, 'a record'), limit, 'a record')
      }
      // One record after the other, until the proxy accepts none within a second.
      let error = null
      while (error === null && written < total) await write(1000).catch((err) => { error = err })
      assert.ok(error !== null && dialer.flushed < 50e6, `${dialer.flushed} bytes were taken from a peer whose receiver reads nothing`)
      const start = Date.now()
      listener.socket.resume()
      for (; written < total; written++) dialer.stream.write(record)
      await listener.get(1 + total)
      console.log(`  ${total * record.length} bytes in ${Date.now() - start} ms`)
    })
  }
}

async function main (program) {
  for (const [name, scenario] of Object.entries(scenarios)) {
    try {
      await scenario(program)
    } catch (error) {
      console.error(`not ok: ${name}\n${error.stack}`)
      process.exit(1)
    }
    console.log(`ok: ${name}`)
  }
}

main(process.argv[2])
