const { packages } = require('./common')
const SecretStream = packages('@hyperswarm/secret-stream')
const Protomux = packages('protomux')

const uint = (n) => (n < 0xfd ? [n] : [0xfd, n & 0xff, n >> 8])
// A message, then a batch around it, and so on: control type 0, channel, and the item with its length.
let item = Buffer.from([0, 0xaa])
for (let i = 0; i < 3000; i++) item = Buffer.concat([Buffer.from([0, 0, ...uint(item.byteLength)]), item])

const one = new SecretStream(true)
const other = new SecretStream(false)
one.rawStream.pipe(other.rawStream).pipe(one.rawStream)
new Protomux(other) // eslint-disable-line no-new
one.on('error', () => {})
other.on('error', (err) => { console.log('the stream was destroyed:', err.message); process.exit(0) })
process.on('uncaughtException', (err) => { console.log('the process would end:', err.constructor.name, err.message); process.exit(0) })
one.on('open', () => one.write(Buffer.concat([Buffer.from([0]), item])))
