#!/usr/bin/env node
// A hypercore served over WebSocket, to browsers and others: a real core with real blocks, replicating over
// @hyperswarm/secret-stream. It serves a folder of static files at the same address, such as the page of ../impl/wasm.
//   node websocket-peer.js [--port 8080] [--files FOLDER] [--large]
// --large adds a block of 1 MiB. Prints the page's address, which contains the core's key.

const fs = require('fs')
const http = require('http')
const os = require('os')
const path = require('path')
const Hypercore = require('hypercore')
const SecretStream = require('@hyperswarm/secret-stream')
const { WebSocketServer, createWebSocketStream } = require('ws')

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.wasm': 'application/wasm'
}

// Only this server's own files and its own socket.
const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; img-src data:"

const LARGE = 1 << 20

// Blocks of every kind that a reader has to show: text, non-ASCII text, an empty block, and bytes that are not text.
function blocks (large = false) {
  const some = [
    Buffer.from('The first block of a core that lives in a Node process.'),
    Buffer.from('Zwölf Boxkämpfer, 深い青, 🦀: text is UTF-8.'),
    Buffer.alloc(0),
    Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
    Buffer.from('<b>Not markup</b> & not a script: <script>document.title = "run"</script>')
  ]
  return large ? [...some, largeBlock()] : some
}

// Numbered lines, so that a missing or swapped part is visible.
function largeBlock () {
  let text = ''
  for (let line = 0; text.length < LARGE; line++) text += `line ${line} of a block of one mebibyte\n`
  return Buffer.from(text.slice(0, LARGE))
}

// Serves a new core with these blocks. Resolves to { core, url, socketUrl, streams, lose, close }: lose() breaks every
// connection without a close, as a peer that disappears.
async function serve ({ port = 0, files = null, blocks: values = blocks() } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'websocket-peer-'))
  const core = new Hypercore(folder)
  await core.append(values)

  const server = http.createServer((request, response) => serveFile(files, request, response))
  const sockets = new WebSocketServer({ server, perMessageDeflate: false })
  const streams = new Set()
  sockets.on('connection', (socket) => {
    const stream = new SecretStream(false, createWebSocketStream(socket))
    streams.add(stream)
    // A faulty peer ends its own stream and does not affect this process.
    stream.on('error', (err) => { if (module === require.main) console.error(err.message) })
    stream.on('close', () => streams.delete(stream))
    core.replicate(stream)
  })
  await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  const address = `127.0.0.1:${server.address().port}`
  const key = core.key.toString('hex')

  return {
    core,
    streams,
    sockets,
    url: `http://${address}/?key=${key}`,
    socketUrl: `ws://${address}/`,
    lose () {
      for (const socket of sockets.clients) socket.terminate()
    },
    async close () {
      this.lose()
      await new Promise((resolve) => sockets.close(resolve))
      await new Promise((resolve) => {
        server.close(resolve)
        server.closeAllConnections()
      })
      await core.close()
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}

function serveFile (folder, request, response) {
  const { pathname } = new URL(request.url, 'http://localhost')
  const name = path.join(folder || '', pathname === '/' ? 'index.html' : path.normalize(pathname))
  const type = TYPES[path.extname(name)]
  if (folder === null || type === undefined || !name.startsWith(path.join(folder, path.sep))) return notFound(response)
  fs.readFile(name, (err, bytes) => {
    if (err) return notFound(response)
    response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY, 'cache-control': 'no-cache' })
    response.end(bytes)
  })
}

function notFound (response) {
  response.writeHead(404, { 'content-type': 'text/plain' })
  response.end('not found\n')
}

async function main () {
  const option = (name) => {
    const at = process.argv.indexOf(name)
    return at === -1 ? null : process.argv[at + 1]
  }
  const large = process.argv.includes('--large')
  const peer = await serve({ port: Number(option('--port') || 8080), files: option('--files'), blocks: blocks(large) })
  console.log(`page    ${peer.url}\nsocket  ${peer.socketUrl}\nkey     ${peer.core.key.toString('hex')}\nblocks  ${peer.core.length}`)
  process.once('SIGINT', () => peer.close())
}

if (module === require.main) {
  main().catch((err) => {
    console.error(err.message)
    process.exit(1)
  })
}

module.exports = { blocks, largeBlock, serve }
