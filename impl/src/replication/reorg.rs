//! Another fork of a core: its signed tree, and the search for the last common block.
//!
//! Read from hypercore 11.37.1, `lib/merkle-tree.js` (`ReorgBatch`, `reorg`). 10.38.2 does the same.

use std::collections::HashMap;

use crate::manifest::{Manifest, Prologue};
use crate::wire::{Data, Node};

use super::error::{CoreError, ProofError, ProofPart};
use super::flat_tree::{Cursor, spans};
use super::merkle::{Nodes, Tree, TreeBatch, take_in, verify_tree};

/// A signed tree of a later fork that is to replace the current history.
///
/// Made by [`Core::verify_reorg`](super::Core::verify_reorg). While [`Reorg::want`] is not `None`, ask a peer of that
/// fork for one of the hashes that it names and pass the answer to [`Core::update_reorg`](super::Core::update_reorg);
/// then call [`Core::apply_reorg`](super::Core::apply_reorg).
#[derive(Debug, Clone)]
pub struct Reorg {
    pub(crate) batch: TreeBatch,
    /// The manifest of the proof, if the core had none.
    pub(crate) manifest: Option<Manifest>,
    /// The lowest known node in which the two trees differ.
    diff: Option<Node>,
    want: Option<ReorgWant>,
}

/// The next request of a reorganisation: `hash { index: 2 * block, nodes }` for any block of `start..end`, with the
/// fork's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReorgWant {
    /// The first block that may differ.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The levels to request.
    pub nodes: u64,
}

impl Reorg {
    /// Verifies the upgrade of another fork, from its first block, except for the signature.
    pub(crate) fn verify(
        nodes: &(impl Nodes + ?Sized),
        tree: &Tree,
        data: &Data,
        prologue: Option<&Prologue>,
    ) -> Result<Self, CoreError> {
        let mut batch = TreeBatch::from_nothing(tree);
        // So that a commit compares the current length, as for every other tree.
        batch.upgraded = true;
        if data.upgrade.is_none() {
            return Err(ProofError::Empty.into());
        }
        if let Some(below) = take_in(&mut batch, data, prologue)? {
            return Err(ProofError::NotInFork { part: below.part }.into());
        }
        let mut reorg = Self {
            batch,
            manifest: None,
            diff: None,
            want: Some(ReorgWant {
                start: 0,
                end: 0,
                nodes: 0,
            }),
        };
        let roots = reorg.batch.tree.roots.clone();
        let mut differs = None;
        for root in roots {
            if nodes.node(root.index)?.map(|node| node.hash) != Some(root.hash) {
                differs = Some(root);
                break;
            }
        }
        match differs {
            Some(root) => {
                reorg.descend_to(root);
                let known = reorg.batch.nodes.clone();
                reorg.descend(nodes, &known)?;
            }
            None => {
                reorg.want = None;
                reorg.batch.ancestors = reorg.batch.tree.length.min(tree.length);
            }
        }
        Ok(reorg)
    }

    /// Applies hashes of the other fork. Returns whether they helped.
    pub(crate) fn update(
        &mut self,
        nodes: &(impl Nodes + ?Sized),
        data: &Data,
    ) -> Result<bool, CoreError> {
        let (Some(_), Some(diff)) = (self.want, self.diff) else {
            return Ok(false);
        };
        let (mut new, mut unbound) = (Vec::new(), Vec::new());
        let Some(below) = verify_tree(data, &mut new, &mut unbound)? else {
            return Ok(false);
        };
        let node = below.sent.node;
        if node.hash != diff.hash || node.index != diff.index {
            // An answer to a question from before the search went on.
            return Ok(false);
        }
        // A single node was sent rather than computed: it is not new, and its size may be wrong.
        if new.len() > 1 {
            let bound = new.iter().filter(|node| !unbound.contains(&node.index));
            self.batch.nodes.extend(bound);
        }
        self.descend(nodes, &new)
    }

    fn descend(
        &mut self,
        nodes: &(impl Nodes + ?Sized),
        known: &[Node],
    ) -> Result<bool, CoreError> {
        let known: HashMap<u64, Node> = known.iter().map(|node| (node.index, *node)).collect();
        let Some(from) = self.diff.filter(|_| self.want.is_some()) else {
            return Ok(false);
        };
        let mut diff = None;
        let mut cursor = Cursor::new(from.index);
        while !cursor.is_leaf() {
            let Some(left) = known.get(&cursor.left_child()) else {
                break;
            };
            if nodes.node(left.index)?.map(|node| node.hash) == Some(left.hash) {
                let index = cursor.sibling();
                let right = known.get(&index).ok_or(ProofError::UnknownNode {
                    part: ProofPart::Hash,
                    index,
                })?;
                diff = Some(*right);
            } else {
                diff = Some(*left);
            }
        }
        let Some(diff) = diff else {
            return Ok(false);
        };
        self.descend_to(diff);
        Ok(true)
    }

    fn descend_to(&mut self, diff: Node) {
        let (first, last) = spans(diff.index);
        let length = self.batch.base_length;
        let (start, end) = (first / 2, length.min(last / 2 + 1));
        self.batch.ancestors = start.min(length);
        self.diff = Some(diff);
        let is_leaf = diff.index % 2 == 0;
        self.want = (!is_leaf && start < end).then(|| ReorgWant {
            start,
            end,
            nodes: u64::from((last - first + 2).ilog2()) - 1,
        });
    }

    /// The next hashes to request; `None` when the reorganisation can be applied.
    pub fn want(&self) -> Option<ReorgWant> {
        self.want
    }

    /// The fork's number.
    pub fn fork(&self) -> u64 {
        self.batch.tree.fork
    }

    /// The length of the fork's tree, in blocks.
    pub fn length(&self) -> u64 {
        self.batch.tree.length
    }

    /// Number of leading blocks that both have in common, once nothing more is wanted.
    pub fn ancestors(&self) -> u64 {
        self.batch.ancestors
    }
}
