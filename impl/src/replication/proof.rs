//! Making proofs for peers' requests, and the tree look-ups for our own requests.
//!
//! Read from hypercore 11.37.1, `lib/merkle-tree.js` (`generateProof` and what it calls, `missingNodes`, `ByteSeeker`,
//! `getByteOffset`). 10.38.2 does the same.

use std::ops::Range;

use crate::manifest::Prologue;
use crate::wire::{Node, RequestBlock, RequestSeek, RequestUpgrade};

use super::error::{CoreError, RequestError};
use super::flat_tree::{Cursor, full_roots, spans, upgrade_path};
use super::merkle::{Nodes, Tree};
use super::storage::StorageError;

/// The parts of a request that tree nodes prove.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) block: Option<RequestBlock>,
    pub(crate) hash: Option<RequestBlock>,
    pub(crate) seek: Option<RequestSeek>,
    pub(crate) upgrade: Option<RequestUpgrade>,
}

/// The tree nodes of an answer, by part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProofNodes {
    /// Of the block or the hash. `None` if it is proven elsewhere.
    pub(crate) node: Option<Vec<Node>>,
    pub(crate) seek: Option<Vec<Node>>,
    /// As requested, or as a prologue requires.
    pub(crate) upgrade: Option<RequestUpgrade>,
    pub(crate) upgrade_nodes: Vec<Node>,
    pub(crate) additional: Vec<Node>,
}

/// The requested block or hash.
#[derive(Clone, Copy)]
struct Indexed {
    index: u64,
    nodes: u64,
    /// Whether the block itself is sent, so that its leaf is not needed.
    value: bool,
    last_block: u64,
}

struct Prover<'a, N: Nodes + ?Sized> {
    nodes: &'a N,
    tree: &'a Tree,
    node: Option<Indexed>,
    seek: Option<RequestSeek>,
    out: ProofNodes,
}

/// Makes the proof. An empty tree proves nothing, and gives an empty proof.
pub(crate) fn prove<N: Nodes + ?Sized>(
    nodes: &N,
    tree: &Tree,
    wanted: &Wanted,
    prologue: Option<&Prologue>,
) -> Result<ProofNodes, CoreError> {
    if tree.length == 0 {
        return Ok(ProofNodes::default());
    }
    let mut upgrade = wanted.upgrade;
    if let (Some(upgrade), Some(prologue)) = (&mut upgrade, prologue) {
        if upgrade.start < prologue.length {
            *upgrade = RequestUpgrade {
                start: 0,
                length: prologue.length,
            };
        }
    }
    let (from, to) = match upgrade {
        Some(RequestUpgrade { start, length }) => (start, start.saturating_add(length)),
        None => (0, tree.length),
    };
    if from >= to || to > tree.length {
        return Err(CoreError::Request(RequestError::Upgrade {
            start: from,
            length: to - from,
            ours: tree.length,
        }));
    }
    let node = wanted.indexed();
    let in_upgrade = |node: &Indexed| node.index >= 2 * from;
    if wanted.seek.is_some() && upgrade.is_some() && node.as_ref().is_some_and(in_upgrade) {
        return Err(RequestError::SeekWithinUpgrade.into());
    }

    let mut prover = Prover {
        nodes,
        tree,
        node,
        seek: wanted.seek,
        out: ProofNodes {
            upgrade,
            ..ProofNodes::default()
        },
    };
    let head = 2 * tree.length;
    let known = node.filter(|node| upgrade.is_none() || node.last_block < from);
    let sub_tree = match (known, wanted.seek) {
        (Some(node), seek) => {
            let sub_tree = nodes_to_root(&node, 2 * to)?;
            let seek_root = match seek {
                Some(seek) => prover.seek_untrusted(sub_tree, &seek)?,
                None => head,
            };
            prover.block_and_seek(seek_root, sub_tree)?;
            head
        }
        (None, Some(seek)) if upgrade.is_some() => prover.seek_from_head(to, &seek)?,
        _ => node
            .filter(|_| upgrade.is_some())
            .map_or(head, |node| node.index),
    };
    if upgrade.is_some() {
        prover.upgrade(from, to, sub_tree)?;
        upgrade_path(to, tree.length, |at| {
            let node = prover.get(at.index)?;
            prover.out.additional.push(node);
            Ok::<(), CoreError>(())
        })?;
    }
    match node {
        Some(node) if prover.out.node.is_none() => {
            Err(RequestError::NotInUpgrade { index: node.index }.into())
        }
        _ => Ok(prover.out),
    }
}

impl Wanted {
    fn indexed(&self) -> Option<Indexed> {
        let block = self.block.map(|block| Indexed {
            index: block.index.saturating_mul(2),
            nodes: block.nodes,
            value: true,
            last_block: block.index,
        });
        block.or_else(|| {
            self.hash.map(|hash| Indexed {
                index: hash.index,
                nodes: hash.nodes,
                value: false,
                last_block: spans(hash.index).1 / 2,
            })
        })
    }
}

impl<N: Nodes + ?Sized> Prover<'_, N> {
    fn get(&self, index: u64) -> Result<Node, CoreError> {
        Ok(self
            .nodes
            .node(index)?
            .ok_or(RequestError::MissingNode { index })?)
    }

    fn upgrade(&mut self, from: u64, to: u64, sub_tree: u64) -> Result<(), CoreError> {
        upgrade_path(from, to, |at| {
            if self.out.node.is_none() && self.out.seek.is_none() && at.contains(sub_tree) {
                return self.block_and_seek(sub_tree, at.index);
            }
            let node = self.get(at.index)?;
            self.out.upgrade_nodes.push(node);
            Ok(())
        })
    }

    /// The path from the block or hash up to `root`, with the path of the seek where they meet.
    fn block_and_seek(&mut self, seek_root: u64, root: u64) -> Result<(), CoreError> {
        let Some(node) = self.node else {
            return self.seek(seek_root, root);
        };
        let mut cursor = Cursor::new(node.index);
        if !Cursor::new(root).contains(node.index) {
            return Err(RequestError::NotInUpgrade { index: node.index }.into());
        }
        let mut nodes = Vec::new();
        if !node.value {
            nodes.push(self.get(node.index)?);
        }
        while cursor.index != root {
            cursor.sibling();
            if self.seek.is_some() && cursor.contains(seek_root) && cursor.index != seek_root {
                self.seek(seek_root, cursor.index)?;
            } else {
                nodes.push(self.get(cursor.index)?);
            }
            cursor.parent();
        }
        self.out.node = Some(nodes);
        Ok(())
    }

    fn seek(&mut self, seek_root: u64, root: u64) -> Result<(), CoreError> {
        let mut cursor = Cursor::new(seek_root);
        let mut nodes = vec![self.get(cursor.index)?];
        while cursor.index != root {
            nodes.push(self.get(cursor.sibling())?);
            cursor.parent();
        }
        self.out.seek = Some(nodes);
        Ok(())
    }

    fn seek_from_head(&self, to: u64, seek: &RequestSeek) -> Result<u64, CoreError> {
        let mut bytes = i128::from(seek.bytes);
        for root in full_roots(to) {
            let size = unpadded(&self.get(root.index)?, seek.padding);
            if bytes == size {
                return Ok(root.index);
            }
            if bytes <= size {
                return self.seek_trusted(root.index, bytes, seek.padding);
            }
            bytes -= size;
        }
        Ok(2 * to)
    }

    /// The node at a byte below `root`, or the last above it whose children are held.
    fn seek_trusted(&self, root: u64, mut bytes: i128, padding: u64) -> Result<u64, CoreError> {
        if bytes == 0 {
            return Ok(root);
        }
        let mut cursor = Cursor::new(root);
        while !cursor.is_leaf() {
            let Some(left) = self.nodes.node(cursor.left_child())? else {
                return Ok(cursor.parent());
            };
            let size = unpadded(&left, padding);
            if size == bytes {
                return Ok(cursor.index);
            }
            if size < bytes {
                bytes -= size;
                cursor.sibling();
            }
        }
        Ok(cursor.index)
    }

    /// As [`Prover::seek_trusted`], for bytes counted from the start of the core, which may be outside `root`.
    fn seek_untrusted(&self, root: u64, seek: &RequestSeek) -> Result<u64, CoreError> {
        let (bytes, padding) = (i128::from(seek.bytes), seek.padding);
        let invalid = RequestError::Seek { bytes: seek.bytes };
        let (left, _) = spans(root);
        let offset = byte_offset(self.nodes, self.tree, root)?;
        let offset = i128::from(offset) - i128::from(padding) * i128::from(left / 2);
        if offset > bytes {
            return Err(invalid.into());
        }
        if offset == bytes {
            return Ok(root);
        }
        let size = unpadded(&self.get(root)?, padding);
        if size <= bytes - offset {
            return Err(invalid.into());
        }
        self.seek_trusted(root, bytes - offset, padding)
    }
}

/// The node `nodes` levels above another.
fn nodes_to_root(node: &Indexed, head: u64) -> Result<u64, RequestError> {
    let mut cursor = Cursor::new(node.index);
    for _ in 0..node.nodes {
        cursor.parent();
        if cursor.contains(head) {
            return Err(RequestError::Nodes {
                index: node.index,
                nodes: node.nodes,
            });
        }
    }
    Ok(cursor.index)
}

/// A node's bytes without the padding of its blocks. Negative if a peer claims more padding than there are bytes.
fn unpadded(node: &Node, padding: u64) -> i128 {
    let leaves = Cursor::new(node.index).leaves();
    i128::from(node.size) - i128::from(padding) * i128::from(leaves)
}

/// The byte offset of the first block below a node of this tree.
pub(crate) fn byte_offset(
    nodes: &(impl Nodes + ?Sized),
    tree: &Tree,
    index: u64,
) -> Result<u64, CoreError> {
    if index == 2 * tree.length {
        return Ok(tree.byte_length);
    }
    let (index, _) = spans(index);
    let mut offset: u64 = 0;
    for root in &tree.roots {
        let mut cursor = Cursor::new(root.index);
        if index > cursor.right_span() {
            offset = offset.saturating_add(root.size);
            continue;
        }
        while cursor.index != index {
            let is_left = index < cursor.index;
            let left = cursor.left_child();
            if !is_left {
                let left = nodes
                    .node(left)?
                    .ok_or(RequestError::MissingNode { index: left })?;
                offset = offset.saturating_add(left.size);
                cursor.sibling();
            }
        }
        return Ok(offset);
    }
    Err(RequestError::MissingNode { index }.into())
}

/// The number of levels above a node at which nothing is held: `request.block.nodes` and `request.hash.nodes`.
pub(crate) fn missing_nodes(
    nodes: &(impl Nodes + ?Sized),
    index: u64,
    length: u64,
) -> Result<u64, StorageError> {
    let head = 2 * length;
    let mut cursor = Cursor::new(index);
    if cursor.right_span() >= head {
        return Ok(0);
    }
    let mut count = 0;
    while !cursor.contains(head) && nodes.node(cursor.index)?.is_none() {
        count += 1;
        cursor.parent();
    }
    Ok(count)
}

/// The largest [`missing_nodes`] of a peer that has the roots of a tree of `length` blocks.
pub(crate) fn max_missing_nodes(index: u64, length: u64) -> u64 {
    let head = 2 * length;
    let mut cursor = Cursor::new(index);
    if cursor.right_span() >= head || full_roots(length).any(|root| root.index == index) {
        return 0;
    }
    let mut count = 0;
    cursor.parent();
    while !cursor.contains(head) {
        count += 1;
        cursor.parent();
    }
    count
}

/// The position of a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seek {
    /// In a block, `offset` bytes from its start (without padding). The core's length and 0 for the byte after the
    /// last.
    Found {
        /// The block.
        block: u64,
        /// Bytes from its start.
        offset: u64,
    },
    /// In one of these blocks, too little of which is known: request a `seek` together with the hash of one of them.
    /// For two blocks, hashes do not give the sizes: request one of the blocks. An empty range at the core's length
    /// means that the byte is beyond its end.
    Within(Range<u64>),
}

/// Looks for a byte in the held part of the tree.
pub(crate) fn seek(
    nodes: &(impl Nodes + ?Sized),
    tree: &Tree,
    bytes: u64,
    padding: u64,
) -> Result<Seek, CoreError> {
    let found = |block: u64, offset: i128| {
        Ok(Seek::Found {
            block,
            offset: u64::try_from(offset).unwrap_or(0),
        })
    };
    if bytes == 0 {
        return found(0, 0);
    }
    let mut bytes = i128::from(bytes);
    for root in &tree.roots {
        let size = unpadded(root, padding);
        let mut cursor = Cursor::new(root.index);
        if bytes == size {
            return found(cursor.right_span() / 2 + 1, 0);
        }
        if bytes > size {
            bytes -= size;
            continue;
        }
        while !cursor.is_leaf() {
            let Some(left) = nodes.node(cursor.left_child())? else {
                cursor.parent();
                let (start, end) = (cursor.left_span() / 2, cursor.right_span() / 2 + 1);
                return Ok(Seek::Within(start..end));
            };
            let size = unpadded(&left, padding);
            if size == bytes {
                return found(cursor.right_span() / 2 + 1, 0);
            }
            if size < bytes {
                bytes -= size;
                cursor.sibling();
            }
        }
        return found(cursor.index / 2, bytes);
    }
    Ok(Seek::Within(tree.length..tree.length))
}
