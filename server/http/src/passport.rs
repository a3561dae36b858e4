//! Attestation results that others signed, taken in place of a handshake of our own.
//!
//! A tenant says whose: another broker's, a CoCo attestation service's, a vendor's. What they say is input to the same
//! resource policies; the claim `coffer.origin` tells a policy who spoke. Left out: judging what they judged.

use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_protocol::jwks::{JwkSet, SignatureAlgorithm};
use coffer_core_protocol::passport::{Authority, ChainCheck, HeaderKey, Passport, PassportError};
use coffer_server_identity::{KeyCache, KeySlot, KeySource, Scope as Owner};
use coffer_server_store::{Scope, Table};
use coffer_verify_x509::verify_path;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::reply::Refused;

/// Where the settings are.
pub(crate) const ROW: &str = "token-issuers";
const MAX_ISSUERS: usize = 16;

/// Whose attestation tokens are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) issuers: Vec<Issuer>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuer {
    /// What policies and the log call it.
    name: String,
    /// Where its keys are: inline, at an address, or where discovery says. None: only certificates count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<KeySource>,
    /// Certificates (PEM) that may certify the key in a token's own header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
    /// Whether any key in a token's own header is believed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    insecure_header_jwk: bool,
    /// Whether the owner takes this issuer's word that its evidence is of hardware. Otherwise a policy must name
    /// software evidence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hardware: bool,
    /// What the token's `iss` must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(default = "algorithms")]
    algorithms: Vec<String>,
    #[serde(default = "leeway")]
    leeway_s: u64,
    /// JSON pointers to the guest's key, beside those of the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extra_teekey_paths: Vec<String>,
}

fn algorithms() -> Vec<String> {
    vec!["ES256".to_owned(), "ES384".to_owned()]
}

const fn leeway() -> u64 {
    30
}

/// The settings are not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassportSettingsError {
    #[error("there are {0} issuers; at most {MAX_ISSUERS} are read")]
    TooMany(usize),
    #[error("the issuer {issuer:?}: {why}")]
    Issuer { issuer: String, why: String },
}

/// Those whose tokens are accepted.
pub(crate) struct Passports {
    settings: Settings,
    authorities: Vec<Known>,
}

struct Known {
    authority: Authority,
    source: Option<KeySource>,
    /// The set of keys that was read last, and the document it is from.
    read: Mutex<Option<(Arc<str>, JwkSet)>>,
}

impl Passports {
    pub(crate) fn load(rows: &Scope) -> Result<Self, OpenError> {
        let stored = |why: String| OpenError::Stored { what: "setting", name: ROW.to_owned(), why };
        let settings = match rows.get(Table::Settings, ROW)? {
            Some(bytes) => {
                serde_json::from_slice(bytes.expose()).map_err(|error| stored(error.to_string()))?
            }
            None => Settings::default(),
        };
        Self::read(settings).map_err(|error| stored(error.to_string()))
    }

    pub(crate) fn read(settings: Settings) -> Result<Self, PassportSettingsError> {
        if settings.issuers.len() > MAX_ISSUERS {
            return Err(PassportSettingsError::TooMany(settings.issuers.len()));
        }
        let authorities = settings.issuers.iter().map(known).collect::<Result<_, _>>()?;
        Ok(Self { settings, authorities })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the owner says that evidence which this authority judged is of hardware.
    pub(crate) fn vouches_for_hardware(&self, authority: &str) -> bool {
        self.settings.issuers.iter().any(|issuer| issuer.name == authority && issuer.hardware)
    }

    /// Whether any are accepted.
    pub(crate) fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// Verifies a token that is none of ours. The refusal is that of the issuer that knows most of it.
    pub(crate) async fn verify(
        &self,
        cache: &KeyCache,
        owner: &Owner,
        token: &str,
        now: u64,
    ) -> Result<Passport, Refused> {
        let mut refused = None;
        for known in &self.authorities {
            let authority = match known.with_keys(cache, owner, token, now).await {
                Ok(authority) => authority,
                Err(why) => {
                    refused.get_or_insert(why);
                    continue;
                }
            };
            match authority.verify(token, now) {
                Ok(passport) => return Ok(passport),
                Err(error) => refused = Some(worse(refused, error)),
            }
        }
        Err(refused.unwrap_or_else(|| coffer_core_protocol::error::Code::TokenInvalid.into()))
    }
}

/// A token of an issuer that we know and that has ended says more than that another issuer did not sign it.
fn worse(before: Option<Refused>, error: PassportError) -> Refused {
    let now = Refused::new(error.code(), format!("{error}."));
    match before {
        Some(before) if before.code() != "token.invalid" => before,
        _ => now,
    }
}

impl Known {
    async fn with_keys(
        &self,
        cache: &KeyCache,
        owner: &Owner,
        token: &str,
        now: u64,
    ) -> Result<Authority, Refused> {
        let Some(source) = &self.source else { return Ok(self.authority.clone()) };
        let slot = KeySlot::new(owner.clone(), self.authority.name.clone(), source.clone());
        let key_id = key_id(token);
        let fetched = cache.keys_of(&slot, key_id.as_deref(), now).await.map_err(|error| {
            tracing::warn!(issuer = self.authority.name, %error, "the keys of a token issuer cannot be had");
            Refused::new(
                coffer_core_protocol::error::Code::AttestationUnavailable,
                "The keys of the token's issuer cannot be had now.",
            )
        })?;
        let document = fetched.document();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = match &*read {
            Some((known, keys)) if **known == **document => keys.clone(),
            _ => {
                let keys = JwkSet::from_json(document.as_bytes()).map_err(|error| {
                    Refused::new(coffer_core_protocol::error::Code::TokenInvalid, format!("{error}."))
                })?;
                *read = Some((document.clone(), keys.clone()));
                keys
            }
        };
        Ok(Authority { keys, ..self.authority.clone() })
    }
}

/// The `kid` of a token that nobody verified yet: only to know which keys to look for.
fn key_id(token: &str) -> Option<String> {
    let compact = coffer_core_protocol::jws::Compact::parse(token).ok()?;
    compact.key_id().map(str::to_owned)
}

fn known(issuer: &Issuer) -> Result<Known, PassportSettingsError> {
    let wrong =
        |why: String| PassportSettingsError::Issuer { issuer: issuer.name.chars().take(64).collect(), why };
    if issuer.name.is_empty() || issuer.name.len() > 64 {
        return Err(wrong("a name has 1 to 64 bytes".to_owned()));
    }
    if let Some(KeySource::File(_)) = issuer.keys {
        return Err(wrong(
            "keys in a file of the broker's machine are for its configuration; put them inline".to_owned(),
        ));
    }
    let algorithm = |name: &String| {
        SignatureAlgorithm::from_name(name)
            .ok_or_else(|| wrong(format!("{name:?} is no signature algorithm that is known here")))
    };
    let algorithms = issuer.algorithms.iter().map(algorithm).collect::<Result<Vec<_>, _>>()?;
    if algorithms.is_empty() {
        return Err(wrong("it names no algorithms".to_owned()));
    }
    let header_key = match (issuer.insecure_header_jwk, issuer.certificates.is_empty()) {
        (true, _) => HeaderKey::InsecureBelieved,
        (false, true) => HeaderKey::Refused,
        (false, false) => HeaderKey::Certified(Arc::new(Roots::read(&issuer.certificates).map_err(wrong)?)),
    };
    if issuer.keys.is_none() && matches!(header_key, HeaderKey::Refused) {
        return Err(wrong(
            "it has neither keys nor certificates, so that no token could be verified".to_owned(),
        ));
    }
    let authority = Authority {
        name: issuer.name.clone(),
        keys: JwkSet::default(),
        header_key,
        algorithms,
        profile: issuer.profile.clone(),
        issuer: issuer.issuer.clone(),
        audience: issuer.audience.clone(),
        leeway_s: issuer.leeway_s.min(300),
        tee_key_pointers: issuer.extra_teekey_paths.clone(),
    };
    Ok(Known { authority, source: issuer.keys.clone(), read: Mutex::default() })
}

/// The certificates that may certify a key in a token's header.
struct Roots(Vec<Vec<u8>>);

impl Roots {
    fn read(pems: &[String]) -> Result<Self, String> {
        let mut roots = Vec::new();
        for pem in pems {
            for found in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.push(found.map_err(|error| error.to_string())?.to_vec());
            }
        }
        if roots.is_empty() { Err("there is no certificate in PEM".to_owned()) } else { Ok(Self(roots)) }
    }
}

impl ChainCheck for Roots {
    fn leaf_key(&self, leaf_first: &[Vec<u8>], now_s: u64) -> Result<Vec<u8>, String> {
        let at = i64::try_from(now_s).unwrap_or(i64::MAX);
        verify_path(leaf_first, &self.0, &[], at).map(|leaf| leaf.spki_der).map_err(|error| error.to_string())
    }
}
