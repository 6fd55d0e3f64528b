// The crate in WebAssembly, in headless Chromium: the page of ../../impl/wasm, over WebSocket, against a Node hypercore.
// CHROMIUM names the browser; WASM_SCREENSHOTS a folder for pictures of the page.

const fs = require('fs')
const path = require('path')
const { after, before, test } = require('node:test')
const assert = require('assert/strict')
const crypto = require('hypercore-crypto')
const { chromium } = require('playwright-core')
const { blocks, largeBlock, serve } = require('../websocket-peer')
const { PAGE } = require('./load')

const VECTORS = path.join(__dirname, '..', '..', 'vectors')
const PATIENCE = 30_000

let browser = null

before(async () => {
  if (!fs.existsSync(PAGE)) throw new Error(`${PAGE} is not built: run .ci/wasm`)
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'
    ]
  })
})

after(() => browser?.close())

// A page that shows a core of these blocks. If the test fails, the page's console output is printed.
function onPage (title, values, fn) {
  test(title, { timeout: 2 * PATIENCE }, async () => {
    const node = await serve({ files: PAGE, blocks: values })
    const page = await browser.newPage()
    page.setDefaultTimeout(PATIENCE)
    const written = []
    const asked = []
    page.on('console', (message) => written.push(`${message.type()}: ${message.text()}`))
    page.on('pageerror', (error) => written.push(`uncaught: ${error.stack}`))
    page.on('request', (request) => asked.push(request.url()))
    page.on('websocket', (socket) => asked.push(socket.url()))
    try {
      await page.goto(node.url)
      await fn(page, node)
      assert.deepEqual(written.filter((line) => /^(error|uncaught|warning)/.test(line)), [])
      // The page loads nothing from any other server.
      const here = new URL(node.url).host
      assert.deepEqual(asked.filter((url) => !url.startsWith('data:') && new URL(url).host !== here), [])
    } catch (error) {
      console.error(`the console of the page:\n${written.join('\n') || '(nothing)'}\nthe page:\n${await page.innerText('body')}`)
      throw error
    } finally {
      await page.close()
      await node.close()
    }
  })
}

async function reaches (page, state) {
  const reached = await page.waitForSelector(`body[data-state="${state}"], body[data-state="failed"]`)
  assert.equal(await reached.getAttribute('data-state'), state)
}

onPage('the page shows the blocks of a Node hypercore, byte for byte', [...blocks(), largeBlock()], async (page, node) => {
  await page.click('#connect')
  await reaches(page, 'complete')
  assert.equal(await page.innerText('#status'), `All ${node.core.length} blocks received and verified.`)
  assert.equal(await page.innerText('#length'), String(node.core.length))
  assert.equal(await page.innerText('#discovery-key'), node.core.discoveryKey.toString('hex'))
  const [stream] = node.streams
  assert.equal(await page.innerText('#remote-public-key'), stream.publicKey.toString('hex'))
  assert.equal(await page.innerText('#handshake-hash'), stream.handshakeHash.toString('hex'))
  const shown = await page.$$eval('#blocks > li', (items) => items.map((item) => ({
    index: Number(item.dataset.index),
    kind: item.querySelector('pre')?.className ?? 'empty',
    text: item.querySelector('pre')?.textContent ?? ''
  })))
  assert.deepEqual(shown.map(({ index }) => index), [...Array(node.core.length).keys()])
  for (const { index, kind, text } of shown) {
    const bytes = kind === 'hex' ? Buffer.from(text.replace(/^\S+|\|.*$/gm, '').replace(/\s/g, ''), 'hex') : Buffer.from(text)
    assert.ok(bytes.equals(await node.core.get(index)), `block ${index}: ${text.slice(0, 200)}`)
  }
  assert.deepEqual(shown.map(({ kind }) => kind), ['', '', 'empty', 'hex', '', ''])
  // A block is text and never becomes part of the page.
  assert.equal(await page.title(), 'A hypercore in the browser')
  await screenshots(page)
  await page.click('#disconnect')
  await reaches(page, 'ended')
})

onPage('a core of no blocks, and one that grows while the page looks', [], async (page, node) => {
  await page.click('#connect')
  await page.waitForSelector('#core:not([hidden])')
  await node.core.append(Buffer.from('late'))
  await page.waitForSelector('#blocks > [data-index="0"]')
  await node.core.append(Buffer.from('later'))
  await page.waitForSelector('#blocks > [data-index="1"]')
  assert.deepEqual(await page.$$eval('#blocks pre', (all) => all.map((pre) => pre.textContent)), ['late', 'later'])
})

onPage('a wrong key is told to the reader, who can try again', blocks(), async (page, node) => {
  await page.fill('#key', 'ab'.repeat(32))
  await page.click('#connect')
  await reaches(page, 'failed')
  assert.equal(await page.innerText('#error'), 'The peer does not have this core. channel: rejected')
  assert.equal(await page.$$eval('#blocks > li', (items) => items.length), 0)
  await screenshots(page, 'wrong-key')
  await page.fill('#key', node.core.key.toString('hex').toUpperCase())
  await page.click('#connect')
  await reaches(page, 'complete')
  assert.equal(await page.isHidden('#error'), true)
})

onPage('a peer that goes away is told to the reader, and what it sent stays', blocks(), async (page, node) => {
  await page.click('#connect')
  await reaches(page, 'complete')
  node.lose()
  await reaches(page, 'failed')
  assert.match(await page.innerText('#error'), /lost.*connection: /s)
  assert.equal(await page.$$eval('#blocks > li', (items) => items.length), node.core.length)
})

onPage('handshakes and sealed records are those of the vectors', [], async (page) => {
  for (const file of ['noise/handshake', 'secretstream/header', 'secretstream/push', 'secretstream/pull']) {
    const { groups } = JSON.parse(fs.readFileSync(path.join(VECTORS, `${file}.json`)))
    const cases = groups.flatMap(({ op, cases }) =>
      cases.filter(({ result }) => result === 'valid').map(({ id, input, expect }) => ({ op, id, input: JSON.stringify(expand(input)), expect })))
      // Records of 16 MiB are tested in Node, where they are not passed between processes.
      .filter(({ input }) => input.length < 1 << 20)
    assert.ok(cases.length >= 5, file)
    const answers = await page.evaluate(async (cases) => {
      const { default: init, call } = await import('/vectors/hypercore_conformance_wasm.js') // eslint-disable-line import/no-absolute-path
      await init()
      return cases.map(({ op, input }) => JSON.parse(call(op, input)))
    }, cases)
    cases.forEach(({ id, expect }, at) => contains(answers[at].ok, expect.output, id))
  }
})

// Inputs in the runner's form: short forms are expanded.
function expand (value) {
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(expand)
  if ('repeat' in value) return value.repeat.repeat(value.times)
  if ('concat' in value) return value.concat.map(expand).join('')
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, expand(inner)]))
}

// Whether everything expected is present; an implementation may return more.
function contains (actual, expected, id) {
  if (expected === null || typeof expected !== 'object') return assert.deepEqual(actual, expected, id)
  if ('blake2b256' in expected) {
    const bytes = Buffer.from(actual, 'hex')
    actual = { length: bytes.byteLength, blake2b256: crypto.hash(bytes).toString('hex') }
  }
  assert.ok(actual !== null && typeof actual === 'object', id)
  for (const [name, value] of Object.entries(expected)) contains(actual[name], value, `${id}: ${name}`)
}

async function screenshots (page, name = 'page') {
  const folder = process.env.WASM_SCREENSHOTS
  if (!folder) return
  fs.mkdirSync(folder, { recursive: true })
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}.png`), fullPage: true })
  }
}
