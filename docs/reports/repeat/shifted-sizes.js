const { packages, open, prove, verify, main } = require('./common')

main(async () => {
  const writer = await open()
  await writer.append(['hello', 'world'])
  const shifted = await prove(writer, { upgrade: { start: 0, length: 1 } })
  shifted.upgrade.nodes[0].size = 1
  shifted.upgrade.additionalNodes[0].size = 9

  const reader = await open(writer.key)
  console.log('a reader takes it:', await verify(reader, shifted))
  console.log('seek(3), right is 0,3:', String(await reader.seek(3)))
  const { MerkleTree } = packages('hypercore/lib/merkle-tree')
  console.log('byte offset of block 1, right is 5:', await MerkleTree.byteOffset(reader.core.state, 2))

  const block = await prove(writer, { block: { index: 1, nodes: 0 } })
  block.block.value = await writer.get(1)
  console.log('it takes block 1 of an honest peer:', await verify(reader, block))
  const next = await open(writer.key)
  const served = await prove(reader, { block: { index: 1, nodes: 0 }, upgrade: { start: 0, length: 2 } })
  served.block.value = await reader.get(1)
  console.log('another reader takes its proof:', await verify(next, { ...served, manifest: writer.manifest }))

  await writer.core.checkConflict(shifted, null)
  console.log('the writer is frozen:', writer.core.header.frozen)
  console.log('append:', await writer.append('more').catch((err) => err.code))
})
