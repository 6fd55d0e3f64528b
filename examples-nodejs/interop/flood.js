// One end of a protomux channel for the tests of impl/tests/memory.rs: it sends as much as it can, or reads only on
// command.
//
//   node interop/flood.js '{"mode":"send","count":1000,"length":65536}'
//
// The test dials the port. Modes: `send` sends messages whenever the channel is drained, `read` reads nothing until a
// line arrives on stdin. Every line is answered with the number of messages sent or received. Answers are lines of
// JSON.

const net = require('net')
const readline = require('readline')
const b4a = require('b4a')
const c = require('compact-encoding')
const NoiseSecretStream = require('@hyperswarm/secret-stream')
const Protomux = require('protomux')

const options = JSON.parse(process.argv[2])
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')

let count = 0

const server = net.createServer((socket) => {
  server.close()
  const stream = new NoiseSecretStream(false, socket)
  stream.on('error', (err) => say({ event: 'error', message: err.message }))
  const mux = new Protomux(stream)
  const lines = readline.createInterface({ input: process.stdin })
  lines.on('close', () => process.exit())
  lines.on('line', () => say({ event: 'count', count }))

  const channel = mux.createChannel({
    protocol: 'flood',
    messages: [{ encoding: c.raw, onmessage: () => { if (++count === options.count) say({ event: 'all', count }) } }],
    onopen () {
      if (options.mode === 'send') return send()
      stream.pause()
      lines.once('line', () => stream.resume())
    },
    ondrain () {
      if (options.mode === 'send') send()
    }
  })

  function send () {
    while (count < options.count) {
      const drained = channel.messages[0].send(b4a.alloc(options.length, count & 255))
      count++
      if (!drained) return
    }
    say({ event: 'all', count })
  }

  channel.open()
})

server.listen(0, '127.0.0.1', () => say({ event: 'listening', port: server.address().port }))
