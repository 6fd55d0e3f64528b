//! Verification of the signatures of a core's tree.
//!
//! Read from hypercore 11.37.1, `lib/verifier.js` and `lib/multisig.js`. 10.38.2 does the same for manifests 0 and 1,
//! the only ones that it knows.

use std::collections::HashMap;
use std::collections::HashSet;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::buffer::Buffer;
use crate::encoding::{Decode, Encode, EncodeError, MAX_SAFE_INTEGER};
use crate::keys::{Key, KeyPair};
use crate::manifest::{Manifest, Prologue};
use crate::multisig::{MultiSignature, MultiSignatureV0, PatchV0, Proof, ProofV0};
use crate::tree;
use crate::wire::{DataUpgrade, Node};

use super::error::{CoreError, ProofError, SignatureError};
use super::flat_tree::{spans, upgrade_path};
use super::merkle::{MAX_PROOF_NODES, Tree, TreeBatch};

/// Verifies and makes the signatures of one core.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    manifest_hash: Key,
    manifest: Manifest,
    compat: bool,
    legacy: bool,
}

impl Verifier {
    /// For a core of this key and manifest, which belong together ([`Verifier::accept`] checks that).
    pub(crate) fn new(key: &Key, manifest: Manifest) -> Self {
        Self {
            manifest_hash: *key,
            compat: manifest.is_compat(key),
            legacy: false,
            manifest,
        }
    }

    /// Lets a compat core's signer sign, and accepts from it, the oldest form: without the namespace.
    pub(crate) fn with_legacy(self, legacy: bool) -> Self {
        Self { legacy, ..self }
    }

    /// For a peer's claim of the manifest of a core with this key. Without one, a compat core is assumed.
    ///
    /// A manifest is accepted in full only if its hash is the key. Any other is unauthenticated, so only the fact that
    /// its signer is the key is used: the core is a compat core if a signature says so ([`Verifier::is_compat`]), and
    /// its manifest is the one that Node gives such cores.
    pub(crate) fn accept(key: &Key, manifest: Option<&Manifest>) -> Result<Self, ProofError> {
        match manifest {
            Some(manifest) if manifest.is_compat(key) => {}
            None => {}
            Some(manifest) => {
                // As in Node, a foreign manifest is reported before a malformed one.
                if !manifest.hash().is_ok_and(|hash| hash == *key) {
                    return Err(ProofError::WrongManifest);
                }
                manifest.check()?;
                return Ok(Self::new(key, manifest.detach()));
            }
        }
        Ok(Self::new(key, Manifest::single_signer((*key).into())))
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn is_compat(&self) -> bool {
        self.compat
    }

    pub(crate) fn prologue(&self) -> Option<&Prologue> {
        self.manifest.prologue.as_ref().filter(|_| !self.compat)
    }

    fn version(&self) -> u64 {
        if self.compat {
            0
        } else {
            self.manifest.version
        }
    }

    fn allow_patch(&self) -> bool {
        self.manifest.allow_patch && !self.compat
    }

    /// The bytes that a signer signs: 112, or 80 in a compat core, 48 in the oldest.
    pub(crate) fn signable(&self, tree: &Tree, signer: usize) -> Result<Vec<u8>, EncodeError> {
        let hash = tree.hash()?;
        if self.compat && self.legacy {
            return Ok(tree::signable_legacy(&hash, tree.length, tree.fork)?.to_vec());
        }
        if self.compat {
            return Ok(tree::signable_compat(&hash, tree.length, tree.fork)?.to_vec());
        }
        let context = match self.manifest.signers.get(signer) {
            Some(signer) if self.manifest.version == 0 => &signer.namespace,
            _ => self.manifest_hash.as_bytes(),
        };
        Ok(tree::signable(context, &hash, tree.length, tree.fork)?.to_vec())
    }

    /// Verifies that a tree is signed as the manifest requires, including the sizes of all its roots.
    pub(crate) fn verify(&self, batch: &TreeBatch) -> Result<(), SignatureError> {
        match self.verify_hashes(batch)?.first() {
            None => Ok(()),
            Some(index) => Err(SignatureError::UnboundSize { index: *index }),
        }
    }

    /// Whether a tree needs no signature, because the manifest itself has its hash.
    pub(crate) fn is_prologue(&self, tree: &Tree) -> bool {
        let prologue = self.prologue().filter(|_| self.version() >= 1);
        prologue.is_some_and(|prologue| tree.length <= prologue.length)
    }

    /// Verifies that the hashes of a tree are signed as the manifest requires. Returns the roots whose sizes are not
    /// signed: when every signer has signed a longer tree in which they are not roots.
    pub(crate) fn verify_hashes(&self, batch: &TreeBatch) -> Result<Vec<u64>, SignatureError> {
        let tree = &batch.tree;
        if self.version() == 0 {
            let signature = tree.signature.as_ref().ok_or(SignatureError::Missing)?;
            let alone = !self.allow_patch() && self.manifest.signers.len() == 1;
            if self.compat || alone {
                self.verify_one(tree, 0, signature)?;
                return Ok(Vec::new());
            }
            return self.verify_multi(batch, signature);
        }
        if let Some(prologue) = self.prologue().filter(|_| self.is_prologue(tree)) {
            if tree.length == prologue.length && tree.hash()? == prologue.hash {
                return Ok(Vec::new());
            }
            return Err(SignatureError::Prologue);
        }
        let signature = tree.signature.as_ref().ok_or(SignatureError::Missing)?;
        self.verify_multi(batch, signature)
    }

    /// Whether a tree has the bare signature of one of several signers.
    pub(crate) fn is_signed_in_part(&self, tree: &Tree) -> bool {
        let signature = tree.signature.as_deref().unwrap_or_default();
        let mut signers = 0..self.manifest.signers.len() as u64;
        signers.any(|signer| self.verify_one(tree, signer, signature).is_ok())
    }

    fn verify_one(&self, tree: &Tree, at: u64, signature: &[u8]) -> Result<(), SignatureError> {
        let signature: &[u8; 64] = signature
            .try_into()
            .map_err(|_| SignatureError::BadLength(signature.len()))?;
        let place = usize::try_from(at).unwrap_or(usize::MAX);
        let signer = self
            .manifest
            .signers
            .get(place)
            .ok_or(SignatureError::UnknownSigner { signer: at })?;
        let signed = self.signable(tree, place)?;
        if verify_ed25519(&signed, signature, &signer.public_key) {
            Ok(())
        } else {
            Err(SignatureError::Wrong { signer: at })
        }
    }

    fn verify_multi(
        &self,
        batch: &TreeBatch,
        signature: &[u8],
    ) -> Result<Vec<u64>, SignatureError> {
        let limit = self.max_signature_size();
        if signature.len() > limit {
            let size = signature.len();
            return Err(SignatureError::TooLong { size, limit });
        }
        let quorum = self.manifest.quorum;
        if quorum == 0 {
            return Err(SignatureError::NoSigners);
        }
        let MultiSignature { proofs, patch } = self.inflate(signature)?;
        let have = proofs.len();
        let needed = usize::try_from(quorum)
            .ok()
            .and_then(|quorum| proofs.get(..quorum));
        let proofs = needed.ok_or(SignatureError::Quorum { have, quorum })?;
        let patch: HashMap<u64, Node> = patch.iter().map(|node| (node.index, *node)).collect();
        let mut unbound: Vec<u64> = batch.unbound_roots().collect();
        let mut tried = HashSet::new();
        for proof in proofs {
            let signer = proof.signer;
            if signer >= self.manifest.signers.len() as u64 {
                return Err(SignatureError::UnknownSigner { signer });
            }
            if !tried.insert(signer) {
                return Err(SignatureError::RepeatedSigner { signer });
            }
            if proof.patch != 0 && self.allow_patch() {
                let patched = self
                    .patched(batch, proof.patch, &patch)
                    .ok_or(SignatureError::Patch { signer })?;
                self.verify_one(&patched.tree, signer, &proof.signature)?;
                unbound.retain(|index| patched.unbound.contains(index));
            } else {
                self.verify_one(&batch.tree, signer, &proof.signature)?;
                unbound.clear();
            }
        }
        Ok(unbound)
    }

    /// The longest signature that this manifest can need, in bytes: a proof of each signer and, if they may have signed
    /// longer trees, the path there. Signatures are stored and sent on, and anybody can append data that nothing
    /// verifies.
    fn max_signature_size(&self) -> usize {
        const COUNTS: usize = 18;
        const PROOF: usize = 1 + 9 + 64 + 9;
        const PATCH: usize = MAX_PROOF_NODES * (9 + 9 + 32) + 18 + MAX_PROOF_NODES * 9;
        let patch = if self.allow_patch() { PATCH } else { 0 };
        self.manifest.signers.len() * (PROOF + patch) + COUNTS
    }

    fn inflate(&self, signature: &[u8]) -> Result<MultiSignature, SignatureError> {
        if self.version() >= 1 {
            let decoded = MultiSignature::decode(signature).map_err(SignatureError::Malformed)?;
            return Ok(decoded.value);
        }
        let decoded = MultiSignatureV0::decode(signature).map_err(SignatureError::Malformed)?;
        let MultiSignatureV0 { proofs, patch } = decoded.value;
        let proofs = proofs.into_iter().map(|proof| Proof {
            signer: proof.signer,
            signature: proof.signature,
            patch: proof.patch.map_or(0, |patch| patch.length),
        });
        Ok(MultiSignature {
            proofs: proofs.collect(),
            patch,
        })
    }

    /// The tree that a signer signed, `blocks` longer than the proven one.
    fn patched(
        &self,
        batch: &TreeBatch,
        blocks: u64,
        patch: &HashMap<u64, Node>,
    ) -> Option<TreeBatch> {
        let mut patched = batch.clone();
        let upgrade = patch_upgrade(patch, batch.tree.length, blocks)?;
        let fork = batch.tree.fork;
        patched
            .upgrade(&upgrade, fork, None, self.prologue())
            .ok()?;
        // The signature of the longer tree covers its roots' sizes.
        patched.bind_roots();
        Some(patched)
    }

    /// Signs a tree. With a manifest of several signers this makes a bare signature, to be combined with others.
    pub(crate) fn sign(&self, tree: &Tree, key_pair: &KeyPair) -> Result<Buffer, CoreError> {
        let signers = &self.manifest.signers;
        let place = signers
            .iter()
            .position(|signer| signer.public_key == *key_pair.public_key())
            .ok_or(CoreError::NotWritable("the key pair is no signer"))?;
        let signature = sign_ed25519(&self.signable(tree, place)?, key_pair);
        if signers.len() != 1 || self.version() == 0 {
            return Ok(Buffer::from(signature));
        }
        let alone = PartialSignature {
            signer: 0,
            signature,
            patch: 0,
            nodes: Vec::new(),
        };
        self.assemble(&[alone])
    }

    pub(crate) fn assemble(&self, parts: &[PartialSignature]) -> Result<Buffer, CoreError> {
        let mut nodes = parts.iter().flat_map(|part| &part.nodes);
        if let Some(node) = nodes.find(|node| node.index > MAX_SAFE_INTEGER) {
            let (value, field) = (node.index, "node.index");
            return Err(EncodeError::UnsafeInteger { value, field }.into());
        }
        let bytes = if self.version() == 0 {
            assemble_v0(parts).encode()?
        } else {
            assemble(parts).encode()?
        };
        Ok(Buffer::from(bytes))
    }
}

/// One signer's part of a [multi-signature](crate::multisig).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialSignature {
    /// The signer's index in the manifest.
    pub signer: u64,
    /// The Ed25519 signature, 64 bytes.
    pub signature: [u8; 64],
    /// The number of signed blocks beyond the common ones; 0 for none. Needs `allow_patch`.
    pub patch: u64,
    /// The tree nodes of those blocks.
    pub nodes: Vec<Node>,
}

/// The length that a quorum of signers has signed, when each has signed one of `lengths`: the `quorum`-th longest. 0 if
/// there are fewer.
pub fn signable_length(lengths: &[u64], quorum: u64) -> u64 {
    let mut lengths = lengths.to_vec();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let place = usize::try_from(quorum.max(1) - 1).unwrap_or(usize::MAX);
    lengths.get(place).copied().unwrap_or(0)
}

fn assemble(parts: &[PartialSignature]) -> MultiSignature {
    let mut signature = MultiSignature::default();
    let mut seen = HashSet::new();
    for part in parts {
        let new = part.nodes.iter().filter(|node| seen.insert(node.index));
        signature.patch.extend(new);
        signature.proofs.push(Proof {
            signer: part.signer,
            signature: part.signature,
            patch: part.patch,
        });
    }
    signature
}

fn assemble_v0(parts: &[PartialSignature]) -> MultiSignatureV0 {
    let mut signature = MultiSignatureV0::default();
    for part in parts {
        let patch = part.nodes.last().filter(|_| part.patch != 0).map(|last| {
            let places = part.nodes.iter().map(|node| {
                let known = signature.patch.iter().position(|known| known == node);
                known.unwrap_or_else(|| {
                    signature.patch.push(*node);
                    signature.patch.len() - 1
                }) as u64
            });
            PatchV0 {
                start: spans(last.index).1 / 2 + 1,
                length: part.patch,
                nodes: places.collect(),
            }
        });
        signature.proofs.push(ProofV0 {
            signer: part.signer,
            signature: part.signature,
            patch,
        });
    }
    signature
}

/// The upgrade from `start` by `length` blocks, with nodes looked up in a patch.
fn patch_upgrade(patch: &HashMap<u64, Node>, start: u64, length: u64) -> Option<DataUpgrade> {
    let mut nodes = Vec::new();
    upgrade_path(start, start.checked_add(length)?, |at| {
        nodes.push(*patch.get(&at.index).ok_or(())?);
        Ok::<(), ()>(())
    })
    .ok()?;
    Some(DataUpgrade {
        start,
        length,
        nodes,
        ..DataUpgrade::default()
    })
}

/// Ed25519 as libsodium's `crypto_sign_verify_detached`: canonical scalars and keys only, no small-order points.
pub(crate) fn verify_ed25519(message: &[u8], signature: &[u8; 64], public_key: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public_key).is_ok_and(|key| {
        let is_canonical = key.to_edwards().compress().as_bytes() == public_key;
        is_canonical
            && key
                .verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
    })
}

fn sign_ed25519(message: &[u8], key_pair: &KeyPair) -> [u8; 64] {
    SigningKey::from_bytes(key_pair.seed())
        .sign(message)
        .to_bytes()
}
