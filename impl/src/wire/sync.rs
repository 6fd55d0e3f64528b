//! Sync: the state of the sender's core.

use std::fmt;

use super::Flags;
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

const CAN_UPGRADE: u64 = 1;
const UPLOADING: u64 = 2;
const DOWNLOADING: u64 = 4;
const HAS_MANIFEST: u64 = 8;
const ALLOW_PUSH: u64 = 16;

/// Type 0: `uint flags`, `uint fork`, `uint length`, `uint remoteLength`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.sync`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Sync {
    /// How often the core was truncated.
    pub fork: u64,
    /// Blocks that the sender's core has.
    pub length: u64,
    /// The length of the receiver's core as last known to the sender; 0 when the forks differ.
    pub remote_length: u64,
    /// Flag 1: the sender can prove upgrades from the receiver's length.
    pub can_upgrade: bool,
    /// Flag 2: the sender answers requests.
    pub uploading: bool,
    /// Flag 4: the sender makes requests.
    pub downloading: bool,
    /// Flag 8: the sender has the manifest. Since 10.24.10.
    pub has_manifest: bool,
    /// Flag 16: the sender accepts unrequested data. Since 11.21.1.
    pub allow_push: bool,
}

impl Decode for Sync {
    const MIN_LEN: usize = 4;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let known = CAN_UPGRADE | UPLOADING | DOWNLOADING | HAS_MANIFEST | ALLOW_PUSH;
        let flags = decoder.flags(known, "flags")?;
        Ok(Self {
            fork: decoder.uint("fork")?,
            length: decoder.uint("length")?,
            remote_length: decoder.uint("remoteLength")?,
            can_upgrade: flags & CAN_UPGRADE != 0,
            uploading: flags & UPLOADING != 0,
            downloading: flags & DOWNLOADING != 0,
            has_manifest: flags & HAS_MANIFEST != 0,
            allow_push: flags & ALLOW_PUSH != 0,
        })
    }
}

impl Encode for Sync {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let flags = flag(self.can_upgrade, CAN_UPGRADE)
            | flag(self.uploading, UPLOADING)
            | flag(self.downloading, DOWNLOADING)
            | flag(self.has_manifest, HAS_MANIFEST)
            | flag(self.allow_push, ALLOW_PUSH);
        encoder.uint(flags, "flags")?;
        encoder.uint(self.fork, "fork")?;
        encoder.uint(self.length, "length")?;
        encoder.uint(self.remote_length, "remoteLength")
    }
}

impl fmt::Debug for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.can_upgrade, "canUpgrade"),
            (self.uploading, "uploading"),
            (self.downloading, "downloading"),
            (self.has_manifest, "hasManifest"),
            (self.allow_push, "allowPush"),
        ];
        f.debug_struct("Sync")
            .field("fork", &self.fork)
            .field("length", &self.length)
            .field("remote_length", &self.remote_length)
            .field("flags", &Flags(&flags))
            .finish()
    }
}
