//! The Noise handshake, over Ed25519 points.
//!
//! The suite is `Ed25519_ChaChaPoly_BLAKE2b` (noise-handshake 4.2.0 with noise-curve-ed 2.1.0), the
//! patterns are those that noise-handshake has. The protocol runs on snow with a resolver of ours for
//! the curve. Where noise-handshake and the Noise specification differ we follow the specification;
//! no stream of Node's shows the difference:
//!
//! - a message, payload included, has at most 65,535 bytes ([`MAX_MESSAGE_BYTES`]); noise-handshake
//!   counts encrypted payloads only;
//! - a pre-shared key has 32 bytes; noise-handshake takes any length;
//! - writing and reading out of turn is refused; noise-handshake mixes up its state instead.
//!
//! snow keeps its chaining key and cipher key in memory that it does not wipe; the seeds, the split
//! keys and shared points that pass through this module are wiped.

pub mod curve;
mod resolver;

use std::fmt;
use std::sync::Arc;

use snow::params::{BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HashChoice, NoiseParams};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::ErrorClass;
use crate::keys::KeyPair;
pub use curve::CurveError;
use resolver::{Refusal, Resolver};

/// Bytes of the handshake hash.
pub const HASH_BYTES: usize = 64;
/// The longest handshake message, payload included.
pub const MAX_MESSAGE_BYTES: usize = 65_535;

const KEY: usize = curve::KEY_BYTES;
const MAC: usize = 16;

/// A handshake pattern of noise-handshake 4.2.0, `noise.js`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Pattern {
    /// Both sides send their static keys, encrypted. What streams use unless told otherwise.
    #[default]
    XX,
    /// The initiator knows the responder's static key and sends its own at once. What HyperDHT uses.
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

    /// The protocol name that the handshake hash starts from.
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

    /// The tokens of each message, and its bytes with an empty payload.
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

/// Which rule a handshake broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoiseErrorKind {
    /// The message ends before its keys and MACs do.
    #[error("{actual} bytes are fewer than the {minimum} of its tokens")]
    TooShort {
        /// Bytes that arrived.
        actual: usize,
        /// Bytes with an empty payload.
        minimum: usize,
    },
    /// The message is longer than [`MAX_MESSAGE_BYTES`].
    #[error("{actual} bytes are more than the {MAX_MESSAGE_BYTES} of a Noise message")]
    TooLong {
        /// Bytes of the message.
        actual: usize,
    },
    /// A key or payload in the message does not decrypt.
    #[error("a MAC does not match")]
    BadMac,
    /// A public key of the remote is refused by the curve.
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
    /// An earlier message failed; the handshake cannot go on.
    #[error("the handshake has failed before")]
    Failed,
    /// The remote proved another static key than the one that was asked for.
    #[error("the remote has another public key than expected")]
    UnexpectedRemotePublicKey,
    /// The pattern needs the responder's static key, and none was given.
    #[error("the pattern needs the remote's public key")]
    MissingRemotePublicKey,
    /// The pattern needs a static key pair, and none was given.
    #[error("the pattern needs a key pair")]
    MissingKeyPair,
    /// The pattern needs a pre-shared key, and none was given.
    #[error("the pattern needs a pre-shared key")]
    MissingPsk,
    /// The system has no randomness for the ephemeral key.
    #[error("no randomness for the ephemeral key")]
    Random,
    /// snow refused for a reason that the checks before it rule out.
    #[error("{0}")]
    Other(String),
}

/// A handshake that failed: at which message, what was expected there, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Noise {pattern} failed at message {message} ({expected}): {kind}")]
pub struct NoiseError {
    /// The pattern of the handshake.
    pub pattern: Pattern,
    /// The message that was due, counted from 0 over both directions.
    pub message: usize,
    /// The tokens of that message, `end` after the last.
    pub expected: &'static str,
    /// The rule that was broken.
    #[source]
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

/// What a handshake starts from.
#[derive(Clone, Default)]
pub struct HandshakeConfig {
    /// The pattern; both sides must have the same.
    pub pattern: Pattern,
    /// Whether we send the first message.
    pub is_initiator: bool,
    /// Our static key pair. Patterns without static keys ignore it.
    pub key_pair: Option<KeyPair>,
    /// The remote's static key: what the initiator of IK and XK must know. With the other patterns
    /// and roles it is optional, and the handshake fails as soon as the remote shows another one.
    pub remote_public_key: Option<[u8; 32]>,
    /// The pre-shared key of the psk patterns, 32 bytes.
    pub psk: Option<Zeroizing<[u8; 32]>>,
    /// Bytes that both sides must agree on. Streams use none.
    pub prologue: Vec<u8>,
    /// The seed of the ephemeral key pair instead of randomness, so that a test repeats a recording.
    pub fixed_ephemeral_for_testing_only: Option<[u8; 32]>,
}

impl fmt::Debug for HandshakeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeConfig")
            .field("pattern", &self.pattern)
            .field("is_initiator", &self.is_initiator)
            .finish_non_exhaustive()
    }
}

/// What both sides share once the handshake is complete.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct HandshakeResult {
    /// Our sending key: the first 32 bytes of the split key of our role.
    pub tx: [u8; 32],
    /// Our receiving key.
    pub rx: [u8; 32],
    /// The handshake hash, the same on both sides.
    pub hash: [u8; HASH_BYTES],
    /// The static key that the remote proved; `None` for patterns without static keys.
    pub remote_public_key: Option<[u8; 32]>,
}

impl fmt::Debug for HandshakeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeResult")
            .field("remote_public_key", &self.remote_public_key)
            .finish_non_exhaustive()
    }
}

/// One side of a handshake: messages in and out in turn, until [`Handshake::result`].
pub struct Handshake {
    pattern: Pattern,
    is_initiator: bool,
    message: usize,
    state: State,
    refusal: Refusal,
    expected_remote: Option<[u8; 32]>,
}

enum State {
    Running(Box<snow::HandshakeState>),
    Complete(Box<HandshakeResult>),
    Failed,
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
    /// [`NoiseErrorKind::MissingPsk`] for what the pattern needs and the configuration lacks.
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
        // snow parses no name with Ed25519 in it. Given the parts, it uses the name only as the text
        // to hash, and our resolver answers for the curve.
        let params = NoiseParams::new(
            pattern.protocol_name(),
            BaseChoice::Noise,
            choice,
            DHChoice::Curve25519,
            CipherChoice::ChaChaPoly,
            HashChoice::Blake2b,
        );
        let refusal = Refusal::default();
        let resolver = Resolver {
            refusal: Arc::clone(&refusal),
        };
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
            state: State::Running(Box::new(state.map_err(other)?)),
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
    /// Out of turn, a payload that makes the message longer than [`MAX_MESSAGE_BYTES`], or a remote
    /// key that the curve refuses. The handshake has failed then, and `out` is as it was.
    pub fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let (state, minimum) = self.running(true)?;
        let bytes = minimum + payload.len();
        if bytes > MAX_MESSAGE_BYTES {
            return Err(self.fail(NoiseErrorKind::TooLong { actual: bytes }));
        }
        let start = out.len();
        // snow asks for room for a MAC even where the payload is not encrypted yet.
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
    /// Out of turn, a message that is too short or too long, a MAC that does not match, a key that the
    /// curve refuses, or another static key than the expected one. The handshake has failed then.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let (state, minimum) = self.running(false)?;
        let actual = message.len();
        if actual < minimum {
            return Err(self.fail(NoiseErrorKind::TooShort { actual, minimum }));
        }
        if actual > MAX_MESSAGE_BYTES {
            return Err(self.fail(NoiseErrorKind::TooLong { actual }));
        }
        let mut payload = vec![0; actual];
        match state.read_message(message, &mut payload) {
            Ok(len) => payload.truncate(len),
            Err(cause) => return Err(self.fail_for(cause)),
        }
        self.check_remote()?;
        self.advance()?;
        Ok(payload)
    }

    /// The error for a message that is known to be too long before it has arrived.
    pub(crate) fn too_long(&self, actual: usize) -> NoiseError {
        error(
            self.pattern,
            self.message,
            NoiseErrorKind::TooLong { actual },
        )
    }

    fn running(&mut self, writing: bool) -> Result<(&mut snow::HandshakeState, usize), NoiseError> {
        let fail = |kind| Err(error(self.pattern, self.message, kind));
        match &mut self.state {
            State::Complete(_) => fail(NoiseErrorKind::Complete),
            State::Failed => fail(NoiseErrorKind::Failed),
            // A call out of turn changes nothing, so the handshake can still go on.
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
