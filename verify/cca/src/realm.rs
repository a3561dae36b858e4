//! The realm's claims (DEN0137, A7.2.3.1; draft-ffm-rats-cca-token-03).

use coffer_core_cose::cbor::{self, Value};
use coffer_core_cose::{Curve, PublicKey};
use coffer_core_digest::{Algorithm, Digest};

use crate::members::{ClaimError, Members, digest, wrong};

/// Profiles that are known, and whether they ask for a policy of memory encryption contexts. A token without a
/// profile is of the first specification.
const PROFILES: [(&str, bool); 2] =
    [("tag:arm.com,2023:realm#1.0.0", false), ("tag:arm.com,2024:realm#2.0.0", true)];

/// What a realm management monitor says of a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmClaims {
    /// The profile; none in the first specification.
    pub profile: Option<String>,
    /// What the realm asked to have signed.
    pub challenge: [u8; 64],
    /// What the host named the realm by when it made it.
    pub personalization_value: [u8; 64],
    /// The measurement of the realm as it was made.
    pub initial_measurement: Digest,
    /// The four measurements that the realm extends.
    pub extensible_measurements: [Digest; 4],
    /// How it is measured.
    pub hash_algorithm: String,
    /// The key that signs, as it is in the token; this is what the platform hashes.
    pub public_key: Vec<u8>,
    /// The same, parsed.
    pub key: PublicKey,
    /// How the platform hashes the key.
    pub public_key_hash: String,
    /// Who may share the realm's memory encryption context: `private`, `shared`, or a number. Since RMM 2.0.
    pub mec_policy: Option<String>,
}

impl RealmClaims {
    /// Reads the payload of a realm's token.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimError> {
        let claims = Members::parse(payload)?;
        let profile = claims.optional(265, |claims| claims.text(265, "profile"))?;
        let known = |name: &String| PROFILES.iter().find(|(known, _)| known == name).map(|(_, mec)| *mec);
        let with_mec = match &profile {
            None => false,
            Some(name) => known(name).ok_or_else(|| ClaimError::Profile(name.clone()))?,
        };
        let public_key = claims.bytes(44237, "public key")?;
        let key = key(&public_key, profile.is_some())?;
        Ok(Self {
            challenge: claims.array(10, "challenge", "64 bytes")?,
            personalization_value: claims.array(44235, "personalization value", "64 bytes")?,
            initial_measurement: claims.digest(44238, "initial measurement")?,
            extensible_measurements: claims.read(
                44239,
                "extensible measurements",
                "4 times 32, 48 or 64 bytes",
                |value| {
                    let values: Option<Vec<Digest>> = value.as_array()?.iter().map(digest).collect();
                    values?.try_into().ok()
                },
            )?,
            hash_algorithm: claims.text(44236, "hash algorithm")?,
            public_key,
            key,
            public_key_hash: claims.text(44240, "public key hash algorithm")?,
            mec_policy: match with_mec {
                true => Some(claims.read(
                    44243,
                    "MEC policy",
                    "private, shared, or a small number",
                    mec_policy,
                )?),
                false => None,
            },
            profile,
        })
    }

    /// The hash of the key, which the platform must have signed; none if the algorithm is not known.
    pub(crate) fn key_hash(&self) -> Option<Digest> {
        let algorithm = match self.public_key_hash.as_str() {
            "sha-256" => Algorithm::Sha256,
            "sha-384" => Algorithm::Sha384,
            "sha-512" => Algorithm::Sha512,
            _ => return None,
        };
        Some(Digest::of(algorithm, &self.public_key))
    }
}

/// A point in the first specification, a COSE_Key since there are profiles.
fn key(bytes: &[u8], has_profile: bool) -> Result<PublicKey, ClaimError> {
    match Curve::of_length(bytes.len()).filter(|_| !has_profile && bytes.first() == Some(&4)) {
        Some(curve) => Ok(PublicKey::from_point(curve, bytes)?),
        None => {
            let value =
                cbor::decode(bytes).map_err(|_| wrong("public key", "a point or a COSE_Key", None))?;
            Ok(PublicKey::from_cose_key(&value)?)
        }
    }
}

fn mec_policy(value: &Value) -> Option<String> {
    match (value.as_text(), value.as_u64()) {
        (Some(name @ ("private" | "shared")), _) => Some(name.to_owned()),
        (_, Some(number @ 0..=255)) => Some(number.to_string()),
        _ => None,
    }
}
