// Replicates a core between two processes and prints their output: `node run.js nodeServer | rustServer | rust | node`.
//
//   nodeServer    Node serves, Rust reads
//   rustServer    Rust serves, Node reads
//   rust, node    both sides are the same
//
// The Rust side is impl/examples/replication.rs, built by cargo; the Node side is replication/peer.js. The server picks a
// free port. Exits with 0 when the reader printed every block, and with 1 otherwise. NO_COLOR turns the colours off.

const path = require('path')
const { spawn } = require('child_process')
const readline = require('readline')

const ROOT = path.join(__dirname, '..')
const EXPECTED = ['0: hi', '1: ola', '2: hello', '3: mundo']
const BUILD_MS = 20 * 60 * 1000
const RUN_MS = 60 * 1000

const PAIRINGS = {
  nodeServer: ['node', 'rust'],
  rustServer: ['rust', 'node'],
  rust: ['rust', 'rust'],
  node: ['node', 'node']
}
const COLOURS = { 'node server': 32, 'node client': 36, 'rust server': 33, 'rust client': 35, build: 90 }

const running = new Set()

// A process whose lines are printed with a coloured prefix, and kept.
class Side {
  constructor (name, command, args, { stdout = true } = {}) {
    this.name = name
    this.lines = []
    this.onlines = []
    this.child = spawn(command, args, { cwd: ROOT, stdio: ['pipe', 'pipe', 'pipe'] })
    running.add(this.child)
    // Writes to an exited process are ignored.
    this.child.stdin.on('error', () => {})

    const colour = process.env.NO_COLOR ? (text) => text : (text) => `\x1b[${COLOURS[name]}m${text}\x1b[0m`
    const print = (stream) => (line) => stream.write(`${colour(`[${name}]`)} ${line}\n`)
    const out = readline.createInterface({ input: this.child.stdout })
    out.on('line', (line) => {
      this.lines.push(line)
      if (stdout) print(process.stdout)(line)
      for (const online of this.onlines) online(line)
    })
    readline.createInterface({ input: this.child.stderr }).on('line', print(process.stderr))

    this.exit = new Promise((resolve, reject) => {
      this.child.on('error', (err) => reject(new Error(`${command} does not start: ${err.message}`)))
      this.child.on('close', (code, signal) => {
        running.delete(this.child)
        resolve(code === null ? signal : code)
      })
    })
    // Waiters get the error.
    this.exit.catch(() => {})
  }

  // The first line that matches, even if it was printed before; an error if the process exits without one.
  async match (pattern) {
    const line = new Promise((resolve) => {
      const look = (line) => {
        const match = pattern.exec(line)
        if (match) resolve(match)
      }
      this.lines.forEach(look)
      this.onlines.push(look)
    })
    const ended = this.exit.then((code) => {
      throw new Error(`the ${this.name} ended with ${code} before it was ready`)
    })
    return Promise.race([line, ended])
  }
}

function within (ms, what, promise) {
  let timer
  const timeout = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${ms / 1000} s`)), ms)
  })
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer))
}

// Builds the example, and finds its path in cargo's output.
async function build () {
  const args = ['build', '--quiet', '-p', 'hypercore-protocol', '--features', 'replication', '--example', 'replication']
  const cargo = new Side('build', 'cargo', [...args, '--message-format', 'json-render-diagnostics'], { stdout: false })
  cargo.child.stdin.end()
  const code = await cargo.exit
  const artifacts = cargo.lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  const example = artifacts.find((it) => it.executable && it.target.name === 'replication')
  if (code !== 0 || !example) throw new Error(`cargo build ended with ${code}`)
  return example.executable
}

async function replicate (serverKind, clientKind) {
  let rust = null
  if (serverKind === 'rust' || clientKind === 'rust') rust = await within(BUILD_MS, 'the build', build())
  const start = (kind, role, args) => kind === 'rust'
    ? new Side(`rust ${role}`, rust, args)
    : new Side(`node ${role}`, process.execPath, [path.join(__dirname, 'replication', 'peer.js'), ...args])

  await within(RUN_MS, 'the replication', (async () => {
    const server = start(serverKind, 'server', ['serve'])
    const [, address, key] = await server.match(/^serving on (\S+), key ([0-9a-f]{64})$/)

    const client = start(clientKind, 'client', ['read', address, key])
    client.child.stdin.end()
    const clientCode = await client.exit
    server.child.stdin.end()
    const serverCode = await server.exit

    if (clientCode !== 0) throw new Error(`the ${client.name} ended with ${clientCode}`)
    if (serverCode !== 0) throw new Error(`the ${server.name} ended with ${serverCode}`)
    if (client.lines.join('\n') !== EXPECTED.join('\n')) throw new Error('the blocks are not those that were appended')
  })())
}

const pairing = PAIRINGS[process.argv[2]]
if (pairing === undefined || process.argv.length !== 3) {
  console.error(`usage: node run.js ${Object.keys(PAIRINGS).join(' | ')}`)
  process.exit(2)
}
replicate(...pairing).catch((err) => {
  console.error(err.message)
  process.exitCode = 1
}).finally(() => {
  // No process outlives a failure.
  for (const child of running) child.kill('SIGKILL')
})
