//! A core in a file.
//!
//! The file is a [redb](https://docs.rs/redb) database, for these reasons: it is pure Rust and maintained, one file holds
//! blocks, tree and state, its transactions are atomic and survive a crash of process or machine without a log to
//! replay, reads need not wait for writes, and ranges can be deleted in order. The `hypercore` crate's storage was not
//! chosen, for it is four files without a transaction over them. redb 2.6 is the last release that Rust 1.85 builds; the
//! files are of its version 3, which later releases read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use redb::{Database, ReadOnlyTable, ReadableTable, TableDefinition};

use crate::buffer::Buffer;
use crate::wire::Node;

use super::storage::{Batch, Durability, Header, Storage, StorageError};

/// Flat-tree index to size and hash.
const NODES: TableDefinition<'_, u64, (u64, &[u8; 32])> = TableDefinition::new("nodes");
/// Index to value.
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// Number of the page to its 4096 bytes.
const PAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pages");
/// The state, under 0.
const STATE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("state");

/// How much may wait in memory for the next transaction, in bytes.
const MAX_PENDING: usize = 4 * 1024 * 1024;

/// What redb keeps of the file in memory at most, in bytes.
const CACHE: usize = 32 * 1024 * 1024;

/// A store in a file, for one core and one process at a time.
///
/// A batch that may be made durable later waits in memory, and goes to the file with others in one transaction: when
/// 4 MiB wait, with the next batch that must be durable now, on [`Storage::flush`], or when dropped. A crash loses the
/// latest of those batches, and none in part.
pub struct Disk {
    database: Database,
    tables: Option<Tables>,
    pending: Pending,
}

/// The file as the last transaction left it.
struct Tables {
    nodes: ReadOnlyTable<u64, (u64, &'static [u8; 32])>,
    blocks: ReadOnlyTable<u64, &'static [u8]>,
}

/// What is not in the file yet. Nothing in it is ever a deletion but for pages, so what is not here is as in the file.
#[derive(Default)]
struct Pending {
    nodes: BTreeMap<u64, Node>,
    blocks: BTreeMap<u64, Buffer>,
    pages: BTreeMap<u64, Option<Vec<u8>>>,
    header: Option<Header>,
    bytes: usize,
}

impl Disk {
    /// The store in a file, which is made where there is none.
    ///
    /// # Errors
    /// When the file cannot be opened or made, is open elsewhere, or is no such store.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        builder.create_with_file_format_v3(true);
        let database = builder.create(path).map_err(failed)?;
        let mut disk = Self {
            database,
            tables: None,
            pending: Pending::default(),
        };
        disk.write(&Batch::default())?;
        Ok(disk)
    }

    /// Writes what is pending, and a batch on top of it, in one transaction.
    fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
        // While it is open, redb cannot reuse the pages that it reads.
        self.tables = None;
        let written = self.transact(batch);
        if written.is_ok() {
            self.pending = Pending::default();
        }
        // Also where the transaction failed, for the next read needs them.
        self.tables = Some(self.read()?);
        written
    }

    fn transact(&self, batch: &Batch) -> Result<(), StorageError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        {
            let mut nodes = transaction.open_table(NODES).map_err(failed)?;
            let mut blocks = transaction.open_table(BLOCKS).map_err(failed)?;
            let mut pages = transaction.open_table(PAGES).map_err(failed)?;
            let mut state = transaction.open_table(STATE).map_err(failed)?;
            for node in self.pending.nodes.values() {
                let value = (node.size, &node.hash);
                nodes.insert(node.index, value).map_err(failed)?;
            }
            for range in &batch.delete_nodes {
                if !range.is_empty() {
                    nodes
                        .retain_in(range.clone(), |_, _| false)
                        .map_err(failed)?;
                }
            }
            for node in &batch.nodes {
                let value = (node.size, &node.hash);
                nodes.insert(node.index, value).map_err(failed)?;
            }
            for (index, value) in &self.pending.blocks {
                blocks.insert(*index, value.as_slice()).map_err(failed)?;
            }
            for range in &batch.delete_blocks {
                if !range.is_empty() {
                    blocks
                        .retain_in(range.clone(), |_, _| false)
                        .map_err(failed)?;
                }
            }
            for (index, value) in &batch.blocks {
                blocks.insert(*index, value.as_slice()).map_err(failed)?;
            }
            for (page, bytes) in self.pending.pages.iter().chain(&batch.pages) {
                match bytes {
                    Some(bytes) => pages.insert(*page, bytes.as_slice()).map_err(failed)?,
                    None => pages.remove(*page).map_err(failed)?,
                };
            }
            if let Some(header) = batch.header.as_ref().or(self.pending.header.as_ref()) {
                state.insert(0, header.as_bytes()).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }

    fn read(&self) -> Result<Tables, StorageError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        Ok(Tables {
            nodes: transaction.open_table(NODES).map_err(failed)?,
            blocks: transaction.open_table(BLOCKS).map_err(failed)?,
        })
    }

    fn tables(&self) -> Result<&Tables, StorageError> {
        self.tables
            .as_ref()
            .ok_or(StorageError::Corrupt("the file could not be read again"))
    }
}

impl Pending {
    fn take_in(&mut self, batch: Batch) {
        self.bytes += weight(&batch);
        self.nodes
            .extend(batch.nodes.into_iter().map(|node| (node.index, node)));
        self.blocks.extend(batch.blocks);
        self.pages.extend(batch.pages);
        self.header = batch.header.or(self.header.take());
    }
}

/// About what a batch takes in memory while it waits. Pages are counted once, since they replace each other.
fn weight(batch: &Batch) -> usize {
    let blocks = batch.blocks.iter().map(|(_, value)| value.len() + 64);
    batch.nodes.len() * 64 + blocks.sum::<usize>()
}

impl Storage for Disk {
    fn header(&self) -> Result<Option<Header>, StorageError> {
        if let Some(header) = &self.pending.header {
            return Ok(Some(header.clone()));
        }
        let transaction = self.database.begin_read().map_err(failed)?;
        let state = transaction.open_table(STATE).map_err(failed)?;
        let header = state.get(0).map_err(failed)?;
        Ok(header.map(|header| Header::new(header.value().to_vec())))
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        if let Some(node) = self.pending.nodes.get(&index) {
            return Ok(Some(*node));
        }
        let node = self.tables()?.nodes.get(index).map_err(failed)?;
        Ok(node.map(|node| {
            let (size, hash) = node.value();
            Node {
                index,
                size,
                hash: *hash,
            }
        }))
    }

    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError> {
        if let Some(block) = self.pending.blocks.get(&index) {
            return Ok(Some(block.clone()));
        }
        let block = self.tables()?.blocks.get(index).map_err(failed)?;
        Ok(block.map(|block| Buffer::copy_from(block.value())))
    }

    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let pages = transaction.open_table(PAGES).map_err(failed)?;
        for page in pages.iter().map_err(failed)? {
            let (page, bytes) = page.map_err(failed)?;
            if !self.pending.pages.contains_key(&page.value()) {
                take(page.value(), bytes.value());
            }
        }
        for (page, bytes) in &self.pending.pages {
            if let Some(bytes) = bytes {
                take(*page, bytes);
            }
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        let deletes = !batch.delete_nodes.is_empty() || !batch.delete_blocks.is_empty();
        let is_full = self.pending.bytes + weight(&batch) > MAX_PENDING;
        if deletes || is_full || durability == Durability::Now {
            return self.write(&batch);
        }
        self.pending.take_in(batch);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let pending = &self.pending;
        if pending.bytes == 0 && pending.pages.is_empty() && pending.header.is_none() {
            return Ok(());
        }
        self.write(&Batch::default())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; what is lost then is what peers would send again.
        let _ = self.flush();
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("pending_bytes", &self.pending.bytes)
            .finish_non_exhaustive()
    }
}

fn failed(error: impl Into<redb::Error>) -> StorageError {
    StorageError::failed(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_open_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("core");
        let disk = Disk::open(&path).unwrap();
        assert!(matches!(Disk::open(&path), Err(StorageError::Failed(_))));
        drop(disk);
        Disk::open(&path).unwrap();
        std::fs::write(folder.path().join("other"), [1; 4096]).unwrap();
        assert!(Disk::open(folder.path().join("other")).is_err());
    }

    #[test]
    fn what_waits_is_read_and_written_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("core");
        let mut disk = Disk::open(&path).unwrap();
        let node = Node {
            index: 4,
            size: 1,
            hash: [1; 32],
        };
        let batch = Batch {
            nodes: vec![node],
            blocks: vec![(2, Buffer::from("a"))],
            pages: BTreeMap::from([(0, Some(vec![1; 4096]))]),
            header: Some(Header::new(vec![7])),
            ..Batch::default()
        };
        let check = |disk: &Disk| {
            assert_eq!(disk.node(4).unwrap(), Some(node));
            assert_eq!(disk.block(2).unwrap().unwrap(), b"a");
            assert_eq!(disk.header().unwrap().unwrap().as_bytes(), [7]);
            let mut pages = Vec::new();
            let mut take = |page, bytes: &[u8]| pages.push((page, bytes.to_vec()));
            disk.pages(&mut take).unwrap();
            assert_eq!(pages, [(0, vec![1; 4096])]);
        };
        disk.commit(batch, Durability::Later).unwrap();
        assert_ne!(disk.pending.bytes, 0);
        check(&disk);
        drop(disk);
        let mut disk = Disk::open(&path).unwrap();
        check(&disk);

        let mut batch = Batch::default();
        batch.delete_nodes.push(0..9);
        batch.delete_blocks.push(0..9);
        batch.pages.insert(0, None);
        disk.commit(batch, Durability::Later).unwrap();
        assert_eq!(disk.node(4).unwrap(), None);
        assert_eq!(disk.block(2).unwrap(), None);
        disk.pages(&mut |_, _| panic!("the page is gone")).unwrap();
        assert_eq!(disk.header().unwrap().unwrap().as_bytes(), [7]);
    }
}
