const { packages, open, prove, verify, main } = require('./common')
const crypto = packages('hypercore-crypto')
const multisig = packages('hypercore/lib/multisig')

main(async () => {
  const keyPair = crypto.keyPair(Buffer.alloc(32, 1))
  const manifest = { version: 1, quorum: 1, allowPatch: true, signers: [{ publicKey: keyPair.publicKey }] }
  const writer = await open(null, { manifest, keyPair })
  for (let i = 0; i < 6; i++) await writer.append('block' + i)

  const data = await prove(writer, { upgrade: { start: 0, length: 5 } })
  const [proof] = multisig.inflate(data.upgrade.signature).proofs
  const nodes = data.upgrade.additionalNodes
  data.upgrade.additionalNodes = []
  data.upgrade.nodes[1].size += 2
  nodes[0].size -= 2
  data.upgrade.signature = multisig.assemble([{ signer: 0, signature: proof.signature, patch: 1, nodes }])

  const reader = await open(writer.key)
  console.log('a reader takes it:', await verify(reader, data))
  console.log('byte length of 5 blocks, right is 30:', reader.byteLength)
  console.log('the honest upgrade to 6:', await verify(reader, await prove(writer, { upgrade: { start: 5, length: 1 } })))
})
