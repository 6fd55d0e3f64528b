// protomux-wakeup on the peer's stream: one swarm, with named sessions that report all events.

const Wakeup = require('protomux-wakeup')
const { bytes, optional } = require('../../lib/bytes')

module.exports = (peer) => {
  const sessions = new Map()
  let swarm = null

  function start () {
    if (swarm !== null) return
    swarm = new Wakeup((discoveryKey) => peer.emit('wakeup.unknown', { discoveryKey }))
    peer.cleanups.push(() => swarm.destroy())
  }

  function session (name = 'main') {
    if (!sessions.has(name)) throw new Error(`there is no session ${name}`)
    return sessions.get(name)
  }

  return {
    // Starts wakeup on the stream.
    'wakeup.start': () => {
      start()
      swarm.addStream(peer.stream)
    },

    'wakeup.session': ({ name = 'main', capability, active = true, discoveryKey }) => {
      start()
      const tell = (type, remote, more) => peer.emit(`wakeup.${type}`, { name, active: remote.active, ...more })
      sessions.set(name, swarm.session(bytes(capability, 'capability'), {
        active,
        discoveryKey: optional(discoveryKey, 'discoveryKey'),
        onpeeradd: (remote) => tell('peerAdd', remote),
        onpeerremove: (remote) => tell('peerRemove', remote),
        onpeeractive: (remote) => tell('peerActive', remote),
        onpeerinactive: (remote) => tell('peerInactive', remote),
        onannounce: (writers, remote) => tell('announce', remote, { writers }),
        onlookup: ({ hash }, remote) => tell('lookup', remote, { hash })
      }))
    },

    'wakeup.announce': ({ name, writers }) => {
      const list = writers.map(({ key, length }) => ({ key: bytes(key, 'key'), length }))
      session(name).announceByStream(peer.stream, list)
    },

    'wakeup.lookup': ({ name, hash }) => {
      session(name).lookupByStream(peer.stream, { hash: optional(hash, 'hash') })
    },

    'wakeup.active': ({ name }) => session(name).active(),
    'wakeup.inactive': ({ name }) => session(name).inactive(),

    // Drops the topic, which closes its channel.
    'wakeup.teardown': ({ name }) => session(name).topic.teardown()
  }
}
