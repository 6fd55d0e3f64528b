// manifest.*: manifests of a core, with the release's hypercore/lib/messages.js and hypercore/lib/verifier.js (before
// 10.32.3, manifest.js).

const { bytes, hex } = require('../lib/bytes')
const { refuse } = require('../lib/outcome')
const { manifest, manifestToJSON } = require('../lib/values')

module.exports = {
  async 'manifest.decode' ({ bytes: input }, { c, messages }) {
    const buffer = bytes(input)
    const state = c.state(0, buffer.byteLength, buffer)
    return refuse('manifest', () => {
      const value = messages.manifest.decode(state)
      return { value: manifestToJSON(value), consumed: state.start }
    })
  },

  async 'manifest.encode' ({ value }, ctx) {
    const v = manifest(value, ctx)
    return refuse('manifest', () => ({ bytes: hex(ctx.c.encode(ctx.messages.manifest, v)) }))
  },

  async 'manifest.hash' ({ value }, ctx) {
    const v = manifest(value, ctx)
    return refuse('manifest', () => ({ hash: hex(ctx.manifestHash(v)) }))
  }
}
