//! Manifests: who may sign a core, and what its key commits to.
//!
//! Read from hypercore 11.37.1, `lib/messages.js` (`manifest`, `manifestv0`) and `lib/verifier.js` (`manifestHash`).
//!
//! - Version 0: `uint 0`, `uint hash`, `uint type`, then by type: 0, `fixed32` hash of the prologue; 1, a signer;
//!   2, `uint flags` (1 allowPatch), `uint quorum`, `signers[]`.
//! - Versions 1, 2 and 3: `uint version`, `uint flags` (1 allowPatch, 2 prologue, 4 linked, 8 userData), `uint hash`,
//!   `uint quorum`, `signers[]`, then prologue, `linked[]` of `fixed32`, `buffer userData`, each if flagged.
//! - A signer: `uint signature` (0, Ed25519), `fixed32 namespace`, `fixed32 publicKey`.
//! - A prologue: `fixed32 hash`, `uint length`.

use std::fmt;

use crate::buffer::{Buffer, ShortHex};
use crate::encoding::{
    Decode, DecodeError, DecodeErrorKind, Decoder, Encode, EncodeError, Encoder,
};
use crate::keys::{self, Key};

const ALLOW_PATCH: u64 = 1;
const PROLOGUE: u64 = 2;
const LINKED: u64 = 4;
const USER_DATA: u64 = 8;

const TYPE_PROLOGUE: u64 = 0;
const TYPE_SINGLE: u64 = 1;
const TYPE_MULTI: u64 = 2;

/// The newest known version.
pub const MAX_VERSION: u64 = 3;

/// The most signers in a manifest: one message may require that many signature checks.
pub const MAX_SIGNERS: usize = 1024;

/// The largest encoded manifest that a core accepts, in bytes. It is stored with every change of the core's length.
pub const MAX_MANIFEST_SIZE: usize = 256 * 1024;

/// A core's manifest.
///
/// Like Node, this encodes a manifest even if its version cannot express all of it: the rest is left out, and the key
/// is the hash of the result. [`Manifest::is_exact`] detects that.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// 0 to 3. Node makes version 1, or 2 if `linked` or `user_data` is used.
    pub version: u64,
    /// The hash function of the tree.
    pub hash: HashId,
    /// Whether signers may sign different lengths of the same tree.
    pub allow_patch: bool,
    /// The required number of signatures.
    pub quorum: u64,
    /// The allowed signers.
    pub signers: Vec<Signer>,
    /// The part of the core that needs no signature.
    pub prologue: Option<Prologue>,
    /// Keys of other cores that this one endorses. Since version 2.
    pub linked: Option<Vec<Key>>,
    /// Any data that the key should commit to. Since version 2.
    pub user_data: Option<Buffer>,
}

/// A hash function. There is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashId {
    /// BLAKE2b-256, id 0.
    #[default]
    Blake2b,
}

/// A signature scheme. There is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureId {
    /// Ed25519, id 0.
    #[default]
    Ed25519,
}

/// An allowed signer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signer {
    /// The signature scheme.
    pub signature: SignatureId,
    /// The namespace that a version 0 signature is bound to, 32 bytes. Newer versions bind to the manifest's hash
    /// instead.
    pub namespace: [u8; 32],
    /// The signer's public key, 32 bytes.
    pub public_key: [u8; 32],
}

impl Manifest {
    /// Its size in memory, itself included.
    pub(crate) fn memory(&self) -> usize {
        let linked = self.linked.as_ref().map_or(0, Vec::capacity);
        size_of::<Self>()
            + size_of::<Signer>() * self.signers.capacity()
            + size_of::<Key>() * linked
    }
}

impl Signer {
    /// An Ed25519 signer in hypercore's default namespace.
    pub fn new(public_key: [u8; 32]) -> Self {
        Self {
            signature: SignatureId::Ed25519,
            namespace: *keys::default_signer_namespace(),
            public_key,
        }
    }
}

/// The part of a core whose tree hash is in the manifest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prologue {
    /// The tree hash at `length`, 32 bytes.
    pub hash: [u8; 32],
    /// In blocks. Version 0 does not carry it and decodes as 0.
    pub length: u64,
}

/// A manifest is inconsistent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The quorum exceeds the number of signers.
    #[error("a quorum of {quorum} with {signers} signers")]
    Quorum {
        /// The quorum.
        quorum: u64,
        /// The number of signers.
        signers: usize,
    },
    /// More than [`MAX_SIGNERS`].
    #[error("{signers} signers, and no more than {limit} are taken")]
    TooManySigners {
        /// The number of signers.
        signers: usize,
        /// The maximum.
        limit: usize,
    },
    /// More than [`MAX_MANIFEST_SIZE`] bytes, encoded.
    #[error("{size} bytes, and no more than {limit} are taken")]
    TooLarge {
        /// In bytes.
        size: usize,
        /// In bytes.
        limit: usize,
    },
    /// A field that only exists since version 2.
    #[error("{field} in version {version}, which came with version 2")]
    TooEarly {
        /// The field, as Node names it.
        field: &'static str,
        /// The manifest's version.
        version: u64,
    },
}

impl Manifest {
    /// Node 11's manifest for a key pair: version 1, one signer in the default namespace.
    pub fn single_signer(public_key: [u8; 32]) -> Self {
        Self {
            version: 1,
            quorum: 1,
            signers: vec![Signer::new(public_key)],
            ..Self::default()
        }
    }

    /// The core's key: BLAKE2b-256 of hypercore's manifest namespace and the encoded manifest.
    ///
    /// # Errors
    /// When the manifest cannot be encoded.
    pub fn hash(&self) -> Result<Key, EncodeError> {
        let parts = [&keys::manifest_namespace()[..], &self.encode()?];
        Ok(keys::blake2b256(&parts, None).into())
    }

    /// Whether a core with this manifest and key is a compat core: the key is its only signer's public key.
    pub fn is_compat(&self, key: &Key) -> bool {
        matches!(self.signers.as_slice(), [signer] if signer.public_key == *key)
    }

    /// Whether the encoding carries the whole manifest, so that decoding returns an equal one.
    pub fn is_exact(&self) -> bool {
        if self.version != 0 {
            return true;
        }
        let nothing_new = self.linked.is_none() && self.user_data.is_none();
        nothing_new
            && match (&self.prologue, self.signers.as_slice()) {
                (Some(prologue), []) => {
                    prologue.length == 0 && self.quorum == 0 && !self.allow_patch
                }
                (Some(_), _) => false,
                (None, _) => true,
            }
    }

    /// Checks that the manifest is consistent, as Node does before it uses one (`lib/verifier.js`, `createManifest`).
    ///
    /// Node sets no limits; here they bound the work and the storage that a core's author can cause its readers.
    ///
    /// # Errors When the quorum exceeds the number of signers, a field is newer than the version, or the manifest is
    /// above [`MAX_SIGNERS`] or [`MAX_MANIFEST_SIZE`].
    pub fn check(&self) -> Result<(), ManifestError> {
        let signers = self.signers.len();
        let limit = MAX_SIGNERS;
        if signers > limit {
            return Err(ManifestError::TooManySigners { signers, limit });
        }
        let size = self.size();
        let limit = MAX_MANIFEST_SIZE;
        if size > limit {
            return Err(ManifestError::TooLarge { size, limit });
        }
        if self.quorum > signers as u64 {
            return Err(ManifestError::Quorum {
                quorum: self.quorum,
                signers,
            });
        }
        let too_early = |used: bool, field| {
            if used && self.version < 2 {
                let version = self.version;
                return Err(ManifestError::TooEarly { field, version });
            }
            Ok(())
        };
        too_early(self.user_data.is_some(), "userData")?;
        too_early(
            self.linked
                .as_ref()
                .is_some_and(|linked| !linked.is_empty()),
            "linked",
        )
    }

    /// An upper bound of the encoded size, in bytes.
    fn size(&self) -> usize {
        const FIXED: usize = 128;
        let linked = self.linked.as_ref().map_or(0, |linked| linked.len() * 32);
        let user_data = self.user_data.as_ref().map_or(0, |bytes| bytes.len());
        FIXED + self.signers.len() * 65 + linked + user_data
    }

    #[cfg(feature = "replication")]
    /// A copy that shares no memory with its message.
    pub(crate) fn detach(&self) -> Self {
        Self {
            user_data: self.user_data.as_ref().map(Buffer::detach),
            ..self.clone()
        }
    }

    fn decode_v0(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let hash = HashId::decode_from(decoder)?;
        let offset = decoder.offset();
        let mut manifest = Self {
            hash,
            ..Self::default()
        };
        match decoder.uint("manifest.type")? {
            TYPE_PROLOGUE => {
                let hash = decoder.fixed("manifest.prologue.hash")?;
                manifest.prologue = Some(Prologue { hash, length: 0 });
            }
            TYPE_SINGLE => {
                manifest.quorum = 1;
                manifest.signers = vec![Signer::decode_from(decoder)?];
            }
            TYPE_MULTI => {
                let flags = decoder.flags(ALLOW_PATCH, "manifest.flags")?;
                manifest.allow_patch = flags & ALLOW_PATCH != 0;
                manifest.quorum = decoder.uint("manifest.quorum")?;
                manifest.signers = decoder.array("manifest.signers")?;
            }
            id => {
                let kind = DecodeErrorKind::UnknownType { id };
                return Err(DecodeError::new(kind, offset, "manifest.type"));
            }
        }
        Ok(manifest)
    }

    fn encode_v0(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        self.hash.encode_to(encoder)?;
        match (&self.prologue, self.signers.as_slice()) {
            (Some(prologue), []) => {
                encoder.uint(TYPE_PROLOGUE, "manifest.type")?;
                encoder.raw(&prologue.hash);
                Ok(())
            }
            (_, [signer]) if self.quorum == 1 && !self.allow_patch => {
                encoder.uint(TYPE_SINGLE, "manifest.type")?;
                signer.encode_to(encoder)
            }
            (_, signers) => {
                encoder.uint(TYPE_MULTI, "manifest.type")?;
                encoder.uint(u64::from(self.allow_patch), "manifest.flags")?;
                encoder.uint(self.quorum, "manifest.quorum")?;
                encoder.array(signers, "manifest.signers")
            }
        }
    }
}

impl Decode for Manifest {
    const MIN_LEN: usize = 5;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let offset = decoder.offset();
        let version = decoder.uint("manifest.version")?;
        if version == 0 {
            return Self::decode_v0(decoder);
        }
        if version > MAX_VERSION {
            let kind = DecodeErrorKind::UnknownVersion { version };
            return Err(DecodeError::new(kind, offset, "manifest.version"));
        }
        let flags = decoder.flags(
            ALLOW_PATCH | PROLOGUE | LINKED | USER_DATA,
            "manifest.flags",
        )?;
        let mut manifest = Self {
            version,
            allow_patch: flags & ALLOW_PATCH != 0,
            hash: HashId::decode_from(decoder)?,
            quorum: decoder.uint("manifest.quorum")?,
            signers: decoder.array("manifest.signers")?,
            ..Self::default()
        };
        if flags & PROLOGUE != 0 {
            manifest.prologue = Some(Prologue {
                hash: decoder.fixed("manifest.prologue.hash")?,
                length: decoder.uint("manifest.prologue.length")?,
            });
        }
        if flags & LINKED != 0 {
            let linked = decoder.array_with(32, "manifest.linked", |decoder| {
                Ok(Key::new(decoder.fixed("manifest.linked")?))
            })?;
            manifest.linked = Some(linked);
        }
        if flags & USER_DATA != 0 {
            manifest.user_data = Some(decoder.buffer("manifest.userData")?);
        }
        Ok(manifest)
    }
}

impl Encode for Manifest {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        if self.version > MAX_VERSION {
            return Err(EncodeError::UnknownVersion {
                version: self.version,
            });
        }
        encoder.uint(self.version, "manifest.version")?;
        if self.version == 0 {
            return self.encode_v0(encoder);
        }
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let flags = flag(self.allow_patch, ALLOW_PATCH)
            | flag(self.prologue.is_some(), PROLOGUE)
            | flag(self.linked.is_some(), LINKED)
            | flag(self.user_data.is_some(), USER_DATA);
        encoder.uint(flags, "manifest.flags")?;
        self.hash.encode_to(encoder)?;
        encoder.uint(self.quorum, "manifest.quorum")?;
        encoder.array(&self.signers, "manifest.signers")?;
        if let Some(prologue) = &self.prologue {
            encoder.raw(&prologue.hash);
            encoder.uint(prologue.length, "manifest.prologue.length")?;
        }
        if let Some(linked) = &self.linked {
            encoder.array_with(linked, "manifest.linked", |encoder, key| {
                encoder.raw(key);
                Ok(())
            })?;
        }
        if let Some(user_data) = &self.user_data {
            encoder.buffer(user_data, "manifest.userData")?;
        }
        Ok(())
    }
}

impl Decode for Signer {
    const MIN_LEN: usize = 65;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            signature: SignatureId::decode_from(decoder)?,
            namespace: decoder.fixed("signer.namespace")?,
            public_key: decoder.fixed("signer.publicKey")?,
        })
    }
}

impl Encode for Signer {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        self.signature.encode_to(encoder)?;
        encoder.raw(&self.namespace);
        encoder.raw(&self.public_key);
        Ok(())
    }
}

impl Decode for HashId {
    const MIN_LEN: usize = 1;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let offset = decoder.offset();
        match decoder.uint("manifest.hash")? {
            0 => Ok(Self::Blake2b),
            id => {
                let kind = DecodeErrorKind::UnknownHash { id };
                Err(DecodeError::new(kind, offset, "manifest.hash"))
            }
        }
    }
}

impl Encode for HashId {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Blake2b => encoder.uint(0, "manifest.hash"),
        }
    }
}

impl Decode for SignatureId {
    const MIN_LEN: usize = 1;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let offset = decoder.offset();
        match decoder.uint("signer.signature")? {
            0 => Ok(Self::Ed25519),
            id => {
                let kind = DecodeErrorKind::UnknownSignature { id };
                Err(DecodeError::new(kind, offset, "signer.signature"))
            }
        }
    }
}

impl Encode for SignatureId {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Ed25519 => encoder.uint(0, "signer.signature"),
        }
    }
}

/// Shows the parts that are present.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Manifest");
        shown
            .field("version", &self.version)
            .field("hash", &self.hash);
        if self.allow_patch {
            shown.field("allow_patch", &true);
        }
        shown
            .field("quorum", &self.quorum)
            .field("signers", &self.signers);
        if let Some(prologue) = &self.prologue {
            shown.field("prologue", prologue);
        }
        if let Some(linked) = &self.linked {
            let linked: Vec<_> = linked.iter().map(|key| ShortHex(key)).collect();
            shown.field("linked", &linked);
        }
        if let Some(user_data) = &self.user_data {
            shown.field("user_data", user_data);
        }
        shown.finish()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("signature", &self.signature)
            .field("namespace", &ShortHex(&self.namespace))
            .field("public_key", &ShortHex(&self.public_key))
            .finish()
    }
}

impl fmt::Debug for Prologue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prologue")
            .field("hash", &ShortHex(&self.hash))
            .field("length", &self.length)
            .finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::tests::{check_codec, safe_integer};

    fn hash() -> impl Strategy<Value = [u8; 32]> {
        any::<u8>().prop_map(|byte| [byte; 32])
    }

    fn signer() -> impl Strategy<Value = Signer> {
        (hash(), hash()).prop_map(|(namespace, public_key)| Signer {
            namespace,
            ..Signer::new(public_key)
        })
    }

    /// Manifests of every version that are encoded exactly.
    pub(crate) fn manifests() -> impl Strategy<Value = Manifest> {
        let prologue =
            (hash(), safe_integer()).prop_map(|(hash, length)| Prologue { hash, length });
        let linked = option::of(vec(hash().prop_map(Key::new), 0..3));
        let user_data = option::of(vec(any::<u8>(), 0..40).prop_map(Buffer::from));
        (
            (0..=MAX_VERSION, any::<bool>(), safe_integer()),
            vec(signer(), 0..4),
            option::of(prologue),
            linked,
            user_data,
        )
            .prop_map(
                |((version, allow_patch, quorum), signers, prologue, linked, user_data)| Manifest {
                    version,
                    hash: HashId::Blake2b,
                    allow_patch,
                    quorum,
                    signers,
                    prologue,
                    linked,
                    user_data,
                },
            )
            .prop_filter("carried in full", Manifest::is_exact)
    }

    proptest! {
        #[test]
        fn manifests_round_trip(manifest in manifests()) {
            check_codec(&manifest, true);
        }

        #[test]
        fn what_is_not_exact_loses_something(version in 0..=MAX_VERSION, quorum in 0_u64..3,
            signers in vec(signer(), 0..3), allow_patch: bool, length in 0_u64..2,
            with_prologue: bool, with_linked: bool)
        {
            let manifest = Manifest {
                version,
                allow_patch,
                quorum,
                signers,
                prologue: with_prologue.then_some(Prologue { hash: [7; 32], length }),
                linked: with_linked.then(Vec::new),
                ..Manifest::default()
            };
            let read = Manifest::decode(&manifest.encode().unwrap()).unwrap().value;
            prop_assert_eq!(manifest.is_exact(), read == manifest);
        }
    }

    #[test]
    fn versions_types_hashes_and_signatures_that_are_not_known_are_refused() {
        let refused = |bytes: &[u8]| {
            let error = Manifest::decode(bytes).unwrap_err();
            (error.kind, error.offset, error.field)
        };
        let unknown = DecodeErrorKind::UnknownVersion { version: 4 };
        assert_eq!(refused(&[4]), (unknown, 0, "manifest.version"));
        let unknown = DecodeErrorKind::UnknownType { id: 3 };
        assert_eq!(refused(&[0, 0, 3]), (unknown, 2, "manifest.type"));
        let unknown = DecodeErrorKind::UnknownHash { id: 1 };
        assert_eq!(refused(&[0, 1]), (unknown, 1, "manifest.hash"));
        assert_eq!(refused(&[1, 0, 1]), (unknown, 2, "manifest.hash"));
        let unknown = DecodeErrorKind::UnknownSignature { id: 9 };
        assert_eq!(
            refused(&[1, 0, 0, 1, 1, 9]),
            (unknown, 5, "signer.signature")
        );
        let version = Manifest {
            version: 4,
            ..Manifest::default()
        };
        assert_eq!(
            version.encode(),
            Err(EncodeError::UnknownVersion { version: 4 })
        );
    }

    #[test]
    fn the_key_is_nodes() {
        let key = Manifest::single_signer([7; 32]).hash().unwrap();
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            key,
            "1e2eaa8bdea784f55baf7c2c4c84995d40463f2d8e1977d3737d6c2bc073b1f9"
        );
    }

    #[test]
    fn layouts_are_nodes() {
        // H stands for 04 repeated 32 times.
        let hex = |manifest: &Manifest| {
            let bytes = manifest.encode().unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            hex.replace(&"04".repeat(32), "H")
        };
        let signer = Signer {
            namespace: [4; 32],
            ..Signer::new([4; 32])
        };
        let prologue = Prologue {
            hash: [4; 32],
            length: 9,
        };
        let full = Manifest {
            version: 3,
            allow_patch: true,
            quorum: 2,
            signers: vec![signer],
            prologue: Some(prologue),
            ..Manifest::default()
        };
        assert_eq!(hex(&full), "030300020100HHH09");
        let mut oldest = Manifest {
            quorum: 1,
            signers: vec![signer],
            ..Manifest::default()
        };
        assert_eq!(hex(&oldest), "00000100HH");
        oldest.allow_patch = true;
        assert_eq!(hex(&oldest), "00000201010100HH");
    }

    #[test]
    fn empty_user_data_and_links_are_there() {
        let manifest = Manifest {
            version: 2,
            linked: Some(vec![]),
            user_data: Some(Buffer::new()),
            ..Manifest::default()
        };
        let bytes = manifest.encode().unwrap();
        assert_eq!(bytes, [2, 0x0c, 0, 0, 0, 0, 0]);
        assert_eq!(Manifest::decode(&bytes).unwrap().value, manifest);
    }

    #[test]
    fn a_compat_core_is_named_by_its_signer() {
        let manifest = Manifest::single_signer([7; 32]);
        assert!(manifest.is_compat(&Key::new([7; 32])));
        assert!(!manifest.is_compat(&manifest.hash().unwrap()));
        assert!(!Manifest::default().is_compat(&Key::new([0; 32])));
    }
}
