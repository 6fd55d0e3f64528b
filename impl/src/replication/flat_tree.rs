//! The flat tree: a binary tree numbered in order, so that block `i` is node `2 * i` and parents are odd.
//!
//! Read from flat-tree 1.13.0, `index.js`. Implemented here instead of using a crate, since every step must tolerate a
//! peer's claims: the largest index is 2^53-1, the height of its tree 54, and no step from such an index overflows 64
//! bits.

/// A movable position in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) index: u64,
    /// Number of nodes at this height to the left of it.
    offset: u64,
    /// Distance between nodes of this height.
    factor: u64,
}

impl Cursor {
    pub(crate) fn new(index: u64) -> Self {
        let depth = depth(index);
        Self {
            index,
            offset: index >> (depth + 1),
            factor: 2 << depth,
        }
    }

    /// Blocks below this node.
    pub(crate) fn leaves(&self) -> u64 {
        self.factor / 2
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.factor == 2
    }

    pub(crate) fn left_span(&self) -> u64 {
        self.index + 1 - self.factor / 2
    }

    pub(crate) fn right_span(&self) -> u64 {
        self.index + self.factor / 2 - 1
    }

    pub(crate) fn contains(&self, index: u64) -> bool {
        (self.left_span()..=self.right_span()).contains(&index)
    }

    pub(crate) fn sibling(&mut self) -> u64 {
        if self.offset & 1 == 0 {
            self.offset += 1;
            self.index += self.factor;
        } else {
            self.offset -= 1;
            self.index -= self.factor;
        }
        self.index
    }

    pub(crate) fn parent(&mut self) -> u64 {
        if self.offset & 1 == 0 {
            self.index += self.factor / 2;
        } else {
            self.index -= self.factor / 2;
        }
        self.offset >>= 1;
        self.factor *= 2;
        self.index
    }

    /// Stays in place on a leaf.
    pub(crate) fn left_child(&mut self) -> u64 {
        if !self.is_leaf() {
            self.factor /= 2;
            self.index -= self.factor / 2;
            self.offset *= 2;
        }
        self.index
    }
}

/// Levels between a node and the leaves.
pub(crate) fn depth(index: u64) -> u32 {
    index.trailing_ones()
}

/// The lowest and the highest leaf below a node.
pub(crate) fn spans(index: u64) -> (u64, u64) {
    let cursor = Cursor::new(index);
    (cursor.left_span(), cursor.right_span())
}

/// The roots of a tree of `length` blocks, from the left: one for each bit that is set in the length.
pub(crate) fn full_roots(length: u64) -> impl Iterator<Item = Cursor> + Clone {
    let mut left = length;
    let mut start = 0;
    std::iter::from_fn(move || {
        let height = left.checked_ilog2()?;
        let blocks = 1u64 << height;
        let root = Cursor {
            index: 2 * start + blocks - 1,
            offset: start >> height,
            factor: 2 * blocks,
        };
        start += blocks;
        left -= blocks;
        Some(root)
    })
}

/// Visits, in order, the nodes that lead from a tree of `from` blocks to one of `to`.
pub(crate) fn upgrade_path<E>(
    from: u64,
    to: u64,
    mut visit: impl FnMut(Cursor) -> Result<(), E>,
) -> Result<(), E> {
    let mut connected = from == 0;
    for root in full_roots(to).filter(|root| root.right_span() >= 2 * from) {
        if connected || !root.contains(2 * from - 2) {
            connected = true;
            visit(root)?;
            continue;
        }
        connected = true;
        let target = 2 * from - 2;
        let mut cursor = Cursor::new(target);
        while cursor.index != root.index {
            if cursor.sibling() > target {
                visit(cursor)?;
            }
            cursor.parent();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn indexes(length: u64) -> Vec<u64> {
        full_roots(length).map(|root| root.index).collect()
    }

    #[test]
    fn roots_are_nodes() {
        assert!(indexes(0).is_empty());
        assert_eq!(indexes(1), [0]);
        assert_eq!(indexes(2), [1]);
        assert_eq!(indexes(3), [1, 4]);
        assert_eq!(indexes(7), [3, 9, 12]);
        assert_eq!(indexes(10), [7, 17]);
    }

    #[test]
    fn steps_are_nodes() {
        let mut at = Cursor::new(4);
        assert_eq!(at.sibling(), 6);
        assert_eq!(at.parent(), 5);
        assert_eq!(at.parent(), 3);
        assert_eq!((at.left_span(), at.right_span(), at.leaves()), (0, 6, 4));
        assert_eq!(at.parent(), 7);
        assert_eq!(at.left_child(), 3);
        assert_eq!(at.sibling(), 11);
        assert_eq!(spans(11), (8, 14));
        assert!(at.contains(8) && at.contains(14) && !at.contains(7) && !at.contains(16));
        assert_eq!(Cursor::new(8).left_child(), 8);
    }

    proptest! {
        #[test]
        fn the_largest_index_has_a_way_up(index in (1u64 << 52)..(1 << 53)) {
            let mut at = Cursor::new(index);
            let mut levels = 0;
            while !(at.contains(0) && at.contains(index)) {
                let below = at;
                prop_assert_eq!(at, Cursor::new(at.index));
                at.parent();
                levels += 1;
                prop_assert!(at.contains(below.index));
            }
            prop_assert!(levels <= 54);
        }

        #[test]
        fn roots_cover_the_blocks(length in 0u64..(1 << 53)) {
            let mut blocks = 0;
            for root in full_roots(length) {
                prop_assert_eq!(root, Cursor::new(root.index));
                prop_assert_eq!(root.left_span(), 2 * blocks);
                blocks += root.leaves();
            }
            prop_assert_eq!(blocks, length);
        }
    }
}
