//! The keys of our tokens through their rotation: one signs, those before it verify until their last token has ended.
//!
//! Holds true: what is published is exactly what verifies. Left out: storing the keys, and deciding when to rotate.

use crate::ear::{Ear, EarError};
use crate::jwks::JwkSet;
use crate::jws::{SigningKey, VerifyingKey};

/// How much longer a former key is kept than its last token lives, for clocks that differ.
const CLOCK_SKEW_S: u64 = 60;

/// A key that signs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerKey {
    /// Its public part.
    pub key: VerifyingKey,
    /// When its last token ends, in seconds since 1970.
    pub until_s: u64,
}

/// The key that signs and those that signed before.
pub struct TokenKeys {
    current: SigningKey,
    former: Vec<FormerKey>,
    /// The public parts, the present one first, as [`Ear::verify`] takes them.
    pinned: Vec<VerifyingKey>,
}

impl TokenKeys {
    /// One key.
    pub fn new(current: SigningKey) -> Self {
        Self::with_former(current, Vec::new())
    }

    /// One key, and those that are still of use.
    pub fn with_former(current: SigningKey, former: Vec<FormerKey>) -> Self {
        let own = std::iter::once(current.verifying_key().clone());
        let pinned = own.chain(former.iter().map(|former| former.key.clone())).collect();
        Self { current, former, pinned }
    }

    /// Signs from now on with another key. `lifetime_s` is that of the tokens which the present key has signed.
    #[must_use]
    pub fn rotate(self, next: SigningKey, now_s: u64, lifetime_s: u64) -> Self {
        let until_s = now_s.saturating_add(lifetime_s).saturating_add(CLOCK_SKEW_S);
        let mut former: Vec<FormerKey> =
            self.former.into_iter().filter(|former| now_s < former.until_s).collect();
        former.push(FormerKey { key: self.current.verifying_key().clone(), until_s });
        Self::with_former(next, former)
    }

    /// The key that signs.
    pub fn current(&self) -> &SigningKey {
        &self.current
    }

    /// The keys that signed before, to be stored.
    pub fn former(&self) -> &[FormerKey] {
        &self.former
    }

    /// Reads a token that one of the keys signed. A former key whose time has passed verifies nothing.
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Ear, EarError> {
        if self.former.iter().all(|former| now_s < former.until_s) {
            return Ear::verify(token, &self.pinned, now_s);
        }
        let live: Vec<VerifyingKey> = self.live(now_s).cloned().collect();
        Ear::verify(token, &live, now_s)
    }

    /// What is published now.
    pub fn published(&self, now_s: u64) -> JwkSet {
        JwkSet::of(self.live(now_s))
    }

    fn live(&self, now_s: u64) -> impl Iterator<Item = &VerifyingKey> {
        let former = self.former.iter().filter(move |former| now_s < former.until_s);
        std::iter::once(self.current.verifying_key()).chain(former.map(|former| &former.key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ear::{LIFETIME_S, PROFILE, VerifierId};

    const NOW: u64 = 1_800_000_000;

    fn token(keys: &TokenKeys, now: u64) -> String {
        let verifier = VerifierId { developer: "coffer".into(), build: "0".into() };
        let submods = BTreeMap::new();
        let ear = Ear {
            profile: PROFILE.into(),
            iat: now,
            verifier,
            submods,
            exp: now + LIFETIME_S,
            nbf: None,
            iss: "coffer".into(),
        };
        ear.sign(keys.current()).unwrap()
    }

    #[test]
    fn a_rotation_invalidates_no_token_and_old_keys_go_when_their_last_token_has() {
        let first = TokenKeys::new(SigningKey::generate().unwrap());
        let old = token(&first, NOW);
        let name = first.current().verifying_key().thumbprint();
        let second = first.rotate(SigningKey::generate().unwrap(), NOW + 1, LIFETIME_S);
        assert!(second.verify(&old, NOW + LIFETIME_S - 1).is_ok());
        assert!(second.verify(&token(&second, NOW + 2), NOW + 2).is_ok());
        assert_eq!(second.published(NOW + 2).keys().len(), 2);
        assert_eq!(second.published(NOW + LIFETIME_S + 60).named(&name).count(), 1);
        assert_eq!(second.published(NOW + LIFETIME_S + 61).named(&name).count(), 0);
        let third = second.rotate(SigningKey::generate().unwrap(), NOW + LIFETIME_S + 61, LIFETIME_S);
        assert_eq!(third.former().len(), 1);
    }

    #[test]
    fn a_token_that_a_withdrawn_key_signed_is_refused_even_if_it_claims_to_live_on() {
        let first = TokenKeys::new(SigningKey::generate().unwrap());
        let late = token(&first, NOW + LIFETIME_S + 100);
        let second = first.rotate(SigningKey::generate().unwrap(), NOW, LIFETIME_S);
        let now = NOW + LIFETIME_S + 100;
        assert!(matches!(second.verify(&late, now), Err(EarError::Signature(_))));
        assert!(second.verify(&token(&second, now), now).is_ok());
    }
}
