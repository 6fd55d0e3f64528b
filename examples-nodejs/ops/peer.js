// The live operations: one stream of Node's own packages over a TCP socket, driven step by step.
// peer.listen or peer.dial starts it, peer.next returns the events in order, peer.stop ends it.

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const b4a = require('b4a')
const { Refused, BadRequest, classOf } = require('../lib/outcome')
const { hex, bytes, optional } = require('../lib/bytes')
const { message: toNode, messageToJSON } = require('../lib/values')

const PROTOCOL = 'hypercore/alpha'
const ALIASES = ['hypercore']

// The order of the messages on a hypercore channel, from hypercore's lib/replicator.js.
const MESSAGES = ['sync', 'request', 'cancel', 'data', 'noData', 'want', 'unwant', 'bitfield', 'range', 'extension']

// libuv's names for the ways in which a socket fails.
const CAUSES = { 'timed-out': 'ETIMEDOUT', unreachable: 'EHOSTUNREACH', 'broken-pipe': 'EPIPE' }

class Peer {
  constructor (ctx) {
    this.ctx = ctx
    this.events = []
    this.waiting = null
    this.server = null
    this.socket = null
    this.stream = null
    this.mux = null
    this.channels = new Map()
    this.announced = new Map()
    this.core = null
    this.folder = null
    this.extensions = new Map()
    this.lastHandle = 0
    this.rejecting = false
    this.truncated = false
  }

  emit (event) {
    this.events.push(event)
    if (this.waiting !== null) this.waiting()
  }

  async next (timeoutMs) {
    if (this.events.length === 0) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, timeoutMs)
        this.waiting = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.waiting = null
    }
    if (this.events.length === 0) throw new Refused('live', 'timeout', `nothing happened within ${timeoutMs} ms`)
    return { event: this.events.shift() }
  }

  listen (input) {
    return new Promise((resolve, reject) => {
      this.server = net.createServer((socket) => {
        this.server.close()
        this.start(false, socket, input)
      })
      this.server.on('error', reject)
      this.server.listen(0, '127.0.0.1', () => resolve({ port: this.server.address().port }))
    })
  }

  dial (input) {
    this.start(true, net.connect(input.port, '127.0.0.1'), input)
    return {}
  }

  start (isInitiator, socket, { keyPairSeed = null, keepAlive = 0, tellKeys = false }) {
    const { SecretStream, Protomux } = this.ctx
    // Otherwise each small record would wait for the acknowledgement of the one before.
    socket.setNoDelay(true)
    const keyPair = keyPairSeed === null ? null : SecretStream.keyPair(bytes(keyPairSeed, 'keyPairSeed'))
    const stream = new SecretStream(isInitiator, socket, { keyPair, keepAlive })

    this.socket = socket
    this.stream = stream

    // The recorded bytes of a failed scenario can only be decrypted with the keys of both directions.
    let keys
    if (tellKeys) {
      const setup = stream._setupSecretStream
      stream._setupSecretStream = function (tx, rx, ...rest) {
        keys = { tx: hex(tx.subarray(0, 32)), rx: hex(rx.subarray(0, 32)) }
        return setup.call(this, tx, rx, ...rest)
      }
    }

    stream.on('connect', () => {
      this.emit({
        type: 'handshake',
        publicKey: hex(stream.publicKey),
        remotePublicKey: hex(stream.remotePublicKey),
        handshakeHash: hex(stream.handshakeHash),
        isInitiator,
        ...(keys && { keys })
      })
    })

    // The stream itself treats an end in the middle of a record as a clean one; its parser does not.
    socket.on('end', () => {
      this.truncated = stream._state !== 0 || stream._tmp !== 1
      if (this.truncated) this.fail('frame', 'truncated', 'The connection ended in the middle of a record')
    })
    stream.on('end', () => {
      if (!this.truncated) this.emit({ type: 'end' })
    })
    stream.on('error', (err) => this.fail(...classify(err)))

    this.mux = new Protomux(stream)
    const onreject = this.mux._onrejectsession
    this.mux._onrejectsession = (state) => {
      this.rejecting = true
      try {
        onreject.call(this.mux, state)
      } finally {
        this.rejecting = false
      }
    }
    this.mux.pair({ protocol: PROTOCOL }, (id) => this.announce(id))

    // After the multiplexer's own listener, which closes the channels.
    stream.on('close', () => {
      for (const resolve of this.announced.values()) resolve()
      this.emit({ type: 'closed' })
    })
  }

  fail (layer, cls, message) {
    this.emit({ type: 'error', layer, class: cls, message })
  }

  // The remote opened a channel that isn't open here: Protomux waits for an answer before it rejects.
  announce (id) {
    if (!id || id.byteLength !== 32) return Promise.resolve()
    const discoveryKey = hex(id)
    return new Promise((resolve) => {
      this.announced.set(discoveryKey, resolve)
      this.emit({ type: 'discoveryKey', discoveryKey })
    })
  }

  answer (discoveryKey) {
    const resolve = this.announced.get(discoveryKey)
    if (!resolve) return false
    this.announced.delete(discoveryKey)
    resolve()
    return true
  }

  open (key) {
    const { crypto, caps, messages: { wire } } = this.ctx
    const stream = this.live()
    if (!stream.handshakeHash) throw new Refused('live', 'bad-input', 'The handshake is not complete')
    const id = crypto.discoveryKey(key)
    const handle = ++this.lastHandle
    const state = { channel: null, lastSent: '', lastReceived: '', local: false }

    state.channel = this.mux.createChannel({
      protocol: PROTOCOL,
      aliases: ALIASES,
      id,
      handshake: tagged('channel', wire.handshake),
      messages: MESSAGES.map((name) => ({
        encoding: tagged('message', wire[name]),
        onmessage: (value) => this.onmessage(handle, state, name, value)
      })),
      onopen: ({ seeks, capability }) => {
        // As in hypercore's lib/replicator.js.
        if (!b4a.equals(capability, caps.replicate(!stream.isInitiator, key, stream.handshakeHash))) {
          throw new Refused('channel', 'invalid-capability', 'Remote sent an invalid replication capability')
        }
        this.emit({ type: 'open', channel: handle, discoveryKey: hex(id), seeks })
      },
      onclose: (isRemote) => {
        this.channels.delete(handle)
        const by = !isRemote ? 'local' : this.rejecting ? 'rejected' : this.mux._destroying ? 'stream' : 'remote'
        this.emit({ type: 'close', channel: handle, by })
      }
    })
    if (state.channel === null) throw new Refused('channel', 'bad-input', 'The channel is open already')

    this.channels.set(handle, state)
    state.channel.open({ seeks: true, capability: caps.replicate(stream.isInitiator, key, stream.handshakeHash) })
    this.answer(hex(id))
    return { channel: handle }
  }

  // A channel of any other protocol; only its opening and closing are reported.
  openProtocol ({ protocol, id = null, handshake = null }) {
    const handle = ++this.lastHandle
    this.live()
    const raw = this.ctx.c.raw
    const state = { channel: null, lastSent: '', lastReceived: '' }
    state.channel = this.mux.createChannel({
      protocol,
      id: optional(id, 'id'),
      handshake: handshake === null ? null : raw,
      messages: [],
      onopen: () => this.emit({ type: 'open', channel: handle, discoveryKey: id, seeks: false }),
      onclose: (isRemote) => {
        this.channels.delete(handle)
        const by = !isRemote ? 'local' : this.rejecting ? 'rejected' : this.mux._destroying ? 'stream' : 'remote'
        this.emit({ type: 'close', channel: handle, by })
      }
    })
    if (state.channel === null) throw new Refused('channel', 'bad-input', 'The channel is open already')
    this.channels.set(handle, state)
    state.channel.open(optional(handshake, 'handshake'))
    return { channel: handle }
  }

  onmessage (handle, state, name, value) {
    if (name !== 'extension') {
      this.emit({ type: 'message', channel: handle, name, value: messageToJSON(name, value) })
      return
    }
    const resolved = value.name || state.lastReceived
    state.lastReceived = resolved
    this.emit({ type: 'extension', channel: handle, name: resolved, message: hex(value.message) })
  }

  live () {
    if (this.stream === null || this.stream.destroying) throw new Refused('connection', 'closed', 'There is no stream')
    return this.stream
  }

  find (handle) {
    const state = this.channels.get(handle)
    if (!state) throw new Refused('connection', 'closed', `There is no channel ${handle}`)
    return state
  }

  send ({ channel, message, value }) {
    const type = MESSAGES.indexOf(message)
    if (type === -1) throw new BadRequest(`no such message: ${message}`)
    this.find(channel).channel.messages[type].send(toNode(message, value, this.ctx))
    return {}
  }

  // As in hypercore's lib/replicator.js: the name is left out if it is that of the message before.
  extension ({ channel, name, message }) {
    const state = this.find(channel)
    state.channel.messages[9].send({ name: name === state.lastSent ? '' : name, message: bytes(message, 'message') })
    state.lastSent = name
    return {}
  }

  batch ({ channel, messages }) {
    this.find(channel)
    this.mux.cork()
    try {
      for (const { message, value } of messages) this.send({ channel, message, value })
    } finally {
      this.mux.uncork()
    }
    return {}
  }

  // Sends a message repeatedly, until the stream is full and stays so for this long.
  async fill ({ channel, outgoing, limit, patienceMs }) {
    const value = toNode(outgoing.message, outgoing.value, this.ctx)
    const message = this.find(channel).channel.messages[MESSAGES.indexOf(outgoing.message)]
    for (let sent = 1; sent <= limit; sent++) {
      if (!message.send(value) && !await this.drained(patienceMs)) return { sent, waits: true }
    }
    return { sent: limit, waits: false }
  }

  // Whether the stream accepts more within this time.
  async drained (patienceMs) {
    let ondrain
    const drained = new Promise((resolve) => {
      ondrain = () => resolve(true)
      this.stream.on('drain', ondrain)
    })
    let timer
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, patienceMs, false)
    })
    const inTime = await Promise.race([drained, late])
    clearTimeout(timer)
    this.stream.off('drain', ondrain)
    return inTime
  }

  // The socket fails as Node's net does when the operating system reports this.
  breakSocket ({ direction, cause }) {
    this.live()
    const code = CAUSES[cause]
    if (code === undefined) throw new BadRequest(`no such cause: ${cause}`)
    const err = Object.assign(new Error(`${direction} ${code}`), { code, syscall: direction })
    if (direction === 'read') {
      this.socket.destroy(err)
    } else {
      this.socket._write = (data, encoding, callback) => callback(err)
      this.socket._writev = (chunks, callback) => callback(err)
    }
    return {}
  }

  // Bytes that bypass the stream, once everything given to it before is on the socket.
  async raw (data) {
    const stream = this.live()
    await stream.flush()
    await new Promise((resolve) => this.socket.write(data, () => resolve()))
    return {}
  }

  reset () {
    if (this.socket === null) throw new Refused('connection', 'closed', 'There is no stream')
    this.socket.resetAndDestroy()
    return {}
  }

  // A Hypercore of this release that replicates on the stream, in a folder that peer.stop removes.
  async startCore ({ keySeed, key, blocks, compat, extensions }) {
    const { Hypercore, crypto } = this.ctx
    this.live()
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-peer-'))
    this.core = key === null
      ? new Hypercore(this.folder, { keyPair: crypto.keyPair(bytes(keySeed, 'keySeed')), compat })
      : new Hypercore(this.folder, bytes(key, 'key'))
    await this.core.ready()
    if (blocks.length > 0) await this.append(blocks)
    for (const name of extensions) {
      this.extensions.set(name, this.core.registerExtension(name, {
        encoding: this.ctx.c.raw,
        onmessage: (message) => this.emit({ type: 'coreExtension', name, message: hex(message) })
      }))
    }
    this.core.replicate(this.mux)
    this.answer(hex(this.core.discoveryKey))
    return { key: hex(this.core.key) }
  }

  async append (blocks) {
    await this.theCore().append(blocks.map((block) => bytes(block, 'block')))
    return {}
  }

  coreExtension ({ name, message }) {
    const core = this.theCore()
    const extension = this.extensions.get(name)
    if (!extension) throw new BadRequest(`extension not registered: ${name}`)
    for (const peer of core.peers) extension.send(bytes(message, 'message'), peer)
    return {}
  }

  // Requests a block from the remote; the result is reported as an event.
  get (index) {
    this.theCore().get(index).then(
      (block) => this.emit({ type: 'block', index, value: block === null ? null : hex(block) }),
      () => {}
    )
    return {}
  }

  theCore () {
    if (this.core === null) throw new Refused('live', 'closed', 'There is no core')
    return this.core
  }

  async stop () {
    if (this.server !== null) this.server.close()
    if (this.stream !== null && !this.stream.destroyed) {
      const closed = new Promise((resolve) => this.stream.once('close', resolve))
      this.stream.destroy()
      await closed
    }
    if (this.core !== null) await this.core.close()
    if (this.folder !== null) fs.rmSync(this.folder, { recursive: true, force: true })
    this.events = []
    return {}
  }
}

// An encoding whose errors carry their layer.
function tagged (layer, encoding) {
  return {
    preencode: encoding.preencode,
    encode: encoding.encode,
    decode (state) {
      try {
        return encoding.decode(state)
      } catch (err) {
        throw new Refused(layer, classOf(err), err.message)
      }
    }
  }
}

// The layer of a stream's error, from the packages' messages.
const LAYERS = [
  [/noise handshake failed/i, 'noise'],
  [/header (message )?received|message received|pull failed|could not verify|decrypt/i, 'secretstream'],
  [/atomic write/i, 'frame'],
  [/ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ECONNREFUSED|ECONNABORTED|stream destroyed|premature close/i, 'connection']
]

function classify (err) {
  if (err instanceof Refused) return [err.layer, err.class, err.message]
  const text = `${err.code || ''} ${err.message}`
  const [, layer] = LAYERS.find(([pattern]) => pattern.test(text)) || [null, 'mux']
  if (layer === 'connection') return [layer, 'closed', err.message]
  let cls = 'bad-input'
  try {
    cls = classOf(err)
  } catch {}
  return [layer, cls, err.message]
}

let peer = null

function current () {
  if (peer === null) throw new Refused('connection', 'closed', 'There is no stream')
  return peer
}

function begin (ctx) {
  if (peer !== null) throw new Refused('live', 'bad-input', 'There is a stream already')
  peer = new Peer(ctx)
  return peer
}

module.exports = {
  'peer.listen': (input, ctx) => begin(ctx).listen(input),
  'peer.dial': (input, ctx) => begin(ctx).dial(input),
  'peer.next': (input) => current().next(input.timeoutMs),
  'peer.open': (input) => current().open(bytes(input.key, 'key')),
  'peer.openProtocol': (input) => current().openProtocol(input),
  'peer.reject': (input) => {
    if (!current().answer(input.discoveryKey)) throw new Refused('live', 'bad-input', 'Nothing to reject')
    return {}
  },
  'peer.send': (input) => current().send(input),
  'peer.batch': (input) => current().batch(input),
  'peer.fill': (input) => current().fill(input),
  'peer.extension': (input) => current().extension(input),
  'peer.closeChannel': (input) => {
    current().find(input.channel).channel.close()
    return {}
  },
  'peer.keepAlive': () => {
    current().live().sendKeepAlive()
    return {}
  },
  'peer.raw': (input) => current().raw(bytes(input.bytes)),
  'peer.plaintext': (input) => {
    current().live().write(bytes(input.bytes))
    return {}
  },
  'peer.end': () => {
    current().live().end()
    return {}
  },
  'peer.reset': () => current().reset(),
  'peer.fail': (input) => current().breakSocket(input),
  'peer.core': (input) => current().startCore(input),
  'peer.coreAppend': (input) => current().append(input.blocks),
  'peer.coreExtension': (input) => current().coreExtension(input),
  'peer.coreClose': async () => {
    await current().theCore().close()
    return {}
  },
  'peer.coreGet': (input) => current().get(input.index),
  'peer.stop': async () => {
    const last = peer
    peer = null
    return last === null ? {} : last.stop()
  }
}
