// A secret stream over a real UDX stream, and a relay without its keys, for the crate's tests of
// impl/tests/datagrams.rs.
//
//   node interop/datagram.js '{"isInitiator":false,"udpPort":4000}'
//
// The relay has the other end of the UDX stream: it forwards TCP bytes as the stream's bytes, UDP packets as its
// datagrams, and back, the latter to `udpPort`. `{"send":"…"}` on stdin, in hex, is sent as a datagram; received data
// is printed.

const dgram = require('dgram')
const net = require('net')
const readline = require('readline')
const b4a = require('b4a')
const NoiseSecretStream = require('@hyperswarm/secret-stream')
const UDX = require('udx-native')

const { isInitiator, udpPort } = JSON.parse(process.argv[2])
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')

const udx = new UDX()
const [near, far] = [udx.createSocket(), udx.createSocket()]
near.bind(0, '127.0.0.1')
far.bind(0, '127.0.0.1')
const relay = udx.createStream(1)
const raw = udx.createStream(2)
relay.connect(near, raw.id, far.address().port)
raw.connect(far, relay.id, near.address().port)

const stream = new NoiseSecretStream(isInitiator, raw)
stream.on('connect', () => say({ event: 'open' }))
stream.on('message', (message) => say({ event: 'message', data: b4a.toString(message, 'hex') }))
stream.on('data', (data) => say({ event: 'data', data: b4a.toString(data, 'hex') }))

const udp = dgram.createSocket('udp4')
udp.on('message', (message) => relay.trySend(message))
relay.on('message', (message) => udp.send(message, udpPort, '127.0.0.1'))

const server = net.createServer((socket) => {
  socket.on('error', () => {})
  socket.pipe(relay)
  relay.pipe(socket)
})

udp.bind(0, '127.0.0.1', () => {
  server.listen(0, '127.0.0.1', () => say({ event: 'listening', port: server.address().port, udpPort: udp.address().port }))
})

readline.createInterface({ input: process.stdin })
  .on('line', (line) => stream.trySend(b4a.from(JSON.parse(line).send, 'hex')))
  // The test is gone.
  .on('close', () => process.exit())
