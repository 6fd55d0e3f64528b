// corestore on the peer's stream: one store in a new folder, replicated with the remote.

const fs = require('fs')
const os = require('os')
const path = require('path')
const Corestore = require('corestore')
const { hex, bytes } = require('../../lib/bytes')

module.exports = (peer) => {
  const cores = new Map()
  let folder = null
  let store = null

  async function start () {
    if (store !== null) return
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-peer-'))
    store = new Corestore(folder)
    peer.cleanups.push(async () => {
      await store.close()
      fs.rmSync(folder, { recursive: true, force: true })
    })
    await store.ready()
  }

  return {
    'store.create': async ({ name, blocks }) => {
      await start()
      const core = store.get({ name })
      await core.append(blocks.map((block) => bytes(block, 'block')))
      return { key: core.key, discoveryKey: core.discoveryKey, length: core.length }
    },

    // A core of another writer, by key, that the store requests from peers.
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

    // Replicates the store over the stream. It is reopened first, so that it has to load all cores except those to
    // offer.
    'store.replicate': async ({ offer = [] }) => {
      await start()
      await store.close()
      store = new Corestore(folder)
      for (const name of offer) {
        const core = store.get({ name })
        await core.ready()
      }
      await peer.opened
      store.replicate(peer.stream)
    }
  }
}
