// The conformance suite's page in headless Chromium, clicked through: merged reports of faulty adapters. CHROMIUM names
// the browser; CONFORMANCE the built command; REPORT_SCREENSHOTS a folder for pictures of the page.

const { execFile } = require('child_process')
const fs = require('fs')
const os = require('os')
const path = require('path')
const { pathToFileURL } = require('url')
const { promisify } = require('util')
const { after, before, test } = require('node:test')
const assert = require('assert/strict')
const axe = require('axe-core')
const { chromium } = require('playwright-core')

const ROOT = path.join(__dirname, '..', '..')
const PROGRAM = process.env.CONFORMANCE || path.join(ROOT, 'target', 'debug', 'hypercore-conformance')
const PATIENCE = 15_000
const NOT_SERVED = '10.99.0'
const IDS = ['message.bitfield.*', 'message.sync.*', 'encoding.uint.*', 'mux.record.*']

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'report-'))
const file = (name) => path.join(folder, name)
const read = (name) => JSON.parse(fs.readFileSync(file(name)))
let browser = null
let printed = ''

before(async () => {
  if (!fs.existsSync(PROGRAM)) throw new Error(`${PROGRAM} is not built: cargo build -p hypercore-conformance`)
  const run = async (name, fault, ...more) => {
    const adapter = `'${PROGRAM}' adapter${fault ? ` --broken ${fault}` : ''}`
    const told = await command('run', '--no-live', '--adapter', adapter, ...IDS.flatMap((id) => ['--id', id]), '--json', file(`${name}.json`), ...more)
    if (name === 'broken') printed = told
  }
  // One at a time: each keeps a core busy.
  await run('fine')
  await run('broken', 'off-at-the-end', '--html', file('one.html'))
  await run('crashing', 'always-error')
  hostile()
  const columns = ['fine', 'broken', 'crashing', 'hostile'].map((name) => `${name}=${file(`${name}.json`)}`)
  await command('merge', ...columns, '--html', file('many.html'), '--json', file('many.json'))
  // One release that does not exist, so that a row has no cells to show.
  const releases = ['10.38.2', '11.37.1', NOT_SERVED].flatMap((release) => ['--release', release])
  const implementations = ['reference', 'node', `broken='${PROGRAM}' adapter --broken off-at-the-end`]
  await command('matrix', '--quiet', ...releases, '--part', 'vectors', '--part', 'replication',
    ...implementations.flatMap((one) => ['--implementation', one]), '--html', file('matrix.html'), '--json', file('matrix.json'))
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'
    ]
  })
}, { timeout: 300_000 })

after(async () => {
  await browser?.close()
  fs.rmSync(folder, { recursive: true, force: true })
})

// Exit codes 0 and 1 both mean a report; any other code is an error.
async function command (...args) {
  try {
    return (await promisify(execFile)(PROGRAM, args, { maxBuffer: 1 << 26, env: { ...process.env, CARGO: '' } })).stdout
  } catch (error) {
    if (error.code !== 1) throw error
    return error.stdout
  }
}

const HOSTILE = '</script><script>window.owned = 1</script><img src=x onerror="window.owned = 2"><!-- \'"&amp;'

// A report whose every text tries to become markup.
function hostile () {
  const report = read('broken.json')
  report.implementation.name = HOSTILE
  report.leftOut.push(HOSTILE)
  const failed = report.checks.find(({ verdict }) => verdict === 'failed')
  Object.assign(failed, { id: `${HOSTILE}.failed`, comment: HOSTILE, reason: HOSTILE, stderr: HOSTILE, rerun: HOSTILE, flags: [HOSTILE], clauses: [HOSTILE], op: HOSTILE, input: { [HOSTILE]: HOSTILE } })
  Object.assign(failed.differences[0] ?? {}, { path: HOSTILE, field: HOSTILE })
  failed.transcript = { peerIsInitiator: true, keys: {}, implementationHeader: null, chunks: [], trace: [`→ open ${HOSTILE}`, '← close'], leftOut: 0 }
  const [first] = report.checks
  Object.assign(first, { id: HOSTILE, layer: `${HOSTILE}/layer`, subject: HOSTILE })
  const { layers } = report
  layers.find(({ layer }) => layer === 'adapter').verdicts.ok--
  layers.push({ layer: first.layer, verdicts: { ...layers[0].verdicts, ok: 1 } })
  fs.writeFileSync(file('hostile.json'), JSON.stringify(report))
}

// A test on a page, which must neither load anything nor write to the console.
function onPage (title, name, fn, { hash = '', javaScriptEnabled = true, blocked = 0, ...options } = {}) {
  test(title, { timeout: 2 * PATIENCE }, async () => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, javaScriptEnabled, ...options })
    const page = await context.newPage()
    page.setDefaultTimeout(PATIENCE)
    const written = []
    const asked = []
    page.on('console', (message) => written.push(`${message.type()}: ${message.text()}`))
    page.on('pageerror', (error) => written.push(`uncaught: ${error.stack}`))
    page.on('request', (request) => asked.push(request.url()))
    const own = pathToFileURL(file(name)).href
    try {
      await page.goto(own + hash)
      await fn(page)
      const refusals = written.filter((line) => /Content Security Policy/.test(line))
      assert.equal(refusals.length, blocked)
      assert.deepEqual(written.filter((line) => !refusals.includes(line)), [])
      assert.deepEqual(asked.map((url) => url.split('#')[0]).filter((url) => url !== own && !url.startsWith('data:')), [])
      if (javaScriptEnabled) assert.equal(await page.evaluate(() => window.owned), undefined)
    } catch (error) {
      console.error(`the console of the page:\n${written.join('\n') || '(nothing)'}`)
      throw error
    } finally {
      await context.close()
    }
  })
}

const failedIn = (name, layer) => read(`${name}.json`).checks.filter((check) => check.verdict === 'failed' && check.layer === layer)
const titles = (page) => page.$$eval('.cases .id', (ids) => ids.map((id) => id.textContent))

async function picture (page, name) {
  const folder = process.env.REPORT_SCREENSHOTS
  if (!folder) return
  fs.mkdirSync(folder, { recursive: true })
  await page.screenshot({ path: path.join(folder, `${name}.png`) })
}

// Rules of WCAG 2.2 AA, and axe's best practices.
async function accessible (page) {
  // The page's policy blocks scripts; the driver's own channel bypasses it.
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 200)).join(' | ')}`), [])
}

onPage('the counts are those of the terminal and of the JSON report', 'one.html', async (page) => {
  const rows = await page.$$eval('#matrix tbody tr', (rows) => rows.map((row) => [...row.children].map((cell) =>
    [...cell.querySelectorAll('.sr, .sign, .twist')].reduce((text, part) => text.replace(part.textContent, ''), cell.textContent).trim())))
  const table = printed.split('\n').map((line) => line.trim().split(/\s+/)).filter(([layer, count]) => rows.some(([name]) => name === layer) && /^[\d,]+$/.test(count))
  assert.ok(table.length >= 5, printed)
  assert.deepEqual(rows.map((cells) => cells.map((text) => text === '0' || text === '' ? '·' : text)), table)
  const { verdicts, checks } = read('broken.json')
  assert.match(await page.innerText('.verdict'), new RegExp(`FAILED.*\\n${checks.length} checks in all: ${verdicts.failed} failed`))
})

onPage('a cell opens its cases, and a failed one shows its bytes, fields and how to run it again', 'one.html', async (page) => {
  await page.click('#matrix tbody[data-layer="message"] td.v-failed a')
  const failed = failedIn('broken', 'message')
  assert.ok(failed.length > 10)
  assert.match(await page.innerText('.scope'), new RegExp(`^${failed.length} checks in message\\.`))
  assert.deepEqual(new Set(await titles(page)), new Set(failed.map(({ id }) => id).slice(0, 100)))
  const [first] = failed.filter(({ differences }) => differences[0]?.firstByte > 0)
  await page.fill('#text', first.id)
  await page.click('.cases > li:first-child button')
  const detail = page.locator('.detail')
  const [{ expected, actual, firstByte, field }] = first.differences
  const hex = await detail.locator('.hex pre').innerText()
  const lines = hex.split('\n')
  const at = lines.findIndex((line) => line.includes('^^'))
  const column = lines[at].indexOf('^^')
  assert.ok(lines[at].endsWith(`^^ ${field}`), hex)
  assert.equal(lines[at - 1].slice(column, column + 2), actual.slice(2 * firstByte, 2 * firstByte + 2), hex)
  assert.equal(lines[at - 2].slice(column, column + 2), expected.slice(2 * firstByte, 2 * firstByte + 2), hex)
  assert.match(lines[at - 1], /^actual +[0-9a-f]{4} /)
  const marked = await detail.locator('mark.actual').allInnerTexts()
  assert.equal(marked[0], actual.slice(2 * firstByte, 2 * firstByte + 2))
  assert.match(await detail.locator('tr.first').innerText(), new RegExp(field.replace(/[.[\]]/g, '\\$&')))
  const facts = await detail.locator('.facts').innerText()
  const title = fs.readFileSync(path.join(ROOT, 'vectors', 'SPECIFICATION.md'), 'utf8').match(new RegExp(`^### ${first.clauses[0]} — (.*)$`, 'm'))[1]
  assert.ok(facts.includes(`${first.clauses[0]} ${title}`), facts)
  assert.ok((await detail.innerText()).includes(first.reason))
  assert.equal(await detail.locator('.rerun code').innerText(), first.rerun)
  await picture(page, 'case')
})

onPage('the rerun line is copied', 'one.html', async (page) => {
  const [first] = failedIn('broken', 'encoding')
  await page.click('.cases > li:first-child button')
  await page.click('.rerun button')
  await page.waitForFunction(() => document.querySelector('.rerun [role=status]').textContent === 'Copied')
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), first.rerun)
}, { permissions: ['clipboard-read', 'clipboard-write'] })

onPage('a matrix of columns: a cell opens its column, and a case compares all', 'many.html', async (page) => {
  const heads = await page.$$eval('#matrix thead tr:last-child th', (heads) => heads.length)
  assert.equal(heads, 5)
  const name = 'all layers'
  await page.click('#matrix tbody[data-layer="mux"] td:nth-child(3) a')
  const failed = failedIn('broken', 'mux')
  assert.match(await page.innerText('.scope'), /in mux of broken/)
  assert.equal(await page.getAttribute('#matrix td.here a', 'aria-current'), 'true', name)
  const [id] = await titles(page)
  assert.equal(id, failed[0].id)
  await page.click('.cases > li:first-child button')
  await page.click('.detail a:text("Compare")')
  await page.waitForFunction(() => document.querySelectorAll('.detail .outcome').length >= 2)
  const outcomes = await page.locator('.detail .outcome h4').allInnerTexts()
  assert.ok(outcomes.some((text) => /✓ ok.*fine/.test(text)), outcomes.join('\n'))
  assert.ok(outcomes.some((text) => /✕ failed.*broken/.test(text)), outcomes.join('\n'))
  // Back is where we were.
  await page.goBack()
  await page.waitForFunction(() => /in mux of broken/.test(document.querySelector('.scope').textContent))
})

onPage('a matrix: a release on a runtime is a row, and a cell opens what was held against an implementation there', 'matrix.html', async (page) => {
  assert.equal(await page.innerText('h1'), 'Interop matrix')
  const { cells, releases } = read('matrix.json')
  const groups = await page.$$eval('#matrix thead th[scope=colgroup]', (heads) => heads.map((head) => [head.textContent, head.colSpan]))
  assert.deepEqual(groups, [['node', 3], ['reference', 2], ['broken', 1]])
  const parts = await page.$$eval('#matrix thead tr:last-child th', (heads) => heads.map((head) => head.textContent))
  const columns = parts.map((text) => text.split(': '))
  // Each row as JSON has its cells; a cell shows how many of its checks failed, or else passed.
  const rows = await page.$$eval('#matrix tbody tr', (rows) => rows.map((row) => {
    const release = row.closest('tbody').querySelector('th[scope=rowgroup]').textContent
    const [runtime, ...cells] = [...row.querySelectorAll('th[scope=row], td')].map((cell) => (cell.querySelector('[aria-hidden]') ?? cell).textContent)
    return { release, runtime, cells }
  }))
  assert.deepEqual(rows.map(({ release }) => release), ['10.38.2', NOT_SERVED, '11.37.1'])
  assert.match(rows[0].runtime, /^Node\.js \d+\.\d+\.\d+$/)
  for (const { release, cells: shown } of rows) {
    columns.forEach(([implementation, part], at) => {
      const own = cells.filter(({ id }) => id.startsWith(`${implementation}/${release}/`) && id.split('/')[3] === part)
      const count = (of) => own.reduce((sum, cell) => sum + of(cell), 0)
      const [passed, failed] = [count(({ passed }) => passed), count(({ faults = [] }) => faults.length)]
      const format = (value) => value.toLocaleString('en-US')
      const expected = release === NOT_SERVED ? '∅' : failed > 0 ? `✕ ${format(failed)}/${format(passed + failed)}` : passed > 0 ? `✓ ${format(passed)}` : ''
      assert.equal(shown[at], expected, `${implementation} ${part} with ${release}`)
    })
  }
  const { unavailable } = releases.find(({ name }) => name === NOT_SERVED)
  assert.equal((await page.innerText('body')).split(unavailable.split('\n')[0]).length, 2, 'why it could not be had stands there once')
  assert.ok(await page.$eval('.matrix .scroll', (box) => box.scrollWidth <= box.clientWidth), 'it scrolls sideways')
  await picture(page, 'matrix')
  await page.click('#matrix tbody:has(th:text-is("11.37.1")) td.v-failed a')
  const failed = cells.find(({ id }) => id.startsWith('broken/11.37.1/') && id.includes('vectors')).faults
  await page.click('.bar label:has-text("ok") input')
  assert.match(await page.innerText('.scope'), new RegExp(`^${failed.length.toLocaleString('en-US')} checks in vectors of broken`))
  assert.deepEqual(new Set(await titles(page)), new Set(failed.map(({ id }) => id).slice(0, 100)))
  await page.click('.cases > li:first-child button')
  assert.match(await page.innerText('.rerun code'), /^hypercore-conformance matrix --release 11\.37\.1 --runtime \d+ --part vectors$/)
})

onPage('subjects of a layer unfold, with the same counts', 'many.html', async (page) => {
  await page.click('tbody[data-layer="message"] .twist')
  const cells = await page.$$eval('tbody[data-layer="message"] tr.subject', (rows) => rows.map((row) => row.children[2].querySelector('.sr').textContent))
  const failed = failedIn('broken', 'message')
  const inSubject = (subject) => failed.filter((check) => check.subject === subject).length
  assert.deepEqual(cells.map((text) => text.match(/: (\d+) failed/)?.[1]), [`${inSubject('bitfield')}`, `${inSubject('sync')}`])
  await page.click('tbody[data-layer="message"] .twist')
  assert.equal(await page.locator('tr.subject').count(), 0)
})

onPage('filters narrow the list and stand in the address', 'one.html', async (page) => {
  const { checks } = read('broken.json')
  const shown = async () => Number((await page.innerText('.scope')).match(/^[\d,]+/)[0].replace(',', ''))
  assert.equal(await shown(), checks.filter(({ verdict }) => verdict !== 'ok').length)
  await page.check('label:has-text("ok") input')
  assert.equal(await shown(), checks.length)
  await page.uncheck('label:has-text("failed") input')
  assert.equal(await shown(), checks.filter(({ verdict }) => verdict !== 'failed').length)
  await page.fill('#text', 'sync')
  const found = await shown()
  assert.ok(found > 0 && found < 200)
  assert.match(page.url(), /verdict=[a-z,-]*ok&text=sync/)
  await page.reload()
  assert.equal(await shown(), found)
  await page.selectOption('#layer', 'mux')
  await page.waitForFunction(() => / in mux/.test(document.querySelector('.scope').textContent))
  await page.fill('#text', 'no such thing')
  assert.equal(await shown(), 0)
})

onPage('an id in the address opens that case', 'one.html', async (page) => {
  assert.equal(await page.locator('.detail').count(), 1)
  assert.equal(await page.locator('li:has(.detail) .id').innerText(), 'message.bitfield.encode.one-word')
  assert.equal(await page.evaluate(() => document.activeElement.querySelector('.id').textContent), 'message.bitfield.encode.one-word')
}, { hash: '#message.bitfield.encode.one-word' })

onPage('the keyboard alone reaches a failed case from the top', 'many.html', async (page) => {
  const press = async (key, until, limit) => {
    for (let pressed = 0; pressed < limit; pressed++) {
      await page.keyboard.press(key)
      const here = await page.evaluate(() => {
        const own = document.activeElement
        const style = getComputedStyle(own)
        return { text: own.textContent, tag: own.tagName, href: own.getAttribute('href'), seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1, expanded: own.getAttribute('aria-expanded') }
      })
      assert.ok(here.seen, `no visible focus on ${JSON.stringify(here)}`)
      if (until(here)) return here
    }
    assert.fail(`${key} did not get there`)
  }
  await press('Tab', ({ text }) => text === 'Skip to the checks', 1)
  await press('Tab', ({ text }) => text.startsWith('Theme'), 1)
  await press('Tab', ({ href }) => href === '#broken/message', 80)
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.activeElement.id === 'checks')
  await press('Tab', ({ text, expanded }) => expanded === 'false' && text.includes('failed'), 20)
  await page.keyboard.press('Enter')
  assert.ok(await page.locator('.detail .hex, .detail .values').count() > 0)
  await press('Tab', ({ text }) => text === 'Copy', 30)
})

onPage('the theme follows the system until it is chosen, and is kept', 'one.html', async (page) => {
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  const light = await background()
  await page.emulateMedia({ colorScheme: 'dark' })
  const dark = await background()
  assert.notEqual(light, dark)
  await page.click('#theme')
  assert.equal(await page.innerText('#theme'), 'Theme: light')
  assert.equal(await background(), light)
  await page.click('#theme')
  assert.equal(await background(), dark)
  await page.emulateMedia({ colorScheme: 'light' })
  assert.equal(await background(), dark)
  await page.reload()
  assert.equal(await background(), dark)
})

for (const colorScheme of ['light', 'dark']) {
  onPage(`the page is accessible, ${colorScheme}: one column`, 'one.html', async (page) => {
    await page.click('tbody[data-layer="message"] .twist')
    for (const at of [1, 5, 30]) await page.click(`.cases > li:nth-child(${at}) button`)
    for (const summary of await page.locator('summary').all()) await summary.click()
    await accessible(page)
    await page.evaluate(() => scrollTo(0, 0))
    await picture(page, `one-${colorScheme}`)
  }, { colorScheme })

  onPage(`the page is accessible, ${colorScheme}: a matrix`, 'matrix.html', async (page) => {
    await page.click('.cases > li:first-child button')
    await accessible(page)
    await page.evaluate(() => scrollTo(0, 0))
    await picture(page, `matrix-${colorScheme}`)
  }, { colorScheme })

  onPage(`the page is accessible, ${colorScheme}: several columns`, 'many.html', async (page) => {
    await page.click('tbody[data-layer="message"] .twist')
    await page.click('.cases > li:first-child button')
    await accessible(page)
    await page.evaluate(() => scrollTo(0, 0))
    await picture(page, `many-${colorScheme}`)
  }, { colorScheme })
}

for (const name of ['many', 'matrix']) {
  onPage(`a phone shows it without scrolling sideways: ${name}`, `${name}.html`, async (page) => {
    await page.click('.cases > li:first-child button')
    const wide = await page.evaluate(() => [...document.querySelectorAll('body *')]
      .filter((element) => !element.closest('.scroll, .box, .skip') && element.getBoundingClientRect().right > innerWidth)
      .map((element) => `${element.tagName} ${element.className}: ${element.textContent.slice(0, 80)}`))
    assert.deepEqual(wide, [])
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
    await accessible(page)
    await picture(page, `narrow-${name}`)
  }, { viewport: { width: 400, height: 800 } })
}

onPage('what is hostile is shown as text', 'many.html', async (page) => {
  for (const hash of [`#hostile/${encodeURIComponent(HOSTILE)}`, '#hostile']) {
    await page.evaluate((hash) => { location.hash = hash }, hash)
    await page.waitForFunction(() => document.querySelector('.scope').textContent.includes('hostile'))
    await page.$$eval('.cases h3 button[aria-expanded=false]', (buttons) => buttons.forEach((button) => button.click()))
  }
  const text = await page.innerText('body')
  assert.ok(text.split(HOSTILE).length > 12, `it is there ${text.split(HOSTILE).length - 1} times`)
  assert.ok(text.includes(`→ open ${HOSTILE}\n← close`), 'the transcript is there, a line each')
  assert.equal(await page.locator('img').count(), 0)
  // The policy blocks foreign content even if it gets in.
  const blocked = await page.evaluate(() => new Promise((resolve) => {
    addEventListener('securitypolicyviolation', ({ effectiveDirective }) => resolve(effectiveDirective))
    const script = document.createElement('script')
    script.textContent = 'window.owned = 3'
    document.body.append(script)
  }))
  assert.equal(blocked, 'script-src-elem')
}, { blocked: 1 })

onPage('without scripts the matrix can be read', 'many.html', async (page) => {
  assert.match(await page.innerText('#matrix'), /message/)
  assert.match(await page.innerText('#checks'), /shown by a script/)
}, { javaScriptEnabled: false })

onPage('print has all that is open, and no controls', 'one.html', async (page) => {
  await page.click('.cases > li:first-child button')
  await page.emulateMedia({ media: 'print' })
  assert.equal(await page.isVisible('.bar'), false)
  assert.equal(await page.isVisible('.rerun button'), false)
  assert.equal(await page.isVisible('.detail'), true)
  assert.equal(await page.isVisible('.cases h3 button'), true)
})
