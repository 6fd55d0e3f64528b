// Whether Bare runs the pinned hypercore: it must load, and make a core.

const Hypercore = require('hypercore')
const path = require('path')
const os = require('os')

async function main () {
  const core = new Hypercore(path.join(os.tmpdir(), `bare-${Date.now()}`))
  await core.append('one')
  console.log((await core.get(0)).toString())
  await core.close()
}

main()
