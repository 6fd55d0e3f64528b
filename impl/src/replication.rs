//! Cores and their replication: making and verifying Merkle proofs, manifests and signatures, and storage for blocks.
//!
//! Needs the feature `replication`.
//!
//! | type | content |
//! |---|---|
//! | [`Core`] | blocks, their tree and its signature; makes proofs for peers and verifies theirs |
//! | [`Storage`] | a core's storage: [`Memory`] or `Disk` (a file; not in a browser), or your own |
//! | [`Bitfield`] | the set of held blocks |
//! | [`Reorg`], [`ConflictCheck`] | another history of a core: a later fork, or one signed twice |
//! | [`Replicator`], [`Session`] | a core that exchanges blocks with peers, and the stream that it does so on |
//! | [`ProofError`], [`RequestError`], [`SignatureError`] | why a peer's message was refused |
//!
//! Read from hypercore 11.37.1 and 10.38.2; each file says which of their files it follows.

mod bitfield;
mod core;
#[cfg(not(target_family = "wasm"))]
mod disk;
mod error;
mod flat_tree;
mod merkle;
mod proof;
mod reorg;
mod replicator;
mod storage;
mod verifier;

pub use self::bitfield::{Bitfield, PAGE_BITS};
#[cfg(not(target_family = "wasm"))]
pub use self::core::repair;
pub use self::core::{
    Appended, Applied, CheckReport, Conflict, ConflictCheck, Core, CoreInfo, CoreOptions,
    MAX_BLOCK_SIZE, Truncated, Upgraded,
};
#[cfg(not(target_family = "wasm"))]
pub use self::disk::Disk;
pub use self::error::{CoreError, ProofError, ProofPart, RequestError, SignatureError};
pub use self::proof::Seek;
pub use self::reorg::{Reorg, ReorgWant};
pub use self::replicator::{
    Clock, Download, Events, Get, HasLength, PauseReason, PeerError, PeerId, PeerInfo, Replicator,
    ReplicatorEvent, ReplicatorOptions, SeekBlock, Session, SessionError, SessionEvent,
    SessionEvents, SessionHandle, SessionOptions, Update,
};
pub use self::storage::{
    Batch, Durability, Header, Memory, Storage, StorageError, StorageErrorKind,
};
pub use self::verifier::{PartialSignature, signable_length};
