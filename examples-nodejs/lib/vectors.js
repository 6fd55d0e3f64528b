// Builds vector files: runs each case on Node's own packages, keeps the outcome, and writes canonical JSON.

const { expand, digest } = require('./bytes')
const { Refused } = require('./outcome')
const { load, version, RELEASES, DEFAULT } = require('./release')
const ops = require('../ops')

const SLUG = /^[a-z0-9]+(?:[.-][a-z0-9]+)*$/

// A vector file: one layer, one subject, groups of cases of one operation each.
//   new VectorFile({ layer, subject, description, script, packages: ['hypercore', …], notes: { Flag: 'why' } })
class VectorFile {
  constructor ({ layer, subject, description, script, packages, notes = {} }) {
    this.layer = layer
    this.subject = subject
    this.description = description
    this.script = `examples-nodejs/record/${script}.js`
    this.packages = packages
    this.notes = notes
    this.groups = []
  }

  get path () {
    return `${this.layer}/${this.subject}.json`
  }

  // Options: releases (default true for ops that depend on the release): whether to record 10.38.2 too.
  group (name, op, description, opts = {}) {
    const group = new Group(this, name, op, description, opts)
    this.groups.push(group)
    return group
  }

  toJSON () {
    const packages = {}
    for (const name of [...this.packages].sort()) packages[name] = version(name)
    return {
      $schema: '../schema/vectors.schema.json',
      format: 1,
      layer: this.layer,
      subject: this.subject,
      description: this.description,
      generator: { script: this.script, packages },
      notes: this.notes,
      groups: this.groups.map((g) => ({ name: g.name, description: g.description, op: g.op, cases: g.cases }))
    }
  }

  toString () {
    return JSON.stringify(this, null, 2) + '\n'
  }
}

class Group {
  constructor (file, name, op, description, opts) {
    this.file = file
    this.name = name
    this.op = op
    this.description = description
    this.opts = opts
    this.cases = []
  }

  // A case that Node accepts: `expect.output` is its result. Throws when Node refuses it.
  async valid (slug, { clauses, comment, flags = [], input, node = null, releases = null }) {
    const seen = await run(this.op, input)
    if (seen.error) throw new Error(`${this.file.path} ${slug}: Node refuses it: ${seen.error.stack}`)
    return this._push(slug, clauses, comment, flags, input, 'valid', { output: digest(seen.output) }, node, releases)
  }

  // A case that Node refuses, with the layer and class of the refusal. Throws when Node accepts it.
  // `layer` and `class` pin the intended refusal, so that a case can't pass for another reason.
  async invalid (slug, { clauses, comment, flags = [], input, layer, class: cls, node = undefined, releases = null }) {
    const seen = await run(this.op, input)
    if (!seen.error) throw new Error(`${this.file.path} ${slug}: Node accepts it: ${JSON.stringify(seen.output).slice(0, 400)}`)
    const error = seen.error
    if (layer && error.layer !== layer) throw new Error(`${this.file.path} ${slug}: refused by ${error.layer}, not ${layer}: ${error.message}`)
    if (cls && error.class !== cls) throw new Error(`${this.file.path} ${slug}: class ${error.class}, not ${cls}: ${error.message}`)
    const expect = { error: { layer: error.layer, class: error.class, ...error.extra } }
    if (node === undefined) node = { outcome: error.outcome, message: error.message }
    return this._push(slug, clauses, comment, flags, input, 'invalid', expect, node, releases)
  }

  // A case written by the recorder, for inputs that can't be run in this process (Node dies or hangs), for
  // `acceptable`, and for outcomes that were observed in another way.
  async given (slug, { clauses, comment, flags = [], input, result, expect, node, releases = {} }) {
    return this._push(slug, clauses, comment, flags, input, result, expect, node, releases)
  }

  async _push (slug, clauses, comment, flags, input, result, expect, node, releases) {
    if (releases === null) releases = await this._releases(input, result, expect)
    const id = `${this.file.layer}.${this.file.subject}.${slug}`
    this.cases.push({ id, clauses: [...new Set(clauses)], comment, flags, input, result, expect, node, releases })
  }

  // Runs the other releases and keeps the differences.
  async _releases (input, result, expect) {
    const out = {}
    if (!(this.opts.releases ?? ops.dependsOnRelease(this.op))) return out
    for (const release of RELEASES) {
      if (release === DEFAULT) continue
      const seen = await run(this.op, input, release)
      const other = seen.error
        ? { result: 'invalid', expect: { error: { layer: seen.error.layer, class: seen.error.class, ...seen.error.extra } } }
        : { result: 'valid', expect: { output: digest(seen.output) } }
      if (JSON.stringify(other) !== JSON.stringify({ result, expect })) out[release] = other
    }
    return out
  }
}

// Runs one operation in this process: { output } or { error: Refused }.
async function run (op, input, release = DEFAULT) {
  try {
    return { output: await ops.call(op, expand(input), load(release)) }
  } catch (error) {
    if (error instanceof Refused) return { error }
    throw error
  }
}

// Checks properties over all files: unique ids in form, clauses named, each flag explained and each note used.
function check (files) {
  const ids = new Map()
  const faults = []
  for (const file of files) {
    const used = new Set()
    for (const group of file.groups) {
      if (!ops.has(group.op)) faults.push(`${file.path}: no such operation: ${group.op}`)
      for (const c of group.cases) {
        if (!SLUG.test(c.id)) faults.push(`${file.path}: id not in form: ${c.id}`)
        if (ids.has(c.id)) faults.push(`${c.id}: in ${ids.get(c.id)} and ${file.path}`)
        ids.set(c.id, file.path)
        if (!Array.isArray(c.clauses) || c.clauses.length === 0) faults.push(`${c.id}: no clauses`)
        if (!c.comment || c.comment.includes('\n')) faults.push(`${c.id}: needs a comment of one line`)
        if (c.result !== 'valid' && c.flags.length === 0) faults.push(`${c.id}: ${c.result} without a flag`)
        if (c.result !== 'valid' && !c.node) faults.push(`${c.id}: ${c.result} without what Node does`)
        for (const flag of c.flags) {
          used.add(flag)
          if (!file.notes[flag]) faults.push(`${c.id}: flag ${flag} has no note`)
        }
      }
    }
    for (const flag of Object.keys(file.notes)) if (!used.has(flag)) faults.push(`${file.path}: note ${flag} is not used`)
  }
  if (faults.length) throw new Error(faults.join('\n'))
}

module.exports = { VectorFile, run, check }
