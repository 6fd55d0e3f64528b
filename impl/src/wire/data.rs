//! Data: the answer to a request, with the hashes that prove it.

use std::fmt;

use crate::buffer::{Buffer, ShortHex};
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
use crate::manifest::Manifest;

use super::Memory;

const BLOCK: u64 = 1;
const HASH: u64 = 2;
const SEEK: u64 = 4;
const UPGRADE: u64 = 8;
const MANIFEST: u64 = 16;

/// Type 3: `uint flags`, `uint request`, `uint fork`, then the flagged parts, in the order of the fields below.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.data`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// The request's id; 0 for unrequested data.
    pub request: u64,
    /// The fork that the sender is on.
    pub fork: u64,
    /// Flag 1: a block.
    pub block: Option<DataBlock>,
    /// Flag 2: a tree node.
    pub hash: Option<DataHash>,
    /// Flag 4: the path to a byte.
    pub seek: Option<DataSeek>,
    /// Flag 8: proof of a longer core.
    pub upgrade: Option<DataUpgrade>,
    /// Flag 16: the manifest. Since 10.22.2.
    pub manifest: Option<Box<Manifest>>,
}

/// `uint index`, `buffer value`, `nodes[]`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `dataBlock`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataBlock {
    /// The block.
    pub index: u64,
    /// Its bytes, as they are stored (encrypted, if the core is).
    pub value: Buffer,
    /// The hashes that prove it.
    pub nodes: Vec<Node>,
}

/// `uint index`, `nodes[]`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `dataHash`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataHash {
    /// The requested tree node.
    pub index: u64,
    /// It and the hashes that prove it.
    pub nodes: Vec<Node>,
}

/// `uint bytes`, `nodes[]`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `dataSeek`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataSeek {
    /// The requested byte.
    pub bytes: u64,
    /// The hashes on the path to it.
    pub nodes: Vec<Node>,
}

/// `uint start`, `uint length`, `nodes[]`, `additionalNodes[]`, `optionalBuffer signature`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `dataUpgrade`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataUpgrade {
    /// Blocks already proven to the receiver.
    pub start: u64,
    /// Blocks proven beyond those.
    pub length: u64,
    /// The hashes of the tree at `start + length`.
    pub nodes: Vec<Node>,
    /// More hashes, up to the signed length.
    pub additional_nodes: Vec<Node>,
    /// The signature of the tree: 64 bytes for a compat core or a version 0 manifest with one signer, else a
    /// [multi-signature](crate::multisig); none for a prologue, whose hash is in the manifest.
    pub signature: Option<Buffer>,
}

/// A node of the Merkle tree: `uint index`, `uint size`, `fixed32 hash`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `node`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its index in the flat tree; block `i` is node `2 * i`.
    pub index: u64,
    /// Bytes of all blocks below it.
    pub size: u64,
    /// Its hash, 32 bytes; see [`crate::tree`].
    pub hash: [u8; 32],
}

impl Decode for Node {
    const MIN_LEN: usize = 34;

    #[inline]
    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            index: decoder.uint("node.index")?,
            size: decoder.uint("node.size")?,
            hash: decoder.fixed("node.hash")?,
        })
    }
}

impl Encode for Node {
    #[inline]
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.index, "node.index")?;
        encoder.uint(self.size, "node.size")?;
        encoder.raw(&self.hash);
        Ok(())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("index", &self.index)
            .field("size", &self.size)
            .field("hash", &ShortHex(&self.hash))
            .finish()
    }
}

impl Decode for Data {
    const MIN_LEN: usize = 3;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = decoder.flags(BLOCK | HASH | SEEK | UPGRADE | MANIFEST, "flags")?;
        let mut data = Self {
            request: decoder.uint("request")?,
            fork: decoder.uint("fork")?,
            ..Self::default()
        };
        if flags & BLOCK != 0 {
            data.block = Some(DataBlock {
                index: decoder.uint("block.index")?,
                value: decoder.buffer("block.value")?,
                nodes: decoder.array("block.nodes")?,
            });
        }
        if flags & HASH != 0 {
            data.hash = Some(DataHash {
                index: decoder.uint("hash.index")?,
                nodes: decoder.array("hash.nodes")?,
            });
        }
        if flags & SEEK != 0 {
            data.seek = Some(DataSeek {
                bytes: decoder.uint("seek.bytes")?,
                nodes: decoder.array("seek.nodes")?,
            });
        }
        if flags & UPGRADE != 0 {
            data.upgrade = Some(DataUpgrade {
                start: decoder.uint("upgrade.start")?,
                length: decoder.uint("upgrade.length")?,
                nodes: decoder.array("upgrade.nodes")?,
                additional_nodes: decoder.array("upgrade.additionalNodes")?,
                signature: decoder.optional_buffer("upgrade.signature")?,
            });
        }
        if flags & MANIFEST != 0 {
            data.manifest = Some(Box::new(Manifest::decode_from(decoder)?));
        }
        Ok(data)
    }
}

impl Data {
    pub(super) fn memory(&self) -> Memory {
        let nodes = |nodes: &Vec<Node>| size_of::<Node>() * nodes.capacity();
        let block = self.block.as_ref();
        let upgrade = self.upgrade.as_ref();
        let manifest = self.manifest.as_ref();
        Memory {
            own: block.map_or(0, |block| nodes(&block.nodes))
                + self.hash.as_ref().map_or(0, |hash| nodes(&hash.nodes))
                + self.seek.as_ref().map_or(0, |seek| nodes(&seek.nodes))
                + upgrade.map_or(0, |upgrade| {
                    nodes(&upgrade.nodes) + nodes(&upgrade.additional_nodes)
                })
                + manifest.map_or(0, |manifest| manifest.memory()),
            shares_body: block.is_some_and(|block| !block.value.is_empty())
                || upgrade.is_some_and(|upgrade| upgrade.signature.is_some())
                || manifest.is_some_and(|manifest| manifest.user_data.is_some()),
        }
    }
}

impl Encode for Data {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let flags = flag(self.block.is_some(), BLOCK)
            | flag(self.hash.is_some(), HASH)
            | flag(self.seek.is_some(), SEEK)
            | flag(self.upgrade.is_some(), UPGRADE)
            | flag(self.manifest.is_some(), MANIFEST);
        encoder.uint(flags, "flags")?;
        encoder.uint(self.request, "request")?;
        encoder.uint(self.fork, "fork")?;
        if let Some(block) = &self.block {
            encoder.uint(block.index, "block.index")?;
            encoder.buffer(&block.value, "block.value")?;
            encoder.array(&block.nodes, "block.nodes")?;
        }
        if let Some(hash) = &self.hash {
            encoder.uint(hash.index, "hash.index")?;
            encoder.array(&hash.nodes, "hash.nodes")?;
        }
        if let Some(seek) = &self.seek {
            encoder.uint(seek.bytes, "seek.bytes")?;
            encoder.array(&seek.nodes, "seek.nodes")?;
        }
        if let Some(upgrade) = &self.upgrade {
            encoder.uint(upgrade.start, "upgrade.start")?;
            encoder.uint(upgrade.length, "upgrade.length")?;
            encoder.array(&upgrade.nodes, "upgrade.nodes")?;
            encoder.array(&upgrade.additional_nodes, "upgrade.additionalNodes")?;
            encoder.optional_buffer(upgrade.signature.as_deref(), "upgrade.signature")?;
        }
        if let Some(manifest) = &self.manifest {
            manifest.encode_to(encoder)?;
        }
        Ok(())
    }
}

/// Shows the parts that are present.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Data");
        shown
            .field("request", &self.request)
            .field("fork", &self.fork);
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
        if let Some(manifest) = &self.manifest {
            shown.field("manifest", manifest);
        }
        shown.finish()
    }
}
