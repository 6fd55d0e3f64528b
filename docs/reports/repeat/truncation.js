const path = require('path')
const { createRequire } = require('module')
const { open, main } = require('./common')

const old = createRequire(path.join(path.resolve(process.argv[2] || '.'), 'package.json'))
const Hypercore10 = old('hypercore')
const RAM = old('random-access-memory')

const soon = () => new Promise((resolve) => setTimeout(resolve, 5))

async function until (done, ms) {
  for (const end = Date.now() + ms; !done();) {
    if (Date.now() > end) return false
    await soon()
  }
  return true
}

main(async () => {
  const writer = new Hypercore10(RAM)
  await writer.ready()
  for (let i = 0; i < 10; i++) await writer.append('old ' + i)
  const reader = await open(writer.key)
  const [one, other] = [writer.replicate(true), reader.replicate(false)]
  one.pipe(other).pipe(one)
  reader.download({ start: 0, end: -1 })
  console.log('all blocks arrive:', await until(() => reader.contiguousLength === 10, 10000))

  await writer.truncate(5)
  await writer.append(['five', 'more', 'blocks', 'arrive', 'late'])
  console.log('the truncation is followed:', await until(() => reader.fork === 1 && reader.length === 10, 10000))
  console.log('all new blocks arrive:', await until(() => reader.contiguousLength === 10, 5000), reader.contiguousLength)
})
