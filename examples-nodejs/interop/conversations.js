// The conversations of vectors/transcript once more, with another release in the place of the pinned one of its line.
//
//   node interop/conversations.js DIR LINE [SKIP]     the hypercore in DIR/node_modules, of any release, in the place of LINE
//
// Says { slug } as a conversation begins, and { slug, input } or { slug, error } as it ends, each a line of JSON; `input` is
// that of transcript.decode. SKIP conversations are left out: of a release that ends the process, the next can be asked for.

const [dir, line, skip = '0'] = process.argv.slice(2)

// Node warns of conflicts on stdout, which is for answers here.
console.log = console.error
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const words = ({ code, message }) => (code && !message.startsWith(code) ? `${code} ${message}` : message)

// What is thrown where nobody catches it ends the conversation, and the process with it; without one, `slug` is absent.
let slug
process.on('uncaughtException', (err) => {
  say({ slug, error: words(err) })
  process.exit(1)
})

const { load, loadFolder } = require('../lib/release')

const told = loadFolder(dir)
// Only now, for it loads the transport that was chosen.
const { ROLES, SCENARIOS, converse, slugOf } = require('../lib/conversation')

const packagesOf = (release) => (release === line ? told : load(release))
const talks = SCENARIOS.filter(({ writer, reader }) => [writer, reader].includes(line))
  .flatMap((scenario) => ROLES.map((role) => ({ scenario, role })))

async function main () {
  for (const { scenario, role } of talks.slice(Number(skip))) {
    slug = slugOf(scenario, role)
    say({ slug })
    try {
      const { input } = await converse(scenario, role, packagesOf)
      say({ slug, input })
    } catch (err) {
      say({ slug, error: words(err) })
    }
  }
  slug = undefined
}

main().then(() => process.exit(0))
