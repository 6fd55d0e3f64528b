//! A core: blocks, their Merkle tree, and who may sign it.
//!
//! Read from hypercore 11.37.1, `lib/core.js`, `lib/session-state.js` and `lib/replicator.js` (what a peer checks before
//! it takes data, and what it answers to a request).

mod check;
mod state;

use std::fmt;
use std::ops::Range;

use crate::buffer::{Buffer, ShortHex};
use crate::encoding::{Decode, EncodeError, MAX_SAFE_INTEGER};
use crate::keys::{DiscoveryKey, Key, KeyPair, discovery_key};
use crate::manifest::{Manifest, Prologue};
use crate::wire::{
    Data, DataBlock, DataHash, DataSeek, DataUpgrade, Node, Request, RequestUpgrade,
};

use super::bitfield::{Bitfield, SavedPages, pages_of};
use super::error::{CoreError, ProofError, RequestError, SignatureError};
use super::flat_tree::{Cursor, full_roots};
use super::merkle::{self, Tree, TreeBatch};
use super::proof::{self, Seek, Wanted};
use super::reorg::Reorg;
use super::storage::{Batch, Durability, Header, Storage, StorageError, StorageErrorKind};
use super::verifier::{PartialSignature, Verifier};
pub use check::CheckReport;
#[cfg(not(target_family = "wasm"))]
pub use check::repair;
use state::State;

/// The largest block that can be appended, 15 MiB: Node's maximum suggested block size, below the 16 MiB of a record.
pub const MAX_BLOCK_SIZE: usize = 15 * 1024 * 1024;

/// Options to open a core with. Each is optional: the default is the stored core, or a new writable one.
#[derive(Debug, Clone, Default)]
pub struct CoreOptions {
    /// The core's key, 32 bytes. Alone, it makes a read-only core that peers fill.
    pub key: Option<Key>,
    /// Who may sign the core. Alone, it gives the key.
    pub manifest: Option<Manifest>,
    /// Signs appended blocks. Alone, it makes a manifest with this key pair as the only signer.
    pub key_pair: Option<KeyPair>,
    /// Makes a core as Node 10 does, whose key is its signer's public key.
    pub compat: bool,
    /// Lets a compat core's signer sign, and accepts from it, 48 bytes without a namespace, as the oldest releases did.
    pub legacy: bool,
}

impl CoreOptions {
    /// A read-only core that peers fill.
    pub fn reader(key: impl Into<Key>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::default()
        }
    }

    /// A core that only this key pair may sign.
    pub fn writer(key_pair: KeyPair) -> Self {
        Self {
            key_pair: Some(key_pair),
            ..Self::default()
        }
    }
}

/// A core: an append-only list of blocks under a signed Merkle tree. Any of the blocks may be missing locally.
///
/// Every change is one commit to the store, complete before the method returns; a failed commit changes nothing.
/// Methods block for as long as the store takes.
///
/// ```
/// use hypercore_protocol::replication::{Core, CoreOptions, Memory};
/// use hypercore_protocol::schema::{Request, RequestBlock, RequestUpgrade};
///
/// let mut writer = Core::open(Memory::new(), CoreOptions::default())?;
/// writer.append(&["hi", "ola"])?;
///
/// let mut reader = Core::open(Memory::new(), CoreOptions::reader(*writer.key()))?;
/// let request = Request {
///     block: Some(RequestBlock { index: 1, nodes: 0 }),
///     upgrade: Some(RequestUpgrade { start: 0, length: 2 }),
///     manifest: true,
///     ..Request::default()
/// };
/// let data = writer.create_proof(&request)?.expect("the writer has the block");
/// let applied = reader.verify_and_apply(&data)?;
/// assert_eq!((applied.block, reader.length()), (Some(1), 2));
/// assert_eq!(reader.get(1)?.unwrap(), b"ola");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Core {
    storage: Box<dyn Storage>,
    key: Key,
    discovery_key: DiscoveryKey,
    verifier: Option<Verifier>,
    key_pair: Option<KeyPair>,
    legacy: bool,
    tree: Tree,
    bitfield: Bitfield,
    contiguous_length: u64,
    frozen: bool,
}

/// The result of [`Core::append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The first new block.
    pub start: u64,
    /// The core's length now, in blocks.
    pub length: u64,
    /// The core's length now, in bytes.
    pub byte_length: u64,
}

/// The result of [`Core::verify_and_apply`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Applied {
    /// A block that was not held before.
    pub block: Option<u64>,
    /// The core's new length.
    pub upgraded: Option<Upgraded>,
    /// Whether the data brought the manifest, unknown before.
    pub manifest: bool,
    /// A later fork whose signature is valid, not applied yet: see [`Reorg`].
    pub reorg: Option<Reorg>,
    /// Whether the data was of another fork and was ignored. (Data for a [`Reorg`] in progress goes to
    /// [`Core::update_reorg`].)
    pub stale: bool,
}

/// A core has become longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upgraded {
    /// Blocks before.
    pub from: u64,
    /// Blocks now.
    pub to: u64,
}

/// A core has lost blocks, by [`Core::truncate`] or [`Core::apply_reorg`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncated {
    /// The fork now.
    pub fork: u64,
    /// How many blocks of the old history stay.
    pub ancestors: u64,
    /// Blocks before.
    pub from: u64,
    /// Blocks now.
    pub to: u64,
}

/// The result of comparing a peer's proof from the first block with this core's history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConflictCheck {
    /// The proof is of another fork, or longer than the core, or no manifest is known to verify it with.
    Unrelated,
    /// Both have the same history.
    Agrees,
    /// Both are signed, and differ: the writer has signed two histories. The core is now frozen.
    Conflict(Box<Conflict>),
}

/// Two signed histories of one core, of the same length and fork.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The length at which they differ, in blocks.
    pub length: u64,
    /// The fork.
    pub fork: u64,
    /// The proof of the local history.
    pub ours: Data,
    /// The peer's proof.
    pub theirs: Data,
}

/// The state of a core.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreInfo {
    /// The key, 32 bytes.
    pub key: Key,
    /// The discovery key, 32 bytes.
    pub discovery_key: DiscoveryKey,
    /// In blocks.
    pub length: u64,
    /// In bytes.
    pub byte_length: u64,
    /// Number of leading blocks held without a gap.
    pub contiguous_length: u64,
    /// Number of blocks held.
    pub held: u64,
    /// The number of times the history was rewritten.
    pub fork: u64,
    /// The hash of the tree, 32 bytes.
    pub tree_hash: [u8; 32],
    /// Whether there is a key pair to sign with.
    pub writable: bool,
    /// Whether the key is the signer's public key, as Node 10 makes cores.
    pub compat: bool,
    /// Whether its writer has signed two histories; such a core takes no more changes.
    pub frozen: bool,
}

impl Core {
    /// Opens the core in a store, or makes a new one if the store is empty.
    ///
    /// # Errors
    /// When the store fails or has another core, or when key, manifest and key pair do not belong together.
    pub fn open(storage: impl Storage + 'static, options: CoreOptions) -> Result<Self, CoreError> {
        let stored = Self::stored(&storage)?;
        Self::open_as(Box::new(storage), stored, &options)
    }

    /// Makes a new core in an empty store.
    ///
    /// # Errors
    /// When the store has a core ([`StorageErrorKind::Exists`]), else as [`Core::open`].
    pub fn create(
        storage: impl Storage + 'static,
        options: CoreOptions,
    ) -> Result<Self, CoreError> {
        if storage.header()?.is_some() {
            let reason = "the store has a core already";
            let error = StorageError::new(StorageErrorKind::Exists, reason);
            return Err(name_file(&storage, error).into());
        }
        Self::open_as(Box::new(storage), None, &options)
    }

    /// Opens the core in a store.
    ///
    /// # Errors
    /// When the store has no core ([`StorageErrorKind::NotFound`]), else as [`Core::open`].
    pub fn open_existing(
        storage: impl Storage + 'static,
        options: CoreOptions,
    ) -> Result<Self, CoreError> {
        let Some(stored) = Self::stored(&storage)? else {
            let reason = "the store has no core";
            let error = StorageError::new(StorageErrorKind::NotFound, reason);
            return Err(name_file(&storage, error).into());
        };
        Self::open_as(Box::new(storage), Some(stored), &options)
    }

    fn stored(storage: &dyn Storage) -> Result<Option<State>, CoreError> {
        State::load(storage).map_err(|error| match error {
            CoreError::Storage(error) => name_file(storage, error).into(),
            error => error,
        })
    }

    fn open_as(
        storage: Box<dyn Storage>,
        stored: Option<State>,
        options: &CoreOptions,
    ) -> Result<Self, CoreError> {
        let (state, is_new) = match stored {
            Some(state) => state.with(options)?,
            None => (State::new(options)?, true),
        };
        let tree = Tree::load(&*storage, state.length);
        let mut tree = tree.map_err(|error| match error {
            CoreError::Storage(error) => name_file(&*storage, error).into(),
            error => error,
        })?;
        tree.fork = state.fork;
        tree.signature = state.signature;
        let mut bitfield = Bitfield::new();
        let mut intact = Some(());
        storage.pages(&mut |page, bytes| {
            intact = intact.and(bitfield.load_page(page, bytes));
        })?;
        intact.ok_or_else(|| {
            let error = StorageError::damaged("a page of the bitfield is cut short");
            name_file(&*storage, error)
        })?;
        let verifier = state
            .manifest
            .map(|manifest| Verifier::new(&state.key, manifest).with_legacy(options.legacy));
        let mut core = Self {
            storage,
            key: state.key,
            discovery_key: discovery_key(&state.key),
            verifier,
            key_pair: state.key_pair,
            legacy: options.legacy,
            tree,
            contiguous_length: bitfield.next_unset(0),
            bitfield,
            frozen: state.frozen,
        };
        if is_new {
            let header = core.header(&core.tree, core.manifest(), core.frozen)?;
            let batch = Batch {
                header: Some(header),
                secret: core.key_pair.as_ref().map(State::encode_secret),
                ..Batch::default()
            };
            core.storage.commit(batch, Durability::Now)?;
        }
        Ok(core)
    }

    /// The key, 32 bytes.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The key by which peers ask for the core, 32 bytes.
    pub fn discovery_key(&self) -> &DiscoveryKey {
        &self.discovery_key
    }

    /// Who may sign the core, once known.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.verifier.as_ref().map(Verifier::manifest)
    }

    /// Whether the key is known to be the signer's public key, as in cores made by Node 10. The manifest of such a core
    /// is not sent to peers.
    pub fn is_compat(&self) -> bool {
        self.verifier.as_ref().is_some_and(Verifier::is_compat)
    }

    /// Whether there is a key pair to sign with.
    pub fn is_writable(&self) -> bool {
        self.key_pair.is_some()
    }

    /// Whether the core's writer has signed two histories; such a core takes no more changes.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// In blocks, held or not.
    pub fn length(&self) -> u64 {
        self.tree.length
    }

    /// In bytes, held or not.
    pub fn byte_length(&self) -> u64 {
        self.tree.byte_length
    }

    /// The number of times the history was rewritten.
    pub fn fork(&self) -> u64 {
        self.tree.fork
    }

    /// The roots of the Merkle tree, from the left.
    pub fn roots(&self) -> &[Node] {
        &self.tree.roots
    }

    /// The hash of the tree, 32 bytes.
    ///
    /// # Errors
    /// When a size is above 2^53-1.
    pub fn tree_hash(&self) -> Result<[u8; 32], CoreError> {
        Ok(self.tree.hash()?)
    }

    /// The signature of the tree.
    pub fn signature(&self) -> Option<&Buffer> {
        self.tree.signature.as_ref()
    }

    /// Which blocks are held.
    pub fn bitfield(&self) -> &Bitfield {
        &self.bitfield
    }

    /// Number of leading blocks held without a gap.
    pub fn contiguous_length(&self) -> u64 {
        self.contiguous_length
    }

    /// A summary of the core's state.
    ///
    /// # Errors
    /// As [`Core::tree_hash`].
    pub fn info(&self) -> Result<CoreInfo, CoreError> {
        Ok(CoreInfo {
            key: self.key,
            discovery_key: self.discovery_key,
            length: self.tree.length,
            byte_length: self.tree.byte_length,
            contiguous_length: self.contiguous_length,
            held: self.bitfield.count(0..self.tree.length),
            fork: self.tree.fork,
            tree_hash: self.tree.hash()?,
            writable: self.is_writable(),
            compat: self.is_compat(),
            frozen: self.frozen,
        })
    }

    /// Whether a block is held.
    pub fn has(&self, block: u64) -> bool {
        self.bitfield.get(block)
    }

    /// A block, if it is held. It is checked against its tree node.
    ///
    /// # Errors
    /// When the store fails, or when the stored value is not the block ([`StorageErrorKind::Damaged`]).
    pub fn get(&self, block: u64) -> Result<Option<Buffer>, CoreError> {
        if !self.bitfield.get(block) {
            return Ok(None);
        }
        let damaged = |what| {
            let error = StorageError::damaged(format!("block {block} {what}"));
            CoreError::from(name_file(&*self.storage, error))
        };
        let value = self.storage.block(block)?;
        let value = value.ok_or_else(|| damaged("is missing"))?;
        let leaf = self.storage.node(2 * block)?;
        let leaf = leaf.ok_or_else(|| damaged("has no tree node"))?;
        if leaf != merkle::block_node(leaf.index, &value) {
            return Err(damaged("is not that of its tree node"));
        }
        Ok(Some(value))
    }

    /// A node of the Merkle tree, if it is held.
    ///
    /// # Errors
    /// When the store fails.
    pub fn node(&self, index: u64) -> Result<Option<Node>, CoreError> {
        Ok(self.storage.node(index)?)
    }

    /// Adds blocks, signed by the core's key pair, in one commit that is durable when this returns. With a manifest of
    /// several signers the stored signature is this signer's part: see [`Core::partial_signature`].
    ///
    /// # Errors
    /// When the core is not writable here or frozen, a block has more than [`MAX_BLOCK_SIZE`] bytes, the blocks end
    /// within the manifest's prologue or differ from it, or the store fails.
    pub fn append<B: AsRef<[u8]>>(&mut self, blocks: &[B]) -> Result<Appended, CoreError> {
        self.append_as(blocks, |core, batch| {
            let is_prologue = |prologue: &Prologue| prologue.length == batch.tree.length;
            let Some(key_pair) = &core.key_pair else {
                if core.prologue().is_some_and(is_prologue) {
                    return Ok(None);
                }
                return Err(CoreError::NotWritable("there is no key pair"));
            };
            let verifier = core.verifier.as_ref();
            let verifier = verifier.ok_or(CoreError::NotWritable("there is no manifest"))?;
            verifier.sign(&batch.tree, key_pair).map(Some)
        })
    }

    /// Adds blocks signed elsewhere, for example by several signers: see [`Core::assemble`].
    ///
    /// # Errors
    /// As [`Core::append`], and when the signature does not match the resulting core.
    pub fn append_signed<B: AsRef<[u8]>>(
        &mut self,
        blocks: &[B],
        signature: Buffer,
    ) -> Result<Appended, CoreError> {
        self.append_as(blocks, |core, batch| {
            let verifier = core.verifier.as_ref();
            let verifier = verifier.ok_or(CoreError::NotWritable("there is no manifest"))?;
            let mut signed = batch.clone();
            signed.tree.signature = Some(signature.detach());
            verifier.verify(&signed)?;
            Ok(signed.tree.signature)
        })
    }

    fn append_as<B: AsRef<[u8]>>(
        &mut self,
        blocks: &[B],
        sign: impl FnOnce(&Self, &TreeBatch) -> Result<Option<Buffer>, CoreError>,
    ) -> Result<Appended, CoreError> {
        self.check_frozen()?;
        let start = self.tree.length;
        let appended = |tree: &Tree| Appended {
            start,
            length: tree.length,
            byte_length: tree.byte_length,
        };
        if blocks.is_empty() {
            return Ok(appended(&self.tree));
        }
        let prologue = self.prologue().copied();
        let mut batch = TreeBatch::new(&self.tree);
        for block in blocks {
            let (block, limit) = (block.as_ref(), MAX_BLOCK_SIZE);
            if block.len() > limit {
                let size = block.len();
                return Err(CoreError::BlockTooLarge { size, limit });
            }
            batch.append(block)?;
            if let Some(prologue) = prologue.filter(|it| it.length == batch.tree.length) {
                if batch.tree.hash()? != prologue.hash {
                    return Err(SignatureError::Prologue.into());
                }
            }
        }
        if prologue.is_some_and(|prologue| batch.tree.length < prologue.length) {
            return Err(SignatureError::Prologue.into());
        }
        batch.tree.signature = sign(self, &batch)?;
        let values = blocks.iter().map(|block| Buffer::copy_from(block.as_ref()));
        let mut changes = Batch {
            blocks: (start..).zip(values).collect(),
            header: Some(self.header(&batch.tree, self.manifest(), self.frozen)?),
            ..Batch::default()
        };
        let marked = self.mark(start..batch.tree.length, true, &mut changes);
        self.commit(batch, changes, Some(marked), Durability::Now)?;
        Ok(appended(&self.tree))
    }

    /// Deletes the values of blocks. Their hashes stay, so that the remaining blocks can still be proven.
    ///
    /// # Errors
    /// When the range ends before it begins or after the core, or the store fails.
    pub fn clear(&mut self, blocks: Range<u64>) -> Result<(), CoreError> {
        let length = self.tree.length;
        let (start, end) = (blocks.start, blocks.end);
        if start > end || end > length {
            return Err(CoreError::OutOfRange { start, end, length });
        }
        let mut changes = Batch {
            delete_blocks: vec![blocks.clone()],
            ..Batch::default()
        };
        let marked = self.mark(blocks, false, &mut changes);
        let committed = self.storage.commit(changes, Durability::Now);
        self.settle(committed, Some(marked))
    }

    /// Truncates the core to `length` blocks, as the next fork or the given one, and signs the rest.
    ///
    /// # Errors
    /// When the core is not writable here, frozen or shorter, the cut is within the prologue, the fork is not later, or
    /// the store fails.
    pub fn truncate(&mut self, length: u64, fork: Option<u64>) -> Result<Truncated, CoreError> {
        self.truncate_as(length, fork, |core, batch| {
            let verifier = core.verifier.as_ref().zip(core.key_pair.as_ref());
            let (verifier, key_pair) =
                verifier.ok_or(CoreError::NotWritable("there is no key pair"))?;
            verifier.sign(&batch.tree, key_pair)
        })
    }

    /// As [`Core::truncate`], signed elsewhere.
    ///
    /// # Errors
    /// As [`Core::truncate`], and when the signature does not match the rest.
    pub fn truncate_signed(
        &mut self,
        length: u64,
        fork: u64,
        signature: Buffer,
    ) -> Result<Truncated, CoreError> {
        self.truncate_as(length, Some(fork), |core, batch| {
            let verifier = core.verifier.as_ref();
            let verifier = verifier.ok_or(CoreError::NotWritable("there is no manifest"))?;
            let mut signed = batch.clone();
            signed.tree.signature = Some(signature.detach());
            verifier.verify(&signed)?;
            Ok(signature.detach())
        })
    }

    fn truncate_as(
        &mut self,
        length: u64,
        fork: Option<u64>,
        sign: impl FnOnce(&Self, &TreeBatch) -> Result<Buffer, CoreError>,
    ) -> Result<Truncated, CoreError> {
        self.check_frozen()?;
        let fork = fork.unwrap_or(self.tree.fork + 1);
        let refuse = |reason| {
            Err(CoreError::Truncate {
                length,
                fork,
                reason,
            })
        };
        if length > self.tree.length {
            return refuse("the core is shorter");
        }
        if fork <= self.tree.fork {
            return refuse("the fork is not later");
        }
        if self
            .prologue()
            .is_some_and(|prologue| length < prologue.length)
        {
            return refuse("it breaks the prologue");
        }
        let mut batch = TreeBatch::new(&self.tree);
        batch.tree = Tree::load(&*self.storage, length)?;
        batch.tree.fork = fork;
        batch.upgraded = true;
        batch.ancestors = length;
        batch.tree.signature = Some(sign(self, &batch)?);
        self.rewrite(batch, None)
    }

    /// Commits a tree that does not continue the current one.
    fn rewrite(
        &mut self,
        batch: TreeBatch,
        learned: Option<Verifier>,
    ) -> Result<Truncated, CoreError> {
        let lost = batch.ancestors..self.tree.length;
        let truncated = Truncated {
            fork: batch.tree.fork,
            ancestors: batch.ancestors,
            from: self.tree.length,
            to: batch.tree.length,
        };
        let manifest = learned.as_ref().map(Verifier::manifest);
        let manifest = manifest.or(self.manifest());
        let mut changes = Batch {
            delete_nodes: stale_nodes(&batch),
            delete_blocks: vec![lost.clone()],
            header: Some(self.header(&batch.tree, manifest, self.frozen)?),
            ..Batch::default()
        };
        let marked = self.mark(lost, false, &mut changes);
        self.commit(batch, changes, Some(marked), Durability::Now)?;
        self.verifier = learned.or(self.verifier.take());
        Ok(truncated)
    }

    /// Answers a peer's request. `None` means that the requested data is not held, or of another fork: `noData`.
    ///
    /// As in Node, a compat core's manifest is not sent, and an empty core answers with an empty message.
    ///
    /// # Errors
    /// [`CoreError::Request`] for an invalid request, which Node answers with `noData` and reason 2; else when the
    /// store fails.
    pub fn create_proof(&self, request: &Request) -> Result<Option<Data>, CoreError> {
        let wanted = Wanted {
            block: request.block,
            hash: request.hash,
            seek: request.seek,
            upgrade: request.upgrade,
        };
        wanted.check()?;
        let mut data = Data {
            request: request.id,
            fork: request.fork,
            ..Data::default()
        };
        let manifest = || {
            self.manifest()
                .filter(|_| request.manifest)
                .cloned()
                .map(Box::new)
        };
        let held = request.block.is_none_or(|block| self.has(block.index));
        if request.fork != self.tree.fork || !held {
            data.manifest = manifest();
            data.fork = self.tree.fork;
            return Ok(data.manifest.is_some().then_some(data));
        }
        data.manifest = manifest().filter(|_| !self.is_compat());
        let nodes = proof::prove(&*self.storage, &self.tree, &wanted, self.prologue())?;
        if let Some(block) = request.block {
            data.block = Some(DataBlock {
                index: block.index,
                value: self.get(block.index)?.unwrap_or_default(),
                nodes: nodes.node.unwrap_or_default(),
            });
        } else if let (Some(hash), Some(nodes)) = (request.hash, nodes.node) {
            data.hash = Some(DataHash {
                index: hash.index,
                nodes,
            });
        }
        if let (Some(seek), Some(nodes)) = (request.seek, nodes.seek) {
            data.seek = Some(DataSeek {
                bytes: seek.bytes,
                nodes,
            });
        }
        if let Some(RequestUpgrade { start, length }) = nodes.upgrade {
            data.upgrade = Some(DataUpgrade {
                start,
                length,
                nodes: nodes.upgrade_nodes,
                additional_nodes: nodes.additional,
                signature: self.tree.signature.clone(),
            });
        }
        Ok(Some(data))
    }

    /// Verifies a peer's data and applies it if all of it is proven: a block, hashes, a longer tree, the manifest.
    /// Whether the data was requested is for the caller to check.
    ///
    /// The upgrade of a later fork is verified and returned as [`Applied::reorg`].
    ///
    /// # Errors
    /// [`CoreError::Proof`] names the wrong part, and nothing is changed. Else when the core is frozen or the store
    /// fails.
    pub fn verify_and_apply(&mut self, data: &Data) -> Result<Applied, CoreError> {
        self.check_frozen()?;
        let mut applied = Applied::default();
        if data.fork > self.tree.fork && data.upgrade.is_some() {
            applied.reorg = Some(self.verify_reorg(data)?);
            return Ok(applied);
        }
        if data.fork != self.tree.fork {
            applied.stale = true;
            return Ok(applied);
        }
        let mut learned = None;
        if self.verifier.is_none() && (data.manifest.is_some() || data.upgrade.is_some()) {
            // Anybody can name the key as a signer, and only a signature shows that it is one. Node 11 sends such a
            // manifest alone when it lacks a compat core's block, so that is no reason to refuse the peer.
            let is_shown = |verifier: &Verifier| data.upgrade.is_some() || !verifier.is_compat();
            learned = Some(self.accept(data)?).filter(is_shown);
        }
        let verifier = learned.as_ref().or(self.verifier.as_ref());
        let prologue = verifier.and_then(Verifier::prologue);
        let verify = |prologue: Option<&Prologue>| {
            merkle::verify(&*self.storage, &self.tree, data, prologue)
        };
        let (mut batch, wrong) = with_prologue(prologue, learned.is_some(), verify)?;
        if batch.upgraded {
            let verifier =
                verifier.expect("an upgrade has a manifest, or a compat core is assumed");
            verifier.verify(&batch).map_err(ProofError::from)?;
            wrong.map_or(Ok(()), Err)?;
            if verifier.is_prologue(&batch.tree) {
                // Nothing verifies it, but it would be stored and sent on.
                batch.tree.signature = None;
            }
            applied.upgraded = Some(Upgraded {
                from: self.tree.length,
                to: batch.tree.length,
            });
        }
        batch.keep_bound();
        let learned = learned.filter(|_| data.manifest.is_some() || batch.upgraded);
        applied.manifest = learned.is_some();

        let mut changes = Batch::default();
        if batch.upgraded || applied.manifest {
            let tree = if batch.upgraded {
                &batch.tree
            } else {
                &self.tree
            };
            let manifest = learned.as_ref().map(Verifier::manifest);
            let manifest = manifest.or(self.manifest());
            changes.header = Some(self.header(tree, manifest, self.frozen)?);
        }
        let mut marked = None;
        if let Some(block) = data.block.as_ref().filter(|block| !self.has(block.index)) {
            changes.blocks.push((block.index, block.value.detach()));
            marked = Some(self.mark(block.index..block.index + 1, true, &mut changes));
            applied.block = Some(block.index);
        }
        let corrected = batch.corrected;
        self.commit(batch, changes, marked, Durability::Later)?;
        self.verifier = learned.or(self.verifier.take());
        if let Some(node) = corrected {
            // A signer has signed a size that differs from the one in the root's hash. Upgrades build on the latter.
            self.tree.correct(&node);
        }
        Ok(applied)
    }

    /// Verifies the upgrade of a later fork without applying it.
    ///
    /// # Errors
    /// [`CoreError::Proof`] names the wrong part.
    pub fn verify_reorg(&self, data: &Data) -> Result<Reorg, CoreError> {
        let learned = match &self.verifier {
            None => Some(self.accept(data)?),
            Some(_) => None,
        };
        let verifier = learned.as_ref().or(self.verifier.as_ref());
        let verifier = verifier.expect("it is known or was just learned");
        let verify =
            |prologue: Option<&Prologue>| Reorg::verify(&*self.storage, &self.tree, data, prologue);
        let (mut reorg, wrong) = with_prologue(verifier.prologue(), learned.is_some(), verify)?;
        verifier.verify(&reorg.batch).map_err(ProofError::from)?;
        wrong.map_or(Ok(()), Err)?;
        if verifier.is_prologue(&reorg.batch.tree) {
            reorg.batch.tree.signature = None;
        }
        reorg.batch.keep_bound();
        reorg.manifest = learned.map(|verifier| verifier.manifest().clone());
        Ok(reorg)
    }

    /// Gives a reorganisation the hashes that it wants. Returns whether they helped, which is not so for an answer to a
    /// question that is already settled.
    ///
    /// # Errors
    /// [`CoreError::Proof`] names the wrong part.
    pub fn update_reorg(&self, reorg: &mut Reorg, data: &Data) -> Result<bool, CoreError> {
        reorg.update(&*self.storage, data)
    }

    /// Replaces the core's history by a later fork. Blocks that both share are kept, the others dropped.
    ///
    /// # Errors
    /// When the reorganisation still wants hashes or the core has changed since it was verified ([`CoreError::Stale`]),
    /// when the core is frozen, or when the store fails.
    pub fn apply_reorg(&mut self, reorg: Reorg) -> Result<Truncated, CoreError> {
        self.check_frozen()?;
        let is_later = reorg.fork() > self.tree.fork;
        if reorg.want().is_some() || !is_later || !reorg.batch.is_commitable(&self.tree) {
            return Err(CoreError::Stale);
        }
        let learned = reorg.manifest.filter(|_| self.verifier.is_none());
        let learned = learned.map(|manifest| self.verifier_of(manifest));
        self.rewrite(reorg.batch, learned)
    }

    /// Compares a history that a peer proves from its first block with the local one. Node sends such a proof, with
    /// request 0, when it suspects that a core's writer has signed two histories. If that is so the core is frozen,
    /// permanently.
    ///
    /// # Errors
    /// [`CoreError::Proof`] when the peer's proof is invalid; else when the store fails.
    pub fn check_conflict(&mut self, data: &Data) -> Result<ConflictCheck, CoreError> {
        let (Some(upgrade), Some(verifier)) = (&data.upgrade, &self.verifier) else {
            return Ok(ConflictCheck::Unrelated);
        };
        let length = upgrade.length;
        if upgrade.start != 0 || length > self.tree.length || data.fork != self.tree.fork {
            return Ok(ConflictCheck::Unrelated);
        }
        let prologue = verifier.prologue();
        // The signature covers nothing else in the message.
        let alone = Data {
            block: None,
            hash: None,
            seek: None,
            ..data.clone()
        };
        let mut theirs = TreeBatch::from_nothing(&self.tree);
        merkle::take_in(&mut theirs, &alone, prologue)?;
        verifier.verify_hashes(&theirs).map_err(ProofError::from)?;

        // In one history, nodes over the same blocks are equal. Comparing only the roots at the requested length is not
        // enough: with a prologue the proof has no others, and the rest of the tree comes beside them. Sizes are not
        // compared: a hash commits to the sum of its children's sizes only, so anybody can write other sizes beside it.
        let differ = |length: u64| -> Result<bool, CoreError> {
            for theirs in theirs.nodes.iter().chain(&theirs.tree.roots) {
                let is_within = Cursor::new(theirs.index).right_span() < 2 * length;
                let ours = self.storage.node(theirs.index)?.filter(|_| is_within);
                if ours.is_some_and(|ours| ours.hash != theirs.hash) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let both = theirs.tree.length.min(self.tree.length);
        let length = if differ(length)? {
            length
        } else if differ(both)? {
            both
        } else {
            return Ok(ConflictCheck::Agrees);
        };
        let prove = |length| {
            self.create_proof(&Request {
                fork: self.tree.fork,
                upgrade: Some(RequestUpgrade { start: 0, length }),
                ..Request::default()
            })
        };
        let ours = match prove(length) {
            // At a length other than ours, not all roots need be held.
            Err(CoreError::Request(RequestError::MissingNode { .. })) => prove(self.tree.length)?,
            ours => ours?,
        };
        let conflict = Conflict {
            length,
            fork: self.tree.fork,
            ours: ours.expect("it is of our fork and asks for no block"),
            theirs: data.clone(),
        };
        let header = Some(self.header(&self.tree, self.manifest(), true)?);
        let batch = Batch {
            header,
            ..Batch::default()
        };
        self.storage.commit(batch, Durability::Now)?;
        self.frozen = true;
        Ok(ConflictCheck::Conflict(Box::new(conflict)))
    }

    /// The number of levels above a tree node at which nothing is held: the `nodes` of a request for it. Block `i` is
    /// node `2 * i`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn missing_nodes(&self, index: u64) -> Result<u64, CoreError> {
        if index > MAX_SAFE_INTEGER {
            return Ok(0);
        }
        let length = self.tree.length;
        Ok(proof::missing_nodes(&*self.storage, index, length)?)
    }

    /// The largest [`Core::missing_nodes`] of a peer with `length` blocks that holds only the roots: how to prove a
    /// block that is sent without a request.
    pub fn max_missing_nodes(index: u64, length: u64) -> u64 {
        if index > MAX_SAFE_INTEGER || length > MAX_SAFE_INTEGER / 2 {
            return 0;
        }
        proof::max_missing_nodes(index, length)
    }

    /// Whether an upgrade from `length` blocks can be proven: the `canUpgrade` of a sync.
    ///
    /// # Errors
    /// When the store fails.
    pub fn can_upgrade_from(&self, length: u64) -> Result<bool, CoreError> {
        if length >= self.tree.length {
            return Ok(false);
        }
        for root in full_roots(length) {
            if !self.storage.has_node(root.index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes before a block of the core (or before its end).
    ///
    /// # Errors
    /// When there is no such block, or too little of the tree is held; else when the store fails.
    pub fn byte_offset(&self, block: u64) -> Result<u64, CoreError> {
        if block > self.tree.length {
            let (start, end, length) = (block, block, self.tree.length);
            return Err(CoreError::OutOfRange { start, end, length });
        }
        proof::byte_offset(&*self.storage, &self.tree, 2 * block)
    }

    /// Looks for a byte as far as the tree is held, not counting `padding` bytes at the front of each block.
    ///
    /// # Errors
    /// When the store fails.
    pub fn seek(&self, bytes: u64, padding: u64) -> Result<Seek, CoreError> {
        proof::seek(&*self.storage, &self.tree, bytes, padding)
    }

    /// The bytes that the signer at an index in the manifest signs for the core's current state: 112 bytes, or 80 in a
    /// compat core.
    ///
    /// # Errors
    /// When there is no manifest, or a size is above 2^53-1.
    pub fn signable(&self, signer: usize) -> Result<Vec<u8>, CoreError> {
        let verifier = self.verifier.as_ref();
        let verifier = verifier.ok_or(CoreError::NotWritable("there is no manifest"))?;
        Ok(verifier.signable(&self.tree, signer)?)
    }

    /// This core's signature as part of a multi-signature, for a core that one of several signers appended to, to be
    /// proven at `length` blocks. With `allow_patch`, `length` may be less than the signed length.
    ///
    /// # Errors
    /// When the core is not signed, or is shorter; else when the store fails.
    pub fn partial_signature(
        &self,
        signer: u64,
        length: u64,
    ) -> Result<PartialSignature, CoreError> {
        let signature = self
            .tree
            .signature
            .as_ref()
            .ok_or(SignatureError::Missing)?;
        let signature = match <[u8; 64]>::try_from(signature.as_slice()) {
            Ok(signature) => signature,
            Err(_) => {
                let multi = crate::multisig::MultiSignature::decode(signature);
                let multi = multi.map_err(SignatureError::Malformed)?.value;
                let first = multi.proofs.first().ok_or(SignatureError::Missing)?;
                first.signature
            }
        };
        let patch = self.tree.length.checked_sub(length);
        let patch = patch.ok_or(SignatureError::Patch { signer })?;
        let mut nodes = Vec::new();
        if patch != 0 {
            let upgrade = RequestUpgrade {
                start: length,
                length: patch,
            };
            let wanted = Wanted {
                upgrade: Some(upgrade),
                ..Wanted::default()
            };
            let prologue = self.prologue();
            nodes = proof::prove(&*self.storage, &self.tree, &wanted, prologue)?.upgrade_nodes;
        }
        Ok(PartialSignature {
            signer,
            signature,
            patch,
            nodes,
        })
    }

    /// Combines signatures of several signers in the format of the manifest's version.
    ///
    /// # Errors
    /// When there is no manifest, or an integer is above 2^53-1.
    pub fn assemble(&self, parts: &[PartialSignature]) -> Result<Buffer, CoreError> {
        let verifier = self.verifier.as_ref();
        let verifier = verifier.ok_or(CoreError::NotWritable("there is no manifest"))?;
        verifier.assemble(parts)
    }

    /// Makes all changes durable against a crash of the machine. Appended blocks always are; data from peers may need
    /// this, though they would send it again. (A crash of the process alone loses nothing on `Disk`.)
    ///
    /// # Errors
    /// When the store fails.
    pub fn flush(&mut self) -> Result<(), CoreError> {
        Ok(self.storage.flush()?)
    }

    /// `None` as long as the manifest is unknown.
    fn prologue(&self) -> Option<&Prologue> {
        self.verifier.as_ref().and_then(Verifier::prologue)
    }

    fn verifier_of(&self, manifest: Manifest) -> Verifier {
        Verifier::new(&self.key, manifest).with_legacy(self.legacy)
    }

    fn accept(&self, data: &Data) -> Result<Verifier, ProofError> {
        let verifier = Verifier::accept(&self.key, data.manifest.as_deref())?;
        Ok(verifier.with_legacy(self.legacy))
    }

    fn check_frozen(&self) -> Result<(), CoreError> {
        if self.frozen {
            return Err(CoreError::Frozen);
        }
        Ok(())
    }

    /// Marks blocks as held or not, and adds the changed pages to the batch. The result undoes it.
    fn mark(&mut self, blocks: Range<u64>, held: bool, changes: &mut Batch) -> Marked {
        let pages = pages_of(&blocks);
        let marked = Marked {
            pages: self.bitfield.save(pages.clone()),
            contiguous_length: self.contiguous_length,
        };
        // A core's author can claim a length of far more pages than exist.
        let touched = match held {
            true => pages.collect(),
            false => self.bitfield.pages_within(pages),
        };
        self.bitfield.set_range(blocks.clone(), held);
        let pages = touched.into_iter();
        let pages = pages.map(|page| (page, self.bitfield.page(page)));
        changes.pages.extend(pages);
        if held {
            if blocks.contains(&self.contiguous_length) {
                self.contiguous_length = self.bitfield.next_unset(blocks.end);
            }
        } else if !blocks.is_empty() {
            self.contiguous_length = self.contiguous_length.min(blocks.start);
        }
        marked
    }

    /// Commits a batch with its accompanying changes, and makes its tree the core's.
    fn commit(
        &mut self,
        batch: TreeBatch,
        mut changes: Batch,
        marked: Option<Marked>,
        durability: Durability,
    ) -> Result<(), CoreError> {
        changes.nodes.extend(batch.nodes);
        let committed = self.storage.commit(changes, durability);
        self.settle(committed, marked)?;
        if batch.upgraded {
            self.tree = batch.tree;
        }
        Ok(())
    }

    /// Restores memory to the stored state if a commit failed.
    fn settle(
        &mut self,
        committed: Result<(), StorageError>,
        marked: Option<Marked>,
    ) -> Result<(), CoreError> {
        if let Err(error) = committed {
            if let Some(marked) = marked {
                self.bitfield.restore(marked.pages);
                self.contiguous_length = marked.contiguous_length;
            }
            return Err(error.into());
        }
        Ok(())
    }

    fn header(
        &self,
        tree: &Tree,
        manifest: Option<&Manifest>,
        frozen: bool,
    ) -> Result<Header, CoreError> {
        let state = State {
            key: self.key,
            manifest: manifest.cloned(),
            key_pair: self.key_pair.clone(),
            frozen,
            fork: tree.fork,
            length: tree.length,
            signature: tree.signature.clone(),
        };
        Ok(state.encode()?)
    }
}

/// Verifies with a prologue, which binds the sizes of the roots at its end: every proof from the first block on starts
/// with these.
///
/// If the prologue came with the same message and the tree is another, the signature is verified first, and the
/// remaining error is returned for afterwards: Node then checks nothing else.
fn with_prologue<T>(
    prologue: Option<&Prologue>,
    is_new: bool,
    verify: impl Fn(Option<&Prologue>) -> Result<T, CoreError>,
) -> Result<(T, Option<CoreError>), CoreError> {
    match verify(prologue) {
        Err(
            error @ CoreError::Proof(
                ProofError::WrongPrologue { .. } | ProofError::PartOfPrologue { .. },
            ),
        ) if is_new => Ok((verify(None)?, Some(error))),
        result => Ok((result?, None)),
    }
}

/// Adds the store's file name to an error.
fn name_file(storage: &dyn Storage, error: StorageError) -> StorageError {
    match storage.path() {
        Some(path) => error.at(path),
        None => error,
    }
}

/// What [`Core::mark`] changed in memory before the commit.
struct Marked {
    pages: SavedPages,
    contiguous_length: u64,
}

/// The nodes left over from the old tree when a new one does not continue it: those of removed blocks, and those above
/// blocks of both.
fn stale_nodes(batch: &TreeBatch) -> Vec<Range<u64>> {
    let (ancestors, length) = (batch.ancestors, batch.base_length);
    if ancestors >= length {
        return Vec::new();
    }
    let head = 2 * ancestors;
    let mut stale: Vec<Range<u64>> = std::iter::once(head..2 * length).collect();
    if ancestors > 0 {
        let mut cursor = Cursor::new(head - 2);
        while cursor.left_span() != 0 || cursor.right_span() < 2 * length {
            if cursor.contains(head) && cursor.index < head {
                stale.push(cursor.index..cursor.index + 1);
            }
            cursor.parent();
        }
    }
    stale
}

/// Shows a summary, never the secret key.
impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("key", &ShortHex(&self.key))
            .field("length", &self.tree.length)
            .field("byte_length", &self.tree.byte_length)
            .field("fork", &self.tree.fork)
            .field("contiguous_length", &self.contiguous_length)
            .field("writable", &self.is_writable())
            .field("frozen", &self.frozen)
            .finish_non_exhaustive()
    }
}

impl Wanted {
    /// Indexes and lengths that no message can carry would overflow the tree's arithmetic.
    fn check(&self) -> Result<(), CoreError> {
        let integers = [
            self.block.map(|block| (block.index, "block.index")),
            self.hash.map(|hash| (hash.index, "hash.index")),
            self.seek.map(|seek| (seek.bytes, "seek.bytes")),
            self.seek.map(|seek| (seek.padding, "seek.padding")),
            self.upgrade.map(|upgrade| (upgrade.start, "upgrade.start")),
            self.upgrade
                .map(|upgrade| (upgrade.length, "upgrade.length")),
        ];
        for (value, field) in integers.into_iter().flatten() {
            if value > MAX_SAFE_INTEGER {
                return Err(EncodeError::UnsafeInteger { value, field }.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
