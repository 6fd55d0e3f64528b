//! Where a core keeps its blocks, tree nodes and state.
//!
//! A [`Storage`] takes changes as whole [`Batch`]es: after a crash it holds those of the first so many batches, and
//! nothing of the others. A commit that fails changes nothing. [`Memory`] forgets at the end of the process; `Disk` is a file.

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

/// What kind of failure a [`StorageError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// There is no such store.
    NotFound,
    /// There is a store already.
    Exists,
    /// It is open elsewhere, in this process or in another.
    Locked,
    /// It may be read and not written.
    ReadOnly,
    /// The disk is full, or a quota is used up.
    Full,
    /// It is something else than a store of this crate.
    Foreign,
    /// It is a store of another version of this crate.
    Version,
    /// What is stored is damaged or missing. [`Core::check`](super::Core::check) says how much of it.
    Damaged,
    /// Anything else: the error's source says what.
    Other,
}

/// A store failed.
///
/// Shown as the path, if there is one, and what is wrong with it. What the system or the database said is the source.
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
    /// A failure of a kind, with a reason in words, such as `tree node 12 is damaged`.
    pub fn new(kind: StorageErrorKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            reason: reason.into(),
            path: None,
            source: None,
        }))
    }

    /// A failure of whatever lies below, of kind [`StorageErrorKind::Other`].
    pub fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::new(StorageErrorKind::Other, "the store failed").with_source(error)
    }

    /// What is stored is damaged or missing.
    pub fn damaged(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StorageErrorKind::Damaged, what)
    }

    /// The same with the file that it is about, unless one is named already.
    pub fn at(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// The same with its cause.
    pub fn with_source(mut self, error: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(error));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> StorageErrorKind {
        self.0.kind
    }

    /// The file that it is about.
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

/// When a batch must be safe from a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Before the commit returns: for what cannot be had again, such as appends.
    Now,
    /// With the next batch that says so, with [`Storage::flush`], or when the store chooses: for what a peer would send
    /// again. A crash of the process alone should lose nothing of it.
    Later,
}

/// Changes that take effect together, in the order of the fields.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Batch {
    /// Runs of tree nodes to forget.
    pub delete_nodes: Vec<Range<u64>>,
    /// Tree nodes to keep. The last of an index counts.
    pub nodes: Vec<Node>,
    /// Runs of blocks to forget.
    pub delete_blocks: Vec<Range<u64>>,
    /// Blocks to keep.
    pub blocks: Vec<(u64, Buffer)>,
    /// Pages of the bitfield, 4096 bytes each, by number; `None` for one without a bit.
    pub pages: BTreeMap<u64, Option<Vec<u8>>>,
    /// The core's state, opaque to the store.
    pub header: Option<Header>,
    /// The seed of the core's key pair, 32 bytes. It comes once, when the core is made, so that a store need not write
    /// it again with each header.
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

    /// What to store. Keep it as secret as a secret key.
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
/// All methods block for as long as the store takes; a driver on a runtime calls them where that does no harm.
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

    /// Whether there is a tree node of this index.
    fn has_node(&self, index: u64) -> Result<bool, StorageError> {
        Ok(self.node(index)?.is_some())
    }

    /// Hands every page of the bitfield to `take`, with its number.
    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError>;

    /// Takes in a batch as a whole, or none of it.
    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), StorageError>;

    /// Makes every batch so far safe from a crash.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// The file that the store is in, for errors that name it.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Looks for damage that reading what is stored would not show.
    fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A store that lives as long as the process.
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
