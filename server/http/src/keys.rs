//! The broker's own keys, in the store: the token's, the challenges', and the admins' public ones.

use std::path::Path;

use coffer_core_protocol::handshake::relying_party::ClusterKey;
use coffer_core_protocol::jws::{Compact, SigningKey, VerifyingKey};
use coffer_core_secret::{Secret, SecretBytes};
use coffer_server_store::{Store, StoreError, Table, files};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use crate::error::OpenError;

const TOKEN_KEY: &str = "token/1";
const CHALLENGE_PREFIX: &str = "challenge/";
const ADMIN_PREFIX: &str = "admin/";
/// A challenge lives five minutes, so a key that was replaced is of use for a day at most.
const EPOCH_S: u64 = 24 * 3600;
const CLOCK_SKEW_S: u64 = 60;
/// Upstream's `kbs-client` signs for two hours; ours for two minutes.
const MAX_ADMIN_LIFETIME_S: u64 = 2 * 3600;
/// Who an admin's token is for, if it says so.
const AUDIENCE: &str = "coffer-broker";

/// The key that signs tokens, made at first use.
pub(crate) fn token_key(store: &Store) -> Result<SigningKey, OpenError> {
    if let Some(document) = store.get(Table::Keys, TOKEN_KEY)? {
        return SigningKey::from_pkcs8(&document)
            .map_err(|_| OpenError::Key("the token key in the store is not usable"));
    }
    let key = SigningKey::generate().map_err(|_| OpenError::Key("no token key could be made"))?;
    let document = key.to_pkcs8().map_err(|_| OpenError::Key("no token key could be made"))?;
    store.put(Table::Keys, TOKEN_KEY, document.expose())?;
    Ok(key)
}

/// The keys that seal challenges: the present one, and the one before it.
pub(crate) struct ChallengeKeys {
    pub(crate) current: ClusterKey,
    pub(crate) previous: Option<ClusterKey>,
}

/// Loads the challenge keys, and begins a new epoch if the present one is over.
pub(crate) fn challenge_keys(store: &Store, now: u64) -> Result<ChallengeKeys, OpenError> {
    let unusable = || OpenError::Key("a challenge key in the store is not usable");
    let mut epochs = Vec::new();
    for (name, value) in store.list(Table::Keys)? {
        let Some(epoch) = name.strip_prefix(CHALLENGE_PREFIX) else { continue };
        let epoch: u64 = epoch.parse().map_err(|_| unusable())?;
        let (made_at, key) = value.expose().split_first_chunk::<8>().ok_or_else(unusable)?;
        let key = <[u8; 32]>::try_from(key).map_err(|_| unusable())?;
        epochs.push((epoch, u64::from_be_bytes(*made_at), Secret::new(key)));
    }
    epochs.sort_by_key(|(epoch, _, _)| std::cmp::Reverse(*epoch));
    let last = epochs.first().map(|(epoch, made_at, _)| (*epoch, *made_at));
    let fresh = last.is_some_and(|(_, made_at)| now.saturating_sub(made_at) < EPOCH_S);
    let mut epochs = epochs.into_iter();
    if fresh {
        let (_, _, key) = epochs.next().ok_or_else(unusable)?;
        let previous = epochs.next().map(|(_, _, key)| ClusterKey::new(key));
        return Ok(ChallengeKeys { current: ClusterKey::new(key), previous });
    }
    let next = last.map_or(1, |(epoch, _)| epoch.saturating_add(1));
    let current = ClusterKey::generate().map_err(|_| OpenError::Key("no challenge key could be made"))?;
    let value = SecretBytes::new([now.to_be_bytes().as_slice(), current.secret().expose()].concat());
    let previous = epochs.next().map(|(_, _, key)| ClusterKey::new(key));
    let old: Vec<String> = epochs.map(|(epoch, _, _)| format!("{CHALLENGE_PREFIX}{epoch}")).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    store.put_and_delete(Table::Keys, &[(&format!("{CHALLENGE_PREFIX}{next}"), value.expose())], &old)?;
    Ok(ChallengeKeys { current, previous })
}

/// The public keys of admins.
pub(crate) struct Admins(Vec<VerifyingKey>);

#[derive(Deserialize)]
struct AdminClaims {
    iat: u64,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default)]
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The request does not carry a token of an admin. Why not is said to nobody.
pub(crate) struct NotAdmin;

impl Admins {
    /// Loads the admins' keys; makes the first one's at `path` if there is none. Says whether it was made.
    pub(crate) fn load(store: &Store, path: &Path) -> Result<(Self, bool), OpenError> {
        let mut admins = Vec::new();
        for (name, value) in store.list(Table::Keys)? {
            if name.starts_with(ADMIN_PREFIX) {
                let key = <[u8; 32]>::try_from(value.expose().as_slice()).ok();
                let key = key.and_then(|bytes| VerifyingKey::from_ed25519(&bytes).ok());
                admins.push(key.ok_or(OpenError::Key("an admin's key in the store is not usable"))?);
            }
        }
        if !admins.is_empty() {
            return Ok((Self(admins), false));
        }
        // A start that was killed between the file and the store leaves the file: it is taken up again.
        let (public, made) = match files::read_private(path)? {
            Some(pem) => (public_half(pem.expose())?, false),
            None => (Self::make(path)?, true),
        };
        let key = VerifyingKey::from_ed25519(&public)
            .map_err(|_| OpenError::Key("the admin's key is not usable"))?;
        store.put(Table::Keys, &format!("{ADMIN_PREFIX}{}", key.thumbprint()), &public)?;
        Ok((Self(vec![key]), made))
    }

    fn make(path: &Path) -> Result<[u8; 32], OpenError> {
        let failed = || OpenError::Key("no admin key could be made");
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|_| failed())?;
        let pem = SecretBytes::new(pair.serialize_pem().into_bytes());
        let public = public_half(pem.expose())?;
        files::create_private(path, pem.expose()).map_err(|error: StoreError| OpenError::Store(error))?;
        Ok(public)
    }

    /// Whether a bearer token is one of an admin, valid now.
    pub(crate) fn check(&self, token: &str, now: u64) -> Result<(), NotAdmin> {
        let compact = Compact::parse(token).map_err(|_| NotAdmin)?;
        let payload = self.0.iter().find_map(|key| compact.verify(key).ok()).ok_or(NotAdmin)?;
        let claims: AdminClaims = serde_json::from_slice(payload).map_err(|_| NotAdmin)?;
        let begun = claims.iat.max(claims.nbf.unwrap_or(0)) <= now.saturating_add(CLOCK_SKEW_S);
        let short = claims.exp.saturating_sub(claims.iat) <= MAX_ADMIN_LIFETIME_S;
        let ours = match claims.aud {
            None => true,
            Some(Audience::One(name)) => name == AUDIENCE,
            Some(Audience::Many(names)) => names.iter().any(|name| name == AUDIENCE),
        };
        match begun && short && ours && now < claims.exp {
            true => Ok(()),
            false => Err(NotAdmin),
        }
    }
}

fn public_half(pem: &[u8]) -> Result<[u8; 32], OpenError> {
    let unusable = || OpenError::Key("the admin's key file is not an Ed25519 private key in PKCS#8 PEM");
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
    let pair =
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(|_| unusable())?;
    <[u8; 32]>::try_from(pair.public_key_raw()).map_err(|_| unusable())
}
