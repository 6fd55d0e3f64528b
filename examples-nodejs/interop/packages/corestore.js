// corestore on the peer's stream: one store in a folder of its own, replicated with the remote.

const fs = require('fs')
const os = require('os')
const path = require('path')
const Corestore = require('corestore')
const { hex, bytes } = require('../../lib/bytes')

module.exports = (peer) => {
  const cores = new Map()
  let store = null

  async function start () {
    if (store !== null) return
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-peer-'))
    store = new Corestore(folder)
    peer.cleanups.push(async () => {
      await store.close()
      fs.rmSync(folder, { recursive: true, force: true })
    })
    await store.ready()
  }

  return {
    // A core of the store, with these blocks; unless it is kept open, the store loads it when it is asked for.
    'store.create': async ({ name, blocks = [], keepOpen = true }) => {
      await start()
      const core = store.get({ name })
      await core.ready()
      if (blocks.length > 0) await core.append(blocks.map((block) => bytes(block, 'block')))
      const { key, discoveryKey, length } = core
      if (keepOpen) cores.set(name, core)
      else await core.close()
      return { key, discoveryKey, length }
    },

    // A core of somebody else, by key, that the store asks peers for.
    'store.get': async ({ key }) => {
      await start()
      const core = store.get({ key: bytes(key, 'key') })
      await core.ready()
      cores.set(key, core)
      core.on('peer-add', () => peer.emit('store.peerAdd', { discoveryKey: core.discoveryKey }))
      core.on('peer-remove', () => peer.emit('store.peerRemove', { discoveryKey: core.discoveryKey }))
      return { discoveryKey: hex(core.discoveryKey) }
    },

    'store.block': async ({ core, index }) => ({ value: await cores.get(core).get(index) }),

    // All cores of the store over the stream.
    'store.replicate': async () => {
      await start()
      await peer.opened
      store.replicate(peer.stream)
    }
  }
}
