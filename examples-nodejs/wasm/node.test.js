// The crate in WebAssembly, in Node: the same module that a page loads, with a WebSocket of Node's.

const { once } = require('events')
const { test } = require('node:test')
const assert = require('assert/strict')
const b4a = require('b4a')
const caps = require('hypercore/lib/caps')
const crypto = require('hypercore-crypto')
const Protomux = require('protomux')
const SecretStream = require('@hyperswarm/secret-stream')
const c = require('compact-encoding')
const { WebSocketServer, createWebSocketStream } = require('ws')
const { blocks, largeBlock, serve } = require('../websocket-peer')
const { load, webSockets } = require('./load')

const timeout = 20_000

for (const [name, WebSocket] of Object.entries(webSockets())) {
  // The module takes the global one, as it does in a page.
  const check = (title, fn) => test(`${title} (WebSocket: ${name})`, { timeout }, async (t) => {
    globalThis.WebSocket = WebSocket
    await fn(await load('pkg'), t)
  })

  check('the blocks of a Node hypercore arrive byte for byte', async ({ Peer }, t) => {
    const values = [...blocks(), largeBlock()]
    const node = await served(t, { blocks: values })
    const peer = await Peer.connect(node.socketUrl, { seed: b4a.alloc(32, 7) })
    const channel = await peer.open(node.core.key)
    const [stream] = node.streams
    assert.deepEqual(b4a.from(peer.handshakeHash), stream.handshakeHash)
    assert.deepEqual(b4a.from(peer.publicKey), stream.remotePublicKey)
    assert.deepEqual(b4a.from(peer.remotePublicKey), stream.publicKey)
    assert.deepEqual(b4a.from(channel.discoveryKey), node.core.discoveryKey)
    assert.deepEqual(b4a.from(channel.key), node.core.key)
    assert.deepEqual(Peer.discoveryKey(node.core.key), channel.discoveryKey)
    const requests = values.map((_, index) => ({ type: 'request', id: index + 1, block: { index } }))
    await channel.send([{ type: 'sync', downloading: true }, { type: 'want', start: 0, length: 32 }, ...requests])
    const received = []
    let length = 0
    let range = null
    for await (const message of channel) {
      if (message.type === 'sync') length = message.length
      if (message.type === 'range') range = message
      if (message.type !== 'data') continue
      assert.equal(message.request, message.block.index + 1)
      received[message.block.index] = b4a.from(message.block.value)
      if (Object.keys(received).length === values.length) break
    }
    for (let index = 0; index < values.length; index++) {
      assert.ok(received[index].equals(await node.core.get(index)), `block ${index}`)
    }
    assert.equal(length, values.length)
    assert.deepEqual(range, { type: 'range', drop: false, start: 0, length: values.length })
    // Leaving the loop closes the channel, as with any async iterator.
    assert.equal(await channel.closed(), 'local')
    await peer.close()
    assert.equal(await peer.closed(), undefined)
  })

  check('a core takes what is proven and nothing else', async ({ Core, Peer }, t) => {
    const node = await served(t)
    const peer = await Peer.connect(node.socketUrl)
    const channel = await peer.open(node.core.key)
    const ask = async (request) => {
      await channel.send([{ type: 'sync', downloading: true }, { type: 'request', ...request }])
      for (;;) {
        const { value } = await channel.next()
        if (value.type === 'data' && value.request === request.id) return value
      }
    }
    const core = new Core(node.core.key)
    assert.deepEqual([core.length, core.fork, core.hasManifest, core.get(0)], [0, 0, false, undefined])

    const upgrade = await ask({ id: 1, upgrade: { start: 0, length: node.core.length }, manifest: true })
    const forged = structuredClone(upgrade)
    forged.upgrade.signature[10] ^= 1
    throws(() => core.verify(forged), { layer: 'tree', class: 'invalid-signature' })
    const foreign = new Core(b4a.alloc(32, 9))
    throws(() => foreign.verify(upgrade), { layer: 'tree' })
    assert.equal(foreign.length, 0)
    assert.equal(core.length, 0)
    assert.equal(core.verify(upgrade), true)
    assert.deepEqual([core.length, core.byteLength, core.hasManifest], [node.core.length, node.core.byteLength, true])

    for (const index of [3, 0]) {
      const block = await ask({ id: 2 + index, block: { index, nodes: core.missingNodes(index) } })
      const wrong = structuredClone(block)
      wrong.block.value[0] ^= 1
      throws(() => core.verify(wrong), { layer: 'tree', class: 'invalid-checksum' })
      assert.equal(core.get(index), undefined)
      assert.equal(core.verify(block), true)
      assert.deepEqual(b4a.from(core.get(index)), await node.core.get(index))
    }
    const wrong = { layer: 'adapter', class: 'bad-input' }
    throws(() => core.verify({ type: 'cancel', request: 1 }), wrong)
    throws(() => core.get(-1), wrong)
    throws(() => core.missingNodes(0.5), wrong)
    throws(() => new Core('short'), wrong)
    await peer.close()
  })

  check('a core that the peer does not have is an error with a class', async ({ Peer }, t) => {
    const node = await served(t)
    const peer = await Peer.connect(node.socketUrl)
    await rejects(peer.open(b4a.alloc(32, 9)), { layer: 'channel', class: 'rejected' })
    // The stream continues.
    const channel = await peer.open(node.core.key.toString('hex'))
    await rejects(peer.open(node.core.key), { layer: 'channel', class: 'bad-input' })
    await channel.close()
    await peer.close()
  })

  check('a peer that goes away breaks the stream', async ({ Peer }, t) => {
    const node = await served(t)
    const peer = await Peer.connect(node.socketUrl)
    const channel = await peer.open(node.core.key)
    const reader = (async () => { for await (const _ of channel); })() // eslint-disable-line no-unused-vars
    node.lose()
    const error = await peer.closed()
    assert.equal(error.name, 'HypercoreError')
    assert.match(error.message, /lost/)
    await reader
    assert.equal(await channel.closed(), 'stream')
    await rejects(channel.send({ type: 'cancel', request: 1 }), { class: 'closed' })
    await rejects(peer.open(b4a.alloc(32, 9)), { layer: 'channel', class: 'stream' })
  })

  check('a peer that ends the stream ends it without an error', async ({ Peer }, t) => {
    const node = await served(t)
    const peer = await Peer.connect(node.socketUrl)
    for (const stream of node.streams) stream.end()
    assert.equal(await peer.closed(), undefined)
  })

  check('a peer with another key, a server that does not answer or talks nonsense', async ({ Peer }, t) => {
    const node = await served(t)
    const other = { remotePublicKey: crypto.keyPair(b4a.alloc(32, 1)).publicKey }
    await rejects(Peer.connect(node.socketUrl, other), { layer: 'noise', class: 'handshake-failed' })
    await rejects(Peer.connect('not an address'), { layer: 'connection' })
    await rejects(Peer.connect('ws://127.0.0.1:1/'), { layer: 'connection' })

    for (const nonsense of ['text', b4a.from('0400000102030405060708', 'hex'), b4a.alloc(0)]) {
      const { url } = await listen(t, (socket) => {
        socket.send(nonsense)
        // Empty input is not invalid yet: its continuation is.
        if (nonsense.length === 0) socket.send(b4a.alloc(100))
      })
      const error = await rejects(Peer.connect(url), {})
      assert.equal(error.layer, typeof nonsense === 'string' ? 'connection' : 'noise')
    }
    // It accepts and stays silent until the time-out.
    const { url } = await listen(t, () => {})
    await rejects(Peer.connect(url, { handshakeTimeout: 50 }), { layer: 'connection', class: 'limit' })
  })

  check('what makes no sense is refused before it is sent', async ({ Peer }, t) => {
    const node = await served(t)
    const wrong = { layer: 'adapter', class: 'bad-input' }
    await rejects(Peer.connect(node.socketUrl, { seed: 'short' }), wrong)
    await rejects(Peer.connect(node.socketUrl, { handshakeTimeout: -1 }), wrong)
    const peer = await Peer.connect(node.socketUrl)
    for (const key of ['', '+1'.repeat(32), 'é'.repeat(32), b4a.alloc(31), 7, null]) {
      await rejects(peer.open(key), wrong)
    }
    const channel = await peer.open(node.core.key)
    for (const message of [
      null, 'sync', {}, { type: 'later' }, { type: 'cancel', request: -1 }, { type: 'cancel', request: 1.5 },
      { type: 'cancel', request: 2 ** 53 }, { type: 'cancel', request: '1' }, { type: 'extension', message: b4a.alloc(1) },
      { type: 'bitfield', bitfield: [1] }, { type: 'request', block: 1 }, { type: 'data', block: { index: 1 } },
      { type: 'data', hash: { nodes: [{ hash: b4a.alloc(31) }] } }, { type: 'data', manifest: b4a.alloc(1, 9) }
    ]) await rejects(channel.send(message), wrong)
    // A batch is sent completely or not at all.
    await rejects(channel.send([{ type: 'cancel', request: 1 }, {}]), wrong)
    await peer.close()
  })

  check('every message goes there and back', async ({ Peer }, t) => {
    const key = b4a.alloc(32, 3)
    const { url } = await listen(t, (socket) => echo(socket, key))
    const peer = await Peer.connect(url)
    const channel = await peer.open(key)
    for (const { sent, received = sent } of messages()) {
      await channel.send(sent)
      const { value } = await channel.next()
      assert.deepEqual(value, received)
    }
    await peer.close()
  })

  check('a server that does not read makes the sender wait', async ({ Peer }, t) => {
    const SIZE = 256 * 1024
    const COUNT = 64
    const node = await served(t)
    let arrived = 0
    const all = new Promise((resolve) => {
      const onmessage = (message) => { if (message.byteLength === SIZE && ++arrived === COUNT) resolve() }
      node.core.registerExtension('load', { encoding: c.raw, onmessage })
    })
    let most = 0
    let paused = null
    globalThis.WebSocket = class extends WebSocket {
      send (data) {
        super.send(data)
        if (this.bufferedAmount > most) most = this.bufferedAmount
        // When the server resumes reading, a sender that does not wait has sent everything.
        if (paused && this.bufferedAmount > 1 << 20) {
          const socket = paused
          paused = null
          setTimeout(() => socket.resume(), 100)
        }
      }
    }
    const peer = await Peer.connect(node.socketUrl)
    const channel = await peer.open(node.core.key)
    ;[paused] = node.sockets.clients
    paused.pause()
    const message = b4a.alloc(SIZE, 1)
    await Promise.all(Array.from({ length: COUNT }, () => channel.send({ type: 'extension', name: 'load', message })))
    await all
    assert.ok(most > 1 << 20, `${most} bytes: nothing had to wait`)
    assert.ok(most < 3 << 20, `${most} bytes were unsent at a time`)
    await peer.close()
  })
}

async function served (t, options) {
  const node = await serve(options)
  t.after(() => node.close())
  return node
}

// A server that passes each WebSocket to fn.
async function listen (t, fn) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  server.on('connection', fn)
  t.after(() => {
    for (const socket of server.clients) socket.terminate()
    server.close()
  })
  await once(server, 'listening')
  return { url: `ws://127.0.0.1:${server.address().port}/` }
}

function throws (fn, expected) {
  assert.throws(fn, { name: 'HypercoreError', ...expected })
}

// Resolves to the error.
async function rejects (promise, expected) {
  let error = null
  await assert.rejects(promise, (err) => { error = err; return true })
  assert.equal(error.name, 'HypercoreError', error)
  for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, error.message)
  return error
}

// Opens the channel of a core, and sends every message back.
function echo (socket, key) {
  const stream = new SecretStream(false, createWebSocketStream(socket))
  stream.on('error', () => {})
  stream.on('handshake', () => {
    const channel = Protomux.from(stream).createChannel({
      protocol: 'hypercore/alpha',
      id: crypto.discoveryKey(key),
      handshake: c.raw,
      messages: Array.from({ length: 10 }, (_, type) => ({
        encoding: c.raw,
        onmessage: (body) => channel.messages[type].send(body)
      }))
    })
    channel.open(b4a.concat([b4a.alloc(1), caps.replicate(false, key, stream.handshakeHash)]))
  })
}

function messages () {
  const node = (index) => ({ index, size: 10 * index, hash: new Uint8Array(32).fill(index) })
  const max = Number.MAX_SAFE_INTEGER
  return [
    {
      sent: { type: 'sync' },
      received: {
        type: 'sync', fork: 0, length: 0, remoteLength: 0, canUpgrade: false, uploading: false, downloading: false, hasManifest: false, allowPush: false
      }
    },
    {
      sent: {
        type: 'sync', fork: 1, length: 2, remoteLength: max, canUpgrade: true, uploading: false, downloading: true, hasManifest: true, allowPush: true
      }
    },
    {
      sent: { type: 'request', id: 1 },
      received: { type: 'request', id: 1, fork: 0, block: null, hash: null, seek: null, upgrade: null, manifest: false, priority: 0 }
    },
    {
      sent: {
        type: 'request',
        id: 5,
        fork: 2,
        block: { index: 1, nodes: 2 },
        hash: { index: 3, nodes: 4 },
        seek: { bytes: 2 ** 40, padding: 6 },
        upgrade: { start: 7, length: 8 },
        manifest: true,
        priority: 9
      }
    },
    { sent: { type: 'cancel', request: 70000 } },
    {
      sent: { type: 'data', request: 3 },
      received: { type: 'data', request: 3, fork: 0, block: null, hash: null, seek: null, upgrade: null, manifest: null }
    },
    {
      sent: {
        type: 'data',
        request: 300,
        fork: 1,
        block: { index: 7, value: new Uint8Array([1, 2, 3]), nodes: [node(1), node(2)] },
        hash: { index: 9, nodes: [node(3)] },
        seek: { bytes: 70000, nodes: [node(4)] },
        upgrade: { start: 1, length: 2, nodes: [node(5)], additionalNodes: [node(6)], signature: new Uint8Array(64).fill(9) },
        manifest: null
      }
    },
    { sent: { type: 'noData', request: 4, reason: 1 } },
    { sent: { type: 'want', start: 1, length: 2 ** 33, any: false } },
    { sent: { type: 'unwant', start: 2, length: 3, any: true } },
    { sent: { type: 'bitfield', start: 32768, bitfield: new Uint32Array([1, 0xffffffff, 0]) } },
    { sent: { type: 'range', drop: true, start: 3, length: 1 } },
    { sent: { type: 'extension', name: 'näme', message: new Uint8Array([0, 255]) } },
    // The name is left out on the wire.
    { sent: { type: 'extension', name: 'näme', message: new Uint8Array(0) } }
  ]
}
