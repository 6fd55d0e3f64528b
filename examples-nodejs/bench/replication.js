// Times the replication of a whole core from one process to another, between Node and Rust in every pairing, as a ratio
// to Node from Node in the same run: `node bench/replication.js [BLOCKS] [BYTES] [ROUNDS]`, by default 100000 blocks of
// 100 bytes, 3 rounds; the fastest counts.
//
// With `--at-most RATIO` it exits with 1 when Rust from Node is slower than that. Node keeps its core on disk, its only
// option; Rust keeps its own in memory, or with `--disk` in a file. The Rust side is impl/examples/transfer.rs, built
// by cargo.

const fs = require('fs')
const os = require('os')
const path = require('path')
const { spawn, execFileSync } = require('child_process')
const readline = require('readline')

const ROOT = path.join(__dirname, '..', '..')
const LIMIT_MS = 10 * 60 * 1000

const args = process.argv.slice(2)
const at = args.indexOf('--at-most')
const atMost = at === -1 ? Infinity : Number(args.splice(at, 2)[1])
const onDisk = args.indexOf('--disk')
if (onDisk !== -1) args.splice(onDisk, 1)
const [count = 100000, size = 100, rounds = 3] = args.map(Number)

main().catch((err) => {
  console.error(err.message)
  process.exit(1)
})

async function main () {
  const rust = build()
  const node = path.join(__dirname, 'transfer.js')
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hypercore-transfer-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }))
  let files = 0
  const file = () => onDisk === -1 ? [] : [path.join(folder, `core-${files++}`)]
  const command = (kind, ...rest) => kind === 'rust' ? [rust, [...rest, ...file()]] : [process.execPath, [node, ...rest]]

  console.log(`${count} blocks of ${size} bytes, the fastest of ${rounds}; Rust keeps them ${onDisk === -1 ? 'in memory' : 'on disk'}`)
  let base = null
  let slow = false
  for (const [writer, reader] of [['node', 'node'], ['node', 'rust'], ['rust', 'node'], ['rust', 'rust']]) {
    const server = start(...command(writer, 'serve', String(count), String(size)))
    const [, address, key] = await server.match(/^serving on (\S+), key (\S+)$/)
    let best = Infinity
    for (let round = 0; round < rounds; round++) {
      const client = start(...command(reader, 'read', address, key, String(count)))
      const [, ms] = await client.match(/^(\d+) ms$/)
      best = Math.min(best, Number(ms))
      await client.end()
    }
    await server.end()
    if (base === null) base = best
    const ratio = best / base
    console.log(`${reader} from ${writer}: ${best} ms, ${ratio.toFixed(2)} of node from node`)
    if (writer === 'node' && reader === 'rust') slow = ratio > atMost
  }
  if (slow) throw new Error(`rust from node is slower than ${atMost} of node from node`)
}

function build () {
  const out = execFileSync('cargo', [
    'build', '--quiet', '--release', '-p', 'hypercore-protocol', '--features', 'replication', '--example', 'transfer',
    '--message-format', 'json-render-diagnostics'
  ], { cwd: ROOT, maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] })
  const artifacts = out.toString().split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  return artifacts.find((it) => it.executable && it.target.name === 'transfer').executable
}

function start (command, args) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.on('error', () => {})
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS)
  const exit = new Promise((resolve) => child.on('close', resolve)).finally(() => clearTimeout(timer))
  const lines = readline.createInterface({ input: child.stdout })
  return {
    async match (pattern) {
      const line = new Promise((resolve) => lines.on('line', (line) => {
        const match = pattern.exec(line)
        if (match) resolve(match)
      }))
      const ended = exit.then((code) => { throw new Error(`${path.basename(command)} ended with ${code}`) })
      ended.catch(() => {})
      return Promise.race([line, ended])
    },
    end () {
      child.stdin.end()
      return exit
    }
  }
}
