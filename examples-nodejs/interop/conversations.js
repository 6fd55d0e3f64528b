// Replays the conversations of vectors/transcript, with another release in place of the pinned one of its line.
//
//   node interop/conversations.js DIR LINE [SKIP]     with the hypercore in DIR/node_modules, of any release, for LINE
//
// Prints { slug } when a conversation begins, and { slug, input } or { slug, error } when it ends, each as a line of
// JSON; `input` is that of transcript.decode. SKIP conversations are skipped: after a release has crashed, the next one
// can be requested.

const [dir, line, skip = '0'] = process.argv.slice(2)

// Node prints warnings of conflicts to stdout, which is for answers here.
console.log = console.error
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const words = ({ code, message }) => (code && !message.startsWith(code) ? `${code} ${message}` : message)

// An uncaught error ends the conversation, and the process with it; without a conversation, `slug` is absent.
let slug
process.on('uncaughtException', (err) => {
  say({ slug, error: words(err) })
  process.exit(1)
})

const { load, loadFolder } = require('../lib/release')

const told = loadFolder(dir)
// Not earlier, since it loads the selected transport.
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
