//! The guest's key: made for one session, bound into its evidence, and the only key that opens what it is sent.
//!
//! A scalar is kept in `Secret` only; the provider's key object lives for one operation. A decapsulation key stays
//! inside the provider, which wipes it.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, ML_KEM_768};
use coffer_core_secret::{NoRandomness, Secret, SecretBytes};

use crate::jwk::{Curve, EcKey, HybridKey, MlKemKey, PublicKey};
use crate::kmac::Kmac256;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum TeeKeyError {
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The scalar is zero, not below the order, or has the wrong length.
    #[error("not a private key on curve {0}")]
    Scalar(&'static str),
    /// The provider made no ML-KEM key.
    #[error("the provider made no key of ML-KEM-768; start the machine again")]
    MlKem,
}

/// A private key of one session. Without `Debug`, `Clone` and `Serialize`.
pub struct TeeKey(pub(crate) Kind);

/// What a session's key consists of.
pub(crate) enum Kind {
    Ec(EcPrivate),
    MlKem(MlKemPrivate, Kmac256),
    Hybrid(Box<HybridPrivate>),
}

/// A scalar with its point.
pub(crate) struct EcPrivate {
    scalar: SecretBytes,
    public: EcKey,
}

/// A decapsulation key with its encapsulation key.
pub(crate) struct MlKemPrivate {
    private: DecapsulationKey,
    public: MlKemKey,
}

/// Both, and the public part that they make together.
pub(crate) struct HybridPrivate {
    pub(crate) ec: EcPrivate,
    pub(crate) kem: MlKemPrivate,
    pub(crate) public: HybridKey,
}

impl TeeKey {
    /// A new key on P-256.
    pub fn generate() -> Result<Self, TeeKeyError> {
        Self::generate_on(Curve::P256)
    }

    /// A new key on a curve.
    pub fn generate_on(curve: Curve) -> Result<Self, TeeKeyError> {
        Ok(Self(Kind::Ec(EcPrivate::generate(curve)?)))
    }

    /// A new hybrid key: P-256 and ML-KEM-768, both of which an adversary must break.
    pub fn generate_hybrid() -> Result<Self, TeeKeyError> {
        Self::hybrid_of(EcPrivate::generate(Curve::P256)?, MlKemPrivate::generate()?)
    }

    /// A new key of ML-KEM-768 in upstream's form.
    pub fn generate_ml_kem(kmac: Kmac256) -> Result<Self, TeeKeyError> {
        Ok(Self(Kind::MlKem(MlKemPrivate::generate()?, kmac)))
    }

    /// Takes a P-256 scalar, big endian.
    pub fn from_p256_scalar(scalar: Secret<[u8; 32]>) -> Result<Self, TeeKeyError> {
        Self::from_scalar(Curve::P256, SecretBytes::copy_of(scalar.expose()))
    }

    /// Takes a scalar of a curve, big endian and of the field's length.
    pub fn from_scalar(curve: Curve, scalar: SecretBytes) -> Result<Self, TeeKeyError> {
        Ok(Self(Kind::Ec(EcPrivate::from_scalar(curve, scalar)?)))
    }

    /// The public part, as it is bound into evidence.
    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Kind::Ec(key) => PublicKey::Ec(key.public.clone()),
            Kind::MlKem(key, _) => PublicKey::MlKem(key.public.clone()),
            Kind::Hybrid(key) => PublicKey::Hybrid(key.public.clone()),
        }
    }

    pub(crate) fn hybrid_of(ec: EcPrivate, kem: MlKemPrivate) -> Result<Self, TeeKeyError> {
        let public = HybridKey::new(ec.public.clone(), kem.public.clone());
        let public = public.map_err(|_| TeeKeyError::Scalar(ec.curve().name()))?;
        Ok(Self(Kind::Hybrid(Box::new(HybridPrivate { ec, kem, public }))))
    }
}

impl EcPrivate {
    fn generate(curve: Curve) -> Result<Self, TeeKeyError> {
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

    pub(crate) fn from_scalar(curve: Curve, scalar: SecretBytes) -> Result<Self, TeeKeyError> {
        let error = || TeeKeyError::Scalar(curve.name());
        let key = PrivateKey::from_private_key(curve.agreement(), scalar.expose()).map_err(|_| error())?;
        let point = key.compute_public_key().map_err(|_| error())?;
        let public = EcKey::from_point(curve, point.as_ref()).map_err(|_| error())?;
        Ok(Self { scalar, public })
    }

    pub(crate) fn curve(&self) -> Curve {
        self.public.curve()
    }

    #[cfg(test)]
    pub(crate) fn public(&self) -> &EcKey {
        &self.public
    }

    /// The shared secret Z with a peer's point.
    pub(crate) fn agree(&self, peer: &EcKey) -> Option<SecretBytes> {
        let own = PrivateKey::from_private_key(self.curve().agreement(), self.scalar.expose()).ok()?;
        agree(self.curve(), &own, peer)
    }
}

impl MlKemPrivate {
    fn generate() -> Result<Self, TeeKeyError> {
        let private = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| TeeKeyError::MlKem)?;
        let public = private.encapsulation_key().and_then(|key| Ok(key.key_bytes()?.as_ref().to_vec()));
        let public = MlKemKey::from_bytes(public.map_err(|_| TeeKeyError::MlKem)?);
        Ok(Self { private, public: public.map_err(|_| TeeKeyError::MlKem)? })
    }

    /// Takes an expanded decapsulation key, which holds its encapsulation key (FIPS 203, algorithm 16).
    #[cfg(test)]
    pub(crate) fn from_expanded(bytes: &[u8]) -> Self {
        let private = DecapsulationKey::new(&ML_KEM_768, bytes).unwrap();
        Self { private, public: MlKemKey::from_bytes(bytes[1152..2336].to_vec()).unwrap() }
    }

    /// The shared secret of a ciphertext. One that was made for another key gives a secret that nobody else has
    /// (FIPS 203, algorithm 18: implicit rejection).
    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Option<SecretBytes> {
        let secret = self.private.decapsulate(Ciphertext::from(ciphertext)).ok()?;
        Some(SecretBytes::copy_of(secret.as_ref()))
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
            let (a, b) = (EcPrivate::generate(curve).unwrap(), EcPrivate::generate(curve).unwrap());
            let (ab, ba) = (a.agree(&b.public).unwrap(), b.agree(&a.public).unwrap());
            assert_eq!(ab.expose().len(), curve.field_len());
            assert!(ab.equals(ba.expose()));
        }
    }

    #[test]
    fn an_ephemeral_key_agrees_on_its_curve_and_on_no_other() {
        for (curve, other) in [(Curve::P256, Curve::P521), (Curve::P521, Curve::P256)] {
            let (own, peer) =
                (EphemeralKey::generate_on(curve).unwrap(), EcPrivate::generate(curve).unwrap());
            let (z, theirs) = (own.agree(&peer.public).unwrap(), peer.agree(own.public()).unwrap());
            assert!(z.equals(theirs.expose()));
            assert!(own.agree(&EcPrivate::generate(other).unwrap().public).is_none());
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
        let (a, b) = (EcPrivate::generate(Curve::P256).unwrap(), EcPrivate::generate(Curve::P521).unwrap());
        assert!(a.agree(&b.public).is_none());
    }

    #[test]
    fn both_sides_of_an_encapsulation_have_the_secret_and_a_changed_ciphertext_gives_another() {
        let key = MlKemPrivate::generate().unwrap();
        let (ciphertext, secret) = key.public.to_provider().unwrap().encapsulate().unwrap();
        assert!(key.decapsulate(ciphertext.as_ref()).unwrap().equals(secret.as_ref()));
        let mut changed = ciphertext.as_ref().to_vec();
        changed[7] ^= 1;
        assert!(!key.decapsulate(&changed).unwrap().equals(secret.as_ref()));
        assert!(key.decapsulate(&changed[1..]).is_none());
    }

    #[test]
    fn no_two_hybrid_keys_are_alike() {
        let keys = [0, 1].map(|_| match TeeKey::generate_hybrid().unwrap().public() {
            PublicKey::Hybrid(key) => key,
            _ => panic!("not hybrid"),
        });
        assert_ne!(keys[0].point, keys[1].point);
        assert_ne!(keys[0].kem, keys[1].kem);
    }
}
