// The page: connects to a peer by WebSocket, opens a core's channel, asks for its blocks and shows them.

import init, { Core, Peer } from './pkg/hypercore_protocol_wasm.js'

// How many requests wait for an answer at a time.
const IN_FLIGHT = 8
// How many messages the list of them shows.
const LOGGED = 500
// Of a block that is no text, so many bytes are shown.
const HEX_SHOWN = 4096

const $ = (id) => document.getElementById(id)
const query = new URLSearchParams(window.location.search)

let peer = null
let messages = 0
let requests = 0

$('server').value = query.get('server') || window.location.origin.replace(/^http/, 'ws') + '/'
$('key').value = query.get('key') || ''
$('form').addEventListener('submit', (event) => {
  event.preventDefault()
  run($('server').value, $('key').value)
})
$('disconnect').addEventListener('click', () => peer.close())
// Before, the form would be sent to the server.
$('connect').disabled = false

async function run (server, key) {
  reset()
  try {
    await init()
    peer = await Peer.connect(server)
    $('disconnect').disabled = false
    say('connecting', 'Connected. Waiting for the peer to open the core …')
    const channel = await peer.open(key)
    showCore(channel)
    await Promise.all([read(channel), watch(peer)])
  } catch (error) {
    fail(error)
    if (peer) await peer.close()
  }
  peer = null
  $('connect').disabled = false
  $('disconnect').disabled = true
}

// Reads all blocks, and goes on listening for more. What is shown was verified: each block by the core's tree, the tree by
// its signature, and who may sign by the core's key.
async function read (channel) {
  const core = new Core(channel.key)
  const asked = new Map() // request id to block index, or null for an upgrade
  let announced = 0 // what the peer says that there is
  let next = 0
  let received = 0

  const send = async (...messages) => {
    for (const message of messages) log('sent', message)
    await channel.send(messages)
  }
  const request = (index, wanted) => {
    const id = ++requests
    asked.set(id, index)
    return { type: 'request', id, fork: core.fork, ...wanted }
  }
  const ask = async () => {
    const upgrading = [...asked.values()].includes(null)
    const wanted = []
    if (announced > core.length && !upgrading) {
      const upgrade = { start: core.length, length: announced - core.length }
      wanted.push(request(null, { upgrade, manifest: !core.hasManifest }))
    }
    for (; next < core.length && asked.size < IN_FLIGHT; next++) {
      wanted.push(request(next, { block: { index: next, nodes: core.missingNodes(next) } }))
    }
    if (wanted.length > 0) await send(...wanted)
  }

  await send({ type: 'sync', uploading: false, downloading: true })
  for await (const message of channel) {
    log('received', message)
    if (message.type === 'sync' && message.length > announced) {
      await send({ type: 'want', start: announced, length: message.length - announced })
      announced = message.length
    } else if (message.type === 'data' && asked.has(message.request)) {
      const index = asked.get(message.request)
      asked.delete(message.request)
      if (!core.verify(message)) throw new Error('The peer has another history of this core')
      if (index !== null) showBlock(index, core.get(index))
      received += index !== null
    } else if (message.type === 'noData' && asked.has(message.request)) {
      const index = asked.get(message.request)
      asked.delete(message.request)
      if (index === null) throw new Error('The peer does not prove the length that it claims')
      showMissing(index)
      received++
    } else {
      continue
    }
    $('length').textContent = core.length
    $('fork').textContent = core.fork
    await ask()
    if (core.length > 0) progress(received, core.length)
  }
}

// Says how the stream ended.
async function watch (peer) {
  const error = await peer.closed()
  if (error) throw error
  say('ended', 'The stream has ended.')
}

function reset () {
  for (const id of ['blocks', 'log', 'length', 'fork', 'error']) $(id).replaceChildren()
  for (const id of ['core', 'blocks-section', 'log-section', 'error', 'progress']) $(id).hidden = true
  messages = requests = 0
  $('connect').disabled = true
  say('connecting', 'Connecting …')
}

function say (state, text) {
  $('status').textContent = text
  document.body.dataset.state = state
}

function fail (error) {
  $('error').replaceChildren(error.message[0].toUpperCase() + error.message.slice(1) + '.')
  if (error.class) $('error').append(' ', element('code', {}, `${error.layer}: ${error.class}`))
  $('error').hidden = false
  $('progress').hidden = true
  say('failed', 'Not connected.')
}

function progress (received, length) {
  $('progress').hidden = received === length
  $('progress').max = length
  $('progress').value = received
  if (received === length) say('complete', `All ${length} blocks received and verified.`)
  else say('receiving', `Received ${received} of ${length} blocks …`)
}

function showCore (channel) {
  $('discovery-key').textContent = hex(channel.discoveryKey)
  $('remote-public-key').textContent = hex(peer.remotePublicKey)
  $('handshake-hash').textContent = hex(peer.handshakeHash)
  for (const id of ['core', 'blocks-section', 'log-section']) $(id).hidden = false
}

function showBlock (index, bytes) {
  const text = asText(bytes)
  let content
  let kind
  if (bytes.length === 0) {
    content = element('p', { class: 'empty' }, 'This block has no bytes.')
    kind = 'empty'
  } else if (text !== null) {
    content = element('pre', { tabindex: 0, 'aria-label': `Text of block ${index}` }, text)
    kind = 'text'
  } else {
    const shown = bytes.subarray(0, HEX_SHOWN)
    content = element('pre', { class: 'hex', tabindex: 0, 'aria-label': `Bytes of block ${index}` }, dump(shown))
    kind = shown.length < bytes.length ? `the first ${shown.length.toLocaleString('en')} in hex` : 'in hex'
  }
  place(index, kind === 'empty' ? kind : `${size(bytes.length)}, ${kind}`, content)
}

function showMissing (index) {
  place(index, 'not there', element('p', { class: 'empty' }, 'The peer does not have this block.'))
}

// Blocks arrive in any order, and are shown in theirs.
function place (index, note, content) {
  const title = element('h3', {}, `Block ${index}`, element('span', {}, note))
  const item = element('li', { 'data-index': index }, title, content)
  const after = [...$('blocks').children].find((other) => Number(other.dataset.index) > index)
  $('blocks').insertBefore(item, after || null)
}

function log (direction, message) {
  const content = JSON.stringify(message, (name, value) => {
    if (name === 'type' || value === null || value === false || value === 0) return undefined
    if (!ArrayBuffer.isView(value)) return value
    return value.length > 32 ? `${value.byteLength} bytes` : hex(value)
  })
  const row = element('tr', {}, element('td', {}, direction), element('td', {}, message.type), element('td', {}, content))
  $('count').textContent = ++messages
  if (messages <= LOGGED) $('log').append(row)
}

// Text that can be shown, or null.
function asText (bytes) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    // eslint-disable-next-line no-control-regex
    return /[\u0000-\u0008\u000b-\u001f\u007f]/.test(text) ? null : text
  } catch {
    return null
  }
}

function dump (bytes) {
  const lines = []
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.subarray(at, at + 16)
    const text = Array.from(line, (byte) => byte > 31 && byte < 127 ? String.fromCharCode(byte) : '.').join('')
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex(line, ' ').padEnd(47)}  |${text}|`)
  }
  return lines.join('\n')
}

function hex (bytes, between = '') {
  return Array.from(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength), (byte) =>
    byte.toString(16).padStart(2, '0')).join(between)
}

function size (bytes) {
  if (bytes >= 1 << 20) return `${(bytes / (1 << 20)).toLocaleString('en', { maximumFractionDigits: 2 })} MiB`
  return bytes === 1 ? '1 byte' : `${bytes.toLocaleString('en')} bytes`
}

function element (name, attributes, ...children) {
  const made = document.createElement(name)
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value)
  made.append(...children)
  return made
}
