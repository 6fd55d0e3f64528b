//! The Merkle tree: appending to it, and verifying peers' proofs against it.
//!
//! Read from hypercore 11.37.1, `lib/merkle-tree.js` (`MerkleTreeBatch`, `verifyTree`, `verifyUpgrade`, `verify`,
//! `verifyFullyRemote`). 10.38.2 does the same.

use crate::buffer::Buffer;
use crate::encoding::{EncodeError, MAX_SAFE_INTEGER};
use crate::manifest::Prologue;
use crate::tree;
use crate::wire::{Data, DataUpgrade, Node};

use super::error::{CoreError, ProofError, ProofPart};
use super::flat_tree::{Cursor, full_roots};
use super::storage::{Storage, StorageError};

/// No honest proof has more nodes in one list: a path to the root and the roots of a tree of 2^53 blocks.
pub(crate) const MAX_PROOF_NODES: usize = 128;

/// Access to tree nodes.
pub(crate) trait Nodes {
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError>;
}

impl<S: Storage + ?Sized> Nodes for S {
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        Storage::node(self, index)
    }
}

/// The state of a tree, which its signature covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) fork: u64,
    pub(crate) length: u64,
    pub(crate) byte_length: u64,
    pub(crate) roots: Vec<Node>,
    pub(crate) signature: Option<Buffer>,
}

impl Tree {
    /// Loads the tree of `length` blocks, whose roots are in the store.
    pub(crate) fn load(nodes: &(impl Nodes + ?Sized), length: u64) -> Result<Self, CoreError> {
        let mut tree = Self {
            length,
            ..Self::default()
        };
        for root in full_roots(length) {
            let node = nodes
                .node(root.index)?
                .ok_or(StorageError::damaged("a root of the tree is missing"))?;
            tree.byte_length = tree.byte_length.saturating_add(node.size);
            tree.roots.push(node);
        }
        Ok(tree)
    }

    pub(crate) fn hash(&self) -> Result<[u8; 32], EncodeError> {
        tree::root(&self.roots)
    }

    /// Corrects the size of a root, if `node` is one.
    pub(crate) fn correct(&mut self, node: &Node) {
        let mut roots = self.roots.iter_mut();
        if let Some(root) = roots.find(|root| root.index == node.index) {
            root.size = node.size;
            let sizes = self.roots.iter().map(|root| root.size);
            self.byte_length = sizes.fold(0, u64::saturating_add);
        }
    }
}

/// Changes to a tree that are not stored yet.
#[derive(Debug, Clone)]
pub(crate) struct TreeBatch {
    pub(crate) tree: Tree,
    /// Nodes whose hashes are proven once those of the tree are. Some of their sizes are not: see
    /// [`TreeBatch::keep_bound`].
    pub(crate) nodes: Vec<Node>,
    /// Indexes of those whose sizes are only claimed so far.
    ///
    /// A parent's hash commits only to the sum of its children's sizes, so a peer can send two siblings with any two
    /// sizes of that sum. A size is bound if the node was computed from its block or from its children, if its
    /// sibling's size is bound, or if the node is a root of a signed tree.
    pub(crate) unbound: Vec<u64>,
    /// The known node that the proof leads to, if the proof shows that its size is another.
    pub(crate) corrected: Option<Node>,
    /// Whether the tree itself changed.
    pub(crate) upgraded: bool,
    /// Number of blocks of the old tree that stay.
    pub(crate) ancestors: u64,
    /// The length of the tree that the batch started from.
    pub(crate) base_length: u64,
    pub(crate) base_fork: u64,
}

/// An integer above 2^53-1, which JavaScript cannot represent; the caller knows the part.
struct Overflow(&'static str);

impl Overflow {
    fn within(self, part: ProofPart) -> ProofError {
        let Self(field) = self;
        ProofError::TooLarge { part, field }
    }
}

impl TreeBatch {
    pub(crate) fn new(tree: &Tree) -> Self {
        Self {
            tree: Tree {
                signature: None,
                ..tree.clone()
            },
            nodes: Vec::new(),
            unbound: Vec::new(),
            corrected: None,
            upgraded: false,
            ancestors: tree.length,
            base_length: tree.length,
            base_fork: tree.fork,
        }
    }

    /// A batch that keeps nothing of the current tree.
    pub(crate) fn from_nothing(base: &Tree) -> Self {
        Self {
            tree: Tree::default(),
            ancestors: 0,
            ..Self::new(base)
        }
    }

    pub(crate) fn append(&mut self, block: &[u8]) -> Result<(), EncodeError> {
        let mut cursor = Cursor::new(self.tree.length * 2);
        let node = block_node(cursor.index, block);
        let node = Sent::bound(node);
        self.append_root(node, &mut cursor)
            .map_err(|Overflow(field)| EncodeError::UnsafeInteger {
                value: MAX_SAFE_INTEGER + 1,
                field,
            })
    }

    /// Adds a root at `cursor`, and merges roots while two are siblings. Leaves the cursor on the last root.
    fn append_root(&mut self, sent: Sent, cursor: &mut Cursor) -> Result<(), Overflow> {
        let node = sent.node;
        if sent.claimed {
            self.unbound.push(node.index);
        }
        self.upgraded = true;
        self.tree.length += cursor.leaves();
        self.tree.byte_length = self.tree.byte_length.saturating_add(node.size);
        if self.tree.length > MAX_SAFE_INTEGER / 2 {
            return Err(Overflow("length"));
        }
        if self.tree.byte_length > MAX_SAFE_INTEGER {
            return Err(Overflow("size"));
        }
        self.tree.roots.push(node);
        self.nodes.push(node);
        while let [.., left, right] = self.tree.roots.as_slice() {
            if cursor.sibling() != left.index {
                cursor.sibling();
                break;
            }
            let node = parent_node(cursor.parent(), left, right)?;
            let (left, right) = (left.index, right.index);
            let is_open = |index: u64| self.unbound.contains(&index);
            if is_open(left) != is_open(right) {
                self.unbound.retain(|index| ![left, right].contains(index));
            }
            self.nodes.push(node);
            self.tree.roots.truncate(self.tree.roots.len() - 2);
            self.tree.roots.push(node);
        }
        Ok(())
    }

    /// Marks the sizes of the roots as bound, by a signature or a prologue's hash.
    pub(crate) fn bind_roots(&mut self) {
        let roots = &self.tree.roots;
        self.unbound
            .retain(|index| roots.iter().all(|root| root.index != *index));
    }

    /// The roots whose sizes are only claimed as long as no signature covers the tree.
    pub(crate) fn unbound_roots(&self) -> impl Iterator<Item = u64> {
        let roots = self.tree.roots.iter().map(|root| root.index);
        roots.filter(|index| self.unbound.contains(index))
    }

    /// Drops the nodes whose sizes are not bound, after the tree's signature was verified.
    ///
    /// If they were kept, byte offsets and seeks would follow a peer's claim, and so would our proofs to others: those
    /// would be invalid, and honest peers would drop us. Their hashes are dropped as well, and come again with the next
    /// proof of a block below.
    pub(crate) fn keep_bound(&mut self) {
        if self.upgraded {
            self.bind_roots();
        }
        let unbound = std::mem::take(&mut self.unbound);
        self.nodes.retain(|node| !unbound.contains(&node.index));
    }

    /// Whether the tree that the batch started from is still the current one.
    pub(crate) fn is_commitable(&self, tree: &Tree) -> bool {
        let same_length = if self.upgraded {
            self.base_length == tree.length
        } else {
            self.base_length <= tree.length
        };
        self.base_fork == tree.fork && same_length
    }

    /// Applies an upgrade. Returns whether it contains `below`, the node of a block, hash or seek.
    pub(crate) fn upgrade(
        &mut self,
        upgrade: &DataUpgrade,
        fork: u64,
        below: Option<Sent>,
        prologue: Option<&Prologue>,
    ) -> Result<bool, ProofError> {
        let (start, length) = (upgrade.start, upgrade.length);
        let within = |prologue: &&Prologue| {
            start < prologue.length && (start != 0 || length < prologue.length)
        };
        if let Some(prologue) = prologue.filter(within) {
            return Err(ProofError::PartOfPrologue {
                start,
                length,
                prologue: prologue.length,
            });
        }
        let part = ProofPart::Upgrade;
        check_count(ProofPart::AdditionalNodes, &upgrade.additional_nodes)?;
        let mut queue = NodeQueue::new(part, &upgrade.nodes, below)?;
        let to = start.saturating_add(length);
        if to > MAX_SAFE_INTEGER / 2 {
            return Err(Overflow("length").within(part));
        }

        let had = self.tree.roots.clone();
        let mut grow = !had.is_empty();
        let mut same = 0;
        for root in full_roots(to) {
            if had.get(same).is_some_and(|had| had.index == root.index) {
                same += 1;
                continue;
            }
            if grow {
                grow = false;
                if same < had.len() {
                    let last = had.last().expect("there is a root to grow");
                    let mut cursor = Cursor::new(last.index);
                    while cursor.index != root.index {
                        let sent = queue.shift(cursor.sibling())?;
                        self.append_root(sent, &mut cursor)
                            .map_err(|overflow| overflow.within(part))?;
                    }
                    continue;
                }
            }
            let sent = queue.shift(root.index)?;
            self.append_root(sent, &mut root.clone())
                .map_err(|overflow| overflow.within(part))?;
        }
        let reached = |prologue: &&Prologue| prologue.length == self.tree.length;
        if let Some(prologue) = prologue.filter(reached) {
            let hash = self
                .tree
                .hash()
                .map_err(|_| Overflow("size").within(part))?;
            if hash != prologue.hash {
                return Err(ProofError::WrongPrologue {
                    length: prologue.length,
                });
            }
            self.bind_roots();
        }
        self.grow_by(&upgrade.additional_nodes)?;
        self.tree.signature = upgrade.signature.as_ref().map(Buffer::detach);
        self.tree.fork = fork;
        Ok(queue.extra.is_none())
    }

    fn grow_by(&mut self, nodes: &[Node]) -> Result<(), ProofError> {
        let part = ProofPart::AdditionalNodes;
        let last = self.tree.roots.last().ok_or(ProofError::Empty)?;
        let mut cursor = Cursor::new(last.index);
        let mut growing = true;
        for (position, node) in nodes.iter().enumerate() {
            if growing {
                growing = cursor.sibling() == node.index;
            }
            if growing {
                self.append_root(Sent::claimed(*node), &mut cursor)
                    .map_err(|overflow| overflow.within(part))?;
                continue;
            }
            let expected = cursor.index;
            while cursor.index != node.index {
                if cursor.is_leaf() {
                    return Err(ProofError::UnexpectedNode {
                        part,
                        position,
                        expected,
                        found: node.index,
                    });
                }
                cursor.left_child();
            }
            self.append_root(Sent::claimed(*node), &mut cursor)
                .map_err(|overflow| overflow.within(part))?;
            cursor.sibling();
        }
        Ok(())
    }
}

/// Verifies a proof on its own and against the held tree.
///
/// The signature of an upgrade is not verified yet; call [`TreeBatch::keep_bound`] after that.
pub(crate) fn verify(
    nodes: &(impl Nodes + ?Sized),
    tree: &Tree,
    data: &Data,
    prologue: Option<&Prologue>,
) -> Result<TreeBatch, CoreError> {
    let mut batch = TreeBatch::new(tree);
    let below = take_in(&mut batch, data, prologue)?;
    if let Some(below) = below {
        let Below { part, sent } = below;
        let index = sent.node.index;
        let known = nodes
            .node(index)?
            .ok_or(ProofError::UnknownNode { part, index })?;
        if known.hash != sent.node.hash || (sent.claimed && known.size != sent.node.size) {
            return Err(ProofError::Checksum { part, index }.into());
        }
        if known.size != sent.node.size {
            batch.corrected = Some(sent.node);
        }
    }
    Ok(batch)
}

/// Adds a proof to a batch. Returns the node of its block, hash or seek, unless the upgrade proves it.
pub(crate) fn take_in(
    batch: &mut TreeBatch,
    data: &Data,
    prologue: Option<&Prologue>,
) -> Result<Option<Below>, ProofError> {
    let below = verify_tree(data, &mut batch.nodes, &mut batch.unbound)?;
    let Some(upgrade) = &data.upgrade else {
        return Ok(below);
    };
    let sent = below.as_ref().map(|below| below.sent);
    let proven = batch.upgrade(upgrade, data.fork, sent, prologue)?;
    Ok(below.filter(|_| !proven))
}

/// The node that a block, hash or seek leads to.
#[derive(Debug, Clone)]
pub(crate) struct Below {
    pub(crate) sent: Sent,
    pub(crate) part: ProofPart,
}

/// A node of a proof.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) node: Node,
    /// Whether the peer sent it, so that its size was not computed.
    claimed: bool,
}

impl Sent {
    fn claimed(node: Node) -> Self {
        let claimed = true;
        Self { node, claimed }
    }

    fn bound(node: Node) -> Self {
        let claimed = false;
        Self { node, claimed }
    }
}

/// The node that the block, hash and seek of a proof lead to. Collects all nodes below it, and the indexes of those
/// whose sizes are only claimed ([`TreeBatch::unbound`]). For the node itself, [`Sent`] says so.
pub(crate) fn verify_tree(
    data: &Data,
    out: &mut Vec<Node>,
    unbound: &mut Vec<u64>,
) -> Result<Option<Below>, ProofError> {
    let mut root = None;
    let seek = data.seek.as_ref().map_or(&[][..], |seek| &seek.nodes);
    if let Some(first) = seek.first() {
        let part = ProofPart::Seek;
        let mut queue = NodeQueue::new(part, seek, None)?;
        let mut cursor = checked(part, first.index)?;
        let sent = queue.shift(cursor.index)?;
        root = Some(climb(&mut queue, &mut cursor, sent, out, unbound)?);
    }
    let (part, index, nodes, value) = match (&data.block, &data.hash) {
        (Some(block), _) => {
            let index = block.index.saturating_mul(2);
            (ProofPart::Block, index, &block.nodes, Some(&block.value))
        }
        (None, Some(hash)) => (ProofPart::Hash, hash.index, &hash.nodes, None),
        (None, None) => return Ok(root),
    };
    let mut cursor = checked(part, index)?;
    let mut queue = NodeQueue::new(part, nodes, root.map(|root| root.sent))?;
    let sent = match value {
        Some(value) => Sent::bound(block_node(index, value)),
        None => queue.shift(index)?,
    };
    climb(&mut queue, &mut cursor, sent, out, unbound).map(Some)
}

/// Joins a node with its siblings in the queue until the queue is empty.
fn climb(
    queue: &mut NodeQueue<'_>,
    cursor: &mut Cursor,
    mut sent: Sent,
    out: &mut Vec<Node>,
    unbound: &mut Vec<u64>,
) -> Result<Below, ProofError> {
    let part = queue.part;
    out.push(sent.node);
    while !queue.is_empty() {
        let sibling = queue.shift(cursor.sibling())?;
        let index = cursor.parent();
        if index > MAX_SAFE_INTEGER {
            return Err(Overflow("index").within(part));
        }
        let parent = parent_node(index, &sent.node, &sibling.node)
            .map_err(|overflow| overflow.within(part))?;
        if sent.claimed && sibling.claimed {
            unbound.extend([sent.node.index, sibling.node.index]);
        }
        out.push(sibling.node);
        out.push(parent);
        sent = Sent::bound(parent);
    }
    Ok(Below { sent, part })
}

fn checked(part: ProofPart, index: u64) -> Result<Cursor, ProofError> {
    if index > MAX_SAFE_INTEGER {
        return Err(Overflow("index").within(part));
    }
    Ok(Cursor::new(index))
}

fn check_count(part: ProofPart, nodes: &[Node]) -> Result<(), ProofError> {
    if nodes.len() > MAX_PROOF_NODES {
        return Err(ProofError::TooManyNodes {
            part,
            count: nodes.len(),
            limit: MAX_PROOF_NODES,
        });
    }
    Ok(())
}

/// Takes the nodes of a proof in the order in which they are needed.
struct NodeQueue<'a> {
    part: ProofPart,
    nodes: &'a [Node],
    at: usize,
    /// A node proven elsewhere, which is therefore not sent.
    extra: Option<Sent>,
}

impl<'a> NodeQueue<'a> {
    fn new(part: ProofPart, nodes: &'a [Node], extra: Option<Sent>) -> Result<Self, ProofError> {
        check_count(part, nodes)?;
        Ok(Self {
            part,
            nodes,
            at: 0,
            extra,
        })
    }

    fn is_empty(&self) -> bool {
        self.at == self.nodes.len() && self.extra.is_none()
    }

    fn shift(&mut self, expected: u64) -> Result<Sent, ProofError> {
        if let Some(extra) = self.extra.take_if(|extra| extra.node.index == expected) {
            return Ok(extra);
        }
        let (part, position) = (self.part, self.at);
        match self.nodes.get(position) {
            Some(node) if node.index == expected => {
                self.at += 1;
                Ok(Sent::claimed(*node))
            }
            Some(node) => Err(ProofError::UnexpectedNode {
                part,
                position,
                expected,
                found: node.index,
            }),
            None => Err(ProofError::MissingNode {
                part,
                position,
                expected,
            }),
        }
    }
}

pub(crate) fn block_node(index: u64, block: &[u8]) -> Node {
    Node {
        index,
        size: block.len() as u64,
        hash: tree::leaf(block),
    }
}

fn parent_node(index: u64, left: &Node, right: &Node) -> Result<Node, Overflow> {
    Ok(Node {
        index,
        size: left.size.saturating_add(right.size),
        hash: tree::parent(left, right).map_err(|_| Overflow("size"))?,
    })
}
