//! The primitives for snow: our curve, and snow's ChaChaPoly and BLAKE2b.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::curve::{self, CurveError, KEY_BYTES, Point};
use crate::keys::KeyPair;

/// Why the curve refused a point; snow's error cannot carry it.
pub(super) type Refusal = Arc<OnceLock<CurveError>>;

/// The remote's verified keys: each takes part in two exchanges and is verified once.
type Checked = Arc<Mutex<Vec<([u8; KEY_BYTES], Point)>>>;

/// Provides Ed25519 points for snow's one curve name; the rest is snow's own.
pub(super) struct Resolver {
    pub(super) refusal: Refusal,
    /// Our static keys, so that the public key is not derived again.
    pub(super) key_pair: Option<KeyPair>,
    checked: Checked,
}

impl Resolver {
    pub(super) fn new(refusal: Refusal, key_pair: Option<KeyPair>) -> Self {
        Self {
            refusal,
            key_pair,
            checked: Checked::default(),
        }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, _choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(EdDh {
            refusal: self.refusal.clone(),
            checked: self.checked.clone(),
            key_pair: self.key_pair.clone(),
            seed: [0; KEY_BYTES],
            public: [0; KEY_BYTES],
        }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        getrandom::fill(dest).map_err(|_| snow::Error::Rng)
    }
}

/// A key pair of the curve; the private key is the 32-byte seed.
struct EdDh {
    seed: [u8; KEY_BYTES],
    public: [u8; KEY_BYTES],
    refusal: Refusal,
    checked: Checked,
    key_pair: Option<KeyPair>,
}

impl EdDh {
    fn derive(&mut self) {
        self.public = match &self.key_pair {
            Some(pair) if bool::from(pair.seed().ct_eq(&self.seed)) => *pair.public_key(),
            _ => curve::public_key(&self.seed),
        };
    }

    /// The remote's key, verified now or earlier in this handshake.
    fn check(&self, public: &[u8; KEY_BYTES]) -> Result<Point, CurveError> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, point)) = checked.iter().find(|(key, _)| key == public) {
            return Ok(*point);
        }
        let point = curve::decode(public)?;
        checked.push((*public, point));
        Ok(point)
    }
}

impl Drop for EdDh {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl Dh for EdDh {
    fn name(&self) -> &'static str {
        "Ed25519"
    }

    fn pub_len(&self) -> usize {
        KEY_BYTES
    }

    fn priv_len(&self) -> usize {
        KEY_BYTES
    }

    fn set(&mut self, seed: &[u8]) {
        self.seed.copy_from_slice(seed);
        self.derive();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        rng.try_fill_bytes(&mut self.seed)?;
        self.derive();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.seed
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow passes its whole buffer for keys, which is longer than ours.
        let public = public.first_chunk::<KEY_BYTES>().ok_or(snow::Error::Dh)?;
        let shared = self.check(public).and_then(|point| point.times(&self.seed));
        let shared = shared.map_err(|error| {
            let _ = self.refusal.set(error);
            snow::Error::Dh
        })?;
        out.get_mut(..KEY_BYTES)
            .ok_or(snow::Error::Dh)?
            .copy_from_slice(&*shared);
        Ok(())
    }
}
