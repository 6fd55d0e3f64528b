//! Hashes of the Merkle tree, and signables.
//!
//! Read from hypercore-crypto 3.7.0, `index.js` (`data`, `parent`, `tree`) and hypercore 11.37.1, `lib/caps.js`
//! (`treeSignable`, `treeSignableCompat`). Integers are `uint64`, little-endian.

use crate::encoding::{EncodeError, MAX_SAFE_INTEGER};
use crate::keys::{blake2b256, tree_namespace};
use crate::wire::Node;

const LEAF: [u8; 1] = [0];
const PARENT: [u8; 1] = [1];
const ROOT: [u8; 1] = [2];

/// The hash of a block: BLAKE2b-256 of `00`, the size of the block in bytes, and the block.
pub fn leaf(block: &[u8]) -> [u8; 32] {
    blake2b256(&[&LEAF, &(block.len() as u64).to_le_bytes(), block], None)
}

/// The hash of a parent node: BLAKE2b-256 of `01`, the sum of its children's sizes, and their hashes, that of the lower
/// index first, in whichever order they are given.
///
/// # Errors
/// When the sizes add up to more than 2^53-1.
pub fn parent(left: &Node, right: &Node) -> Result<[u8; 32], EncodeError> {
    let (left, right) = if left.index > right.index {
        (right, left)
    } else {
        (left, right)
    };
    let size = uint64(left.size.saturating_add(right.size), "size")?;
    Ok(blake2b256(&[&PARENT, &size, &left.hash, &right.hash], None))
}

/// The hash of a whole tree: BLAKE2b-256 of `02` and, for each root, its hash, index and size.
///
/// # Errors
/// When an index or a size is above 2^53-1.
pub fn root(roots: &[Node]) -> Result<[u8; 32], EncodeError> {
    let mut bytes = Vec::with_capacity(1 + roots.len() * 48);
    bytes.extend_from_slice(&ROOT);
    for root in roots {
        bytes.extend_from_slice(&root.hash);
        bytes.extend_from_slice(&uint64(root.index, "index")?);
        bytes.extend_from_slice(&uint64(root.size, "size")?);
    }
    Ok(blake2b256(&[&bytes], None))
}

/// The signable, 112 bytes: the tree namespace, the manifest's hash (in a version 0 manifest the signer's namespace
/// instead), the tree's hash, its length in blocks and its fork.
///
/// # Errors
/// When length or fork is above 2^53-1.
pub fn signable(
    manifest_hash: &[u8; 32],
    tree_hash: &[u8; 32],
    length: u64,
    fork: u64,
) -> Result<[u8; 112], EncodeError> {
    let mut bytes = [0; 112];
    bytes[..32].copy_from_slice(tree_namespace());
    bytes[32..64].copy_from_slice(manifest_hash);
    bytes[64..96].copy_from_slice(tree_hash);
    bytes[96..104].copy_from_slice(&uint64(length, "length")?);
    bytes[104..].copy_from_slice(&uint64(fork, "fork")?);
    Ok(bytes)
}

/// The signable of a compat core, 80 bytes: as [`signable`] without the manifest's hash.
///
/// # Errors
/// When length or fork is above 2^53-1.
pub fn signable_compat(
    tree_hash: &[u8; 32],
    length: u64,
    fork: u64,
) -> Result<[u8; 80], EncodeError> {
    let mut bytes = [0; 80];
    bytes[..32].copy_from_slice(tree_namespace());
    bytes[32..].copy_from_slice(&signable_legacy(tree_hash, length, fork)?);
    Ok(bytes)
}

/// The signable of the oldest releases, 48 bytes: the tree's hash, length and fork alone.
///
/// # Errors
/// When length or fork is above 2^53-1.
pub fn signable_legacy(
    tree_hash: &[u8; 32],
    length: u64,
    fork: u64,
) -> Result<[u8; 48], EncodeError> {
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(tree_hash);
    bytes[32..40].copy_from_slice(&uint64(length, "length")?);
    bytes[40..].copy_from_slice(&uint64(fork, "fork")?);
    Ok(bytes)
}

fn uint64(value: u64, field: &'static str) -> Result<[u8; 8], EncodeError> {
    if value > MAX_SAFE_INTEGER {
        return Err(EncodeError::UnsafeInteger { value, field });
    }
    Ok(value.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const LEFT: Node = Node {
        index: 0,
        size: 5,
        hash: [1; 32],
    };
    const RIGHT: Node = Node {
        index: 2,
        size: 300,
        hash: [2; 32],
    };

    #[test]
    fn hashes_are_nodes() {
        let hash = "f2391083cfaa8043205fed76cdff843902146ca92aebcd7a196814ec45d8c8f8";
        assert_eq!(hex(&leaf(b"hello")), hash);
        let hash = "5187b7a8021bf4f2c004ea3a54cfece1754f11c7624d2363c7f4cf4fddd1441e";
        assert_eq!(hex(&leaf(b"")), hash);
        let hash = "927b97b063552754771c86df01fa91b79360438a6219255f9f24a4795f7d5538";
        assert_eq!(hex(&parent(&LEFT, &RIGHT).unwrap()), hash);
        assert_eq!(hex(&parent(&RIGHT, &LEFT).unwrap()), hash);
        let hash = "02a734939b8c91aa0a33d693762d24890d0549803aed791853e8cb77dbd035d5";
        assert_eq!(hex(&root(&[LEFT, RIGHT]).unwrap()), hash);
        let hash = "bb30a42c1e62f0afda5f0a4e8a562f7a13a24cea00ee81917b86b89e801314aa";
        assert_eq!(hex(&root(&[]).unwrap()), hash);
    }

    #[test]
    fn signables_are_nodes() {
        let namespace = "9fac70b50ca14efc4e91c833b204e75b8b5aad8b5881bfc0adb5ef38a3275b9c";
        let legacy = "02".repeat(32) + "03000000000000000400000000000000";
        let compat = namespace.to_owned() + &legacy;
        let full = namespace.to_owned() + &"01".repeat(32) + &legacy;
        assert_eq!(hex(&signable(&[1; 32], &[2; 32], 3, 4).unwrap()), full);
        assert_eq!(hex(&signable_compat(&[2; 32], 3, 4).unwrap()), compat);
        assert_eq!(hex(&signable_legacy(&[2; 32], 3, 4).unwrap()), legacy);
    }

    #[test]
    fn large_integers_are_refused() {
        let refused = |result: Result<(), EncodeError>| {
            assert!(matches!(result, Err(EncodeError::UnsafeInteger { .. })));
        };
        let large = MAX_SAFE_INTEGER + 1;
        for (left, right) in [(MAX_SAFE_INTEGER, 1), (u64::MAX, u64::MAX)] {
            let (left, right) = (
                Node { size: left, ..LEFT },
                Node {
                    size: right,
                    ..RIGHT
                },
            );
            refused(parent(&left, &right).map(drop));
        }
        refused(
            root(&[Node {
                index: large,
                ..LEFT
            }])
            .map(drop),
        );
        refused(
            root(&[Node {
                size: large,
                ..LEFT
            }])
            .map(drop),
        );
        refused(signable(&[0; 32], &[0; 32], large, 0).map(drop));
        refused(signable(&[0; 32], &[0; 32], 0, large).map(drop));
        refused(signable_compat(&[0; 32], large, 0).map(drop));
        refused(signable_legacy(&[0; 32], 0, large).map(drop));
    }
}
