//! The stored state of a core, beside blocks, nodes and bits.

use crate::buffer::Buffer;
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
use crate::keys::{Key, KeyPair};
use crate::manifest::Manifest;
use crate::replication::error::CoreError;
use crate::replication::storage::{Header, Storage, StorageError, StorageErrorKind};

use super::CoreOptions;

/// The stored state of a core, beside blocks, nodes and bits.
///
/// `uint` version 2, `uint` flags, `fixed32` key, `uint` fork, `uint` length, then as flagged: 1 the manifest, 4 the
/// `buffer` signature. Flag 2: there is a key pair, whose seed is stored separately. Flag 8: frozen. No peer ever sees
/// it.
pub(super) struct State {
    pub(super) key: Key,
    pub(super) manifest: Option<Manifest>,
    pub(super) key_pair: Option<KeyPair>,
    pub(super) frozen: bool,
    pub(super) fork: u64,
    pub(super) length: u64,
    pub(super) signature: Option<Buffer>,
}

const STATE_VERSION: u64 = 2;
const MANIFEST: u64 = 1;
const KEY_PAIR: u64 = 2;
const SIGNATURE: u64 = 4;
const FROZEN: u64 = 8;

impl State {
    pub(super) fn new(options: &CoreOptions) -> Result<Self, CoreError> {
        if let Some(manifest) = &options.manifest {
            manifest.check()?;
        }
        let mut key_pair = options.key_pair.clone();
        if options.key.is_none() && options.manifest.is_none() && key_pair.is_none() {
            key_pair = Some(KeyPair::generate());
        }
        let signer = key_pair.as_ref().map(KeyPair::public_key);
        let manifest = options.manifest.clone().or_else(|| {
            let signer = signer.or(options
                .key
                .as_ref()
                .filter(|_| options.compat)
                .map(Key::as_bytes))?;
            let own = Manifest::single_signer(*signer);
            let is_its = |key| own.is_compat(key) || own.hash().is_ok_and(|hash| hash == *key);
            options.key.as_ref().is_none_or(is_its).then_some(own)
        });
        let key = match (&options.key, &manifest) {
            (Some(key), _) => *key,
            (None, Some(manifest)) if options.compat => {
                let signer = manifest.signers.first();
                signer
                    .ok_or(CoreError::Conflict("a compat core needs a signer"))?
                    .public_key
                    .into()
            }
            (None, Some(manifest)) => manifest.hash()?,
            (None, None) => {
                return Err(CoreError::Conflict("there is nothing to make a core from"));
            }
        };
        let state = Self {
            key,
            manifest,
            key_pair,
            frozen: false,
            fork: 0,
            length: 0,
            signature: None,
        };
        state.check()?;
        Ok(state)
    }

    /// Merges the caller's options into the state, and returns whether that changes it.
    pub(super) fn with(mut self, options: &CoreOptions) -> Result<(Self, bool), CoreError> {
        if options.key.is_some_and(|key| key != self.key) {
            return Err(CoreError::Conflict("another core is stored here"));
        }
        let mut changed = false;
        if let Some(manifest) = &options.manifest {
            manifest.check()?;
            match &self.manifest {
                Some(stored) if stored != manifest => {
                    return Err(CoreError::Conflict("another manifest is stored here"));
                }
                Some(_) => {}
                None => {
                    self.manifest = Some(manifest.clone());
                    changed = true;
                }
            }
        }
        if let Some(key_pair) = &options.key_pair {
            match &self.key_pair {
                Some(stored) if stored != key_pair => {
                    return Err(CoreError::Conflict("another key pair is stored here"));
                }
                Some(_) => {}
                None => {
                    let own = Manifest::single_signer(*key_pair.public_key());
                    if self.manifest.is_none()
                        && (own.is_compat(&self.key) || own.hash()? == self.key)
                    {
                        self.manifest = Some(own);
                    }
                    self.key_pair = Some(key_pair.clone());
                    changed = true;
                }
            }
        }
        self.check()?;
        Ok((self, changed))
    }

    /// Whether key, manifest and key pair belong together.
    fn check(&self) -> Result<(), CoreError> {
        if let Some(manifest) = &self.manifest {
            if !manifest.is_compat(&self.key) && manifest.hash()? != self.key {
                return Err(CoreError::Conflict("the manifest is not that of the key"));
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Result<Header, EncodeError> {
        let write = |encoder: &mut Encoder<'_>| {
            let flag = |set: bool, flag: u64| if set { flag } else { 0 };
            let flags = flag(self.manifest.is_some(), MANIFEST)
                | flag(self.key_pair.is_some(), KEY_PAIR)
                | flag(self.signature.is_some(), SIGNATURE)
                | flag(self.frozen, FROZEN);
            encoder.uint(STATE_VERSION, "state.version")?;
            encoder.uint(flags, "state.flags")?;
            encoder.raw(&self.key);
            encoder.uint(self.fork, "state.fork")?;
            encoder.uint(self.length, "state.length")?;
            if let Some(manifest) = &self.manifest {
                manifest.encode_to(encoder)?;
            }
            if let Some(signature) = &self.signature {
                encoder.buffer(signature, "state.signature")?;
            }
            Ok(())
        };
        let mut measure = Encoder::measure();
        write(&mut measure)?;
        let mut bytes = Vec::with_capacity(measure.len());
        write(&mut Encoder::new(&mut bytes))?;
        Ok(Header::new(bytes))
    }

    /// The stored form of the batch's secret.
    pub(super) fn encode_secret(key_pair: &KeyPair) -> Header {
        Header::new(key_pair.seed().to_vec())
    }

    /// Loads the state of a store, if there is one.
    pub(super) fn load(storage: &dyn Storage) -> Result<Option<Self>, CoreError> {
        let Some(header) = storage.header()? else {
            return Ok(None);
        };
        let (mut state, has_key_pair) = Self::decode(header.as_bytes())?;
        if has_key_pair {
            let secret = storage.secret()?;
            let secret = secret.ok_or_else(|| StorageError::damaged("the key pair is missing"))?;
            let seed = <&[u8; 32]>::try_from(secret.as_bytes())
                .map_err(|_| StorageError::damaged("the key pair is of a wrong length"))?;
            state.key_pair = Some(KeyPair::from_seed(seed));
        }
        Ok(Some(state))
    }

    /// Decodes the state without its key pair, and whether there is one.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, bool), CoreError> {
        let read = || -> Result<Option<(Self, bool)>, DecodeError> {
            let mut decoder = Decoder::new(bytes);
            if decoder.uint("state.version")? != STATE_VERSION {
                return Ok(None);
            }
            let flags = decoder.uint("state.flags")?;
            let mut state = Self {
                key: Key::new(decoder.fixed("state.key")?),
                fork: decoder.uint("state.fork")?,
                length: decoder.uint("state.length")?,
                frozen: flags & FROZEN != 0,
                manifest: None,
                key_pair: None,
                signature: None,
            };
            if flags & MANIFEST != 0 {
                state.manifest = Some(Manifest::decode_from(&mut decoder)?);
            }
            if flags & SIGNATURE != 0 {
                state.signature = Some(decoder.buffer("state.signature")?);
            }
            Ok(Some((state, flags & KEY_PAIR != 0)))
        };
        match read() {
            Ok(Some(state)) => Ok(state),
            Ok(None) => {
                let reason = "the state is of an unknown version";
                Err(StorageError::new(StorageErrorKind::Version, reason).into())
            }
            Err(error) => Err(StorageError::damaged("the state is damaged")
                .with_source(error)
                .into()),
        }
    }
}
