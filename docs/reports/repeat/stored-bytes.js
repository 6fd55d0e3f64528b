const { open, prove, verify, main } = require('./common')

main(async () => {
  const compat = await open(null, { compat: true })
  await compat.append('hello')
  const one = await open(compat.key)
  const data = await prove(compat, { upgrade: { start: 0, length: 1 } })
  data.manifest = { ...compat.manifest, version: 2, userData: Buffer.alloc(15e6, 7) }
  console.log('a manifest of 15 MB is taken:', await verify(one, data))
  console.log('bytes of userData stored:', one.core.header.manifest.userData.byteLength)

  const writer = await open()
  await writer.append('hello')
  const other = await open(writer.key)
  const padded = await prove(writer, { upgrade: { start: 0, length: 1 } })
  padded.upgrade.signature = Buffer.concat([padded.upgrade.signature, Buffer.alloc(15e6, 7)])
  console.log('a signature of 15 MB is taken:', await verify(other, padded))
  console.log('bytes of signature stored:', other.core.state.signature.byteLength)
})
