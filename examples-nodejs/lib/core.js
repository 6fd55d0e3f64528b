// A real core of a release, without blocks, that replicates over a session's protomux.

const fs = require('fs')
const os = require('os')
const path = require('path')
const { hex } = require('./bytes')
const { Session, blame } = require('./session')

const NAMES = ['sync', 'request', 'cancel', 'data', 'noData', 'want', 'unwant', 'bitfield', 'range', 'extension']

// Opens a core for `key`, attaches it to a new session and calls fn(session, taps).
// Messages on the core's channels go to taps.onmessage(name, value, channel) after Node has decoded them, and not to
// the core, whose reactions are not part of the wire format. They also go to the core if onmessage returns true.
async function withCore ({ isInitiator, handshakeHash, key }, ctx, fn) {
  const session = new Session({ isInitiator, handshakeHash }, ctx.Protomux)
  const taps = { onmessage: () => true, channel: null }
  tap(session, taps)

  const inner = ctx.major === 10 ? null : ctx.Hypercore.createCore(store(ctx), { key })
  const core = inner ? new ctx.Hypercore({ core: inner }) : new ctx.Hypercore(ctx.require('random-access-memory'), key)
  try {
    await core.ready()
    return await fn(session, taps, () => core.replicate(session.mux))
  } finally {
    await session.close()
    await core.close()
    if (inner) await inner.close()
  }
}

let shared = null

// hypercore 11 keeps cores in a database; one of them serves the whole process, since opening it takes a tenth of a
// second.
function store (ctx) {
  if (shared === null) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cores-'))
    process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
    shared = ctx.Hypercore.defaultStorage(folder)
  }
  return shared
}

function tap (session, taps) {
  const { mux } = session
  const create = mux.createChannel
  mux.createChannel = (options) => {
    const at = { local: 0, handshake: null }
    const channel = create.call(mux, {
      ...options,
      handshake: {
        ...options.handshake,
        decode (state) {
          at.handshake = hex(state.buffer.subarray(state.start, state.end))
          return blame('channel', () => options.handshake.decode(state))
        }
      },
      messages: options.messages.map((m, type) => ({
        ...m,
        encoding: { ...m.encoding, decode: (state) => blame('message', () => m.encoding.decode(state)) },
        onmessage: (value, self) => taps.onmessage(NAMES[type], value, at.local) === true ? m.onmessage(value, self) : null
      })),
      onopen (handshake, self) {
        const done = blame('channel', () => options.onopen(handshake, self))
        session.event({ opened: { local: at.local, remote: self._remoteId, handshake: at.handshake } })
        return done
      },
      onclose (isRemote, self) {
        session.event({ closed: { local: at.local, isRemote } })
        return options.onclose(isRemote, self)
      }
    })
    if (channel === null) return null
    const open = channel.open
    channel.open = (handshake) => {
      open.call(channel, handshake)
      at.local = channel._localId
    }
    taps.channel = channel
    return channel
  }
}

module.exports = { withCore, NAMES }
