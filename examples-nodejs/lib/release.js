// The packages of one hypercore release, resolved as that release would.

const { createRequire } = require('module')
const { use } = require('./packages')

const RELEASES = { '11.37.1': 'hypercore', '10.38.2': 'hypercore10' }
const DEFAULT = '11.37.1'
const cache = new Map()

// Everything an operation may need of a release. Parts are loaded when first touched.
function load (release = DEFAULT) {
  if (cache.has(release)) return cache.get(release)
  const folder = RELEASES[release]
  if (!folder) throw new Error(`no such release here: ${release} (have ${Object.keys(RELEASES).join(', ')})`)
  const ctx = context(require.resolve(`${folder}/package.json`))
  cache.set(release, ctx)
  return ctx
}

// The same for the release installed in `folder`/node_modules, with the transport installed there. Must be called
// before the operations are loaded: from then on they take their packages from that folder.
function loadFolder (folder) {
  return context(use(folder))
}

function context (manifest) {
  const own = createRequire(manifest)
  const { version } = own(manifest)
  const [major, minor, patch] = version.split('.').map(Number)
  // 10.32.3 and later.
  const hasManifestVersions = major > 10 || minor > 32 || (minor === 32 && patch >= 3)
  return {
    release: version,
    major,
    hasManifestVersions,
    get manifestHash () { return own(`./lib/${hasManifestVersions ? 'verifier' : 'manifest'}.js`).manifestHash },
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
}

// The exact version of an installed package, for the generator field of a vector file.
function version (name) {
  return require(`${name}/package.json`).version
}

module.exports = { load, loadFolder, version, RELEASES: Object.keys(RELEASES), DEFAULT }
