//! Storage of a core's blocks, tree nodes and state.
//!
//! A [`Storage`] applies changes as whole [`Batch`]es: after a crash it holds a prefix of the batches, and nothing of
//! the others. A failed commit changes nothing. [`Memory`] is lost at the end of the process; `Disk` is a file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::buffer::Buffer;
use crate::wire::Node;

/// The kind of a [`StorageError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The store does not exist.
    NotFound,
    /// The store already exists.
    Exists,
    /// It is open elsewhere, in this process or in another.
    Locked,
    /// It can be read but not written.
    ReadOnly,
    /// The disk is full, or a quota is used up.
    Full,
    /// It is not a store of this crate.
    Foreign,
    /// It is a store of another version of this crate.
    Version,
    /// Stored data is damaged or missing. [`Core::check`](super::Core::check) reports the extent.
    Damaged,
    /// Any other failure: see the error's source.
    Other,
}

/// A store failed.
///
/// Displays the path, if there is one, and the fault. The error of the system or the database is the source.
#[derive(Debug, Clone)]
pub struct StorageError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: StorageErrorKind,
    reason: Cow<'static, str>,
    path: Option<Arc<Path>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StorageError {
    /// A failure of a kind, with a reason such as `tree node 12 is damaged`.
    pub fn new(kind: StorageErrorKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            reason: reason.into(),
            path: None,
            source: None,
        }))
    }

    /// Any error of a lower layer, of kind [`StorageErrorKind::Other`].
    pub fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::new(StorageErrorKind::Other, "the store failed").with_source(error)
    }

    /// Stored data is damaged or missing.
    pub fn damaged(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StorageErrorKind::Damaged, what)
    }

    /// Adds the file concerned, unless one is named already.
    pub fn at(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Adds the cause.
    pub fn with_source(mut self, error: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(error));
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> StorageErrorKind {
        self.0.kind
    }

    /// The file concerned.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.0.reason)
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

/// When a batch must be durable against a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Before the commit returns: for data that cannot be fetched again, such as appends.
    Now,
    /// With the next batch that is `Now`, with [`Storage::flush`], or when the store chooses: for data that a peer
    /// would send again. A crash of the process alone should lose none of it.
    Later,
}

/// Changes that take effect together, in field order.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Batch {
    /// Runs of tree nodes to delete.
    pub delete_nodes: Vec<Range<u64>>,
    /// Tree nodes to store. The last one of an index wins.
    pub nodes: Vec<Node>,
    /// Runs of blocks to delete.
    pub delete_blocks: Vec<Range<u64>>,
    /// Blocks to store.
    pub blocks: Vec<(u64, Buffer)>,
    /// Pages of the bitfield, 4096 bytes each, by number; `None` for one without a set bit.
    pub pages: BTreeMap<u64, Option<Vec<u8>>>,
    /// The core's state, opaque to the store.
    pub header: Option<Header>,
    /// The seed of the core's key pair, 32 bytes. It is only in the batch that makes the core, so that a store need not
    /// write it again with each header.
    pub secret: Option<Header>,
}

/// A core's encoded state, or its secret. Wiped when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Header(Zeroizing<Vec<u8>>);

impl Header {
    /// A state that was stored as these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes to store. Keep them as secret as a secret key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({} bytes, redacted)", self.0.len())
    }
}

/// A store of one core.
///
/// All methods block for as long as the store takes; a driver on a runtime should call them where that does no harm.
pub trait Storage: Send + Sync {
    /// The state of the last batch that had one.
    ///
    /// # Errors
    /// When the store fails, here and below.
    fn header(&self) -> Result<Option<Header>, StorageError>;

    /// The secret of the last batch that had one.
    fn secret(&self) -> Result<Option<Header>, StorageError>;

    /// A tree node.
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError>;

    /// A block.
    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError>;

    /// Whether the store has a tree node of this index.
    fn has_node(&self, index: u64) -> Result<bool, StorageError> {
        Ok(self.node(index)?.is_some())
    }

    /// Passes every page of the bitfield to `take`, with its number.
    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError>;

    /// Applies a batch as a whole, or none of it.
    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), StorageError>;

    /// Makes every batch so far durable.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// The store's file, for errors.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Looks for damage that ordinary reads would not detect.
    fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A store in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    nodes: BTreeMap<u64, Node>,
    blocks: BTreeMap<u64, Buffer>,
    pages: BTreeMap<u64, Vec<u8>>,
    header: Option<Header>,
    secret: Option<Header>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for Memory {
    fn header(&self) -> Result<Option<Header>, StorageError> {
        Ok(self.header.clone())
    }

    fn secret(&self) -> Result<Option<Header>, StorageError> {
        Ok(self.secret.clone())
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        Ok(self.nodes.get(&index).copied())
    }

    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError> {
        Ok(self.blocks.get(&index).cloned())
    }

    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        for (page, bytes) in &self.pages {
            take(*page, bytes);
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch, _: Durability) -> Result<(), StorageError> {
        for range in batch.delete_nodes {
            remove_range(&mut self.nodes, range);
        }
        self.nodes
            .extend(batch.nodes.into_iter().map(|node| (node.index, node)));
        for range in batch.delete_blocks {
            remove_range(&mut self.blocks, range);
        }
        self.blocks.extend(batch.blocks);
        for (page, bytes) in batch.pages {
            match bytes {
                Some(bytes) => self.pages.insert(page, bytes),
                None => self.pages.remove(&page),
            };
        }
        if batch.header.is_some() {
            self.header = batch.header;
        }
        if batch.secret.is_some() {
            self.secret = batch.secret;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

fn remove_range<T>(map: &mut BTreeMap<u64, T>, range: Range<u64>) {
    if range.is_empty() {
        return;
    }
    let keys: Vec<u64> = map.range(range).map(|(key, _)| *key).collect();
    for key in keys {
        map.remove(&key);
    }
}
