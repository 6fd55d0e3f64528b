// Case makers shared by the recorders of decoders: one fault or one oddity per case, with the outcome taken from Node.

const { run } = require('./vectors')
const { DEFAULT } = require('./release')

const NOTES = {
  Truncated: 'The input ends before the value does.',
  TrailingBytes: 'Bytes follow the value. They are left unread, and are no fault.',
  NonMinimalUint: 'A uint stands in a longer form than it needs. Decoders accept it, encoders never write it.',
  UnsafeInteger: 'A uint is above 2^53-1. hypercore 11 refuses it; compact-encoding 2.x of hypercore 10 rounds it.',
  HostileCount: 'An array claims more items than the input can hold, or than any decoder takes (0x100000). Nothing may be allocated for it.',
  HostileLength: 'A buffer, a string or an array of words claims more bytes than follow. Nothing may be allocated for it.',
  UnknownFlag: 'A flag bit is set that no release gives a meaning. It is ignored.',
  UnknownVersion: 'A version that no release knows.',
  UnknownId: 'A type, hash or signature id that no release knows.',
  OlderForm: 'As an older release writes it, or wrote it.',
  LaterForm: 'As a release writes it that is newer than some which are still in use; those read it differently.',
  OptionalTail: 'The message may end here: what would follow was added by a later release.',
  InvalidUtf8: 'A string holds bytes that are not UTF-8. They are replaced by U+FFFD, not refused.'
}

// The notes of these flags, for the head of a file, with additional ones of this file.
function notes (flags, own = {}) {
  const out = {}
  for (const flag of flags) out[flag] = own[flag] || NOTES[flag]
  return { ...out, ...own }
}

// Drops notes that no case of the file uses, so that a family of files can share one list of notes.
function prune (file) {
  const used = new Set(file.groups.flatMap((g) => g.cases).flatMap((c) => c.flags))
  for (const flag of Object.keys(file.notes)) if (!used.has(flag)) delete file.notes[flag]
  return file
}

// A case whose result is whatever Node does with it: valid, or invalid with the class of the refusal. Give `result` or
// `class` to pin the intended result.
async function seen (group, slug, { result, class: cls, ...rest }) {
  const got = await run(group.op, rest.input)
  const is = got.error ? 'invalid' : 'valid'
  if (result && is !== result) throw new Error(`${slug}: Node says ${is}, not ${result}: ${got.error ? got.error.message : JSON.stringify(got.output).slice(0, 300)}`)
  if (is === 'invalid') return group.invalid(slug, { ...rest, class: cls })
  return group.valid(slug, { ...rest, node: rest.flags && rest.flags.length ? { outcome: 'returns' } : null })
}

// A field's name as part of an id.
const slug = (name) => name.replace(/[A-Z]/g, (l) => '-' + l.toLowerCase())

module.exports = { NOTES, notes, prune, seen, slug, DEFAULT }
