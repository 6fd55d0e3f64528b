// The other side of the crate's examples, for its tests of impl/tests/examples.rs. This is the Node side shown in the
// examples' documentation.
//
//   node interop/examples.js '{"role":"reader","port":8000,"key":"…","blocks":3}'
//
// Roles: `writer` serves a core and `reader` reads one, `lines` talks to examples/extension.rs, `double` serves
// examples/custom_protocol.rs. All except `reader` listen unless a port is given. Answers are lines of JSON.

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const b4a = require('b4a')
const c = require('compact-encoding')
const Hypercore = require('hypercore')
const Protomux = require('protomux')
const SecretStream = require('@hyperswarm/secret-stream')

const options = JSON.parse(process.argv[2])
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const isInitiator = options.port !== undefined

const roles = {
  async writer () {
    const core = new Hypercore(folder())
    await core.append(['first', 'second', 'third'])
    connect((stream) => core.replicate(stream), { key: b4a.toString(core.key, 'hex') })
  },

  async reader () {
    const core = new Hypercore(folder(), b4a.from(options.key, 'hex'))
    await core.ready()
    connect((stream) => core.replicate(stream))
    const blocks = []
    while (blocks.length < options.blocks) blocks.push(b4a.toString(await core.get(blocks.length)))
    say({ event: 'blocks', blocks, length: core.length })
  },

  lines () {
    connect((stream) => {
      const mux = Protomux.from(stream)
      const channel = mux.createChannel({
        protocol: 'example/lines',
        messages: [{ encoding: c.raw, onmessage: (line) => say({ event: 'line', line: b4a.toString(line) }) }]
      })
      channel.open()
      channel.messages[0].send(b4a.from('hello from Node\n'))
    })
  },

  double () {
    connect((stream) => {
      const mux = Protomux.from(stream)
      mux.pair({ protocol: 'example/double' }, (id) => {
        const channel = mux.createChannel({
          protocol: 'example/double',
          id,
          handshake: c.string,
          messages: [{ encoding: c.uint, onmessage: (n) => answer.send(2 * n) }, { encoding: c.uint }]
        })
        const answer = channel.messages[1]
        channel.open('Node doubles what it gets')
      })
    })
  },

  ask () {
    connect((stream) => {
      const channel = Protomux.from(stream).createChannel({
        protocol: 'example/double',
        handshake: c.string,
        messages: [{ encoding: c.uint }, { encoding: c.uint, onmessage: (number) => say({ event: 'answer', number }) }],
        onopen: (about) => say({ event: 'about', about })
      })
      channel.open('Node has numbers')
      channel.messages[0].send(21)
    })
  }
}

function connect (onstream, more) {
  const onsocket = (socket) => {
    const stream = new SecretStream(isInitiator, socket)
    stream.on('error', (err) => say({ event: 'error', message: err.message }))
    onstream(stream)
  }
  if (isInitiator) return onsocket(net.connect(options.port, '127.0.0.1'))
  const server = net.createServer(onsocket)
  server.listen(0, '127.0.0.1', () => say({ event: 'listening', port: server.address().port, ...more }))
}

function folder () {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'example-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  return folder
}

// The test is gone.
process.stdin.resume().on('end', () => process.exit())
Promise.resolve(roles[options.role]()).catch((err) => say({ event: 'error', message: err.message }))
