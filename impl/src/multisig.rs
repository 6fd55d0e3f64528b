//! Multi-signatures: several signers' signatures of a tree in one.
//!
//! Read from hypercore 11.37.1, `lib/messages.js` (`multiSignature`, `multiSignaturev0`) and `lib/verifier.js`. A core
//! with a manifest of version 1 or later uses one even with a single signer.

use std::fmt;

use crate::buffer::ShortHex;
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
use crate::wire::Node;

/// The signature of a core with a manifest of version 1 or later: `proofs[]`, `patch[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiSignature {
    /// A signature of each signer that has signed.
    pub proofs: Vec<Proof>,
    /// Tree nodes that lead from the proven tree to the signed ones, for signers of another length.
    pub patch: Vec<Node>,
}

/// One signer's part: `uint signer`, `fixed64 signature`, `uint patch`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// The signer's index in the manifest.
    pub signer: u64,
    /// The Ed25519 signature, 64 bytes.
    pub signature: [u8; 64],
    /// How many blocks beyond the proven ones this signer has signed; 0 for none.
    pub patch: u64,
}

/// The signature of a core with a version 0 manifest of several signers: `proofs[]`, `patch[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiSignatureV0 {
    /// A signature of each signer that has signed.
    pub proofs: Vec<ProofV0>,
    /// The tree nodes that the proofs' patches point to.
    pub patch: Vec<Node>,
}

/// One signer's part: `uint flags` (1 patch), `uint signer`, `fixed64 signature`, and the patch if flagged.
#[derive(Clone, PartialEq, Eq)]
pub struct ProofV0 {
    /// The signer's index in the manifest.
    pub signer: u64,
    /// The Ed25519 signature, 64 bytes.
    pub signature: [u8; 64],
    /// Flag 1: the path to the signed tree.
    pub patch: Option<PatchV0>,
}

/// `uint start`, `uint length`, `nodes[]` of `uint`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchV0 {
    /// The start of the patch, in blocks.
    pub start: u64,
    /// Its length in blocks.
    pub length: u64,
    /// Indexes into [`MultiSignatureV0::patch`].
    pub nodes: Vec<u64>,
}

const PATCH: u64 = 1;

impl Decode for MultiSignature {
    const MIN_LEN: usize = 2;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            proofs: decoder.array("proofs")?,
            patch: decoder.array("patch")?,
        })
    }
}

impl Encode for MultiSignature {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.array(&self.proofs, "proofs")?;
        encoder.array(&self.patch, "patch")
    }
}

impl Decode for Proof {
    const MIN_LEN: usize = 66;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            signer: decoder.uint("proof.signer")?,
            signature: decoder.fixed("proof.signature")?,
            patch: decoder.uint("proof.patch")?,
        })
    }
}

impl Encode for Proof {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.signer, "proof.signer")?;
        encoder.raw(&self.signature);
        encoder.uint(self.patch, "proof.patch")
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("signer", &self.signer)
            .field("signature", &ShortHex(&self.signature))
            .field("patch", &self.patch)
            .finish()
    }
}

impl Decode for MultiSignatureV0 {
    const MIN_LEN: usize = 2;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            proofs: decoder.array("proofs")?,
            patch: decoder.array("patch")?,
        })
    }
}

impl Encode for MultiSignatureV0 {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.array(&self.proofs, "proofs")?;
        encoder.array(&self.patch, "patch")
    }
}

impl Decode for ProofV0 {
    const MIN_LEN: usize = 66;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = decoder.flags(PATCH, "proof.flags")?;
        let signer = decoder.uint("proof.signer")?;
        let signature = decoder.fixed("proof.signature")?;
        let patch = (flags & PATCH != 0)
            .then(|| PatchV0::decode_from(decoder))
            .transpose()?;
        Ok(Self {
            signer,
            signature,
            patch,
        })
    }
}

impl Encode for ProofV0 {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(if self.patch.is_some() { PATCH } else { 0 }, "proof.flags")?;
        encoder.uint(self.signer, "proof.signer")?;
        encoder.raw(&self.signature);
        self.patch
            .as_ref()
            .map_or(Ok(()), |patch| patch.encode_to(encoder))
    }
}

impl fmt::Debug for ProofV0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofV0")
            .field("signer", &self.signer)
            .field("signature", &ShortHex(&self.signature))
            .field("patch", &self.patch)
            .finish()
    }
}

impl Decode for PatchV0 {
    const MIN_LEN: usize = 3;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            start: decoder.uint("proof.patch.start")?,
            length: decoder.uint("proof.patch.length")?,
            nodes: decoder.array_with(1, "proof.patch.nodes", |decoder| {
                decoder.uint("proof.patch.nodes")
            })?,
        })
    }
}

impl Encode for PatchV0 {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.start, "proof.patch.start")?;
        encoder.uint(self.length, "proof.patch.length")?;
        encoder.array_with(&self.nodes, "proof.patch.nodes", |encoder, node| {
            encoder.uint(*node, "proof.patch.nodes")
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::tests::{check_codec, safe_integer};
    use crate::wire::tests::node;

    fn signature() -> impl Strategy<Value = [u8; 64]> {
        any::<u8>().prop_map(|byte| [byte; 64])
    }

    proptest! {
        #[test]
        fn multi_signatures_round_trip(
            proofs in vec((safe_integer(), signature(), safe_integer()), 0..4),
            patch in vec(node(), 0..4),
        ) {
            let proofs = proofs
                .into_iter()
                .map(|(signer, signature, patch)| Proof { signer, signature, patch })
                .collect();
            check_codec(&MultiSignature { proofs, patch }, true);
        }

        #[test]
        fn version_0_round_trips(
            proofs in vec((
                safe_integer(),
                signature(),
                option::of((safe_integer(), safe_integer(), vec(safe_integer(), 0..4))),
            ), 0..4),
            patch in vec(node(), 0..4),
        ) {
            let proofs = proofs
                .into_iter()
                .map(|(signer, signature, patch)| {
                    let patch = patch
                        .map(|(start, length, nodes)| PatchV0 { start, length, nodes });
                    ProofV0 { signer, signature, patch }
                })
                .collect();
            check_codec(&MultiSignatureV0 { proofs, patch }, true);
        }
    }

    #[test]
    fn layouts_are_nodes() {
        // H stands for 04 repeated 32 times.
        let hex = |bytes: Vec<u8>| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            hex.replace(&"04".repeat(32), "H")
        };
        let patch = vec![Node {
            index: 2,
            size: 3,
            hash: [4; 32],
        }];
        let signature = MultiSignature {
            proofs: vec![Proof {
                signer: 1,
                signature: [4; 64],
                patch: 5,
            }],
            patch: patch.clone(),
        };
        assert_eq!(hex(signature.encode().unwrap()), "0101HH05010203H");
        let proof = |signer, patch| ProofV0 {
            signer,
            signature: [4; 64],
            patch,
        };
        let way = PatchV0 {
            start: 2,
            length: 3,
            nodes: vec![0],
        };
        let signature = MultiSignatureV0 {
            proofs: vec![proof(1, Some(way)), proof(0, None)],
            patch,
        };
        let expected = "020101HH020301000000HH010203H";
        assert_eq!(hex(signature.encode().unwrap()), expected);
    }
}
