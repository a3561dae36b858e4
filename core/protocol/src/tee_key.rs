//! The guest's key: made for one session, bound into its evidence, and the only key that opens what it is sent.
//!
//! The scalar is kept in `Secret` only; the provider's key object lives for one operation.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use coffer_core_secret::{NoRandomness, Secret, SecretBytes};

use crate::jwk::{Curve, EcKey, PublicKey};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum TeeKeyError {
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The scalar is zero, not below the order, or has the wrong length.
    #[error("not a private key on curve {0}")]
    Scalar(&'static str),
}

/// An EC private key of one session. Without `Debug`, `Clone` and `Serialize`.
pub struct TeeKey {
    scalar: SecretBytes,
    public: EcKey,
}

impl TeeKey {
    /// A new key on P-256.
    pub fn generate() -> Result<Self, TeeKeyError> {
        Self::generate_on(Curve::P256)
    }

    /// A new key on a curve.
    pub fn generate_on(curve: Curve) -> Result<Self, TeeKeyError> {
        // FIPS 186-5, appendix A.2.2: candidates are tried until one is in range. The first one is out of range once
        // in 2^32 on P-256, and on P-521, after its seven surplus bits are cut, never in practice.
        for _ in 0..8 {
            let random = Secret::<[u8; 66]>::random()?;
            let mut bytes = random.expose().iter().copied().take(curve.field_len()).collect::<Vec<u8>>();
            if let (Curve::P521, Some(first)) = (curve, bytes.first_mut()) {
                *first &= 1;
            }
            if let Ok(key) = Self::from_scalar(curve, SecretBytes::new(bytes)) {
                return Ok(key);
            }
        }
        Err(NoRandomness.into())
    }

    /// Takes a P-256 scalar, big endian.
    pub fn from_p256_scalar(scalar: Secret<[u8; 32]>) -> Result<Self, TeeKeyError> {
        Self::from_scalar(Curve::P256, SecretBytes::copy_of(scalar.expose()))
    }

    /// Takes a scalar of a curve, big endian and of the field's length.
    pub fn from_scalar(curve: Curve, scalar: SecretBytes) -> Result<Self, TeeKeyError> {
        let error = || TeeKeyError::Scalar(curve.name());
        let key = PrivateKey::from_private_key(curve.agreement(), scalar.expose()).map_err(|_| error())?;
        let point = key.compute_public_key().map_err(|_| error())?;
        let public = EcKey::from_point(curve, point.as_ref()).map_err(|_| error())?;
        Ok(Self { scalar, public })
    }

    /// The public part, as it is bound into evidence.
    pub fn public(&self) -> PublicKey {
        PublicKey::Ec(self.public.clone())
    }

    pub(crate) fn curve(&self) -> Curve {
        self.public.curve()
    }

    /// The shared secret Z with a peer's point.
    pub(crate) fn agree(&self, peer: &EcKey) -> Option<SecretBytes> {
        let own = PrivateKey::from_private_key(self.curve().agreement(), self.scalar.expose()).ok()?;
        agree(self.curve(), &own, peer)
    }
}

/// The sender's key of one message. It never leaves the provider.
pub(crate) struct EphemeralKey {
    private: PrivateKey,
    public: EcKey,
}

impl EphemeralKey {
    /// A new key on a curve.
    pub(crate) fn generate_on(curve: Curve) -> Option<Self> {
        let private = PrivateKey::generate(curve.agreement()).ok()?;
        let point = private.compute_public_key().ok()?;
        let public = EcKey::from_point(curve, point.as_ref()).ok()?;
        Some(Self { private, public })
    }

    pub(crate) fn public(&self) -> &EcKey {
        &self.public
    }

    /// The shared secret Z with a peer's point.
    pub(crate) fn agree(&self, peer: &EcKey) -> Option<SecretBytes> {
        agree(self.public.curve(), &self.private, peer)
    }
}

/// The shared secret Z (NIST SP 800-56A, section 5.7.1.2). The provider refuses points off the curve.
fn agree(curve: Curve, own: &PrivateKey, peer: &EcKey) -> Option<SecretBytes> {
    if peer.curve() != curve {
        return None;
    }
    let peer = UnparsedPublicKey::new(curve.agreement(), peer.to_point());
    agreement::agree(own, peer, (), |z| Ok(SecretBytes::copy_of(z))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_on_both_curves() {
        for curve in [Curve::P256, Curve::P521] {
            let (a, b) = (TeeKey::generate_on(curve).unwrap(), TeeKey::generate_on(curve).unwrap());
            let (ab, ba) = (a.agree(&b.public).unwrap(), b.agree(&a.public).unwrap());
            assert_eq!(ab.expose().len(), curve.field_len());
            assert!(ab.equals(ba.expose()));
        }
    }

    #[test]
    fn an_ephemeral_key_agrees_on_its_curve_and_on_no_other() {
        for (curve, other) in [(Curve::P256, Curve::P521), (Curve::P521, Curve::P256)] {
            let (own, peer) =
                (EphemeralKey::generate_on(curve).unwrap(), TeeKey::generate_on(curve).unwrap());
            let (z, theirs) = (own.agree(&peer.public).unwrap(), peer.agree(own.public()).unwrap());
            assert!(z.equals(theirs.expose()));
            assert!(own.agree(&TeeKey::generate_on(other).unwrap().public).is_none());
        }
    }

    #[test]
    fn scalars_out_of_range_are_refused() {
        assert!(TeeKey::from_p256_scalar(Secret::new([0; 32])).is_err());
        assert!(TeeKey::from_p256_scalar(Secret::new([0xff; 32])).is_err());
        assert!(TeeKey::from_scalar(Curve::P256, SecretBytes::new(vec![1; 31])).is_err());
        assert!(TeeKey::from_p256_scalar(Secret::new([1; 32])).is_ok());
    }

    #[test]
    fn keys_of_two_curves_do_not_agree() {
        let (a, b) = (TeeKey::generate().unwrap(), TeeKey::generate_on(Curve::P521).unwrap());
        assert!(a.agree(&b.public).is_none());
    }
}
