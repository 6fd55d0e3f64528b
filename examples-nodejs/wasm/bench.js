// The speed of messages from one connection to another in WebAssembly, in Node and in headless Chromium, compared with
// the host: built and run by `.ci/wasm bench`. The median of 5 rounds, in which each has its turn.

const path = require('path')
const { execFileSync } = require('child_process')
const { chromium } = require('playwright-core')
const { serve } = require('../websocket-peer')
const { PAGE, load } = require('./load')

const ROUNDS = 5
const WINDOW = 1 << 18
const NATIVE = path.join(PAGE, '..', '..', 'release', 'wasm-bench-native')

// Sends windows of blocks and returns the milliseconds; also runs in the page.
function time (library, size, windows) {
  const line = new library.Line(size)
  line.send(Math.floor(windows / 10) + 1)
  const started = performance.now()
  line.send(windows)
  const took = performance.now() - started
  line.free()
  return took
}

async function main () {
  const library = await load('bench')
  const server = await serve({ files: PAGE, blocks: [] })
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] })
  const page = await browser.newPage()
  await page.goto(server.url)
  await page.evaluate(async (source) => {
    globalThis.time = new Function(`return ${source}`)()
    globalThis.library = await import('/bench/wasm_bench.js')
    await globalThis.library.default()
  }, time.toString())

  const contestants = {
    native: (size, windows) => Number(execFileSync(NATIVE, [String(size), String(windows)])),
    [`Node ${process.versions.node}`]: (size, windows) => time(library, size, windows),
    [`Chromium ${browser.version()}`]: (size, windows) =>
      page.evaluate(([size, windows]) => globalThis.time(globalThis.library, size, windows), [size, windows])
  }
  console.log('| | | MB/s | of native |\n|---|---|--:|--:|')
  for (const [name, size, windows] of [['64 KiB messages', 65536, 200], ['1 KiB messages', 1024, 100]]) {
    const rates = Object.fromEntries(Object.keys(contestants).map((who) => [who, []]))
    for (let round = 0; round < ROUNDS; round++) {
      for (const who of Object.keys(contestants)) {
        rates[who].push(WINDOW * windows / 1000 / await contestants[who](size, windows))
      }
    }
    const middle = (values) => values.toSorted((a, b) => a - b)[ROUNDS >> 1]
    for (const who of Object.keys(contestants)) {
      const share = middle(rates[who].map((rate, round) => rate / rates.native[round]))
      console.log(`| ${name} | ${who} | ${Math.round(middle(rates[who]))} | ${share.toFixed(2)} |`)
    }
  }
  await browser.close()
  await server.close()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
