//! The encrypted transport: Noise, the header exchange and sealed records, over frames.
//!
//! [`Transport`] owns no socket: bytes that arrived go into [`Transport::receive`], bytes to send come
//! out of [`Transport::transmit`]. Between the two:
//!
//! ```text
//! → [len3][Noise message]…        the handshake pattern's messages in turn
//! → [len3][stream id][header]     56 bytes, as soon as our side of the handshake is complete
//! → [len3][tag][ciphertext][mac]  one record for each plaintext from then on
//! ```
//!
//! The order and the bytes are those of @hyperswarm/secret-stream 6.9.2 (index.js). An empty plaintext
//! is a keep-alive.
//!
//! Two other ways to start are a [`Mode`]: after a Noise handshake that took place elsewhere, as HyperDHT's does, the
//! stream begins with the headers; over a carrier that encrypts by itself it is bare records from the first byte.

mod inbound;
mod outbound;

use std::fmt;

use thiserror::Error;

use crate::buffer::{Buffer, ShortHex};
use crate::class::{ErrorClass, Layer};
use crate::datagram::{DatagramError, Datagrams};
use crate::encoding::{Encode, EncodeError};
use crate::frame::{self, FrameError};
use crate::keys::{KeyPair, Secret};
use crate::noise::{self, HandshakeResult, NoiseError, Pattern};
use crate::secret_stream::{self, SecretStreamError};

pub(crate) use inbound::Inbound;
pub(crate) use outbound::Outbound;

/// The largest plaintext of one record: a frame's 0xffffff bytes less the 17 of tag and MAC.
pub const MAX_PLAINTEXT_BYTES: usize = frame::MAX_RECORD_BYTES - secret_stream::ABYTES;

/// Where the keys of a transport come from.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Mode {
    /// A Noise handshake in the first records of the stream. The default.
    #[default]
    Noise,
    /// A Noise handshake that took place elsewhere: the first record of each direction is the 56-byte header. Node's
    /// `new NoiseSecretStream(isInitiator, rawStream, { handshake })`, of which HyperDHT makes use
    /// (@hyperswarm/secret-stream 6.9.2, index.js, `_startHandshake`).
    HandshakeDone {
        /// Our static public key in that handshake, 32 bytes.
        public_key: [u8; 32],
        /// Its result: the keys as seen from our side, the hash, the remote's key.
        result: HandshakeResult,
    },
    /// No handshake and no encryption, for a carrier that does both: each record is a uint24 length and the plaintext
    /// itself, as framed-stream 1.0.1 with `bits: 24` frames it (index.js).
    ///
    /// **Anyone who can read the carrier reads everything, and anyone who can write to it can impersonate the peer.**
    Unencrypted {
        /// 64 bytes that are the same on both sides and of no other connection, such as a key exported from the
        /// carrier's own handshake. The capabilities of channels are bound to it, so that nobody can play back one
        /// connection's on another.
        handshake_hash: [u8; noise::HASH_BYTES],
    },
}

/// Without the hash, which of [`Mode::Unencrypted`] may be a key of the carrier.
impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noise => f.write_str("Noise"),
            Self::HandshakeDone { public_key, result } => f
                .debug_struct("HandshakeDone")
                .field("public_key", &ShortHex(public_key))
                .field("result", result)
                .finish(),
            Self::Unencrypted { .. } => f.debug_struct("Unencrypted").finish_non_exhaustive(),
        }
    }
}

/// The configuration of a transport: call [`TransportConfig::new`], and set fields as needed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Whether we send the first handshake message; without a handshake, which side of the stream we are.
    pub is_initiator: bool,
    /// Where the keys come from.
    pub mode: Mode,
    /// The handshake pattern; XX unless both sides agree on another.
    pub pattern: Pattern,
    /// Our static key pair; a random one when `None`. Without a handshake only its public key is used, to tell the
    /// caller again; 32 zeros when `None`.
    pub key_pair: Option<KeyPair>,
    /// The remote's static public key. The initiator of IK and XK needs it; elsewhere the handshake
    /// fails if the remote proves another one. Without a handshake it is taken to be proved by the carrier.
    pub remote_public_key: Option<[u8; 32]>,
    /// The pre-shared key of the psk patterns, 32 bytes.
    pub psk: Option<Secret<32>>,
    /// The Noise prologue. Node's streams have none.
    pub prologue: Vec<u8>,
    /// The seed of the ephemeral key pair, so that a test repeats a recording.
    pub fixed_ephemeral_for_testing_only: Option<[u8; 32]>,
    /// Our secretstream header, so that a test repeats a recording.
    pub header_for_testing_only: Option<[u8; secret_stream::HEADER_BYTES]>,
}

impl TransportConfig {
    /// The pattern XX with a random key pair.
    pub fn new(is_initiator: bool) -> Self {
        Self {
            is_initiator,
            ..Self::default()
        }
    }
}

impl fmt::Debug for TransportConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportConfig")
            .field("is_initiator", &self.is_initiator)
            .field("mode", &self.mode)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// The result of the handshake.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeInfo {
    /// Whether we sent the first message.
    pub is_initiator: bool,
    /// Our static public key.
    pub public_key: [u8; 32],
    /// The static public key that the remote proved; `None` for patterns without static keys.
    pub remote_public_key: Option<[u8; 32]>,
    /// The handshake hash, 64 bytes, the same on both sides. Capabilities are bound to it.
    pub hash: [u8; noise::HASH_BYTES],
}

/// Without the hash: the keys of datagrams and the capabilities of channels are made from it.
impl fmt::Debug for HandshakeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = self.remote_public_key.as_ref();
        f.debug_struct("HandshakeInfo")
            .field("is_initiator", &self.is_initiator)
            .field("public_key", &ShortHex(&self.public_key))
            .field("remote_public_key", &remote.map(|key| ShortHex(key)))
            .finish_non_exhaustive()
    }
}

/// Where in the incoming bytes a transport failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The record, counted from 0 and from the first handshake message.
    pub record: u64,
    /// The offset in bytes of the record's length since the start of the stream.
    pub offset: u64,
}

/// Which layer of a transport failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The Noise handshake failed.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The stream ended within a record, or a plaintext does not fit into one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A header or a sealed record was refused.
    #[error(transparent)]
    SecretStream(#[from] SecretStreamError),
    /// The first bytes that arrived begin no handshake: they announce a longer message than there is.
    #[error(
        "the remote does not speak this protocol: its first bytes, {}, announce {announced} bytes, and the first handshake message has at most {limit}",
        FirstBytes(.first)
    )]
    NotTheProtocol {
        /// The first bytes: of a peer that speaks HTTP, for instance, `HTT`.
        first: [u8; frame::HEADER_BYTES],
        /// Bytes that they announce, read as the length of a record.
        announced: usize,
        /// Bytes that the first message of the pattern may have.
        limit: usize,
    },
    /// The system has no randomness for the header.
    #[error("no randomness for the stream header")]
    Random,
    /// The incoming stream has ended already.
    #[error("the stream has ended")]
    Ended,
    /// A value for [`Transport::send_encoded`] that has another length than its caller said.
    #[error("the plaintext has {actual} bytes, where {announced} were announced")]
    EncodedLength {
        /// Bytes that were announced.
        announced: usize,
        /// Bytes that it has.
        actual: usize,
    },
    /// The plaintext could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Bytes in hex, and as text where they are letters.
struct FirstBytes<'a>(&'a [u8]);

impl fmt::Display for FirstBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if at > 0 { " " } else { "" })?;
        }
        if self.0.iter().all(u8::is_ascii_graphic) {
            let text = String::from_utf8_lossy(self.0);
            write!(f, " ({text:?})")?;
        }
        Ok(())
    }
}

/// A transport that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportError {
    /// The error.
    pub kind: TransportErrorKind,
    /// Its offset in the incoming bytes; `None` for an error in sending.
    pub position: Option<Position>,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.kind, f)?;
        match self.position {
            Some(at) => write!(
                f,
                " (record {} at byte {} of the stream)",
                at.record, at.offset
            ),
            None => Ok(()),
        }
    }
}

// The text contains the inner error, so that it is not a source as well.
impl std::error::Error for TransportError {}

impl TransportError {
    /// The layer that refused.
    #[must_use]
    pub fn layer(&self) -> Layer {
        match &self.kind {
            TransportErrorKind::Noise(_) | TransportErrorKind::NotTheProtocol { .. } => {
                Layer::Noise
            }
            TransportErrorKind::Frame(_) => Layer::Frame,
            TransportErrorKind::SecretStream(_) => Layer::SecretStream,
            TransportErrorKind::Encode(_) => Layer::Encoding,
            _ => Layer::Connection,
        }
    }

    /// The class of the error, shared with other implementations.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match &self.kind {
            // A stream of Node's tells no failure of the handshake from another.
            TransportErrorKind::Noise(error) => match error.class() {
                ErrorClass::BadPoint => ErrorClass::HandshakeFailed,
                class => class,
            },
            TransportErrorKind::NotTheProtocol { .. } => ErrorClass::HandshakeFailed,
            TransportErrorKind::Frame(error) => error.class(),
            TransportErrorKind::SecretStream(error) => error.class(),
            TransportErrorKind::Random => ErrorClass::Limit,
            TransportErrorKind::Ended => ErrorClass::Closed,
            TransportErrorKind::EncodedLength { .. } => ErrorClass::BadInput,
            TransportErrorKind::Encode(error) => error.class(),
        }
    }
}

impl<K: Into<TransportErrorKind>> From<K> for TransportError {
    fn from(kind: K) -> Self {
        Self {
            kind: kind.into(),
            position: None,
        }
    }
}

/// How the incoming stream ended, when it ended between records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// After the remote's header: everything that the remote sent has arrived.
    Clean,
    /// Before the handshake and the header exchange were complete. Node reports this as an end like
    /// any other.
    BeforeHandshake,
}

/// One end of an encrypted stream, without IO.
pub struct Transport {
    inbound: Inbound,
    outbound: Outbound,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("inbound", &self.inbound)
            .field("outbound", &self.outbound)
            .finish()
    }
}

impl Transport {
    /// Starts a transport. The initiator's first message is ready in [`Transport::transmit`] at once.
    ///
    /// # Errors
    /// The configuration lacks what the pattern needs, the remote key is no point or not the one of the handshake that
    /// took place elsewhere, or the system has no randomness.
    pub fn new(config: TransportConfig) -> Result<Self, TransportError> {
        let (inbound, outbound) = Inbound::start(config)?;
        Ok(Self { inbound, outbound })
    }

    /// Starts a transport after a Noise handshake that took place elsewhere, as HyperDHT's does over
    /// UDP: our header is ready at once and the remote's header is the first incoming record.
    ///
    /// # Errors
    /// The system has no randomness for the header.
    pub fn after_handshake(
        is_initiator: bool,
        public_key: [u8; 32],
        result: &HandshakeResult,
        header_for_testing_only: Option<[u8; secret_stream::HEADER_BYTES]>,
    ) -> Result<Self, TransportError> {
        let header = header_for_testing_only;
        let (inbound, outbound) =
            Inbound::after_handshake(is_initiator, public_key, result, header)?;
        Ok(Self { inbound, outbound })
    }

    /// A transport that could not be started: it only reports why.
    pub(crate) fn failed(is_initiator: bool, error: TransportError) -> Self {
        let (inbound, outbound) = Inbound::failed(is_initiator, error);
        Self { inbound, outbound }
    }

    /// Its two directions. The incoming one is to be given the outgoing one with what arrives.
    pub(crate) fn split(self) -> (Inbound, Outbound) {
        (self.inbound, self.outbound)
    }

    /// Whether we sent the first message.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.inbound.is_initiator()
    }

    /// Our static public key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        self.inbound.public_key()
    }

    /// What the handshake established, once it is complete on our side. From then on records that we
    /// send leave at once; the remote may still fail to follow.
    #[must_use]
    pub fn handshake(&self) -> Option<&HandshakeInfo> {
        self.inbound.handshake()
    }

    /// The datagrams beside the stream. Every call gives the same ones, which count together.
    ///
    /// # Errors
    /// [`DatagramError::NoHandshake`] before the handshake is complete on our side, [`DatagramError::Unencrypted`], or
    /// that the system has no randomness.
    pub fn datagrams(&mut self) -> Result<Datagrams, DatagramError> {
        self.inbound.datagrams()
    }

    /// Whether the remote's header has arrived too, so that records can arrive.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.inbound.is_established()
    }

    /// Why the transport failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&TransportError> {
        self.inbound.failure()
    }

    /// Takes received bytes, in chunks of any size.
    ///
    /// # Errors
    /// The transport has failed, now or before, and takes no more bytes. Records that arrived whole
    /// before the failure are still in [`Transport::poll_record`].
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        self.inbound.receive(bytes, &mut self.outbound)
    }

    /// Takes the end of the incoming stream. The outgoing direction may continue.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when it ends within a record, or the earlier failure.
    pub fn receive_end(&mut self) -> Result<End, TransportError> {
        self.inbound.receive_end(&mut self.outbound)
    }

    /// Whether records are sealed: not so with [`Mode::Unencrypted`].
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.outbound.is_sealed()
    }

    /// The largest plaintext that a record can carry: [`MAX_PLAINTEXT_BYTES`], or a whole frame without encryption.
    #[must_use]
    pub fn max_plaintext(&self) -> usize {
        self.outbound.max_plaintext()
    }

    /// The next plaintext that arrived; an empty one is a keep-alive.
    ///
    /// Each plaintext has an allocation of its own record's size, so that keeping a part of one keeps
    /// no other alive.
    pub fn poll_record(&mut self) -> Option<Buffer> {
        self.inbound.poll_record()
    }

    /// Whether [`Transport::poll_record`] has one.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.inbound.has_records()
    }

    /// Queues a record of this plaintext; no bytes at all are a keep-alive. Before the handshake is complete the record
    /// waits for it.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] above [`Transport::max_plaintext`], which leaves the transport as it is, or the earlier
    /// failure.
    pub fn send_record(&mut self, plaintext: &[u8]) -> Result<(), TransportError> {
        self.outbound.put_bytes(plaintext)
    }

    /// Queues a record of `len` bytes of plaintext, which `plaintext` writes at their place among the bytes that leave.
    ///
    /// # Errors
    /// As [`Transport::send_record`], and [`TransportErrorKind::Encode`] when the value cannot be written, [`TransportErrorKind::EncodedLength`]
    /// when it is not `len` bytes long; nothing was queued then.
    pub fn send_encoded(
        &mut self,
        len: usize,
        plaintext: &dyn Encode,
    ) -> Result<(), TransportError> {
        self.outbound.put(len, plaintext)
    }

    /// Bytes that are ready to send. Queued records are sealed by this call.
    #[must_use]
    pub fn transmit(&mut self) -> &[u8] {
        self.outbound.transmit()
    }

    /// Removes the first `count` bytes of [`Transport::transmit`] after they were sent.
    pub fn consume_transmit(&mut self, count: usize) {
        self.outbound.consume(count);
    }

    /// Takes all bytes that are ready to send.
    pub fn take_transmit(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.outbound.swap(&mut bytes);
        bytes
    }

    /// Exchanges the bytes that are ready to leave for `spare`, which must be empty and whose memory is used for what
    /// is queued next: nothing is copied.
    pub fn swap_transmit(&mut self, spare: &mut Vec<u8>) {
        self.outbound.swap(spare);
    }

    /// Puts bytes on the wire as they are, so that a test can send invalid input.
    #[doc(hidden)]
    pub fn push_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.outbound.push_raw_for_testing_only(bytes);
    }

    /// Records of ours that wait for the handshake, in bytes.
    #[must_use]
    pub fn waiting_for_handshake(&self) -> usize {
        self.outbound.waiting_for_handshake()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::NoiseErrorKind;
    use proptest::prelude::*;

    fn config(is_initiator: bool, pattern: Pattern) -> TransportConfig {
        let seed = if is_initiator { [1; 32] } else { [2; 32] };
        TransportConfig {
            is_initiator,
            pattern,
            key_pair: Some(KeyPair::from_seed(&seed)),
            remote_public_key: (is_initiator && pattern.needs_remote_public_key())
                .then(|| *KeyPair::from_seed(&[2; 32]).public_key()),
            psk: pattern.needs_psk().then(|| [9; 32].into()),
            ..TransportConfig::default()
        }
    }

    fn pair(pattern: Pattern) -> (Transport, Transport) {
        let new = |is_initiator| Transport::new(config(is_initiator, pattern)).unwrap();
        (new(true), new(false))
    }

    fn carry(from: &mut Transport, to: &mut Transport) -> Result<(), TransportError> {
        to.receive(&from.take_transmit())
    }

    fn connect(a: &mut Transport, b: &mut Transport) {
        while !(a.transmit().is_empty() && b.transmit().is_empty()) {
            carry(a, b).unwrap();
            carry(b, a).unwrap();
        }
    }

    fn records(transport: &mut Transport) -> Vec<Buffer> {
        std::iter::from_fn(|| transport.poll_record()).collect()
    }

    #[test]
    fn every_pattern_carries_records_both_ways() {
        for pattern in Pattern::ALL {
            let (mut a, mut b) = pair(pattern);
            connect(&mut a, &mut b);
            assert!(a.is_established() && b.is_established(), "{pattern}");
            let (info_a, info_b) = (a.handshake().unwrap(), b.handshake().unwrap());
            assert_eq!(info_a.hash, info_b.hash);
            let static_keys = pattern.has_static_keys();
            assert_eq!(
                info_a.remote_public_key,
                static_keys.then_some(*b.public_key())
            );
            assert_eq!(
                info_b.remote_public_key,
                static_keys.then_some(*a.public_key())
            );
            a.send_record(b"hello").unwrap();
            a.send_record(b"").unwrap();
            b.send_record(b"yes").unwrap();
            connect(&mut a, &mut b);
            assert_eq!(records(&mut b), [Buffer::from(b"hello"), Buffer::new()]);
            assert_eq!(records(&mut a), [Buffer::from(b"yes")]);
        }
    }

    #[test]
    fn records_sent_before_the_handshake_wait_for_it() {
        let (mut a, mut b) = pair(Pattern::XX);
        b.send_record(b"first").unwrap();
        assert!(b.transmit().is_empty());
        b.outbound.open().unwrap();
        b.outbound.opened().unwrap().0.extend_from_slice(b"sec");
        connect(&mut a, &mut b);
        assert_eq!(records(&mut a), [Buffer::from(b"first")]);
        b.outbound.opened().unwrap().0.extend_from_slice(b"ond");
        b.outbound.close();
        connect(&mut a, &mut b);
        assert_eq!(records(&mut a), [Buffer::from(b"second")]);
        assert_eq!(b.waiting_for_handshake(), 0);
    }

    #[test]
    fn datagrams_come_with_the_handshake_and_count_together() {
        let (mut a, mut b) = pair(Pattern::IK);
        assert_eq!(a.datagrams().unwrap_err(), DatagramError::NoHandshake);
        connect(&mut a, &mut b);
        let sealed = [(); 3].map(|()| a.datagrams().unwrap().seal(b"x").unwrap());
        let counter = |at: usize| u64::from_le_bytes(sealed[at][..8].try_into().unwrap());
        assert_eq!(counter(1), counter(0).wrapping_add(1));
        assert_eq!(counter(2), counter(1).wrapping_add(1));
        // Any order will do.
        for datagram in sealed.iter().rev() {
            assert_eq!(b.datagrams().unwrap().open(datagram).unwrap(), b"x");
        }
    }

    #[test]
    fn an_open_record_does_not_leave() {
        let (mut a, mut b) = pair(Pattern::XX);
        connect(&mut a, &mut b);
        a.send_record(b"one").unwrap();
        let ready = a.transmit().len();
        a.outbound.open().unwrap();
        a.outbound.opened().unwrap().0.extend_from_slice(b"two");
        assert_eq!((a.outbound.opened_len(), a.transmit().len()), (3, ready));
        a.consume_transmit(5);
        assert_eq!(a.transmit().len(), ready - 5);
        a.outbound.abort();
        assert_eq!(
            (a.outbound.opened_len(), a.transmit().len()),
            (0, ready - 5)
        );
    }

    #[test]
    fn a_value_of_another_length_than_announced_is_not_queued() {
        let (mut a, mut b) = pair(Pattern::XX);
        connect(&mut a, &mut b);
        let value = crate::mux::Raw(b"four");
        for announced in [3, 5] {
            let error = a.send_encoded(announced, &value).unwrap_err();
            let actual = 4;
            assert_eq!(
                error.kind,
                TransportErrorKind::EncodedLength { announced, actual }
            );
        }
        a.send_encoded(4, &value).unwrap();
        connect(&mut a, &mut b);
        assert_eq!(records(&mut b), [Buffer::from(b"four")]);
    }

    /// Calling `transmit` between two records does not change the bytes.
    #[test]
    fn when_records_are_sealed_makes_no_difference() {
        let bytes = |looks: bool| {
            let header_for_testing_only = Some([5; 24]);
            let new = |is_initiator| {
                Transport::new(TransportConfig {
                    fixed_ephemeral_for_testing_only: Some([u8::from(is_initiator) + 1; 32]),
                    header_for_testing_only,
                    ..config(is_initiator, Pattern::XX)
                })
                .unwrap()
            };
            let (mut a, mut b) = (new(true), new(false));
            connect(&mut a, &mut b);
            for length in [0, 1, 63, 64, 65, 5000] {
                a.send_record(&vec![7; length]).unwrap();
                if looks {
                    let _ = a.transmit();
                }
            }
            a.take_transmit()
        };
        assert_eq!(bytes(true), bytes(false));
    }

    #[test]
    fn one_byte_at_a_time_is_the_same() {
        let (mut a, mut b) = pair(Pattern::XX);
        for _ in 0..3 {
            for byte in a.take_transmit() {
                b.receive(&[byte]).unwrap();
            }
            while !b.transmit().is_empty() {
                a.receive(&b.transmit()[..1]).unwrap();
                b.consume_transmit(1);
            }
        }
        assert!(a.is_established() && b.is_established());
    }

    #[test]
    fn the_largest_plaintext_passes_and_one_more_byte_does_not() {
        let (mut a, mut b) = pair(Pattern::XX);
        connect(&mut a, &mut b);
        let big = vec![0x5a; MAX_PLAINTEXT_BYTES + 1];
        let error = a.send_record(&big).unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Frame, ErrorClass::TooLarge)
        );
        a.send_record(&big[1..]).unwrap();
        for chunk in a.take_transmit().chunks(65_536) {
            b.receive(chunk).unwrap();
        }
        assert_eq!(b.poll_record().unwrap().len(), MAX_PLAINTEXT_BYTES);
    }

    #[test]
    fn failures_say_where_and_keep_what_came_before() {
        let (mut a, mut b) = pair(Pattern::XX);
        connect(&mut a, &mut b);
        a.send_record(b"good").unwrap();
        a.send_record(b"bad").unwrap();
        let mut bytes = a.take_transmit();
        *bytes.last_mut().unwrap() ^= 1;
        let error = b.receive(&bytes).unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::SecretStream, ErrorClass::BadMac)
        );
        // Two handshake messages and the header came before, 32, 64 and 56 bytes.
        let before = 32 + 64 + 56 + 3 * 3 + (4 + 17 + 3);
        assert_eq!(
            error.position,
            Some(Position {
                record: 4,
                offset: before
            })
        );
        assert_eq!(records(&mut b), [Buffer::from(b"good")]);
        assert_eq!(b.receive(&[]), Err(error.clone()));
        assert_eq!(b.send_record(b""), Err(error));
    }

    #[test]
    fn ends_are_told_apart() {
        let (mut a, mut b) = pair(Pattern::XX);
        assert_eq!(b.receive_end(), Ok(End::BeforeHandshake));
        let (mut c, mut d) = pair(Pattern::XX);
        carry(&mut c, &mut d).unwrap();
        carry(&mut d, &mut c).unwrap();
        // The handshake is complete on this side, but the remote's header is missing.
        assert!(c.handshake().is_some());
        assert_eq!(c.receive_end(), Ok(End::BeforeHandshake));
        assert!(!c.is_established());
        let mut b = Transport::new(config(false, Pattern::XX)).unwrap();
        connect(&mut a, &mut b);
        b.receive(&[5, 0, 0, 1]).unwrap();
        let error = b.receive_end().unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Frame, ErrorClass::Truncated)
        );
        assert_eq!(a.receive_end(), Ok(End::Clean));
        assert_eq!(a.receive(&[0]).unwrap_err().class(), ErrorClass::Closed);
    }

    #[test]
    fn a_stranger_cannot_make_us_hold_a_large_record() {
        let mut b = Transport::new(config(false, Pattern::XX)).unwrap();
        // A message of 32 bytes, which may have a payload of 1,024.
        b.receive(&[0x20, 4, 0]).unwrap();
        b.receive(&[7; 1055]).unwrap();
        assert!(b.inbound.kept() <= 4096);
        let mut b = Transport::new(config(false, Pattern::XX)).unwrap();
        b.receive(&[0x21, 4, 0]).unwrap();
        let error = b.receive(&[7]).unwrap_err();
        assert_eq!(b.inbound.kept(), 0);
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Noise, ErrorClass::HandshakeFailed)
        );
        assert_eq!(
            error.position,
            Some(Position {
                record: 0,
                offset: 0
            })
        );

        let (mut a, mut b) = pair(Pattern::XX);
        carry(&mut a, &mut b).unwrap();
        carry(&mut b, &mut a).unwrap();
        let error = b.receive(&[0x41, 4, 0, 7]).unwrap_err();
        let TransportErrorKind::Noise(error) = error.kind else {
            panic!("{error:?}");
        };
        let (actual, limit) = (1089, 1088);
        assert_eq!(error.kind, NoiseErrorKind::TooLong { actual, limit });

        let (mut a, mut b) = pair(Pattern::XX);
        carry(&mut a, &mut b).unwrap();
        carry(&mut b, &mut a).unwrap();
        let error = a.receive(&[57, 0, 0]).unwrap_err();
        assert_eq!(a.inbound.kept(), 0);
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::SecretStream, ErrorClass::BadLength)
        );
    }

    #[test]
    fn peers_of_other_protocols_are_told_so_by_their_first_bytes() {
        for (greeting, shown) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n"[..],
                "48 54 54 (\"HTT\"), announce 5526600",
            ),
            (
                b"GET / HTTP/1.1\r\n",
                "47 45 54 (\"GET\"), announce 5522759",
            ),
            (
                b"SSH-2.0-OpenSSH_9.6\r\n",
                "53 53 48 (\"SSH\"), announce 4739923",
            ),
            (b"\x16\x03\x01\x02\0\x01", "16 03 01, announce 66326"),
        ] {
            let mut b = Transport::new(config(false, Pattern::XX)).unwrap();
            let error = b.receive(greeting).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("does not speak this protocol"), "{text}");
            assert!(text.contains(shown), "{text}");
            assert!(text.contains("at most 1056 (record 0 at byte 0"), "{text}");
        }
    }

    #[test]
    fn two_initiators_are_told_so() {
        let mut a = Transport::new(config(true, Pattern::XX)).unwrap();
        let mut b = Transport::new(config(true, Pattern::XX)).unwrap();
        let error = carry(&mut a, &mut b).unwrap_err();
        assert!(error.to_string().contains("an initiator, too"), "{error}");
        assert_eq!(error.class(), ErrorClass::HandshakeFailed);
    }

    #[test]
    fn zero_length_records_are_refused_in_every_phase() {
        let (mut a, mut b) = pair(Pattern::XX);
        let mut fresh = Transport::new(config(false, Pattern::XX)).unwrap();
        assert_eq!(fresh.receive(&[0, 0, 0]).unwrap_err().layer(), Layer::Noise);
        carry(&mut a, &mut b).unwrap();
        carry(&mut b, &mut a).unwrap();
        let error = a.receive(&[0, 0, 0]).unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::SecretStream, ErrorClass::BadLength)
        );
        let (mut a, mut b) = pair(Pattern::XX);
        connect(&mut a, &mut b);
        let error = a.receive(&[0, 0, 0]).unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::SecretStream, ErrorClass::BadLength)
        );
    }

    #[test]
    fn a_reflected_header_is_refused() {
        let (mut a, mut b) = pair(Pattern::XX);
        carry(&mut a, &mut b).unwrap();
        carry(&mut b, &mut a).unwrap();
        let sent = a.take_transmit();
        let header = sent[sent.len() - 59..].to_vec();
        let error = a.receive(&header).unwrap_err();
        assert_eq!(
            error.kind,
            TransportErrorKind::SecretStream(SecretStreamError::WrongStreamId { reflected: true })
        );
    }

    #[test]
    fn a_pinned_key_stops_the_handshake_before_our_key_is_shown() {
        let (_, mut b) = pair(Pattern::XX);
        let mut a = Transport::new(TransportConfig {
            remote_public_key: Some([7; 32]),
            ..config(true, Pattern::XX)
        })
        .unwrap();
        carry(&mut a, &mut b).unwrap();
        let error = carry(&mut b, &mut a).unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Noise, ErrorClass::HandshakeFailed)
        );
        assert!(a.transmit().is_empty());
    }

    proptest! {
        // Each case makes a handshake.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_arrives_is_taken_or_refused(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
            is_initiator: bool,
        ) {
            let mut transport = Transport::new(config(is_initiator, Pattern::XX)).unwrap();
            for chunk in &chunks {
                let failed = transport.failure().is_some();
                let outcome = transport.receive(chunk);
                prop_assert!(!failed || outcome.is_err());
                prop_assert!(transport.poll_record().is_none());
            }
            prop_assert!(transport.receive_end().is_err() || transport.failure().is_none());
        }

        #[test]
        fn one_changed_byte_never_changes_a_plaintext(
            at in 0_usize..400,
            bit in 0_u8..8,
            cut in 1_usize..80,
        ) {
            let (mut a, mut b) = pair(Pattern::XX);
            connect(&mut a, &mut b);
            let sent: Vec<_> = (0..10).map(|n| Buffer::from(vec![n; 20])).collect();
            for plaintext in &sent {
                a.send_record(plaintext).unwrap();
            }
            let mut bytes = a.take_transmit();
            bytes[at] ^= 1 << bit;
            let outcome = bytes.chunks(cut).try_for_each(|chunk| b.receive(chunk));
            let seen = records(&mut b);
            // Whole before the change, nothing from there on.
            prop_assert_eq!(seen.len(), at / 40);
            prop_assert_eq!(&seen[..], &sent[..seen.len()]);
            prop_assert!(outcome.is_err() || b.receive_end().is_err());
        }
    }

    #[test]
    fn a_handshake_made_elsewhere_goes_on_here() {
        let result = |tx, rx| HandshakeResult {
            tx,
            rx,
            hash: [3; 64],
            remote_public_key: None,
        };
        let (one, two) = ([1; 32], [2; 32]);
        let mut a = Transport::after_handshake(true, [0; 32], &result(one, two), None).unwrap();
        let mut b = Transport::after_handshake(false, [0; 32], &result(two, one), None).unwrap();
        connect(&mut a, &mut b);
        a.send_record(b"x").unwrap();
        connect(&mut a, &mut b);
        assert_eq!(records(&mut b), [Buffer::from(b"x")]);
    }

    #[test]
    fn a_handshake_made_elsewhere_must_be_with_the_remote_that_was_asked_for() {
        let config = |expected| TransportConfig {
            pattern: Pattern::IK,
            remote_public_key: expected,
            mode: Mode::HandshakeDone {
                public_key: [1; 32],
                result: HandshakeResult {
                    tx: [1; 32],
                    rx: [2; 32],
                    hash: [3; 64],
                    remote_public_key: Some([4; 32]),
                },
            },
            ..TransportConfig::default()
        };
        for right in [None, Some([4; 32])] {
            let transport = Transport::new(config(right)).unwrap();
            let info = transport.handshake().unwrap();
            assert_eq!(
                (info.public_key, info.remote_public_key),
                ([1; 32], Some([4; 32]))
            );
        }
        let error = Transport::new(config(Some([5; 32]))).unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Noise, ErrorClass::HandshakeFailed)
        );
        assert_eq!(
            error.to_string(),
            "Noise IK failed at message 2 (end): the remote has another public key than expected"
        );
    }

    fn unencrypted_pair() -> (Transport, Transport) {
        let new = |is_initiator| {
            let mode = Mode::Unencrypted {
                handshake_hash: [3; 64],
            };
            Transport::new(TransportConfig {
                mode,
                ..config(is_initiator, Pattern::XX)
            })
            .unwrap()
        };
        (new(true), new(false))
    }

    #[test]
    fn without_encryption_records_are_bare_frames() {
        let (mut a, mut b) = unencrypted_pair();
        assert!(a.is_established() && a.transmit().is_empty() && !a.is_encrypted());
        assert_eq!(a.handshake().unwrap().hash, [3; 64]);
        a.send_record(b"hello").unwrap();
        a.send_record(b"").unwrap();
        a.outbound.open().unwrap();
        a.outbound.opened().unwrap().0.extend_from_slice(b"yes");
        assert_eq!(a.transmit(), b"\x05\0\0hello\0\0\0");
        a.outbound.close();
        assert_eq!(a.transmit(), b"\x05\0\0hello\0\0\0\x03\0\0yes");
        assert_eq!(a.datagrams().unwrap_err(), DatagramError::Unencrypted);
        for byte in a.take_transmit() {
            b.receive(&[byte]).unwrap();
        }
        assert_eq!(
            records(&mut b),
            [Buffer::from(b"hello"), Buffer::new(), Buffer::from(b"yes")]
        );
        assert_eq!(b.receive_end(), Ok(End::Clean));
        assert_eq!(b.receive(&[0]).unwrap_err().class(), ErrorClass::Closed);
    }

    #[test]
    fn without_encryption_a_whole_frame_is_the_limit() {
        let (mut a, mut b) = unencrypted_pair();
        let big = vec![0x5a; frame::MAX_RECORD_BYTES + 1];
        let error = a.send_record(&big).unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Frame, ErrorClass::TooLarge)
        );
        a.send_record(&big[1..]).unwrap();
        carry(&mut a, &mut b).unwrap();
        assert_eq!(b.poll_record().unwrap().len(), a.max_plaintext());
        b.receive(&[5, 0, 0, 1]).unwrap();
        let error = b.receive_end().unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Frame, ErrorClass::Truncated)
        );
    }
}
