//! A registry that holds a ModelPack artifact (OCI distribution specification 1.1, "Pull"; CNCF model-spec).

use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_digest::Digest;
use coffer_core_logins::Logins;
use coffer_core_oci::challenge::read_token;
use coffer_core_oci::manifest::MAX_DOCUMENT;
use coffer_core_oci::{Challenge, Descriptor, Reference, media};
use coffer_core_sealed_stream::MAX_ENVELOPE;
use reqwest::header::{self, HeaderValue};
use reqwest::{RequestBuilder, Url};

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
            host: reference.registry().into(),
            logins: Arc::clone(&access.logins),
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
    host: String,
    logins: Arc<Logins>,
    /// What the registry was last satisfied with.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Bearer {
    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &*self.authorization.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    /// Name and password as a header.
    fn login(&self) -> Option<HeaderValue> {
        secret_header(&self.logins.of(&self.host, &self.repository)?.basic())
    }

    /// Answers a challenge: with the login itself, or with a token that is got for it.
    pub(super) async fn answer(&self, client: &reqwest::Client, challenge: &str) -> Result<(), SourceError> {
        let refused =
            || SourceError::Refused { place: self.place.clone(), what: "a token".into(), status: 401 };
        let own = if challenge.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic")) {
            self.login().ok_or_else(refused)?
        } else {
            let url = token_address(challenge, &self.repository).ok_or_else(refused)?;
            if !self.plain && url.scheme() != "https" {
                let why = "its token service is not HTTPS".into();
                return Err(SourceError::Client { place: self.place.clone(), why });
            }
            let mut request = client.get(url).header(header::ACCEPT, "application/json");
            if let Some(login) = self.login() {
                request = request.header(header::AUTHORIZATION, login);
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
            secret_header(&format!("Bearer {token}")).ok_or_else(refused)?
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(())
    }
}

/// A header that is shown nowhere.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
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
}
