//! Errors of a core, a proof or a signature.

use std::fmt;

use crate::encoding::{DecodeError, EncodeError};
use crate::manifest::ManifestError;

use super::storage::StorageError;

/// A part of a [`Data`](crate::wire::Data) message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProofPart {
    /// `block`: its value or the nodes that prove it.
    Block,
    /// `hash` and its nodes.
    Hash,
    /// `seek` and its nodes.
    Seek,
    /// `upgrade.nodes`, `upgrade.start` or `upgrade.length`.
    Upgrade,
    /// `upgrade.additionalNodes`.
    AdditionalNodes,
}

impl fmt::Display for ProofPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block",
            Self::Hash => "hash",
            Self::Seek => "seek",
            Self::Upgrade => "upgrade",
            Self::AdditionalNodes => "upgrade.additionalNodes",
        })
    }
}

/// A proof does not prove what it claims. [`ProofError::code`] is Node's name for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A tree node is in the place of another.
    #[error("{part}.nodes[{position}]: node {expected} was expected, not {found}")]
    UnexpectedNode {
        /// The part with the nodes.
        part: ProofPart,
        /// The node's position, from 0.
        position: usize,
        /// The expected flat-tree index.
        expected: u64,
        /// The actual one.
        found: u64,
    },
    /// The proof ends before it is complete.
    #[error("{part}.nodes[{position}]: node {expected} was expected, and there is none")]
    MissingNode {
        /// The part with the nodes.
        part: ProofPart,
        /// The number of nodes.
        position: usize,
        /// The flat-tree index expected next.
        expected: u64,
    },
    /// More nodes than a tree of 2^53 blocks could take.
    #[error("{part}: {count} nodes, and no proof needs more than {limit}")]
    TooManyNodes {
        /// The part with the nodes.
        part: ProofPart,
        /// The number of nodes.
        count: usize,
        /// The maximum.
        limit: usize,
    },
    /// An index, a length or a sum of sizes above 2^53-1.
    #[error("{part}: {field} is above 2^53-1")]
    TooLarge {
        /// The part.
        part: ProofPart,
        /// The field: `index`, `size`, `length`.
        field: &'static str,
    },
    /// An upgrade of no blocks.
    #[error("upgrade: it proves no block")]
    Empty,
    /// The proof leads to a node that is not held here, so there is nothing to compare with.
    #[error("{part}: it leads to node {index}, which is not known here")]
    UnknownNode {
        /// The part.
        part: ProofPart,
        /// The flat-tree index.
        index: u64,
    },
    /// The proof leads to another hash than the known one: the value, a hash or a size is wrong.
    #[error("{part}: the hash of node {index} is not the one that is known")]
    Checksum {
        /// The part.
        part: ProofPart,
        /// The flat-tree index.
        index: u64,
    },
    /// Another tree than the one whose hash is in the manifest's prologue.
    #[error("upgrade: the tree of {length} blocks is not the manifest's prologue")]
    WrongPrologue {
        /// The prologue's length, in blocks.
        length: u64,
    },
    /// An upgrade that ends within the manifest's prologue, or begins within it.
    #[error(
        "upgrade: from {start} by {length} blocks does not bring the whole prologue of {prologue}"
    )]
    PartOfPrologue {
        /// `upgrade.start`.
        start: u64,
        /// `upgrade.length`.
        length: u64,
        /// The prologue's length, in blocks.
        prologue: u64,
    },
    /// A proof of another fork whose block, hash or seek is not part of the proven tree.
    #[error("{part}: it is not part of the other fork's tree")]
    NotInFork {
        /// The part.
        part: ProofPart,
    },
    /// The manifest's hash is not the core's key, and the core is not a compat core of its signer.
    #[error("manifest: its hash is not the key")]
    WrongManifest,
    /// The manifest is inconsistent.
    #[error("manifest: {0}")]
    Manifest(ManifestError),
    /// The tree is not signed as the manifest requires.
    #[error("upgrade.signature: {0}")]
    Signature(SignatureError),
}

impl ProofError {
    /// Node's code for the same refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnexpectedNode { .. }
            | Self::MissingNode { .. }
            | Self::TooManyNodes { .. }
            | Self::TooLarge { .. }
            | Self::Empty
            | Self::UnknownNode { .. } => "INVALID_OPERATION",
            Self::Checksum { .. } => "INVALID_CHECKSUM",
            Self::WrongPrologue { .. } | Self::PartOfPrologue { .. } | Self::NotInFork { .. } => {
                "INVALID_PROOF"
            }
            Self::Manifest(_) => "BAD_ARGUMENT",
            Self::WrongManifest | Self::Signature(_) => "INVALID_SIGNATURE",
        }
    }
}

impl From<ManifestError> for ProofError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

impl From<SignatureError> for ProofError {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

/// A signature is not valid for a tree under a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is no signature.
    #[error("there is none")]
    Missing,
    /// Not 64 bytes, where there is one signer.
    #[error("{0} bytes instead of 64")]
    BadLength(usize),
    /// Not a multi-signature.
    #[error("malformed multi-signature: {0}")]
    Malformed(DecodeError),
    /// The manifest has no signers.
    #[error("the manifest has no signers")]
    NoSigners,
    /// Fewer signatures than the quorum.
    #[error("{have} signatures of the {quorum} that are needed")]
    Quorum {
        /// The number of signatures.
        have: usize,
        /// The required number.
        quorum: u64,
    },
    /// A signer that the manifest does not have.
    #[error("there is no signer {signer}")]
    UnknownSigner {
        /// The claimed index.
        signer: u64,
    },
    /// The same signer twice.
    #[error("signer {signer} has signed twice")]
    RepeatedSigner {
        /// The signer's index.
        signer: u64,
    },
    /// The patch does not lead from the tree to what the signer signed.
    #[error("the patch of signer {signer} does not lead to what was signed")]
    Patch {
        /// The signer's index.
        signer: u64,
    },
    /// More bytes than the manifest's signers can need. Signatures are stored and sent on, so they must not be padded.
    #[error("{size} bytes, and the manifest's signers need no more than {limit}")]
    TooLong {
        /// In bytes.
        size: usize,
        /// In bytes.
        limit: usize,
    },
    /// All signers have signed longer trees, which do not bind the size of the last root. An honest signature can be
    /// like that: a proof that also brings the last block binds that size, so request that next.
    #[error("the signatures leave the size of root {index} open")]
    UnboundSize {
        /// The root's flat-tree index.
        index: u64,
    },
    /// Ed25519 verification failed.
    #[error("signer {signer} has not signed this")]
    Wrong {
        /// The signer's index.
        signer: u64,
    },
    /// The tree is within the manifest's prologue, and differs from it.
    #[error("the tree is not the manifest's prologue")]
    Prologue,
    /// An integer of the tree cannot be signed.
    #[error(transparent)]
    Unsignable(#[from] EncodeError),
}

/// A request that cannot be answered with any data: Node answers `noData` with reason 2, invalid request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// An upgrade of no blocks, or beyond the core.
    #[error("upgrade: from {start} by {length} blocks, of {ours}")]
    Upgrade {
        /// `upgrade.start`.
        start: u64,
        /// `upgrade.length`.
        length: u64,
        /// The length of the core.
        ours: u64,
    },
    /// A seek without a block or hash that is part of the upgrade.
    #[error("seek: not beside a block or hash within the upgrade")]
    SeekWithinUpgrade,
    /// More levels than the tree has.
    #[error("nodes: {nodes} levels above node {index} is outside the tree")]
    Nodes {
        /// The flat-tree index.
        index: u64,
        /// The requested levels.
        nodes: u64,
    },
    /// A seek to a byte that is not below the node of the block or hash.
    #[error("seek: byte {bytes} is not below the block or hash that was asked for")]
    Seek {
        /// `seek.bytes`.
        bytes: u64,
    },
    /// A required node is not held here.
    #[error("node {index} is needed and is not held")]
    MissingNode {
        /// The flat-tree index.
        index: u64,
    },
    /// A block or hash that the other side does not know, nor is it part of the upgrade.
    #[error("block or hash: node {index} is not part of the upgrade")]
    NotInUpgrade {
        /// The flat-tree index.
        index: u64,
    },
}

/// An operation on a core failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The store failed, or its contents are invalid.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A peer's proof was refused.
    #[error("the proof was refused: {0}")]
    Proof(ProofError),
    /// A peer's request is invalid.
    #[error("the request makes no sense: {0}")]
    Request(RequestError),
    /// A signature given by the caller was refused.
    #[error("the signature was refused: {0}")]
    Signature(SignatureError),
    /// A manifest given by the caller is inconsistent.
    #[error("the manifest was refused: {0}")]
    Manifest(ManifestError),
    /// An integer is above 2^53-1.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The store has another core, or key, manifest and key pair do not belong together.
    #[error("{0}")]
    Conflict(&'static str),
    /// The core cannot be signed here: the key pair is missing, or not a signer of the manifest.
    #[error("the core is not writable here: {0}")]
    NotWritable(&'static str),
    /// Two signed trees of this length and fork exist; the core takes no more changes.
    #[error("the core is frozen, for its writer has signed two histories")]
    Frozen,
    /// A block that is too large for a message.
    #[error("a block of {size} bytes is above {limit}")]
    BlockTooLarge {
        /// Its size, in bytes.
        size: usize,
        /// The largest, in bytes.
        limit: usize,
    },
    /// Truncation to more blocks than there are, to within the prologue, or to a fork that is not later.
    #[error("cannot truncate to {length} blocks on fork {fork}: {reason}")]
    Truncate {
        /// The requested length.
        length: u64,
        /// The requested fork.
        fork: u64,
        /// The reason.
        reason: &'static str,
    },
    /// A range that ends before it begins, or after the end of the core.
    #[error("{start}..{end} is not a range of the {length} blocks")]
    OutOfRange {
        /// The first block.
        start: u64,
        /// One past the last.
        end: u64,
        /// The core's length.
        length: u64,
    },
    /// The core has changed since the proof was verified.
    #[error("the core changed meanwhile")]
    Stale,
    /// A number given by the caller that no core can have, or no message can carry.
    #[error("{what} {value} is above {limit}")]
    #[non_exhaustive]
    TooLarge {
        /// The number's name: `block`, `start`, `end`, `length`, `byte` or `padding`.
        what: &'static str,
        /// The number.
        value: u64,
        /// The largest.
        limit: u64,
    },
    /// The wait timed out.
    #[error("it did not happen within {0:?}")]
    TimedOut(std::time::Duration),
}

impl CoreError {
    /// Node's code for the same refusal, where it has one.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Proof(error) => error.code(),
            Self::Request(_) | Self::Stale | Self::Truncate { .. } => "INVALID_OPERATION",
            Self::Signature(_) => "INVALID_SIGNATURE",
            Self::Manifest(_)
            | Self::BlockTooLarge { .. }
            | Self::OutOfRange { .. }
            | Self::TooLarge { .. } => "BAD_ARGUMENT",
            Self::TimedOut(_) => "REQUEST_TIMEOUT",
            Self::Conflict(_) => "STORAGE_CONFLICT",
            Self::NotWritable(_) => "SESSION_NOT_WRITABLE",
            Self::Storage(_) | Self::Encode(_) | Self::Frozen => return None,
        })
    }
}

impl From<ProofError> for CoreError {
    fn from(error: ProofError) -> Self {
        Self::Proof(error)
    }
}

impl From<RequestError> for CoreError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<SignatureError> for CoreError {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

impl From<ManifestError> for CoreError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn no_error_says_its_cause_twice() {
        let manifest = || ManifestError::Quorum {
            quorum: 2,
            signers: 1,
        };
        let errors: [CoreError; 6] = [
            ProofError::from(manifest()).into(),
            ProofError::from(SignatureError::Missing).into(),
            RequestError::SeekWithinUpgrade.into(),
            SignatureError::Missing.into(),
            manifest().into(),
            StorageError::failed(std::io::Error::other("a hole")).into(),
        ];
        for error in &errors {
            let text = error.to_string();
            let source = error.source().map(ToString::to_string);
            assert!(
                !source.is_some_and(|source| text.contains(&source)),
                "{text}"
            );
        }
    }
}
