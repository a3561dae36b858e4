//! Tokens that this process signed: their bytes need no verification a second time, and no parsing.
//!
//! INVARIANT: a token is known only by the hash of all its bytes, and what is kept is what was signed. Its time is
//! asked again at each use. Whatever is not known here is verified by its signature, as after a restart.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_digest::Digest;
use coffer_core_protocol::ear::{Ear, EarError};
use coffer_core_protocol::jws::{JwsError, SigningKey};
use coffer_core_protocol::token_keys::TokenKeys;

/// How many are kept. A token lives for minutes, and most guests use theirs at once.
const MAX_KEPT: usize = 1024;
/// A longer token is not kept.
const MAX_TOKEN: usize = 16 << 10;

/// An attestation result, and its claims as text: what a policy sees.
pub(crate) struct Attested {
    pub(crate) ear: Ear,
    pub(crate) claims: String,
}

impl Attested {
    pub(crate) fn new(ear: Ear) -> Result<Self, JwsError> {
        let claims = serde_json::to_string(&ear)?;
        Ok(Self { ear, claims })
    }

    pub(crate) fn sign(&self, key: &SigningKey) -> Result<String, JwsError> {
        key.sign_jwt_text(&self.claims)
    }
}

/// The tokens of this process.
#[derive(Default)]
pub(crate) struct Issued(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    results: HashMap<Digest, Arc<Attested>>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

impl Issued {
    /// Keeps what was just signed.
    pub(crate) fn keep(&self, token: &str, result: Attested) {
        if token.len() > MAX_TOKEN {
            return;
        }
        let name = Digest::sha256(token.as_bytes());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.results.insert(name, Arc::new(result)).is_none() {
            kept.order.push_back(name);
        }
        if kept.order.len() > MAX_KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.results.remove(&oldest);
        }
    }

    /// As [`TokenKeys::verify`].
    pub(crate) fn verify(&self, token: &str, keys: &TokenKeys, now: u64) -> Result<Arc<Attested>, EarError> {
        let name = Digest::sha256(token.as_bytes());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).results.get(&name).cloned();
        match known {
            Some(known) => known.ear.check_time(now).map(|()| known),
            None => Ok(Arc::new(Attested::new(keys.verify(token, now)?)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use coffer_core_protocol::ear::{CPU, PROFILE, Submodule, TrustVector, VerifierId};
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_795_132_800;

    fn ear(attempt: u64) -> Ear {
        let cpu = Submodule {
            status: coffer_core_protocol::ear::Status::Affirming,
            trust: TrustVector::default(),
            policy: "coffer".into(),
            evidence: json!({"tpm": {"pcr00": "00", "n": 1.5}, "attempt": attempt})
                .as_object()
                .unwrap()
                .clone(),
            identifiers: None,
        };
        Ear {
            profile: PROFILE.into(),
            iat: NOW,
            verifier: VerifierId { developer: "coffer".into(), build: "1".into() },
            submods: [(CPU.to_string(), cpu)].into(),
            exp: NOW + 300,
            nbf: None,
            iss: "coffer-broker".into(),
        }
    }

    fn issue(issued: &Issued, key: &SigningKey, attempt: u64) -> String {
        let result = Attested::new(ear(attempt)).unwrap();
        let token = result.sign(key).unwrap();
        issued.keep(&token, result);
        token
    }

    /// The same key, as a tenant has it.
    fn keys(key: &SigningKey) -> TokenKeys {
        TokenKeys::new(SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap())
    }

    fn told(issued: &Issued, token: &str, key: &SigningKey, now: u64) -> Result<(Ear, String), String> {
        let result = issued.verify(token, &keys(key), now).map_err(|error| error.to_string())?;
        Ok((result.ear.clone(), result.claims.clone()))
    }

    #[test]
    fn a_token_that_is_known_is_answered_as_one_that_is_not_at_every_time() {
        let key = SigningKey::generate().unwrap();
        let (known, unknown) = (Issued::default(), Issued::default());
        let token = issue(&known, &key, 1);
        for now in [0, NOW - 3600, NOW - 1, NOW, NOW + 299, NOW + 300, NOW + 7200] {
            assert_eq!(told(&known, &token, &key, now), told(&unknown, &token, &key, now), "{now}");
        }
        assert_eq!(told(&known, &token, &key, NOW).unwrap().0, ear(1));
    }

    #[test]
    fn a_token_changed_in_any_byte_is_not_known() {
        let key = SigningKey::generate().unwrap();
        let issued = Issued::default();
        let token = issue(&issued, &key, 1);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(told(&issued, &changed, &key, NOW).is_err(), "byte {at}");
        }
        assert!(told(&issued, &format!("{token} "), &key, NOW).is_err());
        assert!(told(&issued, &token[..token.len() - 1], &key, NOW).is_err());
    }

    #[test]
    fn no_more_are_kept_than_the_bound_and_those_forgotten_are_verified() {
        let key = SigningKey::generate().unwrap();
        let issued = Issued::default();
        let first = issue(&issued, &key, 0);
        for attempt in 1..=MAX_KEPT as u64 {
            issued.keep(&format!("token {attempt}"), Attested::new(ear(attempt)).unwrap());
        }
        let long = Attested::new(ear(7)).unwrap();
        issued.keep(&"x".repeat(MAX_TOKEN + 1), long);
        {
            let kept = issued.0.lock().unwrap();
            assert_eq!((kept.results.len(), kept.order.len()), (MAX_KEPT, MAX_KEPT));
            assert!(!kept.results.contains_key(&Digest::sha256(first.as_bytes())));
        }
        assert_eq!(told(&issued, &first, &key, NOW).unwrap().0, ear(0));
        let other = SigningKey::generate().unwrap();
        assert!(told(&issued, &first, &other, NOW).is_err());
    }
}
