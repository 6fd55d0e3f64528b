//! Hashes, namespaces, key pairs, discovery keys and capabilities.
//!
//! Read from hypercore-crypto 3.7.0 (`index.js`), hypercore 11.37.1 (`lib/caps.js`) and libsodium's `crypto_generichash` and
//! `crypto_sign_seed_keypair`.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::LazyLock;

use blake2::Blake2bMac;
use blake2::digest::{FixedOutput, Update};
use curve25519_dalek::EdwardsPoint;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::buffer::Buffer;

/// z-base-32, as the npm package z32 1.1.0 writes it.
static Z_BASE_32: LazyLock<data_encoding::Encoding> = LazyLock::new(|| {
    let mut specification = data_encoding::Specification::new();
    specification
        .symbols
        .push_str("ybndrfg8ejkmcpqxot1uwisza345h769");
    // Of its 260 bits the last four say nothing.
    specification.check_trailing_bits = false;
    specification.encoding().expect("32 different symbols")
});

/// Defines a name for 32 bytes that is not to be taken for another.
macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Displayed in z-base-32, 52 characters, as Node's `hypercore-id-encoding` writes it and `core.id` says it; `{:x}`
        /// is hex. Parsed from either, and from a link that begins with `pear://` and one of them, as that package
        /// (1.3.0, `index.js`, `decode`) does.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl From<&[u8; 32]> for $name {
            fn from(bytes: &[u8; 32]) -> Self {
                Self(*bytes)
            }
        }

        impl From<&$name> for $name {
            fn from(key: &$name) -> Self {
                *key
            }
        }

        impl From<$name> for [u8; 32] {
            fn from(key: $name) -> Self {
                key.0
            }
        }

        impl TryFrom<Vec<u8>> for $name {
            type Error = ParseKeyError;

            fn try_from(bytes: Vec<u8>) -> Result<Self, ParseKeyError> {
                Self::try_from(bytes.as_slice())
            }
        }

        impl From<$name> for Buffer {
            fn from(key: $name) -> Self {
                Self::copy_from(&key.0)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseKeyError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseKeyError> {
                let length = bytes.len();
                let bytes = <[u8; 32]>::try_from(bytes);
                bytes.map(Self).map_err(|_| ParseKeyError::Bytes { length })
            }
        }

        impl Deref for $name {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl PartialEq<[u8; 32]> for $name {
            fn eq(&self, other: &[u8; 32]) -> bool {
                self.0 == *other
            }
        }

        impl PartialEq<$name> for [u8; 32] {
            fn eq(&self, other: &$name) -> bool {
                *self == other.0
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&Z_BASE_32.encode(&self.0))
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&HEXLOWER.encode(&self.0))
            }
        }
    };
}

key! {
    /// A hypercore's key, 32 bytes: the hash of its manifest, or its signer's public key for a compat core.
    ///
    /// Whoever knows it can read the core: its debug output shows the first four bytes alone.
    Key
}

key! {
    /// The key by which a hypercore is asked for, 32 bytes. It does not reveal the core's key.
    DiscoveryKey
}

impl Key {
    /// What the core is asked for by: see [`discovery_key`].
    pub fn discovery_key(&self) -> DiscoveryKey {
        discovery_key(self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}…)", HEXLOWER.encode(&self.0[..4]))
    }
}

impl fmt::Debug for DiscoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// Why text or bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// Bytes of another length.
    #[error("a key has 32 bytes, not {length}")]
    Bytes {
        /// How many there are.
        length: usize,
    },
    /// Text of another length.
    #[error("a key has 52 characters in z-base-32 or 64 in hex, not {length}")]
    Length {
        /// Bytes of the text.
        length: usize,
    },
    /// A character that the encoding does not have.
    #[error("no {encoding} at character {position} of the key")]
    Symbol {
        /// What it was read as: `z-base-32` or `hex`.
        encoding: &'static str,
        /// Where, in bytes from 0.
        position: usize,
    },
}

fn parse(text: &str) -> Result<[u8; 32], ParseKeyError> {
    let text = match text.strip_prefix("pear://") {
        Some(link) => link.split('/').next().unwrap_or_default(),
        None => text,
    };
    let length = text.len();
    let (encoding, symbols) = match length {
        52 => ("z-base-32", &*Z_BASE_32),
        64 => ("hex", &HEXLOWER_PERMISSIVE),
        _ => return Err(ParseKeyError::Length { length }),
    };
    let mut bytes = [0; 32];
    let decoded = symbols.decode_mut(text.as_bytes(), &mut bytes);
    match decoded {
        Ok(_) => Ok(bytes),
        Err(error) => Err(ParseKeyError::Symbol {
            encoding,
            position: error.error.position,
        }),
    }
}

/// The namespaces of hypercore 11.37.1, `lib/caps.js`: `namespace('hypercore', 6)`.
static HYPERCORE: LazyLock<[[u8; 32]; 6]> = LazyLock::new(|| namespaces("hypercore"));

/// The namespaces of @hyperswarm/secret-stream 6.9.2, `index.js`: `namespace('hyperswarm/secret-stream', 3)`.
static SECRET_STREAM: LazyLock<[[u8; 32]; 3]> =
    LazyLock::new(|| namespaces("hyperswarm/secret-stream"));

/// Signs the tree of a core: the first namespace of hypercore.
pub fn tree_namespace() -> &'static [u8; 32] {
    &HYPERCORE[0]
}

/// Hashes a manifest to a key: the fourth namespace of hypercore.
pub fn manifest_namespace() -> &'static [u8; 32] {
    &HYPERCORE[3]
}

/// The namespace of a signer that names none: the fifth of hypercore.
pub fn default_signer_namespace() -> &'static [u8; 32] {
    &HYPERCORE[4]
}

/// The namespace of block encryption: the sixth of hypercore.
pub fn default_encryption_namespace() -> &'static [u8; 32] {
    &HYPERCORE[5]
}

fn replicate_namespace(is_initiator: bool) -> &'static [u8; 32] {
    if is_initiator {
        &HYPERCORE[1]
    } else {
        &HYPERCORE[2]
    }
}

/// The role namespace of the secret stream's ids and datagram keys.
pub fn stream_namespace(is_initiator: bool) -> &'static [u8; 32] {
    if is_initiator {
        &SECRET_STREAM[0]
    } else {
        &SECRET_STREAM[1]
    }
}

/// The namespace of the secret stream's datagram keys.
pub fn stream_send_namespace() -> &'static [u8; 32] {
    &SECRET_STREAM[2]
}

/// BLAKE2b-256 of the concatenated parts, optionally keyed: libsodium's `crypto_generichash` with 32 bytes of output.
/// An empty key counts as none.
///
/// # Panics
/// When the key is longer than 64 bytes.
pub fn blake2b256(parts: &[&[u8]], key: Option<&[u8]>) -> [u8; 32] {
    type Hash = Blake2bMac<blake2::digest::consts::U32>;
    let key = key.filter(|key| !key.is_empty());
    let mut hash = Hash::new_with_salt_and_personal(key, &[], &[])
        .expect("a BLAKE2b key has at most 64 bytes");
    for part in parts {
        hash.update(part);
    }
    hash.finalize_fixed().into()
}

/// The first `count` namespaces of `name`: the i-th is BLAKE2b-256 of BLAKE2b-256(`name`) and the byte i.
/// From the 257th on they repeat, since the byte wraps.
pub fn namespace(name: &str, count: usize) -> Vec<[u8; 32]> {
    (0..count)
        .map(|index| namespace_at(&blake2b256(&[name.as_bytes()], None), index))
        .collect()
}

fn namespaces<const N: usize>(name: &str) -> [[u8; 32]; N] {
    let name = blake2b256(&[name.as_bytes()], None);
    std::array::from_fn(|index| namespace_at(&name, index))
}

fn namespace_at(name: &[u8; 32], index: usize) -> [u8; 32] {
    blake2b256(&[name, &[index as u8]], None)
}

/// The discovery key of a core: BLAKE2b-256 of `hypercore`, keyed with the core's key.
pub fn discovery_key(key: &Key) -> DiscoveryKey {
    DiscoveryKey(blake2b256(&[b"hypercore"], Some(&key.0)))
}

/// Proves, within one connection, that its sender knows a core's key: BLAKE2b-256 of the sender's role namespace and
/// the key, keyed with the handshake hash (64 bytes; at most 64).
///
/// # Panics
/// When the handshake hash is longer than 64 bytes.
pub fn capability(is_initiator: bool, key: &Key, handshake_hash: &[u8]) -> [u8; 32] {
    blake2b256(
        &[replicate_namespace(is_initiator), &key.0],
        Some(handshake_hash),
    )
}

/// Whether `capability` is the one of a sender with that role for `key`, in constant time.
///
/// # Panics
/// When the handshake hash is longer than 64 bytes.
pub fn verify_capability(
    sender_is_initiator: bool,
    key: &Key,
    handshake_hash: &[u8],
    received: &[u8; 32],
) -> bool {
    capability(sender_is_initiator, key, handshake_hash)
        .ct_eq(received)
        .into()
}

/// Secret bytes: wiped when dropped, compared in constant time, and never printed.
#[derive(Clone)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> From<[u8; N]> for Secret<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> Deref for Secret<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({N} bytes, redacted)")
    }
}

/// An Ed25519 key pair, as made by libsodium's `crypto_sign_seed_keypair`. The secret half is wiped when dropped and
/// never printed.
#[derive(Clone)]
pub struct KeyPair {
    public: [u8; 32],
    secret: Zeroizing<[u8; 64]>,
}

impl KeyPair {
    /// The key pair of a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let public = EdwardsPoint::mul_base_clamped(*half_hash(seed))
            .compress()
            .to_bytes();
        let mut secret = Zeroizing::new([0; 64]);
        secret[..32].copy_from_slice(seed);
        secret[32..].copy_from_slice(&public);
        Self { public, secret }
    }

    /// A new key pair.
    ///
    /// # Panics
    /// When the operating system has no randomness.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).expect("the operating system's randomness");
        Self::from_seed(&seed)
    }

    /// The public key: a compressed point of 32 bytes.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    /// The secret key as libsodium stores it, 64 bytes: the seed, then the public key.
    pub fn secret_key(&self) -> &[u8; 64] {
        &self.secret
    }

    /// The seed, 32 bytes.
    pub fn seed(&self) -> &[u8; 32] {
        self.secret.first_chunk().expect("64 bytes hold 32")
    }
}

impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.secret.ct_eq(other.secret.as_slice()).into()
    }
}

impl Eq for KeyPair {}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "KeyPair({:?}, secret redacted)",
            crate::buffer::ShortHex(&self.public)
        )
    }
}

/// The first half of SHA-512 of a seed: the private scalar's bytes, which curve25519-dalek clamps when it multiplies.
pub(crate) fn half_hash(seed: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
    let mut half = Zeroizing::new([0; 32]);
    half.copy_from_slice(&hash[..32]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn values_are_nodes() {
        let hash = "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319";
        assert_eq!(hex(&blake2b256(&[b"a", b"", b"bc"], None)), hash);
        assert_eq!(hex(&blake2b256(&[b"abc"], Some(&[]))), hash);
        let stream = [
            "a931a0155b5c09e6d28628236af83c4b8a6af9af60986edeede9dc5d63192bf7",
            "742c9d833d430af4c48a8705e91631eecf295442bbca18996e597097723b1061",
            "aab97d097471f56651b0460ffc8aaa7d3342f7377597d60b925a1dac689adcbf",
        ];
        assert_eq!(hex(stream_namespace(true)), stream[0]);
        assert_eq!(hex(stream_namespace(false)), stream[1]);
        assert_eq!(hex(stream_send_namespace()), stream[2]);
        let hypercore = [
            "9fac70b50ca14efc4e91c833b204e75b8b5aad8b5881bfc0adb5ef38a3275b9c",
            "51812a2a359b50369536775df89e18e47740f3db72ac0ae70b29594c194dc316",
            "0438492d02970cc13528ac0262bca0074e0926260256865accc0bf15bd79127d",
            "e64b7108eacce47cfc61ac850568f55f8b15b82ec5ed78c4ec597b036e2a1498",
            "4144eea531e483d54e0c14f4ca68e0644f355343ff6fcb0f005200e12cd747cb",
            "9aedb6f1dea8487cc1e1698f97eb2f063f6db4c649695622e7b675e2ceafa6e9",
        ];
        let named: Vec<_> = namespace("hypercore", 6)
            .iter()
            .map(|part| hex(part))
            .collect();
        assert_eq!(named, hypercore);
        assert_eq!(hex(tree_namespace()), hypercore[0]);
        assert_eq!(hex(replicate_namespace(true)), hypercore[1]);
        assert_eq!(hex(replicate_namespace(false)), hypercore[2]);
        assert_eq!(hex(manifest_namespace()), hypercore[3]);
        assert_eq!(hex(default_signer_namespace()), hypercore[4]);
        assert_eq!(hex(default_encryption_namespace()), hypercore[5]);
        let key = Key::new([1; 32]);
        let discovery = "1624ec2f8e32de3e5d060a240ff6a0193d6b35d44d173311958dec134fd9bba4";
        assert_eq!(format!("{:x}", discovery_key(&key)), discovery);
        let sent = "c8c598812712c84947711f02163ec09cd2684bd015eb81e562ac8dd3f9887324";
        assert_eq!(hex(&capability(true, &key, &[2; 64])), sent);
        let sent = "604e409f47af3e21acc365105f75ce63581aa9409bf87f2a637bab22a15a87bf";
        assert_eq!(hex(&capability(false, &key, &[2; 64])), sent);
        let public = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
        assert_eq!(hex(KeyPair::from_seed(&[7; 32]).public_key()), public);
    }

    /// Written by hypercore-id-encoding 1.3.0.
    #[test]
    fn keys_are_written_and_read_as_nodes() {
        let key = Key::new(std::array::from_fn(|at| at as u8 * 7));
        let id = "yydohfehrcidnqb9e3gies5npfa8q9wft1j3iepei65m5tgm4mco";
        let hex = "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9";
        assert_eq!(key.to_string(), id);
        assert_eq!(format!("{key:x}"), hex);
        let link = format!("pear://{id}/a/path");
        for text in [id, hex, &hex.to_uppercase(), &link] {
            assert_eq!(text.parse(), Ok(key), "{text}");
        }
        let parse = |text: &str| text.parse::<Key>().unwrap_err();
        assert_eq!(parse(""), ParseKeyError::Length { length: 0 });
        let length = 53;
        assert_eq!(parse(&format!("{id}y")), ParseKeyError::Length { length });
        let (encoding, position) = ("z-base-32", 51);
        let wrong = ParseKeyError::Symbol { encoding, position };
        assert_eq!(parse(&format!("{}v", &id[..51])), wrong);
        let (encoding, position) = ("hex", 0);
        let wrong = ParseKeyError::Symbol { encoding, position };
        assert_eq!(parse(&format!("g{}", &hex[1..])), wrong);
        let bytes = DiscoveryKey::try_from(&[1; 31][..]);
        assert_eq!(bytes, Err(ParseKeyError::Bytes { length: 31 }));
        assert_eq!(format!("{key:?}"), format!("Key({}…)", &hex[..8]));
    }

    #[test]
    fn namespaces_repeat_after_a_byte_of_them() {
        let many = namespace("a", 257);
        assert_eq!(many[256], many[0]);
        assert_ne!(many[1], many[0]);
    }

    #[test]
    fn the_debug_form_hides_the_secret() {
        let pair = KeyPair::from_seed(&[7; 32]);
        let shown = format!("{pair:?}");
        assert!(shown.contains(&hex(pair.public_key())));
        assert!(!shown.contains("0707"));
    }

    #[test]
    fn generated_pairs_differ_and_come_from_their_seed() {
        let pair = KeyPair::generate();
        assert_ne!(pair, KeyPair::generate());
        assert_eq!(pair, KeyPair::from_seed(pair.seed()));
        assert_eq!(&pair.secret_key()[32..], pair.public_key());
    }

    #[test]
    fn a_capability_is_bound_to_role_key_and_handshake() {
        let (key, hash) = (Key::new([1; 32]), [2; 64]);
        let sent = capability(true, &key, &hash);
        assert!(verify_capability(true, &key, &hash, &sent));
        assert!(!verify_capability(false, &key, &hash, &sent));
        assert!(!verify_capability(true, &Key::new([3; 32]), &hash, &sent));
        assert!(!verify_capability(true, &key, &[3; 64], &sent));
    }
}
