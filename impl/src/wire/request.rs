//! Request and cancel.

use std::fmt;

use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

const BLOCK: u64 = 1;
const HASH: u64 = 2;
const SEEK: u64 = 4;
const UPGRADE: u64 = 8;
const MANIFEST: u64 = 16;
const PRIORITY: u64 = 32;

/// Type 1: `uint flags`, `uint id`, `uint fork`, then the flagged parts, in the order of the fields below.
///
/// Releases 10.18 to 10.20 used flag 16 for the priority. Today's readers take such a request as one for the manifest,
/// with a trailing byte, which they ignore.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.request`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Identifies the request in its answer. Chosen by the sender, from 1.
    pub id: u64,
    /// The fork that the sender is on.
    pub fork: u64,
    /// Flag 1: a block and the hashes that prove it.
    pub block: Option<RequestBlock>,
    /// Flag 2: a tree node and the hashes that prove it.
    pub hash: Option<RequestBlock>,
    /// Flag 4: the hashes that lead to a byte.
    pub seek: Option<RequestSeek>,
    /// Flag 8: the hashes and the signature that prove a longer core.
    pub upgrade: Option<RequestUpgrade>,
    /// Flag 16: the manifest. No bytes of its own.
    pub manifest: bool,
    /// Flag 32: its urgency; 0 is not sent.
    pub priority: u64,
}

/// `uint index`, `uint nodes`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `requestBlock`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestBlock {
    /// The block (in [`Request::block`]) or the tree node (in [`Request::hash`]).
    pub index: u64,
    /// The number of levels up the tree at which the sender already has a hash.
    pub nodes: u64,
}

/// `uint bytes`, `uint padding`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `requestSeek`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestSeek {
    /// The byte to find, counted from the start of the core.
    pub bytes: u64,
    /// Padding bytes at the front of each block, which do not count. Since 10.29.1.
    pub padding: u64,
}

/// `uint start`, `uint length`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `requestUpgrade`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestUpgrade {
    /// Blocks already proven to the sender.
    pub start: u64,
    /// Blocks to prove beyond those.
    pub length: u64,
}

impl Decode for Request {
    const MIN_LEN: usize = 3;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let known = BLOCK | HASH | SEEK | UPGRADE | MANIFEST | PRIORITY;
        let flags = decoder.flags(known, "flags")?;
        let mut request = Self {
            id: decoder.uint("id")?,
            fork: decoder.uint("fork")?,
            manifest: flags & MANIFEST != 0,
            ..Self::default()
        };
        if flags & BLOCK != 0 {
            request.block = Some(RequestBlock {
                index: decoder.uint("block.index")?,
                nodes: decoder.uint("block.nodes")?,
            });
        }
        if flags & HASH != 0 {
            request.hash = Some(RequestBlock {
                index: decoder.uint("hash.index")?,
                nodes: decoder.uint("hash.nodes")?,
            });
        }
        if flags & SEEK != 0 {
            request.seek = Some(RequestSeek {
                bytes: decoder.uint("seek.bytes")?,
                padding: decoder.uint("seek.padding")?,
            });
        }
        if flags & UPGRADE != 0 {
            request.upgrade = Some(RequestUpgrade {
                start: decoder.uint("upgrade.start")?,
                length: decoder.uint("upgrade.length")?,
            });
        }
        if flags & PRIORITY != 0 {
            request.priority = decoder.uint("priority")?;
        }
        Ok(request)
    }
}

impl Encode for Request {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let flags = flag(self.block.is_some(), BLOCK)
            | flag(self.hash.is_some(), HASH)
            | flag(self.seek.is_some(), SEEK)
            | flag(self.upgrade.is_some(), UPGRADE)
            | flag(self.manifest, MANIFEST)
            | flag(self.priority != 0, PRIORITY);
        encoder.uint(flags, "flags")?;
        encoder.uint(self.id, "id")?;
        encoder.uint(self.fork, "fork")?;
        if let Some(block) = &self.block {
            encoder.uint(block.index, "block.index")?;
            encoder.uint(block.nodes, "block.nodes")?;
        }
        if let Some(hash) = &self.hash {
            encoder.uint(hash.index, "hash.index")?;
            encoder.uint(hash.nodes, "hash.nodes")?;
        }
        if let Some(seek) = &self.seek {
            encoder.uint(seek.bytes, "seek.bytes")?;
            encoder.uint(seek.padding, "seek.padding")?;
        }
        if let Some(upgrade) = &self.upgrade {
            encoder.uint(upgrade.start, "upgrade.start")?;
            encoder.uint(upgrade.length, "upgrade.length")?;
        }
        if self.priority != 0 {
            encoder.uint(self.priority, "priority")?;
        }
        Ok(())
    }
}

/// Shows the parts that are present.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Request");
        shown.field("id", &self.id).field("fork", &self.fork);
        if let Some(block) = &self.block {
            shown.field("block", block);
        }
        if let Some(hash) = &self.hash {
            shown.field("hash", hash);
        }
        if let Some(seek) = &self.seek {
            shown.field("seek", seek);
        }
        if let Some(upgrade) = &self.upgrade {
            shown.field("upgrade", upgrade);
        }
        if self.manifest {
            shown.field("manifest", &true);
        }
        if self.priority != 0 {
            shown.field("priority", &self.priority);
        }
        shown.finish()
    }
}

/// Type 2: `uint request`. Since 10.18.2.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.cancel`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cancel {
    /// The request's id.
    pub request: u64,
}

impl Decode for Cancel {
    const MIN_LEN: usize = 1;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: decoder.uint("request")?,
        })
    }
}

impl Encode for Cancel {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.request, "request")
    }
}
