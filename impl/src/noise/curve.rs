//! Diffie-Hellman over Ed25519 points, as in noise-curve-ed 2.1.0 with libsodium.
//!
//! Public keys are 32-byte compressed Ed25519 points (not X25519 coordinates), private keys are the
//! 32-byte seeds of Ed25519 signing keys, and the scalar is the clamped first half of SHA-512(seed)
//! (noise-curve-ed 2.1.0, index.js). The exchange is libsodium's
//! `crypto_scalarmult_ed25519_noclamp`, which refuses more than a plain decompression does: see
//! [`CurveError`].

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use thiserror::Error;

use crate::keys::{Secret, half_hash};

/// Bytes of a public key, a seed and a shared point.
pub const KEY_BYTES: usize = 32;

/// Why libsodium's `crypto_scalarmult_ed25519_noclamp` would refuse a remote point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CurveError {
    /// The y coordinate is not reduced modulo 2^255 - 19, so the same point has another, canonical encoding.
    #[error("the point is not encoded canonically")]
    NonCanonical,
    /// No point of the curve has this y coordinate.
    #[error("the bytes are no point of the curve")]
    NotOnCurve,
    /// The point's order divides 8, so the result would not depend on our secret.
    #[error("the point has a small order")]
    SmallOrder,
    /// The point has a component of small order beside one of prime order.
    #[error("the point lies outside the prime-order subgroup")]
    OutsideSubgroup,
    /// The product is the neutral element.
    #[error("the shared point is the identity")]
    Identity,
}

/// The 32-byte public key of a seed, as derived by `crypto_sign_seed_keypair`.
#[must_use]
pub fn public_key(seed: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    EdwardsPoint::mul_base_clamped(*half_hash(seed))
        .compress()
        .to_bytes()
}

/// Whether the 255 bits of y are below 2^255 - 19. The sign bit is ignored, as in libsodium.
fn is_canonical(point: &[u8; KEY_BYTES]) -> bool {
    point[31] & 0x7f != 0x7f || point[1..31].iter().any(|byte| *byte != 0xff) || point[0] < 0xed
}

/// Checks that a public key is a point that libsodium would multiply.
///
/// # Errors
/// The first failed check of: canonical, on the curve, not of small order, in the subgroup.
pub fn check_public_key(public_key: &[u8; KEY_BYTES]) -> Result<(), CurveError> {
    decode(public_key).map(|_| ())
}

/// A remote public key that passed every check.
#[derive(Clone, Copy)]
pub(super) struct Point(EdwardsPoint);

pub(super) fn decode(public_key: &[u8; KEY_BYTES]) -> Result<Point, CurveError> {
    if !is_canonical(public_key) {
        return Err(CurveError::NonCanonical);
    }
    let point = CompressedEdwardsY(*public_key)
        .decompress()
        .ok_or(CurveError::NotOnCurve)?;
    if point.is_small_order() {
        return Err(CurveError::SmallOrder);
    }
    if !is_in_subgroup(&point) {
        return Err(CurveError::OutsideSubgroup);
    }
    Ok(Point(point))
}

/// Whether the group's prime order times the point is the neutral element, checked as (order - 1) times the point being
/// its opposite.
///
/// The order is public, so this need not be constant-time: a variable-time multiplication saves the additions with
/// which `EdwardsPoint::is_torsion_free` hides the scalar's digits.
fn is_in_subgroup(point: &EdwardsPoint) -> bool {
    let one_less = -Scalar::ONE;
    EdwardsPoint::vartime_double_scalar_mul_basepoint(&one_less, point, &Scalar::ZERO) == -point
}

/// The shared point of our seed and a remote public key: 32 bytes, compressed.
///
/// # Errors
/// [`CurveError`] where `crypto_scalarmult_ed25519_noclamp` returns -1.
pub fn dh(
    seed: &[u8; KEY_BYTES],
    public_key: &[u8; KEY_BYTES],
) -> Result<Secret<KEY_BYTES>, CurveError> {
    decode(public_key)?.times(seed)
}

impl Point {
    /// The shared point: see [`dh`].
    pub(super) fn times(&self, seed: &[u8; KEY_BYTES]) -> Result<Secret<KEY_BYTES>, CurveError> {
        let shared = self.0.mul_clamped(*half_hash(seed));
        if shared.is_identity() {
            return Err(CurveError::Identity);
        }
        Ok(shared.compress().to_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    fn point(seed: u8) -> EdwardsPoint {
        CompressedEdwardsY(public_key(&[seed; 32]))
            .decompress()
            .unwrap()
    }

    #[test]
    fn both_sides_share_a_point() {
        let (a, b) = ([1; 32], [2; 32]);
        assert_eq!(
            *dh(&a, &public_key(&b)).unwrap(),
            *dh(&b, &public_key(&a)).unwrap()
        );
        assert_ne!(
            *dh(&a, &public_key(&a)).unwrap(),
            *dh(&b, &public_key(&a)).unwrap()
        );
    }

    #[test]
    fn small_order_points_are_refused() {
        for torsion in EIGHT_TORSION {
            let mut bytes = torsion.compress().to_bytes();
            assert_eq!(dh(&[7; 32], &bytes).unwrap_err(), CurveError::SmallOrder);
            bytes[31] ^= 0x80;
            assert_eq!(dh(&[7; 32], &bytes).unwrap_err(), CurveError::SmallOrder);
        }
    }

    #[test]
    fn points_with_a_torsion_component_are_refused() {
        for torsion in &EIGHT_TORSION[1..] {
            let mixed = (point(9) + torsion).compress().to_bytes();
            assert_eq!(
                dh(&[7; 32], &mixed).unwrap_err(),
                CurveError::OutsideSubgroup
            );
        }
        assert!(
            dh(
                &[7; 32],
                &(point(9) + EIGHT_TORSION[0]).compress().to_bytes()
            )
            .is_ok()
        );
    }

    #[test]
    fn every_encoding_not_below_the_prime_is_refused() {
        for low in 0xed..=0xff_u8 {
            for high in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, high);
                assert_eq!(dh(&[7; 32], &bytes).unwrap_err(), CurveError::NonCanonical);
            }
        }
        // The value one below the prime is canonical, whatever its other faults.
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xec, 0x7f);
        assert_eq!(dh(&[7; 32], &bytes).unwrap_err(), CurveError::SmallOrder);
    }

    #[test]
    fn a_y_without_a_point_is_refused() {
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert_eq!(dh(&[7; 32], &bytes).unwrap_err(), CurveError::NotOnCurve);
    }

    /// Every point of the curve is one of these sums.
    #[test]
    fn the_subgroup_is_told_from_its_seven_cosets() {
        for seed in 0..32 {
            for (at, torsion) in EIGHT_TORSION.iter().enumerate() {
                let sum = point(seed) + torsion;
                assert_eq!(is_in_subgroup(&sum), at == 0, "coset {at} of seed {seed}");
                assert_eq!(is_in_subgroup(&sum), sum.is_torsion_free());
                assert_eq!(is_in_subgroup(torsion), torsion.is_torsion_free());
            }
        }
    }

    proptest! {
        #[test]
        fn the_subgroup_is_the_one_of_the_plain_check(bytes: [u8; 32]) {
            if let Some(point) = CompressedEdwardsY(bytes).decompress() {
                prop_assert_eq!(is_in_subgroup(&point), point.is_torsion_free());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(seed: [u8; 32], bytes: [u8; 32]) {
            if dh(&seed, &bytes).is_ok() {
                let decoded = CompressedEdwardsY(bytes).decompress().unwrap();
                prop_assert!(decoded.is_torsion_free());
                prop_assert_eq!(decoded.compress().to_bytes(), bytes);
            }
        }
    }
}
