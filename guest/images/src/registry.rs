//! A registry, read only: manifests and blobs over HTTP (OCI distribution specification 1.1, "Pull").
//!
//! What it gives is checked by digest wherever it is used, so plain HTTP costs confidentiality of public bytes only.
//! Credentials other than anonymous bearer tokens are left out.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use coffer_core_digest::Digest;
use coffer_core_initdata::{DATA_HUB, InitData};
use coffer_core_oci::challenge::read_token;
use coffer_core_oci::media::ACCEPTED;
use coffer_core_oci::simple_signing::signature_tag;
use coffer_core_oci::{Challenge, Reference};
use coffer_guest_attest::{add_roots, is_certificate, reasons, tls_client};
use reqwest::{Response, StatusCode, header};
use rustls::RootCertStore;

use crate::source::{BlobSource, Chunks, Pending};
use crate::{ImageError, ImageFault};

/// As many hops as registries make to their storage.
const REDIRECTS: usize = 4;
/// How often a connection is tried while the guest's network comes up.
const ATTEMPTS: u32 = 4;

/// Who vouches for registries besides the public roots: what init-data names.
///
/// The public ones are Mozilla's. A registry says nothing that is believed: the manifest's digest or signature decides
/// what runs, so a root here keeps names and sizes from the network and no more.
#[derive(Clone, Debug, Default)]
pub struct RegistryRoots(Vec<String>);

impl RegistryRoots {
    /// The roots of init-data: `image.extra_root_certificates` in its `cdh.toml`.
    ///
    /// # Errors
    /// When the entry is not TOML of that form.
    pub fn of(init_data: &InitData) -> Result<Self, ImageError> {
        #[derive(serde::Deserialize, Default)]
        struct Cdh {
            #[serde(default)]
            image: Image,
        }
        #[derive(serde::Deserialize, Default)]
        struct Image {
            #[serde(default)]
            extra_root_certificates: Vec<String>,
        }
        let Some(text) = init_data.entry(DATA_HUB) else { return Ok(Self::default()) };
        let cdh: Cdh = toml::from_str(text).map_err(|why| {
            Box::new(ImageFault::Reference { why: format!("cdh.toml in init-data: {}", why.message()) })
        })?;
        Ok(Self(cdh.image.extra_root_certificates))
    }
}

/// One image of a registry.
pub struct Registry {
    client: reqwest::Client,
    reference: Reference,
    base: String,
    plain_http: bool,
    token: Mutex<Option<String>>,
}

impl Registry {
    /// Where a reference points.
    ///
    /// # Errors
    /// When the reference or the roots cannot be used.
    pub fn new(reference: &str, plain_http: bool, roots: &RegistryRoots) -> Result<Self, ImageError> {
        let wrong = |why: String| Box::new(ImageFault::Reference { why });
        let reference = Reference::parse(reference).map_err(|why| wrong(why.to_string()))?;
        let host = match reference.registry() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if plain_http { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{}", reference.repository());
        let mut trusted = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.0.iter().try_for_each(|pem| add_roots(&mut trusted, pem)).map_err(wrong)?;
        let tls = tls_client(trusted, rustls::DEFAULT_VERSIONS).map_err(wrong)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(!plain_http)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .user_agent(concat!("coffer-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| wrong(why.to_string()))?;
        Ok(Self { client, reference, base, plain_http, token: Mutex::new(None) })
    }

    async fn get(&self, path: &str, accept: &str, what: &str) -> Result<Response, ImageError> {
        let mut reply = self.ask(path, accept).await?;
        if reply.status() == StatusCode::UNAUTHORIZED {
            let challenge =
                reply.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            if let Some(challenge) = challenge.and_then(Challenge::parse) {
                let token = self.authenticate(&challenge).await?;
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                reply = self.ask(path, accept).await?;
            }
        }
        match reply.status() {
            status if status.is_success() => Ok(reply),
            StatusCode::NOT_FOUND => {
                Err(Box::new(ImageFault::Missing { source_name: self.name(), what: what.into() }))
            }
            status => Err(self.status(what, status)),
        }
    }

    async fn ask(&self, path: &str, accept: &str) -> Result<Response, ImageError> {
        let url = format!("{}{path}", self.base);
        let mut attempt = 1;
        loop {
            let mut request = self.client.get(&url).header(header::ACCEPT, accept);
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            match request.send().await {
                Ok(reply) => return Ok(reply),
                Err(cause) if attempt < ATTEMPTS && !is_certificate(&cause) => {
                    tokio::time::sleep(Duration::from_millis(250) * attempt).await;
                }
                Err(cause) => return Err(self.failed(&cause)),
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// An anonymous token (distribution's token authentication, "Requesting a token").
    async fn authenticate(&self, challenge: &Challenge) -> Result<String, ImageError> {
        if !self.plain_http && !challenge.realm.starts_with("https://") {
            return Err(self.status("its token service, which is not HTTPS,", StatusCode::UNAUTHORIZED));
        }
        let mut url = reqwest::Url::parse(&challenge.realm).map_err(|why| {
            Box::new(ImageFault::Reference { why: format!("the registry's token service: {why}") })
        })?;
        url.query_pairs_mut().extend_pairs(challenge.query(self.reference.repository()));
        let reply = self.client.get(url).send().await.map_err(|cause| self.failed(&cause))?;
        if !reply.status().is_success() {
            return Err(self.status("a token", reply.status()));
        }
        let mut chunks = Body { reply, registry: self.name() };
        let body = crate::source::read_bounded(&mut chunks, "the registry's token", 64 << 10).await?;
        read_token(&body).ok_or_else(|| self.status("a token without one", StatusCode::UNAUTHORIZED))
    }

    fn body(&self, reply: Response) -> Box<dyn Chunks> {
        Box::new(Body { reply, registry: self.name() })
    }

    fn failed(&self, cause: &reqwest::Error) -> ImageError {
        let (registry, why) = (self.name(), reasons(cause));
        Box::new(match is_certificate(cause) {
            true => ImageFault::Certificate { registry, why },
            false => ImageFault::Unreachable { registry, why },
        })
    }

    fn status(&self, what: &str, status: StatusCode) -> ImageError {
        Box::new(ImageFault::Status { registry: self.name(), what: what.into(), status: status.as_u16() })
    }
}

impl BlobSource for Registry {
    fn name(&self) -> String {
        self.reference.registry().to_owned()
    }

    fn document(&self) -> Pending<'_, Box<dyn Chunks>> {
        Box::pin(async move {
            let digest = self.reference.digest().map(ToString::to_string);
            let name = digest.or_else(|| self.reference.tag().map(str::to_owned)).unwrap_or_default();
            let what = format!("the image {}", self.reference);
            Ok(self.body(self.get(&format!("/manifests/{name}"), &ACCEPTED.join(", "), &what).await?))
        })
    }

    fn document_digest(&self) -> Option<Digest> {
        self.reference.digest().copied()
    }

    fn manifest<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>> {
        Box::pin(async move {
            let what = format!("the manifest {digest}");
            Ok(self.body(self.get(&format!("/manifests/{digest}"), &ACCEPTED.join(", "), &what).await?))
        })
    }

    fn blob<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>> {
        Box::pin(async move {
            let what = format!("the blob {digest}");
            Ok(self.body(self.get(&format!("/blobs/{digest}"), "*/*", &what).await?))
        })
    }

    fn signatures<'a>(&'a self, image: &'a Digest) -> Pending<'a, Vec<Box<dyn Chunks>>> {
        Box::pin(async move {
            let path = format!("/manifests/{}", signature_tag(image));
            match self.get(&path, &ACCEPTED.join(", "), "the image's signatures").await {
                Ok(reply) => Ok(vec![self.body(reply)]),
                Err(cause) if matches!(*cause, ImageFault::Missing { .. }) => Ok(Vec::new()),
                Err(cause) => Err(cause),
            }
        })
    }
}

struct Body {
    reply: Response,
    registry: String,
}

impl Chunks for Body {
    fn next(&mut self) -> Pending<'_, Option<Bytes>> {
        Box::pin(async move {
            self.reply.chunk().await.map_err(|cause| {
                let (registry, why) = (self.registry.clone(), reasons(&cause));
                Box::new(ImageFault::Unreachable { registry, why })
            })
        })
    }
}
