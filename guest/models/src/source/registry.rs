//! A registry that holds a ModelPack artifact (OCI distribution specification 1.1, "Pull"; CNCF model-spec).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_oci::challenge::read_token;
use coffer_core_oci::manifest::MAX_DOCUMENT;
use coffer_core_oci::{Challenge, Descriptor, Reference, media};
use coffer_core_sealed_stream::MAX_ENVELOPE;
use coffer_core_secret::SecretBytes;
use reqwest::{RequestBuilder, Url, header};
use serde_json::Value;

use super::http::{Http, Remote, Target};
use super::layout::envelope_of;
use super::{Access, Object, Store};
use crate::SourceError;

const MAX_TOKEN: usize = 64 << 10;

/// How to speak to a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS, except to registries on this machine.
    #[default]
    Tls,
    /// Plain HTTP: who is on the path sees which model is read, and the password if there is one.
    InsecurePlainHttp,
}

/// A user of a registry.
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: SecretBytes,
}

/// Users by registry.
#[derive(Clone, Default)]
pub struct Logins(BTreeMap<String, Arc<Login>>);

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Logins {
    /// Reads what `docker login`, `skopeo login` and the like store (`config.json`, `auth.json`).
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let entry = |auth: &Value| {
            let pair = STANDARD.decode(auth.get("auth")?.as_str()?).ok().map(zeroize::Zeroizing::new)?;
            let at = pair.iter().position(|byte| *byte == b':')?;
            let (user, password) = pair.split_at(at);
            let user = String::from_utf8(user.to_vec()).ok()?;
            Some(Arc::new(Login { user, password: SecretBytes::copy_of(password.get(1..)?) }))
        };
        let config: Value = serde_json::from_slice(text).unwrap_or_default();
        let auths = config.get("auths").and_then(Value::as_object);
        let found = auths.into_iter().flatten().filter_map(|(name, auth)| Some((name.clone(), entry(auth)?)));
        Self(found.collect())
    }

    fn of(&self, registry: &str) -> Option<Arc<Login>> {
        let other = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
        self.0.get(registry).or_else(|| self.0.get(other)).cloned()
    }
}

pub(crate) struct Registry {
    http: Http,
    base: String,
    name: String,
    bearer: Arc<Bearer>,
    envelope: Descriptor,
}

impl Registry {
    /// Reads the artifact's manifest.
    pub(crate) fn open(http: Http, reference: &Reference, access: &Access) -> Result<Self, SourceError> {
        let name = format!("docker://{reference}");
        let plain = access.transport == Transport::InsecurePlainHttp || reference.is_loopback();
        let host = match reference.registry() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let base = format!("{}://{host}/v2/{}", if plain { "http" } else { "https" }, reference.repository());
        let bearer = Arc::new(Bearer {
            place: name.clone(),
            repository: reference.repository().into(),
            plain,
            login: access.logins.of(reference.registry()),
            authorization: Mutex::default(),
        });
        let tag = reference.digest().map(ToString::to_string);
        let tag = tag.or_else(|| reference.tag().map(str::to_owned)).unwrap_or_else(|| "latest".into());
        let target = target(&name, &bearer, &format!("{base}/manifests/{tag}"), "manifest")?;
        let bytes = http.small(&target, media::OCI_MANIFEST, MAX_DOCUMENT as u64)?;
        let refuse =
            |why: String| SourceError::Document { place: name.clone(), what: "the manifest".into(), why };
        if let Some(expected) = reference.digest() {
            let found = Digest::of(expected.algorithm(), &bytes);
            if found != *expected {
                return Err(refuse(format!("its digest is {found}; expected {expected}")));
            }
        }
        let envelope = envelope_of(&bytes).map_err(refuse)?;
        Ok(Self { http, base, name, bearer, envelope })
    }

    fn blob(&self, digest: &Digest) -> Result<Target, SourceError> {
        target(&self.name, &self.bearer, &format!("{}/blobs/{digest}", self.base), &format!("blob {digest}"))
    }
}

fn target(place: &str, bearer: &Arc<Bearer>, url: &str, what: &str) -> Result<Target, SourceError> {
    let refuse = |why: String| SourceError::Place { text: place.into(), why };
    let url = Url::parse(url).map_err(|why| refuse(why.to_string()))?;
    Ok(Target { url, what: what.into(), place: place.into(), signer: None, bearer: Some(Arc::clone(bearer)) })
}

impl Store for Registry {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn envelope(&self) -> Result<Vec<u8>, SourceError> {
        self.http.small(&self.blob(&self.envelope.digest)?, "*/*", MAX_ENVELOPE as u64)
    }

    fn manifest(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, SourceError> {
        self.http.small(&self.blob(digest)?, "*/*", size)
    }

    fn stream(&self, digest: &Digest, size: u64) -> Result<Arc<dyn Object>, SourceError> {
        Ok(Arc::new(Remote::new(self.http.clone(), self.blob(digest)?, size)))
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// Who one is at a registry (distribution specification, token authentication; RFC 6750; RFC 7617).
pub(crate) struct Bearer {
    place: String,
    repository: String,
    plain: bool,
    login: Option<Arc<Login>>,
    authorization: Mutex<Option<Authorization>>,
}

enum Authorization {
    Basic(Arc<Login>),
    Token(SecretBytes),
}

impl Bearer {
    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &*self.authorization.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Authorization::Token(token)) => request.bearer_auth(text(token)),
            Some(Authorization::Basic(login)) => request.basic_auth(&login.user, Some(text(&login.password))),
            None => request,
        }
    }

    /// Answers a challenge: with the login itself, or with a token that is got for it.
    pub(super) async fn answer(&self, client: &reqwest::Client, challenge: &str) -> Result<(), SourceError> {
        let refused =
            || SourceError::Refused { place: self.place.clone(), what: "a token".into(), status: 401 };
        let own = if challenge.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic")) {
            Authorization::Basic(self.login.clone().ok_or_else(refused)?)
        } else {
            let url = token_address(challenge, &self.repository).ok_or_else(refused)?;
            if !self.plain && url.scheme() != "https" {
                let why = "its token service is not HTTPS".into();
                return Err(SourceError::Client { place: self.place.clone(), why });
            }
            let mut request = client.get(url).header(header::ACCEPT, "application/json");
            if let Some(login) = &self.login {
                request = request.basic_auth(&login.user, Some(text(&login.password)));
            }
            let mut reply = request.send().await.map_err(|_| refused())?;
            let mut body = zeroize::Zeroizing::new(Vec::new());
            while let Some(piece) = reply.chunk().await.map_err(|_| refused())? {
                body.extend_from_slice(&piece);
                if body.len() > MAX_TOKEN {
                    return Err(refused());
                }
            }
            let token = read_token(&body).ok_or_else(refused)?;
            Authorization::Token(SecretBytes::new(token.into_bytes()))
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(())
    }
}

fn text(secret: &SecretBytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(secret.expose())
}

/// Where a challenge says that tokens are.
fn token_address(challenge: &str, repository: &str) -> Option<Url> {
    let challenge = Challenge::parse(challenge)?;
    let mut url = Url::parse(&challenge.realm).ok()?;
    url.query_pairs_mut().extend_pairs(challenge.query(repository));
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_where_tokens_are() {
        let at = |text: &str| token_address(text, "a/b").map(|url| url.to_string());
        let full = r#"Bearer realm="https://t/x",service="r",scope="repository:a/b:pull""#;
        assert_eq!(at(full).unwrap(), "https://t/x?service=r&scope=repository%3Aa%2Fb%3Apull");
        assert_eq!(at("bearer realm=https://t/x").unwrap(), "https://t/x?scope=repository%3Aa%2Fb%3Apull");
        for none in ["", "Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn logins_are_those_of_the_registry_only_and_are_not_shown() {
        let text = br#"{"auths":{"r.example":{"auth":"dXNlcjpwOnc="},"https://index.docker.io/v1/":{"auth":"YTpi"}}}"#;
        let logins = Logins::parse(text);
        let of = |name: &str| logins.of(name).map(|own| (own.user.clone(), own.password.expose().clone()));
        assert_eq!(of("r.example"), Some(("user".into(), b"p:w".to_vec())));
        assert_eq!(of("docker.io"), Some(("a".into(), b"b".to_vec())));
        assert_eq!(of("other.example"), None);
        assert!(Logins::parse(b"not json").of("r.example").is_none());
        assert!(!format!("{logins:?}").contains("p:w"));
    }
}
