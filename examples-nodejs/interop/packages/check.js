// Runs two of these peers with each other, Node with Node, to check what the tests of other implementations rely on.
//   node interop/packages/check.js

const assert = require('assert')
const path = require('path')
const readline = require('readline')
const { spawn } = require('child_process')

const hex = (text) => Buffer.from(text).toString('hex')

class Peer {
  constructor () {
    this.child = spawn(process.execPath, [path.join(__dirname, 'index.js')], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.lines = readline.createInterface({ input: this.child.stdout })[Symbol.asyncIterator]()
    this.events = []
  }

  async read () {
    const { value, done } = await this.lines.next()
    assert(!done, 'the peer ended')
    return JSON.parse(value)
  }

  async ask (op, input = {}) {
    this.child.stdin.write(JSON.stringify({ id: 1, op, input }) + '\n')
    while (true) {
      const line = await this.read()
      if (line.event) {
        this.events.push(line)
        continue
      }
      assert(line.ok, `${op}: ${line.error && line.error.message}`)
      return line.ok
    }
  }

  async event (name) {
    while (true) {
      const event = this.events.shift() || await this.read()
      if (event.event === name) return event
    }
  }

  stop () {
    const ended = new Promise((resolve) => this.child.on('exit', resolve))
    this.child.stdin.end()
    return ended
  }
}

async function pair (check) {
  const server = new Peer()
  const client = new Peer()
  const { port } = await server.ask('peer.listen')
  await client.ask('peer.dial', { port })
  await Promise.all([server.event('handshake'), client.event('handshake')])
  await check(server, client)
  await Promise.all([server.stop(), client.stop()])
}

async function rpc (server, client) {
  await server.ask('rpc.pair')
  await client.ask('rpc.open')
  await client.event('rpc.open')
  const request = (method, value, more) => client.ask('rpc.request', { method, value, ...more })

  assert.deepEqual(await request('echo', hex('hi')), { value: hex('hi') })
  assert.deepEqual(await request('echo', null), { value: null })
  assert.deepEqual(await request('raw', hex('hi'), { raw: true }), { value: hex('hi') })
  assert.equal((await request('nothing', null)).error.code, 'UNKNOWN_METHOD')
  assert.equal((await request('unencodable', null)).error.code, 'ENCODE_ERROR')
  assert.equal((await request('double', '', { raw: true })).error.code, 'DECODE_ERROR')
  assert.deepEqual((await request('failWithCode', null)).error, {
    message: 'REQUEST_ERROR: Request failed',
    code: 'REQUEST_ERROR',
    cause: { message: 'there is no tea', code: 'ENOTEA', context: 'in the kitchen' }
  })
  for (const corked of [false, true]) {
    const { values } = await client.ask('rpc.requests', { method: 'double', count: 1000, corked })
    assert.deepEqual(values, Array.from({ length: 1000 }, (_, i) => 2 * i))
  }
  assert.deepEqual(await client.ask('rpc.requestLarge', { method: 'raw', length: 1 << 20 }), { length: 1 << 20, zeros: true })
  await client.ask('rpc.event', { method: 'note', value: hex('by the way') })
  assert.equal((await server.event('rpc.note')).value, hex('by the way'))
  await client.ask('rpc.end')
  await server.event('rpc.close')
}

async function wakeup (server, client) {
  const capability = '07'.repeat(32)
  await server.ask('wakeup.start')
  await server.ask('wakeup.session', { capability })
  await client.ask('wakeup.session', { capability })
  await client.ask('wakeup.start')
  await Promise.all([server.event('wakeup.peerAdd'), client.event('wakeup.peerAdd')])
  const writers = [{ key: '01'.repeat(32), length: 300 }]
  await server.ask('wakeup.announce', { writers })
  assert.deepEqual((await client.event('wakeup.announce')).writers, writers)
  await client.ask('wakeup.lookup', { hash: null })
  assert.equal((await server.event('wakeup.lookup')).hash, null)
  await client.ask('wakeup.inactive')
  await server.event('wakeup.peerInactive')
}

async function corestore (server, client) {
  const names = ['one', 'two']
  const keys = []
  for (const name of names) {
    const { key } = await server.ask('store.create', { name, blocks: [hex(name)] })
    keys.push(key)
  }
  await server.ask('store.replicate', { offer: ['one'] })
  await client.ask('store.replicate')
  for (const [i, core] of keys.entries()) {
    await client.ask('store.get', { key: core })
    assert.equal((await client.ask('store.block', { core, index: 0 })).value, hex(names[i]))
  }
}

async function main () {
  for (const check of [rpc, wakeup, corestore]) {
    await pair(check)
    console.log(`${check.name}: ok`)
  }
}

// A time-out.
setTimeout(() => process.exit(1), 60_000).unref()
main()
