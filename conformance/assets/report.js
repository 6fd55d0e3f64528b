'use strict'
;(() => {
  const data = JSON.parse(document.getElementById('data').textContent)
  const PAGE = 100 // So many checks are listed at a time.
  const ROW = 16 // So many bytes stand in a row.
  const NOT_RUN = '.'
  const OK = data.verdicts.findIndex(([name]) => name === 'ok')
  const UNSUPPORTED = data.verdicts.findIndex(([name]) => name === 'unsupported')
  const several = data.columns.length > 1
  const [LAYER, LAYERS, COLUMNS, OTHERS] = data.terms
  const HEADING = several ? 'h5' : 'h4' // Under the heading of an outcome, where there are several.

  const subjects = data.subjects.map(([layer, subject]) => ({ layer, subject, row: `${layer}.${subject}` }))
  const cases = data.cases.map(([subject, id, comment, clauses, flags, op], at) => ({
    at,
    ...subjects[subject],
    id: id[0] === '~' ? `${subjects[subject].row}.${id.slice(1)}` : id.slice(1),
    comment,
    clauses: clauses.map((clause) => data.clauses[clause]),
    flags: flags.map((flag) => data.words[flag]),
    op: op === null ? null : data.words[op]
  }))
  for (const one of cases) one.text = [one.id, one.comment, one.op, ...one.flags, ...one.clauses.flat()].join(' ').toLowerCase()
  const columns = data.columns.map((column, at) => ({
    ...column,
    at,
    verdict: (one) => column.verdicts[one] === NOT_RUN ? null : Number(column.verdicts[one]),
    shown: new Map(column.shown.map(([one, detail, milliseconds, rerun]) => [one, { detail, milliseconds, rerun }]))
  }))
  const byId = new Map(cases.map((one) => [one.id, one]))
  const byKey = new Map(columns.map((column) => [column.key, column]))
  const rows = new Set([...subjects.map(({ row }) => row), ...subjects.map(({ layer }) => layer)])

  // Elements are made here, and text only ever becomes text.
  function el (name, attributes = {}, ...children) {
    const made = document.createElement(name)
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue
      if (key.startsWith('on')) made.addEventListener(key.slice(2), value)
      else made.setAttribute(key, value === true ? '' : value)
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined))
    return made
  }

  const number = (value) => value.toLocaleString('en-US')
  const plural = (value, what) => `${number(value)} ${what}${value === 1 ? '' : 's'}`
  const word = (verdict) => data.verdicts[verdict][2]
  const kind = (verdict) => `v-${data.verdicts[verdict][0]}`

  function sign (verdict) {
    return el('span', { class: 'sign', 'aria-hidden': 'true' }, data.verdicts[verdict][1])
  }

  // Where we are: a column, a row or a case, and what is left out of it. All of it stands in the address.
  const everything = () => new Set(data.verdicts.map((_, at) => at))
  const worthALook = () => new Set(data.verdicts.map((_, at) => at).filter((at) => at !== OK && at !== UNSUPPORTED))
  let state = { column: null, row: null, one: null, verdicts: everything(), text: '' }

  function parse (hash) {
    const [path, query = ''] = hash.replace(/^#/, '').split('?')
    const parts = path.split('/').map(decode)
    const asked = new URLSearchParams(query)
    const next = { column: null, row: null, one: null, verdicts: null, text: asked.get('text') ?? '' }
    const [first, second] = parts
    const last = second ?? first
    if (parts.length === 1 && byKey.has(first) && !byId.has(first)) next.column = byKey.get(first)
    if (parts.length === 2) next.column = byKey.get(first) ?? null
    if (byId.has(last)) next.one = byId.get(last)
    else if (rows.has(last) && parts.length === 2) next.row = last
    if (next.one) next.row = next.one.row
    const names = asked.get('verdict')?.split(',')
    if (names) next.verdicts = new Set([...everything()].filter((at) => names.includes(data.verdicts[at][0])))
    if (!next.verdicts) {
      const bare = !next.column && !next.row
      next.verdicts = bare && cases.some((one) => columns.some((column) => worthALook().has(column.verdict(one.at)))) ? worthALook() : everything()
    }
    return next
  }

  function decode (part) {
    try {
      return decodeURIComponent(part)
    } catch {
      return part
    }
  }

  function address ({ column, row, one }) {
    const last = one?.id ?? row
    if (!last) return column ? `#${column.key}` : '#'
    return column ? `#${column.key}/${encodeURIComponent(last)}` : `#${one ? '' : '/'}${encodeURIComponent(last)}`
  }

  function addressWithFilters () {
    const asked = []
    if (state.verdicts.size < data.verdicts.length) asked.push(`verdict=${[...state.verdicts].map((at) => data.verdicts[at][0]).join(',')}`)
    if (state.text) asked.push(`text=${encodeURIComponent(state.text)}`)
    return address(state) + (asked.length ? `?${asked.join('&')}` : '')
  }

  const inRow = (one, row) => !row || one.row === row || one.layer === row
  const scope = () => state.column ? [state.column] : columns

  // The worst verdict on a case among some columns.
  function worst (one, among) {
    let found = null
    for (const column of among) {
      const verdict = column.verdict(one.at)
      if (verdict !== null && (found === null || verdict < found)) found = verdict
    }
    return found
  }

  function listed () {
    const among = scope()
    const wanted = state.text.toLowerCase().split(/\s+/).filter(Boolean)
    const found = []
    for (const one of cases) {
      if (!inRow(one, state.row) || !wanted.every((part) => one.text.includes(part))) continue
      if (!among.some((column) => state.verdicts.has(column.verdict(one.at)))) continue
      found.push({ one, verdict: worst(one, among) })
    }
    return found.sort((a, b) => a.verdict - b.verdict || a.one.at - b.one.at)
  }

  // The list

  const section = document.getElementById('checks')
  const where = el('p', { class: 'scope' })
  const list = el('ol', { class: 'cases' })
  const more = el('button', { type: 'button', class: 'more', hidden: true, onclick: () => extend(PAGE) })
  const told = el('p', { class: 'sr', role: 'status' })
  const search = el('input', { type: 'search', id: 'text', placeholder: 'id, words, clause', oninput: () => filtered({ text: search.value }) })
  const layer = el('select', { id: 'layer', onchange: () => go({ ...state, row: layer.value || null, one: null }) },
    el('option', { value: '' }, LAYERS),
    [...new Set(subjects.map(({ layer }) => layer))].map((name) => el('option', { value: name }, name)))
  const boxes = data.verdicts.map(([, , name], at) => el('input', { type: 'checkbox', onchange: () => toggled(at) }))
  let left = []

  section.append(
    el('form', { class: 'bar', role: 'search', onsubmit: (event) => event.preventDefault() },
      el('fieldset', {}, el('legend', {}, 'Verdict'),
        boxes.map((box, at) => el('label', { class: kind(at) }, box, el('span', {}, sign(at), ' ', word(at), ' ', el('span', { class: 'faint', 'data-count': at }))))),
      el('label', {}, `${LAYER} `, layer),
      el('label', {}, 'Text ', search)),
    where, told, list, more)

  function toggled (at) {
    const verdicts = new Set(state.verdicts)
    if (!verdicts.delete(at)) verdicts.add(at)
    filtered({ verdicts })
  }

  // A filter changes the list and the address, but is no step in the history.
  function filtered (change) {
    state = { ...state, ...change, one: null }
    history.replaceState(null, '', addressWithFilters())
    show()
  }

  function go (next) {
    const hash = address(next)
    if (location.hash === hash || (hash === '#' && !location.hash)) return
    location.hash = hash
  }

  function show () {
    const among = scope()
    left = listed()
    list.replaceChildren()
    boxes.forEach((box, at) => { box.checked = state.verdicts.has(at) })
    if (search.value !== state.text) search.value = state.text
    layer.value = (state.row && subjects.find(({ layer, row }) => row === state.row || layer === state.row)?.layer) || ''
    const counts = data.verdicts.map(() => 0)
    for (const one of cases) {
      if (!inRow(one, state.row)) continue
      for (const column of among) if (column.verdict(one.at) !== null) counts[column.verdict(one.at)]++
    }
    section.querySelectorAll('[data-count]').forEach((place) => {
      const count = counts[place.dataset.count]
      place.textContent = number(count)
      // What nothing got here is not offered.
      place.closest('label').hidden = count === 0
    })
    const parts = []
    if (state.row) parts.push(el('strong', {}, state.row))
    if (state.column && several) parts.push(el('strong', {}, state.column.title))
    const crumbs = parts.flatMap((part, at) => at ? [' of ', part] : [part])
    where.replaceChildren(
      `${plural(left.length, 'check')}`, crumbs.length ? ' in ' : several ? ` in ${COLUMNS}` : '', ...crumbs, '. ',
      state.row || state.column ? el('a', { href: '#' }, 'Show all') : '')
    told.textContent = where.textContent
    mark()
    const at = state.one ? left.findIndex(({ one }) => one === state.one) : -1
    extend(Math.max(PAGE, at + 1))
    if (at >= 0) {
      const item = list.children[at]
      open(item, state.one, true)
      item.scrollIntoView({ block: 'start' })
      item.querySelector('button').focus({ preventScroll: true })
    }
  }

  let given = 0
  function extend (by) {
    if (!list.children.length) given = 0
    const first = given
    given = Math.min(left.length, given + by)
    list.append(...left.slice(first, given).map(item))
    more.hidden = given === left.length
    more.textContent = `Show ${number(Math.min(PAGE, left.length - given))} more of ${number(left.length - given)}`
    if (first && more.hidden) list.children[first].querySelector('button').focus()
  }

  function item ({ one, verdict }) {
    const among = scope()
    const seen = among.map((column) => ({ column, verdict: column.verdict(one.at) }))
    const strip = among.length > 1
      ? el('span', { class: 'strip' },
          el('span', { 'aria-hidden': 'true' }, seen.map(({ column, verdict }) =>
            el('span', { class: verdict === null ? 'faint' : kind(verdict), title: `${column.title}: ${verdict === null ? 'not run' : word(verdict)}` }, verdict === null ? '·' : sign(verdict)))),
          el('span', { class: 'sr' }, `in ${seen.filter((own) => own.verdict === verdict).length} of ${seen.filter((own) => own.verdict !== null).length}`))
      : null
    const made = el('li', {},
      el('h3', {}, el('button', { type: 'button', 'aria-expanded': 'false', onclick: () => open(made, one) },
        el('span', { class: kind(verdict) }, sign(verdict), ' ', word(verdict)),
        el('span', { class: 'id' }, one.id),
        el('span', { class: 'comment' }, one.comment),
        strip)))
    return made
  }

  function open (item, one, keep = false) {
    const button = item.querySelector('button')
    const was = button.getAttribute('aria-expanded') === 'true'
    if (was && keep) return
    button.setAttribute('aria-expanded', String(!was))
    if (was) item.querySelector('.detail').remove()
    else item.append(detail(one))
  }

  // What is behind a check

  function detail (one) {
    const facts = el('dl', { class: 'facts' })
    const fact = (name, ...value) => facts.append(el('dt', {}, name), el('dd', {}, ...value))
    one.clauses.forEach(([id, title], at) => fact(at ? '' : one.clauses.length === 1 ? 'Clause' : 'Clauses', el('strong', {}, id), title ? ` ${title}` : ''))
    if (one.flags.length) fact('Flags', one.flags.join(', '))
    if (one.op) fact('Operation', el('code', {}, one.op))
    fact('Link', el('a', { href: address({ column: state.column, one }) }, el('code', {}, one.id)))
    const groups = new Map()
    for (const column of scope()) {
      const verdict = column.verdict(one.at)
      const shown = column.shown.get(one.at)
      const key = `${verdict} ${shown?.detail ?? ''}`
      if (!groups.has(key)) groups.set(key, { verdict, detail: shown && data.details[shown.detail], columns: [] })
      groups.get(key).columns.push({ column, ...shown })
    }
    const ordered = [...groups.values()].sort((a, b) => (a.verdict ?? 99) - (b.verdict ?? 99))
    const others = columns.filter((column) => !scope().includes(column) && column.verdict(one.at) !== null)
    return el('div', { class: 'detail' }, facts, ordered.map((group) => outcome(one, group)), others.length ? elsewhere(one, others) : null)
  }

  function elsewhere (one, others) {
    const counts = new Map()
    for (const column of others) counts.set(column.verdict(one.at), (counts.get(column.verdict(one.at)) ?? 0) + 1)
    const parts = [...counts].sort(([a], [b]) => a - b).map(([verdict, count]) => el('span', { class: kind(verdict) }, sign(verdict), ` ${number(count)} ${word(verdict)}`))
    return el('p', {}, `In ${OTHERS}: `, parts.flatMap((part, at) => at ? [', ', part] : [part]), '. ', el('a', { href: address({ one }) }, 'Compare'))
  }

  function outcome (one, { verdict, detail, columns }) {
    const made = el('div', { class: 'outcome' })
    if (several) {
      made.append(el('h4', {}, verdict === null ? 'not run' : el('span', { class: kind(verdict) }, sign(verdict), ` ${word(verdict)}`),
        el('span', { class: 'faint' }, ` · ${columns.map(({ column }) => column.title).join(' · ')}`)))
    }
    if (!detail) return made
    const known = { ...detail }
    const take = (name) => {
      const value = known[name]
      delete known[name]
      return value
    }
    const reason = take('reason')
    if (reason) made.append(el('p', { class: `reason ${kind(verdict)}` }, reason))
    const listing = take('listed')
    if (listing) made.append(el('p', {}, `Listed as ${listing.list ?? 'expected'}: ${listing.reason}`, listing.link ? ` (${listing.link})` : ''))
    const happened = take('outcome')
    if (happened) made.append(el('p', {}, `This time: ${happened}`))
    const called = take('result')
    const expected = take('expected')
    const actual = take('actual')
    const differences = take('differences') ?? []
    take('inputFields')
    differences.filter(aligns).forEach((difference) => made.append(differs(difference)))
    const values = differences.filter((difference) => !aligns(difference))
    if (values.length) made.append(valueTable(values))
    if (!differences.length && (expected !== undefined || actual !== undefined)) {
      made.append(el('div', { class: 'two' }, value('Expected', expected), value('Actual', actual)))
    }
    const node = take('node')
    if (node) made.append(el('p', {}, `Node: ${[node.outcome, node.message].filter(Boolean).join(': ')}`))
    const transcript = take('transcript')
    if (transcript) {
      const { trace, ...rest } = transcript
      made.append(text('Transcript', lines(trace ?? transcript), true))
      if (trace) made.append(text('Its bytes and keys', JSON.stringify(rest, null, 2), false))
    }
    const stderr = take('stderr')
    if (stderr) made.append(text('stderr', stderr, true))
    const input = take('input')
    if (input !== undefined) made.append(asked(input, detail.inputFields))
    if (differences.length && (expected !== undefined || actual !== undefined)) {
      made.append(folded('The whole answer', el('div', { class: 'two' }, value(`Expected${called ? `, ${called}` : ''}`, expected), value('Actual', actual))))
    }
    for (const [name, rest] of Object.entries(known)) {
      made.append(text(name, typeof rest === 'string' ? rest : JSON.stringify(rest, null, 2), false))
    }
    const commands = new Map()
    for (const { column, rerun } of columns) {
      const command = rerun === 1 ? column.rerun.join(one.id) : rerun
      if (command) commands.set(command, [...commands.get(command) ?? [], column.title])
    }
    for (const [command, titles] of commands) made.append(again(command, commands.size > 1 ? titles.join(' · ') : null))
    if (columns.length === 1 && columns[0].milliseconds >= 1000) made.append(el('p', { class: 'faint' }, `Took ${(columns[0].milliseconds / 1000).toFixed(1)} s.`))
    return made
  }

  const lines = (value) => typeof value === 'string' ? value : Array.isArray(value) ? value.map((line) => typeof line === 'string' ? line : JSON.stringify(line)).join('\n') : JSON.stringify(value, null, 2)
  const aligns = ({ firstByte }) => Number.isInteger(firstByte)

  function box (pre, name, type = 'wrap') {
    return el('div', { class: `box ${type}`, tabindex: '0', role: 'group', 'aria-label': name }, pre)
  }

  function value (name, json) {
    return el('div', {}, el(HEADING, { class: 'part' }, name), box(el('pre', {}, json === undefined ? 'nothing' : JSON.stringify(json, null, 2)), name))
  }

  function folded (name, content, isOpen = false) {
    return el('details', { open: isOpen }, el('summary', {}, name), content)
  }

  function text (name, content, isOpen) {
    return folded(name, box(el('pre', {}, content), name), isOpen)
  }

  function asked (input, fields) {
    const json = box(el('pre', {}, JSON.stringify(input, null, 2)), 'What was asked')
    if (!fields || typeof input.bytes !== 'string') return folded('What was asked', json)
    const table = fieldTable('The bytes of the input, field by field', [{ name: 'Bytes', bytes: parseHex(input.bytes), fields }], -1)
    return folded('What was asked', el('div', {}, table, json))
  }

  function valueTable (differences) {
    const shown = (value) => el('td', {}, value === null || value === undefined ? 'nothing' : JSON.stringify(value, null, 2))
    return box(el('table', { class: 'fields values' }, el('caption', {}, 'Values that differ'),
      el('thead', {}, el('tr', {}, ['Where', 'Expected', 'Actual'].map((name) => el('th', { scope: 'col' }, name)))),
      el('tbody', {}, differences.map(({ path, expected, actual }) => el('tr', {}, el('td', {}, path || 'the whole value'), shown(expected), shown(actual))))), 'Values that differ', 'bare')
  }

  function differs (difference) {
    const path = difference.path || 'the whole value'
    const expected = parseHex(difference.expected)
    const actual = parseHex(difference.actual)
    const { firstByte: first, field } = difference
    const lengths = expected.length === actual.length ? `of ${number(expected.length)}` : `(${plural(expected.length, 'byte')} expected, ${number(actual.length)} came)`
    const sides = []
    if (difference.expectedFields) sides.push({ name: 'Expected', bytes: expected, fields: difference.expectedFields })
    if (difference.actualFields) sides.push({ name: 'Actual', bytes: actual, fields: difference.actualFields })
    return el('section', {},
      el(HEADING, { class: 'part' }, el('code', {}, path), `, byte ${number(first)} ${lengths}`, field ? ': ' : '', field ? el('code', {}, field) : ''),
      aligned(expected, actual, first, field, path),
      sides.length === 2 ? fieldTable('Field by field', sides, first) : null)
  }

  const parseHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16))
  const toHex = (byte) => byte.toString(16).padStart(2, '0')

  // Both byte strings in rows, with a caret under the first byte that differs.
  function aligned (expected, actual, first, field, path) {
    const pre = el('pre', {})
    const total = Math.max(1, Math.ceil(Math.max(expected.length, actual.length) / ROW))
    const middle = Math.floor(first / ROW)
    const draw = (from, to) => {
      pre.replaceChildren()
      if (from) pre.append(skipped(from))
      for (let at = from; at < to; at++) row(at)
      if (to < total) pre.append(skipped(total - to))
    }
    const skipped = (count) => el('span', { class: 'offset' }, `          … ${plural(count, 'row')}\n`)
    const row = (at) => {
      const own = expected.subarray(at * ROW, at * ROW + ROW)
      const other = actual.subarray(at * ROW, at * ROW + ROW)
      const same = own.length === other.length && own.every((byte, column) => byte === other[column])
      if (same) {
        pre.append(line('', at, own, own, ''))
        return
      }
      pre.append(line('expected', at, own, other, 'expected'), line('actual', at, other, own, 'actual'))
      if (at === middle) {
        const column = first - at * ROW
        pre.append(el('span', { class: 'caret' }, `${' '.repeat(16 + column * 3 + (column >= ROW / 2 ? 1 : 0))}^^${field ? ` ${field}` : ''}\n`))
      }
    }
    const size = total <= 24 ? [0, total] : [Math.max(0, middle - 2), Math.min(total, middle + 4)]
    draw(...size)
    const box = el('div', { class: 'box hex', tabindex: '0', role: 'group', 'aria-label': `${path}: expected and actual bytes` }, pre)
    if (size[1] - size[0] === total) return box
    const all = el('button', { type: 'button', onclick: () => { draw(0, total); all.remove(); box.focus() } }, `Show all ${number(total)} rows`)
    return el('div', {}, box, all)
  }

  function line (label, at, bytes, other, side) {
    const made = document.createDocumentFragment()
    made.append(el('span', { class: 'label' }, label.padEnd(10)), el('span', { class: 'offset' }, (at * ROW).toString(16).padStart(4, '0')), '  ')
    let text = ''
    bytes.forEach((byte, column) => {
      const gap = column === 0 ? '' : column === ROW / 2 ? '  ' : ' '
      if (byte === other[column]) {
        text += gap + toHex(byte)
      } else {
        made.append(text + gap, el('mark', { class: side }, toHex(byte)))
        text = ''
      }
    })
    if (!bytes.length) text = '(nothing)'
    const used = bytes.length * 3 - 1 + (bytes.length > ROW / 2 ? 1 : 0)
    const ascii = Array.from(bytes, (byte) => byte > 0x1f && byte < 0x7f ? String.fromCharCode(byte) : '.').join('')
    made.append(text, el('span', { class: 'offset' }, bytes.length ? `${' '.repeat(48 - used)}  ${ascii}` : ''), '\n')
    return made
  }

  // The fields of byte strings beside each other; fields of the same name in the same place share a row.
  function fieldTable (caption, sides, first) {
    const lists = sides.map(({ bytes, fields }) => {
      let offset = 0
      return fields.map(([length, name]) => {
        const field = { name, offset, bytes: bytes.subarray(offset, offset + length) }
        offset += length
        return field
      })
    })
    const count = Math.max(...lists.map((list) => list.length))
    const made = []
    for (let at = 0; at < count; at++) {
      const cells = lists.map((list) => list[at])
      const lead = cells[0]
      const names = [...new Set(cells.filter(Boolean).map(({ name }) => name))]
      const isFirst = first >= 0 && lead && lead.offset <= first && first < lead.offset + Math.max(1, lead.bytes.length)
      made.push(el('tr', { class: isFirst ? 'first' : null },
        el('td', {}, lead ? lead.offset.toString(16).padStart(4, '0') : ''),
        el('td', {}, names.join(' / '), isFirst ? el('span', { class: 'sr' }, ' (first difference)') : null),
        cells.map((cell) => el('td', {}, cell ? shortHex(cell.bytes) : '–'))))
    }
    return box(el('table', { class: 'fields' }, el('caption', {}, caption),
      el('thead', {}, el('tr', {}, ['Offset', 'Field', ...sides.map(({ name }) => name)].map((name) => el('th', { scope: 'col' }, name)))),
      el('tbody', {}, made)), caption, 'bare')
  }

  const shortHex = (bytes) => Array.from(bytes.subarray(0, 16), toHex).join(' ') + (bytes.length > 16 ? ` … (${number(bytes.length)})` : '')

  function again (command, title) {
    const code = el('code', {}, command)
    const said = el('span', { role: 'status', class: 'faint' })
    const copy = async () => {
      said.textContent = await put(command, code) ? 'Copied' : 'Press Ctrl+C to copy'
    }
    return el('div', {}, el(HEADING, { class: 'part' }, 'Run it again', title ? `: ${title}` : ''),
      el('div', { class: 'rerun' }, code, el('button', { type: 'button', onclick: copy }, 'Copy'), said))
  }

  // A page that was not served over HTTPS may have no clipboard; then the text is selected.
  async function put (text, element) {
    try {
      await navigator.clipboard.writeText(text)
      return true
    } catch {
      getSelection().selectAllChildren(element)
      try {
        return document.execCommand('copy')
      } catch {
        return false
      }
    }
  }

  // The matrix

  const matrix = document.getElementById('matrix')

  // Marks the cell that we came from, or that holds where we are.
  function mark () {
    const links = [...matrix.querySelectorAll('a')]
    for (const link of links) {
      link.removeAttribute('aria-current')
      link.closest('td, th').classList.remove('here')
    }
    const row = state.one ? state.one.layer : state.row
    if (!row && !state.column) return
    const here = address({ column: state.column, row })
    const verdicts = [...state.verdicts].map((at) => data.verdicts[at][0]).join(',')
    const at = (href) => links.find((link) => link.getAttribute('href') === href)
    const link = at(`${here}?verdict=${verdicts}`) ?? at(here)
    if (!link) return
    link.setAttribute('aria-current', 'true')
    link.closest('td, th').classList.add('here')
  }

  for (const body of matrix.querySelectorAll('tbody[data-layer]')) {
    const name = body.dataset.layer
    const own = subjects.filter(({ layer }) => layer === name)
    const heading = body.querySelector('th')
    if (own.length < 2) {
      heading.prepend(el('span', { class: 'twist-space' }))
      continue
    }
    const twist = el('button', { type: 'button', class: 'twist', 'aria-expanded': 'false', 'aria-label': `subjects of ${name}`, onclick: () => twisted(twist, body, own) })
    heading.prepend(twist)
  }

  function twisted (twist, body, own) {
    const was = twist.getAttribute('aria-expanded') === 'true'
    twist.setAttribute('aria-expanded', String(!was))
    if (was) return body.querySelectorAll('.subject').forEach((row) => row.remove())
    const tally = new Map(own.map(({ row }) => [row, columns.map(() => data.verdicts.map(() => 0))]))
    for (const one of cases) {
      const counts = tally.get(one.row)
      if (!counts) continue
      for (const column of columns) if (column.verdict(one.at) !== null) counts[column.at][column.verdict(one.at)]++
    }
    body.append(...own.map(({ row, subject }) => el('tr', { class: 'subject' }, el('th', { scope: 'row' }, el('a', { href: address({ row }) }, subject)),
      several ? columns.map((column) => cell(row, column, tally.get(row)[column.at])) : flat(row, tally.get(row)[0]))))
  }

  const said = (counts) => counts.map((count, at) => count ? `${number(count)} ${word(at)}` : null).filter(Boolean).join(', ')

  // As the matrix of layers has them.
  function cell (row, column, counts) {
    const total = counts.reduce((sum, count) => sum + count)
    if (!total) return el('td', { class: 'none' }, el('span', { class: 'sr' }, 'no checks'))
    const bad = counts[0] + counts[1] > 0
    const worst = counts.findIndex((count) => count > 0)
    const shown = bad || !counts[OK] ? worst : OK
    const rest = bad ? `/${number(total)}` : shown === OK ? data.verdicts.map(([, sign], at) => counts[at] && at !== OK ? `${sign}${number(counts[at])}` : null).filter(Boolean).join(' ') : ''
    const [layer, ...subject] = row.split('.')
    const gates = !column.required || column.required.includes(layer) || column.required.includes(`${layer}/${subject.join('.')}`)
    return el('td', { class: `${kind(shown)}${gates ? '' : ' observed'}` }, el('a', { href: address({ column, row }) },
      el('span', { 'aria-hidden': 'true' }, sign(shown), ` ${number(counts[shown])}`, el('small', {}, rest)),
      el('span', { class: 'sr' }, `${row}: ${said(counts)}${gates ? '' : ', observed only'}`)))
  }

  function flat (row, counts) {
    const total = counts.reduce((sum, count) => sum + count)
    const heads = [...matrix.querySelectorAll('thead th')].slice(2).map((head) => data.verdicts.findIndex(([, , name]) => name === head.textContent))
    const here = address({ column: columns[0], row })
    return [
      el('td', {}, el('a', { href: here }, number(total))),
      ...heads.map((at) => counts[at]
        ? el('td', { class: kind(at) }, el('a', { href: `${here}?verdict=${data.verdicts[at][0]}` }, el('span', { class: 'sr' }, `${row}, ${word(at)}: `), sign(at), ` ${number(counts[at])}`))
        : el('td', { class: 'none' }, el('span', { 'aria-hidden': 'true' }, '·'), el('span', { class: 'sr' }, '0')))
    ]
  }

  // The theme

  const THEMES = ['system', 'light', 'dark']
  const theme = document.getElementById('theme')
  let chosen = THEMES[0]
  try {
    if (THEMES.includes(localStorage.getItem('theme'))) chosen = localStorage.getItem('theme')
  } catch {} // Where there is no storage, the choice lasts as long as the page.

  function paint () {
    if (chosen === 'system') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = chosen
    theme.textContent = `Theme: ${chosen}`
  }

  theme.hidden = false
  theme.addEventListener('click', () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length]
    try {
      localStorage.setItem('theme', chosen)
    } catch {}
    paint()
  })
  paint()

  function arrive (byUser) {
    if (location.hash === '#checks') return
    state = parse(location.hash)
    show()
    if (byUser && !state.one && location.hash) {
      section.scrollIntoView({ block: 'start' })
      section.focus({ preventScroll: true })
    }
  }

  addEventListener('hashchange', () => arrive(true))
  arrive(false)
  if (location.hash && location.hash !== '#checks' && !state.one) section.scrollIntoView()
  if (location.hash === '#checks') { state = parse(''); show() }
})()
