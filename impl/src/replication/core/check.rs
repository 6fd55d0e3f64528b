//! Finds the intact part of a stored core, and makes a store of that part.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::replication::bitfield::Bitfield;
use crate::replication::error::CoreError;
use crate::replication::flat_tree::{Cursor, full_roots, spans};
use crate::replication::merkle::{Tree, TreeBatch, block_node};
use crate::replication::storage::{Batch, Durability, Storage, StorageError, StorageErrorKind};
use crate::replication::verifier::Verifier;
use crate::tree;
use crate::wire::Node;

use super::state::State;
use super::{Core, CoreOptions};

/// Approximate bytes of blocks per batch of a repair.
const BATCH: usize = 1024 * 1024;

/// What [`Core::check`] and [`Core::repair`] found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Blocks of the core, held or not.
    pub length: u64,
    /// Blocks that are held and match the tree.
    pub intact: u64,
    /// Runs of blocks that should be held but are damaged, missing, or no longer proven by an intact node.
    pub damaged: Vec<Range<u64>>,
    /// Runs of blocks that are stored and intact, but not marked as held. [`Core::repair`] marks them.
    pub unmarked: Vec<Range<u64>>,
    /// Damaged or missing tree nodes, by flat-tree index, that can be computed from intact data. [`Core::repair`]
    /// restores them.
    pub restorable_nodes: Vec<u64>,
    /// Damaged or missing tree nodes, by flat-tree index. Everything below them is lost.
    pub lost_nodes: Vec<u64>,
    /// Why the tree does not match its signature: the whole core is then lost here, and its length unknown.
    pub tree: Option<String>,
    /// Faults of the state, the key pair, the bitfield or the database itself.
    pub store: Vec<StorageError>,
}

impl CheckReport {
    /// Whether nothing is damaged.
    pub fn is_intact(&self) -> bool {
        self.damaged.is_empty()
            && self.unmarked.is_empty()
            && self.restorable_nodes.is_empty()
            && self.lost_nodes.is_empty()
            && self.tree.is_none()
            && self.store.is_empty()
    }
}

impl Core {
    /// Reads all stored data of the core and reports what is damaged or missing. It reads and hashes every block.
    ///
    /// # Errors
    /// When a size is above 2^53-1. Faults of the store are in the report.
    pub fn check(&self) -> Result<CheckReport, CoreError> {
        let mut survey = Survey::new(&*self.storage, self.bitfield.clone());
        survey.report.length = self.tree.length;
        let stored = State::load(&*self.storage);
        let state = stored.and_then(|state| {
            Ok(state.ok_or_else(|| StorageError::damaged("the state is missing"))?)
        });
        survey.note(state)?;
        let pages = self.storage.pages(&mut |_, _| {});
        survey.note(pages.map_err(CoreError::from))?;
        survey.note(self.storage.check().map_err(CoreError::from))?;
        let tree = survey.signed_tree(&self.tree, self.verifier.as_ref())?;
        survey.walk(&tree, &mut |_| Ok(()))?;
        Ok(survey.report)
    }

    /// Copies the intact part of a core into an empty store, so that peers can fill the rest. The source store is not
    /// changed. For a core in a file there is [`repair`].
    ///
    /// A core whose state, or signed tree, is lost starts again without blocks. If the state is lost, `options` must
    /// identify the core, by a key, a manifest or a key pair. **A writer whose blocks are lost must not append** before
    /// it has them again from a peer: it would sign a second history.
    ///
    /// # Errors When the state is damaged and the options name no core, when they name another, or when either store
    /// fails for a reason other than damage.
    pub fn repair(
        from: &dyn Storage,
        into: &mut dyn Storage,
        options: &CoreOptions,
    ) -> Result<CheckReport, CoreError> {
        if into.header()?.is_some() {
            let reason = "the store has a core already";
            return Err(StorageError::new(StorageErrorKind::Exists, reason).into());
        }
        let mut problems = Vec::new();
        let state = match Survey::stored_state(from, &mut problems)? {
            Some(state) => state.with(options)?.0,
            None => {
                let names = options.key.is_some() || options.manifest.is_some();
                if !names && options.key_pair.is_none() {
                    let first = problems.into_iter().next();
                    let nothing =
                        || StorageError::new(StorageErrorKind::NotFound, "the store has no core");
                    return Err(first.unwrap_or_else(nothing).into());
                }
                State::new(options)?
            }
        };
        let mut bitfield = Bitfield::new();
        let mut intact = Some(());
        let pages = from.pages(&mut |page, bytes| {
            intact = intact.and(bitfield.load_page(page, bytes));
        });
        problems.extend(pages.err());
        if intact.is_none() {
            problems.push(StorageError::damaged("a page of the bitfield is cut short"));
        }
        problems.extend(from.check().err());

        let mut survey = Survey::new(from, bitfield);
        survey.report.length = state.length;
        survey.report.store = problems;
        let verifier = state
            .manifest
            .clone()
            .map(|manifest| Verifier::new(&state.key, manifest).with_legacy(options.legacy));
        let stored = Tree {
            fork: state.fork,
            length: state.length,
            signature: state.signature.clone(),
            ..Tree::default()
        };
        let tree = survey.signed_tree(&stored, verifier.as_ref())?;
        let secret = state.key_pair.as_ref().map(State::encode_secret);
        let kept = match tree.length == state.length {
            true => state,
            // The core starts again as an empty one, which a peer's tree upgrades.
            false => State {
                fork: 0,
                length: 0,
                signature: None,
                ..state
            },
        };

        let mut held = Bitfield::new();
        let (mut batch, mut bytes) = (Batch::default(), 0);
        survey.walk(&tree, &mut |found| {
            match found {
                Found::Node(node) => batch.nodes.push(node),
                Found::Block(index, value) => {
                    held.set(index, true);
                    bytes += value.len();
                    batch.blocks.push((index, value));
                }
            }
            bytes += 64;
            if bytes > BATCH {
                bytes = 0;
                into.commit(std::mem::take(&mut batch), Durability::Later)?;
            }
            Ok(())
        })?;
        // The state comes last: without it the store has no core, should this be interrupted.
        let pages = held.pages_within(0..u64::MAX).into_iter();
        batch.pages = pages.map(|page| (page, held.page(page))).collect();
        batch.header = Some(kept.encode()?);
        batch.secret = secret;
        into.commit(batch, Durability::Now)?;
        into.flush()?;
        Ok(survey.report)
    }
}

/// Repairs a core in a file, which no process may have open: replaces it with a store of the intact part, and peers can
/// fill the rest. The old file is kept unchanged beside it, with the suffix `.damaged1` or a higher number. Remove that
/// when nothing is missing: it has the key pair's seed too.
///
/// If the file cannot be read at all, nothing is changed and the error says so: remove it, and start again.
///
/// # Errors
/// As [`Core::repair`] and [`Disk::open_existing`](crate::replication::Disk::open_existing).
#[cfg(not(target_family = "wasm"))]
pub fn repair(
    path: impl AsRef<std::path::Path>,
    options: &CoreOptions,
) -> Result<CheckReport, CoreError> {
    crate::replication::Disk::replace(path.as_ref(), |from, into| {
        Core::repair(from, into, options)
    })
}

/// An intact item.
enum Found {
    Node(Node),
    Block(u64, Buffer),
}

type Take<'a> = &'a mut dyn FnMut(Found) -> Result<(), CoreError>;

/// A tree, read from its roots down: a node is intact if it and its sibling hash to the node above.
struct Survey<'a> {
    storage: &'a dyn Storage,
    bitfield: Bitfield,
    report: CheckReport,
}

impl<'a> Survey<'a> {
    fn new(storage: &'a dyn Storage, bitfield: Bitfield) -> Self {
        Self {
            storage,
            bitfield,
            report: CheckReport::default(),
        }
    }

    /// The state, as far as it is intact: the key pair can be lost alone.
    fn stored_state(
        from: &dyn Storage,
        problems: &mut Vec<StorageError>,
    ) -> Result<Option<State>, CoreError> {
        match State::load(from) {
            Ok(state) => return Ok(state),
            Err(CoreError::Storage(error)) if error.kind() == StorageErrorKind::Damaged => {
                problems.push(error);
            }
            Err(error) => return Err(error),
        }
        let header = from.header().ok().flatten();
        let state = header.and_then(|header| State::decode(header.as_bytes()).ok());
        Ok(state.map(|(state, _)| state))
    }

    fn note<T>(&mut self, result: Result<T, CoreError>) -> Result<(), CoreError> {
        match result {
            Ok(_) => Ok(()),
            Err(CoreError::Storage(error)) => {
                self.report.store.push(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The tree of a length and a signature, with roots that match the signature; an empty tree if there is none.
    fn signed_tree(
        &mut self,
        stored: &Tree,
        verifier: Option<&Verifier>,
    ) -> Result<Tree, CoreError> {
        let mut tree = Tree {
            fork: stored.fork,
            length: stored.length,
            signature: stored.signature.clone(),
            ..Tree::default()
        };
        if tree.length == 0 {
            return Ok(tree);
        }
        let fresh = |reason: String, report: &mut CheckReport| {
            report.tree = Some(reason);
            if !self.bitfield.is_empty() {
                report.damaged.extend(self.bitfield.runs(0..stored.length));
            }
            Ok(Tree::default())
        };
        for root in full_roots(tree.length) {
            let node = match self.storage.node(root.index) {
                Ok(Some(node)) => node,
                _ => match self.rebuilt(root.index) {
                    Some(node) => {
                        self.report.restorable_nodes.push(root.index);
                        node
                    }
                    None => {
                        self.report.lost_nodes.push(root.index);
                        let reason = format!("root {} is damaged or missing", root.index);
                        return fresh(reason, &mut self.report);
                    }
                },
            };
            tree.byte_length = tree.byte_length.saturating_add(node.size);
            tree.roots.push(node);
        }
        let Some(verifier) = verifier else {
            return fresh("there is no manifest".to_owned(), &mut self.report);
        };
        let batch = TreeBatch {
            tree: tree.clone(),
            ..TreeBatch::new(&tree)
        };
        match verifier.verify(&batch) {
            Ok(()) => Ok(tree),
            // With several signers, the stored signature is that of the local one.
            Err(_) if verifier.is_signed_in_part(&tree) => Ok(tree),
            Err(error) => fresh(error.to_string(), &mut self.report),
        }
    }

    /// Reads everything below the roots.
    fn walk(&mut self, tree: &Tree, take: Take<'_>) -> Result<(), CoreError> {
        let mut left: Vec<Node> = tree.roots.iter().rev().copied().collect();
        while let Some(node) = left.pop() {
            take(Found::Node(node))?;
            if node.index % 2 == 0 {
                self.block(node, take)?;
                continue;
            }
            let mut cursor = Cursor::new(node.index);
            let below = [cursor.left_child(), cursor.sibling()];
            match self.children(&node, below) {
                Ok(Some([one, two])) => left.extend([two, one]),
                // Of a partly held core.
                Ok(None) => self.lose(node.index),
                Err(()) => {
                    self.report.lost_nodes.extend(below);
                    self.lose(node.index);
                }
            }
        }
        Ok(())
    }

    /// The children of a node, or `None` if neither is held.
    fn children(&mut self, node: &Node, below: [u64; 2]) -> Result<Option<[Node; 2]>, ()> {
        let is_whole = |[left, right]: &[Node; 2]| {
            left.size.checked_add(right.size) == Some(node.size)
                && tree::parent(left, right).is_ok_and(|hash| hash == node.hash)
        };
        let stored = below.map(|index| self.storage.node(index));
        match &stored {
            [Ok(Some(left)), Ok(Some(right))] if is_whole(&[*left, *right]) => {
                return Ok(Some([*left, *right]));
            }
            [Ok(None), Ok(None)] if !self.is_any_held(node.index) => return Ok(None),
            _ => {}
        }
        // One or both can be the ones computed from below.
        let stored = stored.map(|node| node.ok().flatten());
        let rebuilt = below.map(|index| self.rebuilt(index));
        for pick in [[true, false], [false, true], [false, false]] {
            let choose = |at: usize| if pick[at] { stored[at] } else { rebuilt[at] };
            let (Some(left), Some(right)) = (choose(0), choose(1)) else {
                continue;
            };
            if is_whole(&[left, right]) {
                let made = (0..2).filter(|at| stored[*at] != choose(*at));
                let made: Vec<u64> = made.map(|at| below[at]).collect();
                self.report.restorable_nodes.extend(made);
                return Ok(Some([left, right]));
            }
        }
        Err(())
    }

    /// A node computed from the blocks and nodes below it, if they are held.
    fn rebuilt(&self, index: u64) -> Option<Node> {
        if index % 2 == 0 {
            let value = self.storage.block(index / 2).ok().flatten()?;
            return Some(block_node(index, &value));
        }
        if !self.is_any_held(index) {
            return None;
        }
        let mut cursor = Cursor::new(index);
        let below = [cursor.left_child(), cursor.sibling()];
        let below = below.map(|index| match self.storage.node(index) {
            Ok(Some(node)) => Some(node),
            _ => self.rebuilt(index),
        });
        let [Some(left), Some(right)] = below else {
            return None;
        };
        Some(Node {
            index,
            size: left.size.checked_add(right.size)?,
            hash: tree::parent(&left, &right).ok()?,
        })
    }

    fn block(&mut self, leaf: Node, take: Take<'_>) -> Result<(), CoreError> {
        let index = leaf.index / 2;
        let is_marked = self.bitfield.get(index);
        let value = self.storage.block(index).ok().flatten();
        match value.filter(|value| block_node(leaf.index, value) == leaf) {
            Some(value) => {
                self.report.intact += 1;
                if !is_marked {
                    add(&mut self.report.unmarked, index..index + 1);
                }
                take(Found::Block(index, value))
            }
            None => {
                if is_marked {
                    add(&mut self.report.damaged, index..index + 1);
                }
                Ok(())
            }
        }
    }

    /// The blocks marked as held below this node are no longer proven.
    fn lose(&mut self, index: u64) {
        for run in self.bitfield.runs(blocks_below(index)) {
            add(&mut self.report.damaged, run);
        }
    }

    fn is_any_held(&self, index: u64) -> bool {
        self.bitfield.any(blocks_below(index))
    }
}

fn blocks_below(index: u64) -> Range<u64> {
    let (first, last) = spans(index);
    first / 2..last / 2 + 1
}

/// Appends a run, merging it with the last one.
fn add(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}
