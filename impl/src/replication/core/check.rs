//! What of a core in a store is intact, and a store of that alone.

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

/// About how many bytes of blocks a repair writes in one batch.
const BATCH: usize = 1024 * 1024;

/// What [`Core::check`] and [`Core::repair`] found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Blocks of the core, held or not.
    pub length: u64,
    /// Blocks that are held and are those of the tree.
    pub intact: u64,
    /// Runs of blocks that should be held, and are damaged or missing, or that nothing intact proves any more.
    pub damaged: Vec<Range<u64>>,
    /// Runs of blocks that are stored and intact, but not marked as held. [`Core::repair`] marks them.
    pub unmarked: Vec<Range<u64>>,
    /// Tree nodes that are damaged or missing, by flat-tree index, and follow from what is intact. [`Core::repair`] makes
    /// them again.
    pub restorable_nodes: Vec<u64>,
    /// Tree nodes that are damaged or missing, by flat-tree index. What is below them is lost.
    pub lost_nodes: Vec<u64>,
    /// Why the tree is not the one that was signed: then the whole core is lost here, and its length is not known.
    pub tree: Option<String>,
    /// What is wrong with the state, the key pair, the bitfield or the database itself.
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
    /// Reads all that is stored of the core, and says what of it is damaged or missing. It takes as long as reading and
    /// hashing every block does.
    ///
    /// # Errors
    /// When a size is above 2^53-1. What is wrong with the store is in the report.
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

    /// Copies all that is intact of a core into an empty store, so that peers can fill what is lost. Nothing is changed in
    /// the store that it comes from. For a core in a file there is [`repair`].
    ///
    /// A core of which the state, or the tree under its signature, is lost begins again without a block. Where the state is
    /// lost, `options` must say which core it is, by a key, a manifest or a key pair. **A writer whose blocks are lost must not
    /// append** before it has them again from a peer: it would sign a second history.
    ///
    /// # Errors
    /// When the state is damaged and the options name no core, when they name another, or either store fails by more
    /// than damage.
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
            // What a peer sends is taken for an upgrade of the empty core.
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
        // The state comes last: without it the store is no core, should this be cut short.
        let pages = held.pages_within(0..u64::MAX).into_iter();
        batch.pages = pages.map(|page| (page, held.page(page))).collect();
        batch.header = Some(kept.encode()?);
        batch.secret = secret;
        into.commit(batch, Durability::Now)?;
        into.flush()?;
        Ok(survey.report)
    }
}

/// Repairs a core in a file, which no process may have open: a store of all that is intact comes in its place, and peers can
/// fill the rest. What was there is kept beside it, as it was, under its name with `.damaged1` behind it or a higher number.
/// Remove that when nothing is missed: it has the key pair's seed too.
///
/// Where the file cannot be read at all, nothing is changed and the error says so: remove it, and begin again.
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

/// Something intact.
enum Found {
    Node(Node),
    Block(u64, Buffer),
}

type Take<'a> = &'a mut dyn FnMut(Found) -> Result<(), CoreError>;

/// A tree, read from its roots down: a node is intact when the hash of the one above it is that of it and its sibling.
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

    /// The state, as far as it is intact: the key pair may be lost by itself.
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

    /// The tree of which the length and the signature are given, with roots that are signed by it; an empty one where
    /// there is no such tree.
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
            // Where several sign, what is kept is the signature of the one who appended here.
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
                // Of a core that is held in part.
                Ok(None) => self.lose(node.index),
                Err(()) => {
                    self.report.lost_nodes.extend(below);
                    self.lose(node.index);
                }
            }
        }
        Ok(())
    }

    /// The nodes below one, or nothing where nothing of them is held.
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
        // One of them, or both, can be those that follow from what is below.
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

    /// A node as it follows from the blocks and nodes below it, as far as those are held.
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

    /// What is marked as held below a node is not proven any more.
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

/// Adds a run to those before it.
fn add(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}
