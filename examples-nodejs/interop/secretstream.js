// libsodium's secretstream for the crate's test of impl/tests/secretstream.rs: encrypts a text of every length,
// decrypts ours.
//
//   node interop/secretstream.js '{"longest":4096}'
//
// Prints key and header, then each record. It decrypts `{"sealed":[HEX,…]}` from stdin, our records of the same texts
// and tags, with a fresh state, and answers with the final state; its own state after encrypting comes with the last
// record.

const readline = require('readline')
const b4a = require('b4a')
const sodium = require('sodium-native')

const { longest } = JSON.parse(process.argv[2])
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const hex = (buffer) => b4a.toString(buffer, 'hex')

const key = b4a.alloc(sodium.crypto_secretstream_xchacha20poly1305_KEYBYTES)
const header = b4a.alloc(sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES)
const state = b4a.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
sodium.crypto_secretstream_xchacha20poly1305_keygen(key)
sodium.crypto_secretstream_xchacha20poly1305_init_push(state, header, key)
say({ event: 'start', key: hex(key), header: hex(header) })

for (let length = 0; length <= longest; length++) {
  const record = b4a.alloc(length + sodium.crypto_secretstream_xchacha20poly1305_ABYTES)
  sodium.crypto_secretstream_xchacha20poly1305_push(state, record, text(length), null, tag(length))
  say({ event: 'record', data: hex(record), state: hex(state) })
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { sealed } = JSON.parse(line)
  const theirs = b4a.alloc(state.byteLength)
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(theirs, header, key)
  const seen = b4a.alloc(1)
  sealed.forEach((data, length) => {
    const opened = b4a.alloc(length)
    sodium.crypto_secretstream_xchacha20poly1305_pull(theirs, opened, seen, b4a.from(data, 'hex'), null)
    if (!b4a.equals(opened, text(length)) || seen[0] !== tag(length)) throw new Error(`another text of ${length} bytes`)
  })
  say({ event: 'opened', count: sealed.length, state: hex(theirs) })
})

function text (length) {
  return b4a.from(Array.from({ length }, (_, at) => (at * 31 + length * 7) & 255))
}

// Mostly plain messages, and regularly a rekey, explicit and by FINAL.
function tag (length) {
  return length % 50 === 7 ? 2 : length % 70 === 9 ? 3 : length % 11 === 3 ? 1 : 0
}
