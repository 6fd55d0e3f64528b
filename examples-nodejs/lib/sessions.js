// Case makers for sessions. The results of a session are taken from Node; the recorder states how it is meant to end,
// so that a case can't change its meaning unnoticed.

const { spawnSync } = require('child_process')
const { isDeepStrictEqual } = require('util')
const { run } = require('./vectors')
const { digest, expand } = require('./bytes')
const { SEEN } = require('./session')
const { RELEASES, DEFAULT } = require('./release')
const ops = require('../ops')

// A case of a session.
//   ends: null if the stream stays alive, or [layer, class] of the error that destroys it
//   dies: the record at which the whole process dies; tried in a separate process
//   outcome: Node's reaction to an oddity that it survives ("ignores", "returns")
//   or: other acceptable outputs
async function session (group, slug, { clauses, comment, flags = [], input, ends = null, dies = null, outcome = null, or = null }) {
  const { output, seen } = await outputOf(group.op, input)
  if (!isDeepStrictEqual(output.error && [output.error.layer, output.error.class], ends)) {
    throw new Error(`${slug}: ends with ${JSON.stringify(output.error)}: ${seen && seen.message}, not ${JSON.stringify(ends)}`)
  }
  if ((seen && seen.outcome === 'process-dies') !== (dies !== null) && (seen || dies)) throw new Error(`${slug}: the process ${dies ? 'lives' : 'dies'}`)
  if (dies !== null) itDies(dies)

  let result = ends ? 'invalid' : 'valid'
  let expect = { output }
  let node = ends ? { outcome: seen.outcome, message: seen.message } : outcome ? { outcome } : null
  if (!ends && !node && flags.length) node = { outcome: 'returns' }
  if (or) {
    result = 'acceptable'
    expect = { outputs: [output, ...or(output)] }
  }

  const releases = {}
  if (ops.dependsOnRelease(group.op)) {
    for (const release of RELEASES) {
      if (release === DEFAULT) continue
      const other = (await outputOf(group.op, input, release)).output
      if (!isDeepStrictEqual(other, output)) releases[release] = { result: other.error ? 'invalid' : 'valid', expect: { output: other } }
    }
  }
  return group.given(slug, { clauses, comment, flags, input, result, expect, node, releases })
}

async function outputOf (op, input, release) {
  const got = await run(op, input, release)
  if (got.error) throw got.error
  return { output: digest(got.output), seen: got.output[SEEN] || null }
}

// A destroyed session in place of a live one: the last step has no events, and the error is this one.
const destroyed = (layer, cls) => (output) => [{
  steps: output.steps.map((step, i) => i === output.steps.length - 1 ? { events: [], sent: [] } : step),
  alive: false,
  error: { layer, class: cls }
}]

// Gives a record to protomux on a stream of streamx, in a separate process, which must die of it.
function itDies (record) {
  const script = `
    const { Duplex } = require('streamx')
    const stream = new Duplex()
    new (require('protomux'))(stream)
    let hex = ''
    process.stdin.on('data', (data) => { hex += data }).on('end', () => {
      stream.push(Buffer.from(hex, 'hex'))
      setTimeout(() => process.exit(0), 1000)
    })`
  const child = spawnSync(process.execPath, ['-e', script], { cwd: __dirname, input: expand(record), encoding: 'utf8', timeout: 20000 })
  if (child.status === 0 || !/RangeError: Maximum call stack size exceeded/.test(child.stderr)) {
    throw new Error(`the process was to die, but ended with ${child.status}: ${child.stderr.slice(0, 400)}`)
  }
}

module.exports = { session, destroyed, itDies }
