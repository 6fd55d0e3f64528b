//! The Noise handshake, over Ed25519 points.
//!
//! The suite is `Ed25519_ChaChaPoly_BLAKE2b` (noise-handshake 4.2.0 with noise-curve-ed 2.1.0), the patterns are those
//! of noise-handshake. It runs on snow with our own resolver for the curve. Where noise-handshake and the Noise
//! specification differ we follow the specification; no stream of Node's shows the difference:
//!
//! - a message, payload included, has at most 65,535 bytes ([`MAX_MESSAGE_BYTES`]); noise-handshake
//!   counts encrypted payloads only;
//! - a pre-shared key has 32 bytes; noise-handshake takes any length;
//! - writing and reading out of turn is refused; noise-handshake corrupts its state instead.
//!
//! snow does not wipe its chaining key and cipher key from memory; the seeds, the split keys and shared points that
//! pass through this module are wiped.

pub mod curve;
mod resolver;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use snow::params::{BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HashChoice, NoiseParams};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::class::ErrorClass;
use crate::keys::{KeyPair, Secret};
pub use curve::CurveError;
use resolver::{Refusal, Resolver};

/// Bytes of the handshake hash.
pub const HASH_BYTES: usize = 64;
/// The longest handshake message, payload included.
pub const MAX_MESSAGE_BYTES: usize = 65_535;

/// The longest payload of a handshake message that a stream accepts. Node's streams send none
/// (@hyperswarm/secret-stream 6.9.2, lib/handshake.js) and ignore received ones; a longer one does not come from a
/// hypercore peer, and would have to be buffered for an unauthenticated remote.
pub(crate) const MAX_STREAM_PAYLOAD: usize = 1024;

const KEY: usize = curve::KEY_BYTES;
const MAC: usize = 16;

/// A handshake pattern of noise-handshake 4.2.0, `noise.js`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Pattern {
    /// Both sides send their static keys, encrypted. The default of streams.
    #[default]
    XX,
    /// The initiator knows the responder's static key and sends its own at once. Used by HyperDHT.
    IK,
    /// The initiator knows the responder's static key and sends its own last.
    XK,
    /// Neither side has a static key.
    NN,
    /// XX with a pre-shared key mixed in first.
    XXpsk0,
    /// NN with a pre-shared key mixed in first.
    NNpsk0,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 6] = [
        Self::XX,
        Self::IK,
        Self::XK,
        Self::NN,
        Self::XXpsk0,
        Self::NNpsk0,
    ];

    /// The name in the protocol name: `XX`, `IK`, ….
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XX => "XX",
            Self::IK => "IK",
            Self::XK => "XK",
            Self::NN => "NN",
            Self::XXpsk0 => "XXpsk0",
            Self::NNpsk0 => "NNpsk0",
        }
    }

    /// The pattern of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pattern| pattern.name() == name)
    }

    /// The protocol name, the initial input of the handshake hash.
    #[must_use]
    pub fn protocol_name(self) -> String {
        format!("Noise_{}_Ed25519_ChaChaPoly_BLAKE2b", self.name())
    }

    /// Whether the initiator must know the responder's static key.
    #[must_use]
    pub fn needs_remote_public_key(self) -> bool {
        matches!(self, Self::IK | Self::XK)
    }

    /// Whether the sides have static keys.
    #[must_use]
    pub fn has_static_keys(self) -> bool {
        !matches!(self, Self::NN | Self::NNpsk0)
    }

    /// Whether a pre-shared key is mixed in.
    #[must_use]
    pub fn needs_psk(self) -> bool {
        matches!(self, Self::XXpsk0 | Self::NNpsk0)
    }

    /// The tokens of each message, and its length with an empty payload.
    #[must_use]
    pub fn messages(self) -> &'static [(&'static str, usize)] {
        const SEALED: usize = KEY + MAC;
        match self {
            Self::XX => &[
                ("e", KEY),
                ("e, ee, s, es", KEY + SEALED + MAC),
                ("s, se", SEALED + MAC),
            ],
            Self::IK => &[
                ("e, es, s, ss", KEY + SEALED + MAC),
                ("e, ee, se", KEY + MAC),
            ],
            Self::XK => &[
                ("e, es", KEY + MAC),
                ("e, ee", KEY + MAC),
                ("s, se", SEALED + MAC),
            ],
            Self::NN => &[("e", KEY), ("e, ee", KEY + MAC)],
            Self::XXpsk0 => &[
                ("psk, e", KEY + MAC),
                ("e, ee, s, es", KEY + SEALED + MAC),
                ("s, se", SEALED + MAC),
            ],
            Self::NNpsk0 => &[("psk, e", KEY + MAC), ("e, ee", KEY + MAC)],
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rule that a handshake broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoiseErrorKind {
    /// The message is too short for its keys and MACs.
    #[error("{actual} bytes are fewer than the {minimum} of its tokens")]
    TooShort {
        /// Bytes that arrived.
        actual: usize,
        /// Bytes with an empty payload.
        minimum: usize,
    },
    /// The message is too long.
    #[error("{actual} bytes are more than the {limit} that the message may have")]
    TooLong {
        /// Bytes of the message; for one that arrives on a stream, the announced length.
        actual: usize,
        /// The maximum: [`MAX_MESSAGE_BYTES`]; on a stream the message with an empty payload plus 1,024 bytes.
        limit: usize,
    },
    /// Instead of the remote's answer came a message as long as the first of the pattern, which only an initiator
    /// sends.
    #[error(
        "{actual} bytes are fewer than the {minimum} of its tokens, and as many as an initiator sends first: the remote seems to be an initiator, too"
    )]
    TwoInitiators {
        /// Bytes that arrived.
        actual: usize,
        /// Bytes of the answer with an empty payload.
        minimum: usize,
    },
    /// A key or payload in the message cannot be decrypted.
    #[error("a MAC does not match")]
    BadMac,
    /// The curve refuses a public key of the remote.
    #[error("{0}")]
    BadPoint(CurveError),
    /// It is the other side's turn.
    #[error("it is the {} turn", if *.ours { "local side's" } else { "remote's" })]
    OutOfTurn {
        /// The message expected next is ours to write.
        ours: bool,
    },
    /// All messages of the pattern have been exchanged.
    #[error("the handshake is complete")]
    Complete,
    /// An earlier message failed; the handshake cannot continue.
    #[error("the handshake has failed before")]
    Failed,
    /// The remote proved another static key than the requested one.
    #[error("the remote has another public key than expected")]
    UnexpectedRemotePublicKey,
    /// The pattern needs the responder's static key, which is missing.
    #[error("the pattern needs the remote's public key")]
    MissingRemotePublicKey,
    /// The pattern needs a static key pair, which is missing.
    #[error("the pattern needs a key pair")]
    MissingKeyPair,
    /// The pattern needs a pre-shared key, which is missing.
    #[error("the pattern needs a pre-shared key")]
    MissingPsk,
    /// The system has no randomness for the ephemeral key.
    #[error("no randomness for the ephemeral key")]
    Random,
    /// snow refused for a reason that earlier checks rule out.
    #[error("{0}")]
    Other(String),
}

/// A failed handshake: the message, the expectation, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("Noise {pattern} failed at message {message} ({expected}): {kind}")]
pub struct NoiseError {
    /// The pattern of the handshake.
    pub pattern: Pattern,
    /// The expected message, counted from 0 over both directions.
    pub message: usize,
    /// The tokens of that message, or `end` after the last.
    pub expected: &'static str,
    /// The rule that was broken.
    pub kind: NoiseErrorKind,
}

impl NoiseError {
    /// The class of the error, shared with other implementations.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match &self.kind {
            NoiseErrorKind::BadPoint(_) => ErrorClass::BadPoint,
            NoiseErrorKind::MissingRemotePublicKey
            | NoiseErrorKind::MissingKeyPair
            | NoiseErrorKind::MissingPsk => ErrorClass::BadInput,
            _ => ErrorClass::HandshakeFailed,
        }
    }
}

/// The configuration of a handshake: [`HandshakeConfig::new`], with fields set as needed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct HandshakeConfig {
    /// The pattern; both sides must have the same.
    pub pattern: Pattern,
    /// Whether we send the first message.
    pub is_initiator: bool,
    /// Our static key pair. Patterns without static keys ignore it.
    pub key_pair: Option<KeyPair>,
    /// The remote's static key, which the initiator of IK and XK must know. With the other patterns and roles it is
    /// optional, and the handshake fails as soon as the remote shows another one.
    pub remote_public_key: Option<[u8; 32]>,
    /// The pre-shared key of the psk patterns, 32 bytes.
    pub psk: Option<Secret<32>>,
    /// Bytes that both sides must share. Streams use none.
    pub prologue: Vec<u8>,
    /// The seed of the ephemeral key pair instead of randomness, so that a test can repeat a recording.
    pub fixed_ephemeral_for_testing_only: Option<[u8; 32]>,
}

impl HandshakeConfig {
    /// A handshake of this pattern, without keys.
    pub fn new(pattern: Pattern, is_initiator: bool) -> Self {
        Self {
            pattern,
            is_initiator,
            ..Self::default()
        }
    }
}

impl fmt::Debug for HandshakeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeConfig")
            .field("pattern", &self.pattern)
            .field("is_initiator", &self.is_initiator)
            .finish_non_exhaustive()
    }
}

/// The shared result of a complete handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct HandshakeResult {
    /// Our sending key: the first 32 bytes of the split key of our role.
    pub tx: [u8; 32],
    /// Our receiving key.
    pub rx: [u8; 32],
    /// The handshake hash, the same on both sides.
    pub hash: [u8; HASH_BYTES],
    /// The remote's authenticated static key; `None` for patterns without static keys.
    pub remote_public_key: Option<[u8; 32]>,
}

impl Drop for HandshakeResult {
    fn drop(&mut self) {
        self.tx.zeroize();
        self.rx.zeroize();
    }
}

impl fmt::Debug for HandshakeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeResult")
            .field("remote_public_key", &self.remote_public_key)
            .finish_non_exhaustive()
    }
}

/// One side of a handshake: writes and reads messages in turn, until [`Handshake::result`].
pub struct Handshake {
    pattern: Pattern,
    is_initiator: bool,
    message: usize,
    state: State,
    refusal: Refusal,
    expected_remote: Option<[u8; 32]>,
}

enum State {
    Running(Box<Running>),
    Complete(Box<HandshakeResult>),
    Failed,
}

/// snow's state, which keeps a copy of the pre-shared key and does not wipe it.
struct Running(snow::HandshakeState);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_psk(0, &[0; 32]);
    }
}

impl Deref for Running {
    type Target = snow::HandshakeState;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("pattern", &self.pattern)
            .field("is_initiator", &self.is_initiator)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl Handshake {
    /// Starts a handshake; nothing is written yet.
    ///
    /// # Errors
    /// [`NoiseErrorKind::MissingKeyPair`], [`NoiseErrorKind::MissingRemotePublicKey`] and
    /// [`NoiseErrorKind::MissingPsk`] if the configuration lacks what the pattern needs.
    pub fn new(config: HandshakeConfig) -> Result<Self, NoiseError> {
        let pattern = config.pattern;
        let fail = |kind| error(pattern, 0, kind);
        let is_initiator = config.is_initiator;
        let knows_remote = is_initiator && pattern.needs_remote_public_key();
        let static_seed = match (&config.key_pair, pattern.has_static_keys()) {
            (Some(pair), true) => Some(Zeroizing::new(*pair.seed())),
            (None, true) => return Err(fail(NoiseErrorKind::MissingKeyPair)),
            (_, false) => None,
        };
        if knows_remote && config.remote_public_key.is_none() {
            return Err(fail(NoiseErrorKind::MissingRemotePublicKey));
        }
        if pattern.needs_psk() && config.psk.is_none() {
            return Err(fail(NoiseErrorKind::MissingPsk));
        }

        let other = |cause: snow::Error| fail(NoiseErrorKind::Other(cause.to_string()));
        let choice: HandshakeChoice = pattern.name().parse().map_err(other)?;
        // snow does not parse names with Ed25519 in them. Given the parts, it only hashes the name, and our resolver
        // provides the curve.
        let params = NoiseParams::new(
            pattern.protocol_name(),
            BaseChoice::Noise,
            choice,
            DHChoice::Curve25519,
            CipherChoice::ChaChaPoly,
            HashChoice::Blake2b,
        );
        let refusal = Refusal::default();
        let key_pair = config.key_pair.filter(|_| pattern.has_static_keys());
        let resolver = Resolver::new(Arc::clone(&refusal), key_pair);
        let ephemeral = config.fixed_ephemeral_for_testing_only.map(Zeroizing::new);
        let mut builder = snow::Builder::with_resolver(params, Box::new(resolver))
            .prologue(&config.prologue)
            .map_err(other)?;
        if let Some(seed) = &static_seed {
            builder = builder.local_private_key(&seed[..]).map_err(other)?;
        }
        if let Some(seed) = &ephemeral {
            builder = builder.fixed_ephemeral_key_for_testing_only(&seed[..]);
        }
        if let (true, Some(key)) = (knows_remote, &config.remote_public_key) {
            builder = builder.remote_public_key(key).map_err(other)?;
        }
        if let (true, Some(psk)) = (pattern.needs_psk(), &config.psk) {
            builder = builder.psk(0, psk).map_err(other)?;
        }
        let state = if is_initiator {
            builder.build_initiator()
        } else {
            builder.build_responder()
        };
        Ok(Self {
            pattern,
            is_initiator,
            message: 0,
            state: State::Running(Box::new(Running(state.map_err(other)?))),
            refusal,
            expected_remote: config
                .remote_public_key
                .filter(|_| pattern.has_static_keys()),
        })
    }

    /// Whether the next message is ours to write.
    #[must_use]
    pub fn is_our_turn(&self) -> bool {
        matches!(&self.state, State::Running(state) if state.is_my_turn())
    }

    /// The keys and the hash, once the last message has been written or read.
    #[must_use]
    pub fn result(&self) -> Option<&HandshakeResult> {
        match &self.state {
            State::Complete(result) => Some(result),
            _ => None,
        }
    }

    /// Appends our next message to `out`. Streams send an empty payload.
    ///
    /// # Errors
    /// Out of turn, a payload that makes the message longer than [`MAX_MESSAGE_BYTES`], or a remote key that the curve
    /// refuses. The handshake has then failed, and `out` is unchanged.
    pub fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let (state, minimum) = self.running(true)?;
        let bytes = minimum + payload.len();
        if bytes > MAX_MESSAGE_BYTES {
            return Err(self.fail(NoiseErrorKind::TooLong {
                actual: bytes,
                limit: MAX_MESSAGE_BYTES,
            }));
        }
        let start = out.len();
        // snow requires room for a MAC even if the payload is not encrypted yet.
        out.resize(start + bytes + MAC, 0);
        match state.write_message(payload, &mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                self.advance()
            }
            Err(cause) => {
                out.truncate(start);
                Err(self.fail_for(cause))
            }
        }
    }

    /// Reads the remote's next message and returns its payload.
    ///
    /// # Errors
    /// Out of turn, a message that is too short or too long, a MAC that does not match, a key that the curve refuses,
    /// or another static key than the expected one. The handshake has then failed.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let (state, minimum) = self.running(false)?;
        let actual = message.len();
        if actual > MAX_MESSAGE_BYTES {
            return Err(self.fail(NoiseErrorKind::TooLong {
                actual,
                limit: MAX_MESSAGE_BYTES,
            }));
        }
        let mut payload = vec![0; actual];
        match state.read_message(message, &mut payload) {
            Ok(len) => payload.truncate(len),
            // As in noise-handshake, an invalid point is reported before missing bytes after it.
            Err(cause) if actual < minimum && cause != snow::Error::Dh => {
                let first = self.pattern.messages()[0].1;
                return Err(self.fail(if self.message == 1 && actual == first {
                    NoiseErrorKind::TwoInitiators { actual, minimum }
                } else {
                    NoiseErrorKind::TooShort { actual, minimum }
                }));
            }
            Err(cause) => return Err(self.fail_for(cause)),
        }
        self.check_remote()?;
        self.advance()?;
        Ok(payload)
    }

    /// The longest next message on a stream.
    pub(crate) fn stream_limit(&self) -> usize {
        let messages = self.pattern.messages();
        messages.get(self.message).map_or(0, |message| message.1) + MAX_STREAM_PAYLOAD
    }

    /// The error for a message that announces more than [`Handshake::stream_limit`].
    pub(crate) fn too_long(&self, actual: usize) -> NoiseError {
        let limit = self.stream_limit();
        error(
            self.pattern,
            self.message,
            NoiseErrorKind::TooLong { actual, limit },
        )
    }

    fn running(&mut self, writing: bool) -> Result<(&mut snow::HandshakeState, usize), NoiseError> {
        let fail = |kind| Err(error(self.pattern, self.message, kind));
        match &mut self.state {
            State::Complete(_) => fail(NoiseErrorKind::Complete),
            State::Failed => fail(NoiseErrorKind::Failed),
            // A call out of turn changes nothing, so the handshake can continue.
            State::Running(state) if state.is_my_turn() != writing => {
                fail(NoiseErrorKind::OutOfTurn {
                    ours: state.is_my_turn(),
                })
            }
            State::Running(state) => {
                let minimum = self.pattern.messages().get(self.message).map_or(0, |m| m.1);
                Ok((state, minimum))
            }
        }
    }

    fn check_remote(&mut self) -> Result<(), NoiseError> {
        let State::Running(state) = &self.state else {
            return Ok(());
        };
        if let (Some(expected), Some(shown)) = (&self.expected_remote, state.get_remote_static()) {
            if !bool::from(expected.ct_eq(shown)) {
                return Err(self.fail(NoiseErrorKind::UnexpectedRemotePublicKey));
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), NoiseError> {
        let State::Running(state) = &mut self.state else {
            return Ok(());
        };
        if state.is_handshake_finished() {
            let (first, second) = state.dangerously_get_raw_split();
            let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
            let (tx, rx) = if self.is_initiator {
                (*first, *second)
            } else {
                (*second, *first)
            };
            let remote_public_key = state
                .get_remote_static()
                .and_then(|key| key.first_chunk().copied());
            let Some(hash) = state.get_handshake_hash().first_chunk().copied() else {
                return Err(self.fail(NoiseErrorKind::Other("no handshake hash".into())));
            };
            let result = HandshakeResult {
                tx,
                rx,
                hash,
                remote_public_key,
            };
            self.state = State::Complete(Box::new(result));
        }
        self.message += 1;
        Ok(())
    }

    fn fail_for(&mut self, cause: snow::Error) -> NoiseError {
        let kind = match cause {
            snow::Error::Decrypt => NoiseErrorKind::BadMac,
            snow::Error::Rng => NoiseErrorKind::Random,
            snow::Error::Dh => match self.refusal.get() {
                Some(refusal) => NoiseErrorKind::BadPoint(*refusal),
                None => NoiseErrorKind::Other(cause.to_string()),
            },
            _ => NoiseErrorKind::Other(cause.to_string()),
        };
        self.fail(kind)
    }

    fn fail(&mut self, kind: NoiseErrorKind) -> NoiseError {
        self.state = State::Failed;
        error(self.pattern, self.message, kind)
    }
}

fn error(pattern: Pattern, message: usize, kind: NoiseErrorKind) -> NoiseError {
    let expected = pattern.messages().get(message).map_or("end", |m| m.0);
    NoiseError {
        pattern,
        message,
        expected,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pattern: Pattern, is_initiator: bool) -> HandshakeConfig {
        let seed = if is_initiator { [1; 32] } else { [2; 32] };
        HandshakeConfig {
            pattern,
            is_initiator,
            key_pair: Some(KeyPair::from_seed(&seed)),
            remote_public_key: (is_initiator && pattern.needs_remote_public_key())
                .then(|| *KeyPair::from_seed(&[2; 32]).public_key()),
            psk: pattern.needs_psk().then(|| [3; 32].into()),
            ..HandshakeConfig::default()
        }
    }

    fn pair(pattern: Pattern) -> (Handshake, Handshake) {
        let new = |is_initiator| Handshake::new(config(pattern, is_initiator)).unwrap();
        (new(true), new(false))
    }

    fn write(handshake: &mut Handshake, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        handshake.write(payload, &mut message).unwrap();
        message
    }

    /// Runs a handshake and returns its messages.
    fn run(a: &mut Handshake, b: &mut Handshake, payload: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let (mut from, mut to) = (a, b);
        while from.result().is_none() {
            let message = write(from, payload);
            assert_eq!(to.read(&message).unwrap(), payload);
            messages.push(message);
            if to.result().is_some() && from.result().is_some() {
                break;
            }
            std::mem::swap(&mut from, &mut to);
        }
        messages
    }

    #[test]
    fn both_sides_agree_in_every_pattern() {
        for pattern in Pattern::ALL {
            for payload in [&b""[..], b"payload"] {
                let (mut a, mut b) = pair(pattern);
                let messages = run(&mut a, &mut b, payload);
                let expected: Vec<_> = pattern
                    .messages()
                    .iter()
                    .map(|message| message.1 + payload.len())
                    .collect();
                let lengths: Vec<_> = messages.iter().map(Vec::len).collect();
                assert_eq!(lengths, expected, "{pattern}");
                let (a, b) = (a.result().unwrap(), b.result().unwrap());
                assert_eq!((a.hash, a.tx, a.rx), (b.hash, b.rx, b.tx), "{pattern}");
                assert_ne!(a.tx, a.rx);
                let key = |seed| Some(*KeyPair::from_seed(&[seed; 32]).public_key());
                let known = pattern.has_static_keys();
                assert_eq!(a.remote_public_key, if known { key(2) } else { None });
                assert_eq!(b.remote_public_key, if known { key(1) } else { None });
            }
        }
    }

    #[test]
    fn fixed_ephemerals_repeat_and_random_ones_do_not() {
        let hash = |fixed: Option<[u8; 32]>| {
            let new = |is_initiator| {
                let config = config(Pattern::XX, is_initiator);
                let fixed_ephemeral_for_testing_only = fixed;
                Handshake::new(HandshakeConfig {
                    fixed_ephemeral_for_testing_only,
                    ..config
                })
            };
            let (mut a, mut b) = (new(true).unwrap(), new(false).unwrap());
            run(&mut a, &mut b, b"");
            a.result().unwrap().hash
        };
        assert_eq!(hash(Some([5; 32])), hash(Some([5; 32])));
        assert_ne!(hash(Some([5; 32])), hash(Some([6; 32])));
        assert_ne!(hash(None), hash(None));
    }

    #[test]
    fn any_flipped_bit_fails_the_handshake() {
        for pattern in Pattern::ALL {
            let (mut a, mut b) = pair(pattern);
            let messages = run(&mut a, &mut b, b"");
            // All of the last message is authenticated, so its reader must fail at once.
            let last = messages.len() - 1;
            for at in (0..messages[last].len()).step_by(5) {
                let (mut a, mut b) = pair(pattern);
                let (mut from, mut to) = (&mut a, &mut b);
                for step in 0..=last {
                    let mut message = write(from, b"");
                    if step == last {
                        message[at] ^= 4;
                        let error = to.read(&message).unwrap_err();
                        assert_eq!((error.pattern, error.message), (pattern, last));
                        assert_eq!(to.read(&message).unwrap_err().kind, NoiseErrorKind::Failed);
                    } else {
                        to.read(&message).unwrap();
                        std::mem::swap(&mut from, &mut to);
                    }
                }
            }
        }
    }

    #[test]
    fn short_messages_are_refused_at_every_length() {
        for pattern in Pattern::ALL {
            let (mut a, _) = pair(pattern);
            let first = write(&mut a, b"");
            for len in 0..first.len() {
                let (_, mut b) = pair(pattern);
                let error = b.read(&first[..len]).unwrap_err();
                let minimum = first.len();
                assert_eq!(
                    error.kind,
                    NoiseErrorKind::TooShort {
                        actual: len,
                        minimum
                    }
                );
                assert_eq!(error.class(), ErrorClass::HandshakeFailed);
            }
        }
    }

    #[test]
    fn a_refused_point_is_named() {
        let (_, mut b) = pair(Pattern::XX);
        // The identity as ephemeral key is detected when the responder multiplies it.
        let mut identity = [0; 32];
        identity[0] = 1;
        b.read(&identity).unwrap();
        let mut out = vec![9];
        let error = b.write(b"", &mut out).unwrap_err();
        assert_eq!(error.kind, NoiseErrorKind::BadPoint(CurveError::SmallOrder));
        assert_eq!((error.message, error.expected), (1, "e, ee, s, es"));
        assert_eq!(error.class(), ErrorClass::BadPoint);
        assert_eq!(out, [9]);
    }

    #[test]
    fn messages_out_of_turn_are_refused_and_change_nothing() {
        let (mut a, mut b) = pair(Pattern::XX);
        let out_of_turn = |ours| NoiseErrorKind::OutOfTurn { ours };
        assert_eq!(a.read(&[0; 32]).unwrap_err().kind, out_of_turn(true));
        assert_eq!(
            b.write(b"", &mut Vec::new()).unwrap_err().kind,
            out_of_turn(false)
        );
        run(&mut a, &mut b, b"");
        assert_eq!(a.read(&[0; 64]).unwrap_err().kind, NoiseErrorKind::Complete);
        assert_eq!(
            b.write(b"", &mut Vec::new()).unwrap_err().kind,
            NoiseErrorKind::Complete
        );
    }

    #[test]
    fn the_longest_message_passes_and_one_more_byte_does_not() {
        let (mut a, mut b) = pair(Pattern::XX);
        let payload = vec![7; MAX_MESSAGE_BYTES - 32];
        let message = write(&mut a, &payload);
        assert_eq!(message.len(), MAX_MESSAGE_BYTES);
        assert_eq!(b.read(&message).unwrap(), payload);
        let (mut a, mut b) = pair(Pattern::XX);
        let too_long = NoiseErrorKind::TooLong {
            actual: MAX_MESSAGE_BYTES + 1,
            limit: MAX_MESSAGE_BYTES,
        };
        let payload = vec![7; MAX_MESSAGE_BYTES - 31];
        assert_eq!(
            a.write(&payload, &mut Vec::new()).unwrap_err().kind,
            too_long
        );
        assert_eq!(
            b.read(&vec![7; MAX_MESSAGE_BYTES + 1]).unwrap_err().kind,
            too_long
        );
    }

    #[test]
    fn what_the_pattern_needs_must_be_given() {
        let without = |pattern, change: fn(&mut HandshakeConfig)| {
            let mut config = config(pattern, true);
            change(&mut config);
            Handshake::new(config)
                .map(|_| ())
                .map_err(|error| error.kind)
        };
        assert_eq!(
            without(Pattern::XX, |config| config.key_pair = None),
            Err(NoiseErrorKind::MissingKeyPair)
        );
        assert_eq!(
            without(Pattern::IK, |config| config.remote_public_key = None),
            Err(NoiseErrorKind::MissingRemotePublicKey)
        );
        assert_eq!(
            without(Pattern::NNpsk0, |config| config.psk = None),
            Err(NoiseErrorKind::MissingPsk)
        );
        assert_eq!(
            without(Pattern::NN, |config| config.key_pair = None),
            Ok(())
        );
    }

    #[test]
    fn differing_prologues_psks_and_patterns_fail() {
        let differing = |pattern, change: fn(&mut HandshakeConfig)| {
            let mut other = config(pattern, false);
            change(&mut other);
            let mut a = Handshake::new(config(pattern, true)).unwrap();
            let mut b = Handshake::new(other).unwrap();
            let first = write(&mut a, b"");
            match b.read(&first) {
                Ok(_) => a.read(&write(&mut b, b"")).unwrap_err().kind,
                Err(error) => error.kind,
            }
        };
        for pattern in Pattern::ALL {
            let kind = differing(pattern, |config| config.prologue = vec![1]);
            assert_eq!(kind, NoiseErrorKind::BadMac, "{pattern}");
        }
        let kind = differing(Pattern::XXpsk0, |config| config.psk = Some([4; 32].into()));
        assert_eq!(kind, NoiseErrorKind::BadMac);
        let kind = differing(Pattern::NN, |config| config.pattern = Pattern::XX);
        assert!(matches!(kind, NoiseErrorKind::BadMac), "{kind:?}");
    }

    #[test]
    fn an_expected_key_is_checked_wherever_the_remote_shows_one() {
        for pattern in [Pattern::XX, Pattern::IK, Pattern::XK, Pattern::XXpsk0] {
            for (expected, matches) in [([1; 32], true), ([9; 32], false)] {
                let (mut a, _) = pair(pattern);
                let key = *KeyPair::from_seed(&expected).public_key();
                let config = config(pattern, false);
                let mut b = Handshake::new(HandshakeConfig {
                    remote_public_key: Some(key),
                    ..config
                })
                .unwrap();
                let mut outcome = b.read(&write(&mut a, b"")).map(|_| ());
                if outcome.is_ok() {
                    a.read(&write(&mut b, b"")).unwrap();
                    if b.result().is_none() {
                        outcome = b.read(&write(&mut a, b"")).map(|_| ());
                    }
                }
                let kind = outcome.map_err(|error| error.kind);
                let unexpected = Err(NoiseErrorKind::UnexpectedRemotePublicKey);
                assert_eq!(kind, if matches { Ok(()) } else { unexpected }, "{pattern}");
                assert_eq!(b.result().is_some(), matches);
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let (mut a, mut b) = pair(Pattern::NN);
        run(&mut a, &mut b, b"");
        let result = a.result().unwrap();
        assert_eq!(
            format!("{result:?}"),
            "HandshakeResult { remote_public_key: None, .. }"
        );
        assert_eq!(
            format!("{:?}", config(Pattern::NNpsk0, true)),
            "HandshakeConfig { pattern: NNpsk0, is_initiator: true, .. }"
        );
    }
}
