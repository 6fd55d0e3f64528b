// Refusals of operations: an error with the layer and class that the conformance suite compares, and the table from the
// messages of Node's own errors to these classes.

// Thrown by an operation that refuses its input. `outcome` is Node's behaviour:
// "throws", "destroys", "ignores", "returns", "process-dies" or "hangs".
class Refused extends Error {
  constructor (layer, cls, message, extra = {}, outcome = 'throws') {
    super(message)
    this.name = 'Refused'
    this.layer = layer
    this.class = cls
    this.extra = extra
    this.outcome = outcome
  }

  toJSON () {
    return { layer: this.layer, class: this.class, message: this.message, ...this.extra }
  }
}

// Thrown when a request itself is invalid (a missing field, an unknown name of a type).
class BadRequest extends Refused {
  constructor (message) {
    super('adapter', 'bad-input', message)
  }
}

// Node's messages and their classes. The first match wins.
const CLASSES = [
  [/out of bounds/i, 'out-of-bounds'],
  [/uint must be between/i, 'unsafe-integer'],
  [/array is too big/i, 'array-too-big'],
  [/unknown hash/i, 'unknown-hash'],
  [/unknown signature/i, 'unknown-signature'],
  [/(invalid|unsupported|unknown) (manifest )?version/i, 'unknown-version'],
  [/unknown (signer )?type/i, 'unknown-type'],
  [/incorrect buffer size/i, 'bad-length'],
  [/insufficient bytes/i, 'bad-length'],
  [/too large for an atomic write/i, 'too-large'],
  [/invalid header message received/i, 'bad-length'],
  [/invalid header received/i, 'wrong-stream-id'],
  [/invalid message received/i, 'bad-length'],
  [/pull failed|could not verify data|decryption failed/i, 'bad-mac'],
  [/noise handshake failed/i, 'handshake-failed'],
  [/invalid open message/i, 'invalid-open'],
  [/invalid reject message/i, 'invalid-reject'],
  [/invalid_capability|remote sent invalid capability/i, 'invalid-capability'],
  [/maximum call stack/i, 'nesting-too-deep'],
  [/stream was destroyed|premature close|writable stream closed/i, 'closed']
]

// The class of an error from Node; an error missing from the table is a fault of the recorder, so this throws.
function classOf (err) {
  if (err instanceof Refused) return err.class
  const text = `${err.code || ''} ${err.message}`
  for (const [re, cls] of CLASSES) if (re.test(text)) return cls
  throw err
}

// An error's message, without the wording of the JavaScript engine, which changes with its version.
function words (err) {
  if (err.code === 'ERR_OUT_OF_RANGE' || err.constructor === TypeError || err.constructor === RangeError) return err.name
  return err.message || err.name
}

// Runs fn and turns an error from it into a Refused of this layer. `cls` overrides the table.
function refuse (layer, fn, cls = null, extra = {}) {
  try {
    return fn()
  } catch (err) {
    if (err instanceof Refused) throw err
    throw new Refused(layer, cls || classOf(err), words(err), extra)
  }
}

module.exports = { Refused, BadRequest, classOf, words, refuse }
