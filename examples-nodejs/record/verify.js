// Runs every case on the adapter, as the conformance suite would, and compares the answers.

const fs = require('fs')
const path = require('path')
const readline = require('readline')
const { spawn } = require('child_process')
const { isDeepStrictEqual } = require('util')
const { expand, digest } = require('../lib/bytes')
const { RELEASES } = require('../lib/release')

// Outcomes in which Node dies or hangs: repeating them in this process proves nothing.
const NOT_ASKED = new Set(['process-dies', 'hangs'])

module.exports = async function verify (root, list) {
  let failed = 0
  for (const release of RELEASES) {
    const adapter = new Adapter(release)
    const hello = await adapter.ask('hello', { protocol: 1 })
    let passed = 0
    const left = []
    for (const name of list(root)) {
      const file = JSON.parse(fs.readFileSync(path.join(root, name), 'utf8'))
      for (const group of file.groups) {
        for (const c of group.cases) {
          if (!hello.ok.ops.includes(group.op) || (c.node && NOT_ASKED.has(c.node.outcome))) {
            left.push(c.id)
            continue
          }
          const fault = judge({ ...c, ...c.releases[release] }, await adapter.ask(group.op, expand(c.input)))
          if (fault === null) passed++
          else {
            failed++
            console.error(`${release} ${c.id}: ${fault}`)
          }
        }
      }
    }
    adapter.end()
    console.log(`${release}: ${passed} passed, ${left.length} not asked`)
  }
  if (failed) console.log(`${failed} failed`)
  return failed ? 1 : 0
}

function judge ({ result, expect }, answer) {
  const short = (value) => JSON.stringify(value).slice(0, 300)
  const output = answer.ok === undefined ? undefined : digest(answer.ok)
  const outputOk = (wanted) => isDeepStrictEqual(output, wanted)
  const errorOk = () => answer.error && answer.error.layer === expect.error.layer && answer.error.class === expect.error.class
  // A destroyed session is invalid, but has an output, which contains the error.
  if (result === 'valid' || expect.output) return outputOk(expect.output) ? null : `expected ${short(expect.output)}, got ${short(answer)}`
  if (result === 'invalid') return errorOk() ? null : `expected ${short(expect.error)}, got ${short(answer)}`
  if ((expect.outputs || []).some(outputOk) || (expect.error && errorOk())) return null
  return `expected one of ${short(expect)}, got ${short(answer)}`
}

class Adapter {
  constructor (release) {
    this.child = spawn(process.execPath, [path.join(__dirname, '..', 'adapter.js'), '--release', release], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.waiting = []
    this.id = 0
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => this.waiting.shift().resolve(JSON.parse(line)))
    this.child.on('exit', () => {
      for (const { reject } of this.waiting) reject(new Error('the adapter ended'))
    })
  }

  ask (op, input) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject })
      this.child.stdin.write(JSON.stringify({ id: this.id++, op, input }) + '\n')
    })
  }

  end () {
    this.child.stdin.end()
  }
}
