//! The broker's own keys, in the store: those that sign tokens and seal challenges; and how admins are known.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_admin::{Role, TenantName, TenantSettings};
use coffer_core_evidence::Tee;
use coffer_core_protocol::ear;
use coffer_core_protocol::handshake::relying_party::{Challenger, ClusterKey};
use coffer_core_protocol::jws::SigningKey;
use coffer_core_protocol::token_keys::{FormerKey, TokenKeys};
use coffer_core_secret::{Secret, SecretBytes};
use coffer_server_identity::{self as identity, IssuerSettings, LocalKey, RoleSet, Verifier};
use coffer_server_limits::Quotas;
use coffer_server_store::{Scope, StoreError, Table, files};
use coffer_verify_api::Timestamp;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use crate::clock::seconds;
use crate::config::BrokerConfig;
use crate::error::OpenError;
use crate::known::{self, Known};

const TOKEN_PREFIX: &str = "token/";
const TOKEN_MADE_PREFIX: &str = "token-made/";
const CHALLENGE_PREFIX: &str = "challenge/";
/// Where the first release kept the public keys of admins.
const OLD_ADMIN_PREFIX: &str = "admin/";
/// The first admin's name.
pub(crate) const FIRST_ADMIN: &str = "first-admin";
/// Where issuers of admins' tokens are in the settings.
pub(crate) const ISSUERS: &str = "admin-issuers";
/// A challenge lives five minutes, so a key that was replaced is of use for a day at most.
const EPOCH_S: u64 = 24 * 3600;
/// A new challenge key seals nothing before every replica has read it.
const SPREAD_S: u64 = 120;
/// A token key signs for so long before the next one takes its place.
const TOKEN_EPOCH_S: u64 = 30 * 24 * 3600;
/// How long after its replacement a token key still verifies: a token's life, and what clocks differ in.
const TOKEN_LINGER_S: u64 = ear::LIFETIME_S + 120;

struct Epoch<T> {
    number: u64,
    made_at: u64,
    key: T,
}

/// Loads the keys that sign a tenant's tokens; makes the first one, and the next one when the current one's time is over.
pub(crate) fn token_keys(rows: &Scope, now: Timestamp) -> Result<TokenKeys, OpenError> {
    let now = seconds(now);
    let epochs = token_epochs(rows)?;
    match epochs.last() {
        Some(last) if last.made_at == 0 || now.saturating_sub(last.made_at) < TOKEN_EPOCH_S => of(epochs),
        _ => {
            next_token_key(rows, now)?;
            of(token_epochs(rows)?)
        }
    }
}

/// Makes the next key, which signs from now on.
pub(crate) fn next_token_key(rows: &Scope, now: u64) -> Result<(), OpenError> {
    let failed = |_| OpenError::Key("no token key could be made");
    let epochs = token_epochs(rows)?;
    let number = epochs.last().map_or(1, |last| last.number.saturating_add(1));
    let document = SigningKey::generate().map_err(failed)?.to_pkcs8().map_err(failed)?;
    let name = format!("{TOKEN_PREFIX}{number}");
    // The number decides: of two replicas that do this at once the second finds the first one's key.
    if !rows.put_if_tag(Table::Keys, &name, None, document.expose())? {
        return Ok(());
    }
    let over = epochs.iter().rev().skip(1);
    let over = over.flat_map(|old| [token_name(old.number), made_name(old.number)]).collect::<Vec<_>>();
    let over: Vec<&str> = over.iter().map(String::as_str).collect();
    Ok(rows.put_and_delete(Table::Keys, &[(&made_name(number), &now.to_be_bytes())], &over)?)
}

fn token_name(number: u64) -> String {
    format!("{TOKEN_PREFIX}{number}")
}

fn made_name(number: u64) -> String {
    format!("{TOKEN_MADE_PREFIX}{number}")
}

/// The newest signs. Those before it verify until the last token that each may have signed has ended.
fn of(mut epochs: Vec<Epoch<SigningKey>>) -> Result<TokenKeys, OpenError> {
    let current = epochs.pop().ok_or(OpenError::Key("there is no token key in the store"))?;
    let mut replaced_at = current.made_at;
    let mut former = Vec::new();
    for epoch in epochs.into_iter().rev() {
        let until_s = replaced_at.saturating_add(TOKEN_LINGER_S);
        former.push(FormerKey { key: epoch.key.verifying_key().clone(), until_s });
        replaced_at = epoch.made_at;
    }
    Ok(TokenKeys::with_former(current.key, former))
}

/// In the order of their numbers. A key without a time is the first release's.
fn token_epochs(rows: &Scope) -> Result<Vec<Epoch<SigningKey>>, OpenError> {
    let unusable = || OpenError::Key("a token key in the store is not usable");
    let mut epochs = Vec::new();
    for (name, document) in rows.list(Table::Keys)? {
        let Some(number) = name.strip_prefix(TOKEN_PREFIX) else { continue };
        let number: u64 = number.parse().map_err(|_| unusable())?;
        let made = rows.get(Table::Keys, &format!("{TOKEN_MADE_PREFIX}{number}"))?;
        let made_at = made.and_then(|bytes| <[u8; 8]>::try_from(bytes.expose().as_slice()).ok());
        let made_at = made_at.map_or(0, u64::from_be_bytes);
        let key = SigningKey::from_pkcs8(&document).map_err(|_| unusable())?;
        epochs.push(Epoch { number, made_at, key });
    }
    epochs.sort_by_key(|epoch| epoch.number);
    Ok(epochs)
}

/// What issues the challenges of one tenant: under keys derived from the cluster's, so that the challenge of one tenant
/// is none of another's.
pub(crate) fn challenger(
    cluster: &Scope,
    tenant: &TenantName,
    tees: impl IntoIterator<Item = Tee>,
    now: Timestamp,
) -> Result<Challenger, OpenError> {
    let keys = challenge_keys(cluster, seconds(now))?;
    let own = |key: &Secret<[u8; 32]>| ClusterKey::new(derived(key, tenant));
    let challenger = Challenger::new(own(&keys.sealing), tees).with_ml_kem();
    Ok(match &keys.other {
        Some(other) => challenger.with_previous(own(other)),
        None => challenger,
    })
}

fn derived(key: &Secret<[u8; 32]>, tenant: &TenantName) -> Secret<[u8; 32]> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.expose());
    let label = format!("coffer challenge key of tenant {tenant}");
    let tag = aws_lc_rs::hmac::sign(&key, label.as_bytes());
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    Secret::new(bytes)
}

/// The keys that seal challenges: the one that does, and the one before it or the one that is to come.
struct ChallengeKeys {
    sealing: Secret<[u8; 32]>,
    other: Option<Secret<[u8; 32]>>,
}

/// Loads the challenge keys, and begins a new epoch if the present one is over.
fn challenge_keys(cluster: &Scope, now: u64) -> Result<ChallengeKeys, OpenError> {
    let mut epochs = challenge_epochs(cluster)?;
    if epochs.first().is_none_or(|last| now.saturating_sub(last.made_at) >= EPOCH_S) {
        let next = epochs.first().map_or(1, |last| last.number.saturating_add(1));
        let key = Secret::<[u8; 32]>::random();
        let key = key.map_err(|_| OpenError::Key("no challenge key could be made"))?;
        let value = SecretBytes::new([now.to_be_bytes().as_slice(), key.expose()].concat());
        let name = format!("{CHALLENGE_PREFIX}{next}");
        // Of two replicas that do this at once one wins, and both read its key.
        if cluster.put_if_tag(Table::Keys, &name, None, value.expose())? {
            let old: Vec<String> =
                epochs.iter().skip(1).map(|epoch| format!("{CHALLENGE_PREFIX}{}", epoch.number)).collect();
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            cluster.put_and_delete(Table::Keys, &[], &old)?;
        }
        epochs = challenge_epochs(cluster)?;
    }
    let spread = epochs.first().is_some_and(|last| now.saturating_sub(last.made_at) >= SPREAD_S);
    let mut keys = epochs.into_iter().map(|epoch| epoch.key);
    let newest = keys.next().ok_or(OpenError::Key("there is no challenge key in the store"))?;
    Ok(match (keys.next(), spread) {
        (Some(before), false) => ChallengeKeys { sealing: before, other: Some(newest) },
        (before, _) => ChallengeKeys { sealing: newest, other: before },
    })
}

/// The newest first.
fn challenge_epochs(cluster: &Scope) -> Result<Vec<Epoch<Secret<[u8; 32]>>>, OpenError> {
    let unusable = || OpenError::Key("a challenge key in the store is not usable");
    let mut epochs = Vec::new();
    for (name, value) in cluster.list(Table::Keys)? {
        let Some(number) = name.strip_prefix(CHALLENGE_PREFIX) else { continue };
        let number: u64 = number.parse().map_err(|_| unusable())?;
        let (made_at, key) = value.expose().split_first_chunk::<8>().ok_or_else(unusable)?;
        let key = <[u8; 32]>::try_from(key).map_err(|_| unusable())?;
        epochs.push(Epoch { number, made_at: u64::from_be_bytes(*made_at), key: Secret::new(key) });
    }
    epochs.sort_by_key(|epoch| std::cmp::Reverse(epoch.number));
    Ok(epochs)
}

/// How a tenant's admins are known: by its own keys, certificates and issuers.
pub(crate) fn admins(rows: &Scope, tenant: &TenantName) -> Result<Verifier, OpenError> {
    let scope = identity::Scope::Tenant(tenant.clone());
    verifier(&scope, known::read(rows)?, issuers(rows)?)
}

/// How the cluster's admins are known: by its own keys and certificates, and by the issuers of the
/// configuration.
pub(crate) fn operators(cluster: &Scope, config: &BrokerConfig) -> Result<Verifier, OpenError> {
    let mut all = issuers(cluster)?;
    all.extend(config.admin_issuers.iter().cloned());
    verifier(&identity::Scope::Cluster, known::read(cluster)?, all)
}

pub(crate) fn verifier(
    scope: &identity::Scope,
    all: Vec<Known>,
    issuers: Vec<IssuerSettings>,
) -> Result<Verifier, OpenError> {
    let (mut local, mut certificates) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Known::Key(key) => local.push(key),
            Known::Certificate(rule) => certificates.push(rule),
        }
    }
    Verifier::new(scope, local, issuers, certificates).map_err(|error| OpenError::Stored {
        what: "admins of",
        name: scope.to_string(),
        why: error.to_string(),
    })
}

/// The issuers of a scope.
pub(crate) fn issuers(rows: &Scope) -> Result<Vec<IssuerSettings>, OpenError> {
    let Some(body) = rows.get(Table::Settings, ISSUERS)? else { return Ok(Vec::new()) };
    serde_json::from_slice(body.expose()).map_err(|error| OpenError::Stored {
        what: "setting",
        name: ISSUERS.to_owned(),
        why: error.to_string(),
    })
}

/// The quotas of a tenant: the configuration's, with what the operator set for it.
pub(crate) fn quotas(settings: &TenantSettings, config: &BrokerConfig) -> Result<Quotas, OpenError> {
    let mut all = config.quotas.clone();
    all.extend(settings.quotas.clone());
    Quotas::with(&all).map_err(|error| OpenError::Stored {
        what: "setting",
        name: "quotas".to_owned(),
        why: error.to_string(),
    })
}

/// Makes the first admin's key at `path` if there is no admin: owner of the default tenant, and the cluster's operator.
/// Says whether it was made.
pub(crate) fn first_admin(default: &Scope, cluster: &Scope, path: &Path) -> Result<bool, OpenError> {
    take_up_old_admins(default, cluster)?;
    if default.count(Table::Admins)? > 0 {
        return Ok(false);
    }
    // A start that was killed between the file and the store leaves the file: it is taken up again.
    let (public, made) = match files::read_private(path)? {
        Some(pem) => (public_half(pem.expose())?, false),
        None => (make_admin(path)?, true),
    };
    add_first(default, cluster, FIRST_ADMIN, &public)?;
    Ok(made)
}

/// The first release kept bare public keys, each of an admin who may everything.
fn take_up_old_admins(default: &Scope, cluster: &Scope) -> Result<(), OpenError> {
    let mut old = Vec::new();
    for (name, value) in default.list(Table::Keys)? {
        let Some(thumbprint) = name.strip_prefix(OLD_ADMIN_PREFIX) else { continue };
        let public = <[u8; 32]>::try_from(value.expose().as_slice());
        let public = public.map_err(|_| OpenError::Key("an admin's key in the store is not usable"))?;
        let short: String = thumbprint.chars().take(8).collect();
        let first = old.is_empty();
        add_first(default, cluster, if first { FIRST_ADMIN } else { &short }, &public)?;
        old.push(name);
    }
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    match old.is_empty() {
        true => Ok(()),
        false => Ok(default.put_and_delete(Table::Keys, &[], &old)?),
    }
}

fn add_first(default: &Scope, cluster: &Scope, name: &str, public: &[u8; 32]) -> Result<(), OpenError> {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public)}).to_string();
    for (rows, role) in [(cluster, Role::Operator), (default, Role::Owner)] {
        let key = LocalKey::new(name, &jwk, RoleSet::from(role), None)
            .map_err(|_| OpenError::Key("the admin's key is not usable"))?;
        let body = serde_json::to_vec(&key).map_err(|_| OpenError::Key("the admin's key is not usable"))?;
        rows.put(Table::Admins, name, &body)?;
    }
    Ok(())
}

fn make_admin(path: &Path) -> Result<[u8; 32], OpenError> {
    let failed = || OpenError::Key("no admin key could be made");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|_| failed())?;
    let pem = SecretBytes::new(pair.serialize_pem().into_bytes());
    let public = public_half(pem.expose())?;
    files::create_private(path, pem.expose()).map_err(|error: StoreError| OpenError::Store(error))?;
    Ok(public)
}

fn public_half(pem: &[u8]) -> Result<[u8; 32], OpenError> {
    let unusable = || OpenError::Key("the admin's key file is not an Ed25519 private key in PKCS#8 PEM");
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
    let pair =
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(|_| unusable())?;
    <[u8; 32]>::try_from(pair.public_key_raw()).map_err(|_| unusable())
}
