//! The fixed parts of the scripted peer's handshake: always the same, so that transcripts can be compared.

use hypercore_protocol::secret_stream::HEADER_BYTES;

/// The seed of the peer's static key pair: fixed, so that its bytes can be compared.
pub(super) const STATIC_SEED: [u8; 32] = [0xd1; 32];

/// The seed of its ephemeral key pair.
pub(super) const EPHEMERAL_SEED: [u8; 32] = [0xd2; 32];

/// Its secretstream header.
pub(super) const HEADER: [u8; HEADER_BYTES] = [0xd3; HEADER_BYTES];
