//! Small cores that all inputs share: a writer's histories, and readers that hold more or less of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hypercore_protocol::Buffer;
use hypercore_protocol::keys::{Key, KeyPair};
use hypercore_protocol::replication::{
    Batch, Core, CoreOptions, Durability, Header, Seek, Storage, StorageError,
};
use hypercore_protocol::schema::{Node, Request, RequestBlock, RequestUpgrade};

/// The contents of a store.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) blocks: BTreeMap<u64, Buffer>,
    pub(crate) pages: BTreeMap<u64, Vec<u8>>,
    pub(crate) header: Option<Vec<u8>>,
    pub(crate) secret: Option<Vec<u8>>,
}

/// A store whose contents can be inspected while a core uses it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<Content>>);

impl Shelf {
    pub(crate) fn with(content: Content) -> Self {
        Self(Arc::new(Mutex::new(content)))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn content(&self) -> Content {
        self.lock().clone()
    }
}

impl Storage for Shelf {
    fn header(&self) -> Result<Option<Header>, StorageError> {
        Ok(self.lock().header.clone().map(Header::new))
    }

    fn secret(&self) -> Result<Option<Header>, StorageError> {
        Ok(self.lock().secret.clone().map(Header::new))
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        Ok(self.lock().nodes.get(&index).copied())
    }

    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError> {
        Ok(self.lock().blocks.get(&index).cloned())
    }

    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        for (page, bytes) in &self.lock().pages {
            take(*page, bytes);
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch, _: Durability) -> Result<(), StorageError> {
        let mut content = self.lock();
        for range in batch.delete_nodes {
            content.nodes.retain(|index, _| !range.contains(index));
        }
        for node in batch.nodes {
            content.nodes.insert(node.index, node);
        }
        for range in batch.delete_blocks {
            content.blocks.retain(|index, _| !range.contains(index));
        }
        content.blocks.extend(batch.blocks);
        for (page, bytes) in batch.pages {
            match bytes {
                Some(bytes) => content.pages.insert(page, bytes),
                None => content.pages.remove(&page),
            };
        }
        if let Some(header) = batch.header {
            content.header = Some(header.as_bytes().to_vec());
        }
        if let Some(secret) = batch.secret {
            content.secret = Some(secret.as_bytes().to_vec());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A history signed by the writer.
pub(crate) struct History {
    pub(crate) core: Core,
    /// The hash of the tree at each length.
    hashes: Vec<[u8; 32]>,
    blocks: Vec<Buffer>,
}

impl History {
    fn new(core: Core, hashes: Vec<[u8; 32]>) -> Self {
        let blocks = (0..core.length()).map(|block| core.get(block).expect("a store in memory"));
        let blocks = blocks
            .map(|block| block.expect("the writer has all"))
            .collect();
        assert_eq!(hashes.len() as u64, core.length() + 1);
        Self {
            core,
            hashes,
            blocks,
        }
    }

    /// The byte offset of a block.
    fn byte(&self, block: u64) -> u64 {
        let before = self.blocks.iter().take(block as usize);
        before.map(|value| value.len() as u64).sum()
    }

    /// Asserts that everything `reader` says of its core is of this history.
    fn check(&self, reader: &Core) {
        let length = reader.length();
        let mut start = 0_u64;
        for (block, value) in (0..length).zip(&self.blocks) {
            if let Ok(Some(held)) = reader.get(block) {
                assert_eq!(&held, value, "block {block}");
            }
            if let Ok(offset) = reader.byte_offset(block) {
                assert_eq!(offset, start, "the offset of block {block}");
            }
            // The first and the last byte of the block.
            for offset in [0, (value.len() as u64).saturating_sub(1)] {
                if value.is_empty() {
                    continue;
                }
                let byte = start + offset;
                if let Ok(Seek::Found { block, offset, .. }) = reader.seek(byte, 0) {
                    assert_eq!(self.byte(block) + offset, byte, "in block {block}");
                }
            }
            start += value.len() as u64;
        }
        assert_eq!(reader.byte_length(), start);
        assert!(reader.bitfield().end() <= length);
    }
}

/// The core's histories and holders: all have one key.
pub(crate) struct World {
    pub(crate) key: Key,
    /// 29 blocks, fork 0.
    pub(crate) writer: History,
    /// Fork 1: truncated to 10 blocks, then 10 others.
    pub(crate) forked: History,
    /// Fork 0 again, with other blocks from block 20 on: an honest writer never signs this.
    pub(crate) twin: History,
    /// The initial contents of readers.
    readers: Vec<Content>,
    /// The contents of the writer's store.
    written: Content,
    options: CoreOptions,
}

impl World {
    /// A reader that holds more or less.
    pub(crate) fn reader(&self, choice: usize) -> (Core, Shelf) {
        let shelf = Shelf::with(self.readers[choice % self.readers.len()].clone());
        let core = Core::open(shelf.clone(), CoreOptions::reader(self.key));
        (core.expect("it was one before"), shelf)
    }

    /// The writer, with a store of its own.
    pub(crate) fn writer_again(&self) -> Core {
        let shelf = Shelf::with(self.written.clone());
        Core::open(shelf, self.options.clone()).expect("it was one before")
    }

    /// Asserts that a core is one that its writer has signed, whatever peers sent. `twice` means that they had both
    /// histories of fork 0.
    pub(crate) fn check(&self, reader: &Core, twice: bool) {
        assert_eq!(reader.key(), &self.key);
        assert!(twice || !reader.is_frozen(), "frozen by one signed history");
        if let Some(manifest) = reader.manifest() {
            assert_eq!(Some(manifest), self.writer.core.manifest());
        }
        if reader.length() == 0 {
            assert_eq!(reader.bitfield().end(), 0);
            return;
        }
        let hash = reader.tree_hash().expect("its sizes are within bounds");
        let histories = [&self.writer, &self.forked, &self.twin];
        let known = histories
            .iter()
            .take(if twice { 3 } else { 2 })
            .find(|history| {
                let at = usize::try_from(reader.length()).unwrap_or(usize::MAX);
                history.core.fork() == reader.fork() && history.hashes.get(at) == Some(&hash)
            });
        let Some(history) = known else {
            panic!(
                "nobody signed {} blocks of fork {} as {hash:?}",
                reader.length(),
                reader.fork()
            );
        };
        history.check(reader);
    }
}

/// Some are empty, one is longer than all others together.
fn block(index: u64) -> Vec<u8> {
    let length = if index == 3 { 300 } else { index % 13 };
    vec![index as u8; length as usize]
}

fn append(core: &mut Core, blocks: impl IntoIterator<Item = u64>, hashes: &mut Vec<[u8; 32]>) {
    for index in blocks {
        core.append(&[block(index)]).expect("a store in memory");
        hashes.push(core.tree_hash().expect("it is small"));
    }
}

/// Gives a reader an upgrade, a block, or both.
pub(crate) fn give(writer: &Core, reader: &mut Core, block: Option<u64>, upgrade: bool) {
    let request = Request {
        fork: writer.fork(),
        block: block.map(|index| RequestBlock {
            index,
            nodes: reader.missing_nodes(2 * index).expect("a store in memory"),
        }),
        upgrade: upgrade.then(|| RequestUpgrade {
            start: reader.length(),
            length: writer.length() - reader.length(),
        }),
        manifest: true,
        ..Request::default()
    };
    let data = writer
        .create_proof(&request)
        .expect("the request makes sense");
    let applied = reader.verify_and_apply(&data.expect("the writer has all"));
    applied.expect("an honest proof holds");
}

fn world(compat: bool) -> World {
    let mut options = CoreOptions::writer(KeyPair::from_seed(&[7; 32]));
    options.compat = compat;
    let open = |content: Content| {
        let shelf = Shelf::with(content);
        (
            Core::open(shelf.clone(), options.clone()).expect("a core"),
            shelf,
        )
    };
    let (mut writer, shelf) = open(Content::default());
    let mut hashes = vec![writer.tree_hash().expect("it is empty")];
    append(&mut writer, 0..12, &mut hashes);
    let (twelve, _) = open(shelf.content());
    append(&mut writer, 12..20, &mut hashes);
    let (mut twin, _) = open(shelf.content());
    let mut twin_hashes = hashes.clone();
    append(&mut twin, 120..129, &mut twin_hashes);
    append(&mut writer, 20..29, &mut hashes);
    let written = shelf.content();
    let (mut forked, _) = open(shelf.content());
    forked.truncate(10, None).expect("it is longer");
    let mut forked_hashes = hashes[..=10].to_vec();
    append(&mut forked, 110..120, &mut forked_hashes);

    let key = *writer.key();
    let shelf = Shelf::default();
    let mut reader = Core::open(shelf.clone(), CoreOptions::reader(key)).expect("a core");
    let mut readers = vec![Content::default()];
    give(&twelve, &mut reader, None, true);
    readers.push(shelf.content());
    give(&twelve, &mut reader, Some(5), false);
    readers.push(shelf.content());
    give(&writer, &mut reader, None, true);
    readers.push(shelf.content());
    for block in [0, 1, 9, 28] {
        give(&writer, &mut reader, Some(block), false);
    }
    readers.push(shelf.content());
    for block in 0..29 {
        give(&writer, &mut reader, Some(block), false);
    }
    readers.push(shelf.content());
    World {
        key,
        writer: History::new(writer, hashes),
        forked: History::new(forked, forked_hashes),
        twin: History::new(twin, twin_hashes),
        readers,
        written,
        options,
    }
}

/// A core as made by Node 11, and one as made by Node 10.
pub(crate) fn worlds() -> &'static [World; 2] {
    static WORLDS: OnceLock<[World; 2]> = OnceLock::new();
    WORLDS.get_or_init(|| [world(false), world(true)])
}

pub(crate) fn prepare() {
    worlds();
}
