// The packages of one hypercore release, as that release itself would load them.

const { createRequire } = require('module')

const RELEASES = { '11.37.1': 'hypercore', '10.38.2': 'hypercore10' }
const DEFAULT = '11.37.1'
const cache = new Map()

// Everything an operation may need of a release. Parts are loaded when first touched.
function load (release = DEFAULT) {
  if (cache.has(release)) return cache.get(release)
  const folder = RELEASES[release]
  if (!folder) throw new Error(`no such release here: ${release} (have ${Object.keys(RELEASES).join(', ')})`)
  const own = createRequire(require.resolve(`${folder}/package.json`))
  const ctx = {
    release,
    major: Number(release.split('.')[0]),
    require: own,
    get Hypercore () { return own('./index.js') },
    get c () { return own('compact-encoding') },
    get messages () { return own('./lib/messages.js') },
    get caps () { return own('./lib/caps.js') },
    get crypto () { return own('hypercore-crypto') },
    get sodium () { return own('sodium-universal') },
    get Protomux () { return own('protomux') },
    get SecretStream () { return own('@hyperswarm/secret-stream') }
  }
  cache.set(release, ctx)
  return ctx
}

// The exact version of an installed package, for the generator's line of a vector file.
function version (name) {
  return require(`${name}/package.json`).version
}

module.exports = { load, version, RELEASES: Object.keys(RELEASES), DEFAULT }
