//! All traffic between the scripted peer and an implementation: bytes, keys, and the records in words.

use hypercore_protocol::Buffer;
use hypercore_protocol::noise::HandshakeResult;
use serde_json::{Value, json};

use super::fixed::{EPHEMERAL_SEED, HEADER, STATIC_SEED};
use crate::dissect::{Conversation, Side};

/// Maximum bytes kept of one chunk.
const CHUNK_KEPT: usize = 64 << 10;

/// Maximum number of entries; a peer may send more than is useful.
const ENTRIES_KEPT: usize = 4096;

/// The sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sender {
    Peer,
    Implementation,
}

impl Sender {
    fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Implementation => "implementation",
        }
    }
}

/// The traffic on one connection.
#[derive(Debug)]
pub(super) struct Transcript {
    is_initiator: bool,
    keys: Option<Value>,
    cores: Vec<String>,
    remote_header: Option<[u8; 24]>,
    chunks: Vec<Value>,
    trace: Vec<String>,
    conversation: Conversation,
    left_out: usize,
}

impl Transcript {
    /// A transcript of a connection on which the scripted peer has this role.
    pub(super) fn new(is_initiator: bool) -> Self {
        Self {
            is_initiator,
            keys: None,
            cores: Vec::new(),
            remote_header: None,
            chunks: Vec::new(),
            trace: Vec::new(),
            conversation: Conversation::new(),
            left_out: 0,
        }
    }

    /// Adds a core's key, so that capabilities can be checked.
    pub(super) fn core(&mut self, key: [u8; 32]) {
        self.conversation.add_key(key);
        self.cores.push(hex::encode(key));
    }

    /// Adds bytes on the wire, as written or received.
    pub(super) fn bytes(&mut self, from: Sender, bytes: &[u8]) {
        if self.chunks.len() >= ENTRIES_KEPT {
            self.left_out += 1;
            return;
        }
        let kept = &bytes[..bytes.len().min(CHUNK_KEPT)];
        let mut chunk = json!({ "from": from.name(), "bytes": hex::encode(kept) });
        if kept.len() < bytes.len() {
            chunk["length"] = bytes.len().into();
        }
        self.chunks.push(chunk);
    }

    /// Adds a record's plaintext.
    pub(super) fn plaintext(&mut self, from: Sender, plaintext: &[u8]) {
        if self.trace.len() >= ENTRIES_KEPT {
            self.left_out += 1;
            return;
        }
        let side = match from {
            Sender::Peer => Side::Left,
            Sender::Implementation => Side::Right,
        };
        let shown = self
            .conversation
            .record(side, &Buffer::copy_from(plaintext));
        let arrow = match from {
            Sender::Peer => "→",
            Sender::Implementation => "←",
        };
        let groups = shown.fields.iter().filter(|field| field.hex.is_none());
        let mut lines: Vec<_> = groups
            .map(|field| format!("{arrow} {} {}", field.name, field.meaning))
            .collect();
        if lines.is_empty() {
            lines.push(format!("{arrow} {}, {} bytes", shown.what, shown.length));
        }
        lines.extend(shown.errors.iter().map(|error| {
            format!(
                "{arrow}   error at byte {}: {}",
                error.offset, error.message
            )
        }));
        lines.extend(shown.notes.iter().map(|note| format!("{arrow}   {note}")));
        self.trace
            .extend(lines.iter().map(|line| line.trim_end().to_owned()));
    }

    /// Adds the results of the handshake.
    pub(super) fn keys(&mut self, result: &HandshakeResult) {
        self.keys = Some(json!({
            "handshakeHash": hex::encode(result.hash),
            "peerKey": hex::encode(result.tx),
            "implementationKey": hex::encode(result.rx),
            "peerStaticSeed": hex::encode(STATIC_SEED),
            "peerEphemeralSeed": hex::encode(EPHEMERAL_SEED),
            "peerHeader": hex::encode(HEADER),
            "implementationPublicKey": result.remote_public_key.map(hex::encode),
        }));
        for (side, role) in [
            (Side::Left, self.is_initiator),
            (Side::Right, !self.is_initiator),
        ] {
            self.conversation
                .check_capabilities(side, result.hash, role);
        }
        self.note("the Noise handshake is complete");
    }

    /// The implementation's secretstream header.
    pub(super) fn header(&mut self, header: &[u8; 24]) {
        self.remote_header = Some(*header);
        self.note("the implementation's header came");
    }

    /// Adds a remark.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.trace.push(note.into());
    }

    /// The records in words, a line each: `→` marks the scripted peer's.
    pub(super) fn trace(&self) -> &[String] {
        &self.trace
    }

    /// Everything, for a report.
    pub(super) fn to_value(&self) -> Value {
        json!({
            "peerIsInitiator": self.is_initiator,
            "keys": self.keys,
            "coreKeys": self.cores,
            "implementationHeader": self.remote_header.map(hex::encode),
            "chunks": self.chunks,
            "trace": self.trace,
            "leftOut": self.left_out,
        })
    }
}
