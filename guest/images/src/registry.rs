//! A registry, read only: manifests and blobs over HTTP (OCI distribution specification 1.1, "Pull").
//!
//! What it gives is checked by digest wherever it is used, so plain HTTP costs confidentiality of public bytes only.
//! INVARIANT: credentials go out over HTTPS only, to the registry that they are for or to the token service that it names.

mod ranges;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use coffer_core_digest::Digest;
use coffer_core_initdata::{DATA_HUB, InitData};
use coffer_core_oci::challenge::read_token;
use coffer_core_oci::media::ACCEPTED;
use coffer_core_oci::simple_signing::signature_tag;
use coffer_core_oci::{Challenge, Descriptor, Reference};
use coffer_core_patience::{Schedule, passes, retry_after};
use coffer_core_protocol::uri::ResourceUri;
use coffer_guest_attest::{Keys, add_roots, is_certificate, reasons, tls_client};
use reqwest::header::{self, HeaderValue};
use reqwest::{NoProxy, Proxy, Response, StatusCode};
use rustls::RootCertStore;

use crate::lazy::Parts;
use crate::source::{BlobSource, Chunks, Pending};
use crate::{ImageError, ImageFault};

pub use coffer_core_logins::Logins as Credentials;

/// As many hops as registries make to their storage.
const REDIRECTS: usize = 4;
/// How often a connection is tried while the guest's network comes up.
const ATTEMPTS: u32 = 4;
/// The waits between; a guest comes back alone, so nothing is left to chance.
const WAITS: Schedule = Schedule {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(1),
    longest_asked: Duration::from_secs(30),
};

/// How registries are reached: what init-data says in the section `[image]` of its `cdh.toml`.
///
/// Public roots (Mozilla's) are trusted besides those that it names. A registry says nothing that is believed: the
/// manifest's digest or signature decides what runs, so roots and proxies here guard names and sizes, and no more.
#[derive(Clone, Debug, Default)]
pub struct RegistryAccess {
    roots: Vec<String>,
    credentials: Option<String>,
    proxy: ProxyOf,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
struct ProxyOf {
    #[serde(default)]
    https_proxy: Option<String>,
    #[serde(default)]
    http_proxy: Option<String>,
    #[serde(default)]
    no_proxy: Option<String>,
}

impl RegistryAccess {
    /// What init-data says.
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
            #[serde(default)]
            authenticated_registry_credentials_uri: Option<String>,
            #[serde(default)]
            image_pull_proxy: ProxyOf,
        }
        let Some(text) = init_data.entry(DATA_HUB) else { return Ok(Self::default()) };
        let cdh: Cdh = toml::from_str(text).map_err(|why| {
            Box::new(ImageFault::Reference { why: format!("cdh.toml in init-data: {}", why.message()) })
        })?;
        let Image { extra_root_certificates, authenticated_registry_credentials_uri, image_pull_proxy } =
            cdh.image;
        Ok(Self {
            roots: extra_root_certificates,
            credentials: authenticated_registry_credentials_uri,
            proxy: image_pull_proxy,
        })
    }

    fn proxied(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, reqwest::Error> {
        let ProxyOf { https_proxy, http_proxy, no_proxy } = &self.proxy;
        let around = || no_proxy.as_deref().and_then(NoProxy::from_string);
        let https = https_proxy.as_deref().map(Proxy::https).transpose()?;
        let http = http_proxy.as_deref().map(Proxy::http).transpose()?;
        let all = [https, http].into_iter().flatten().map(|proxy| proxy.no_proxy(around()));
        Ok(all.fold(builder, reqwest::ClientBuilder::proxy))
    }

    /// The registries' credentials, from the broker, where init-data names them.
    ///
    /// # Errors
    /// When there is no broker, it does not release them, or they are not of their form.
    pub async fn credentials(&self, keys: Option<&dyn Keys>) -> Result<Credentials, ImageError> {
        let Some(name) = &self.credentials else { return Ok(Credentials::default()) };
        let key = || name.chars().take(128).collect::<String>();
        let uri: ResourceUri = name
            .parse()
            .map_err(|why| Box::new(ImageFault::KeyName { key: key(), why: format!("{why}") }))?;
        let Some(keys) = keys else { return Err(Box::new(ImageFault::NoBroker { key: key() })) };
        let bytes = keys.resource(uri.path()).await;
        let bytes =
            bytes.map_err(|cause| Box::new(ImageFault::Key { key: key(), cause: Box::new(cause) }))?;
        Credentials::parse(bytes.expose())
            .map_err(|why| Box::new(ImageFault::Reference { why: why.to_string() }))
    }
}

/// One image of a registry.
#[derive(Clone)]
pub struct Registry {
    access: RegistryAccess,
    client: reqwest::Client,
    reference: Reference,
    base: String,
    plain_http: bool,
    /// Name and password, where init-data names credentials for this registry.
    login: Option<HeaderValue>,
    /// What the registry was last satisfied with.
    authorization: Arc<Mutex<Option<HeaderValue>>>,
}

impl Registry {
    /// Where a reference points.
    ///
    /// # Errors
    /// When the reference or the roots cannot be used.
    pub fn new(
        reference: &str,
        plain_http: bool,
        access: &RegistryAccess,
        credentials: &Credentials,
    ) -> Result<Self, ImageError> {
        let wrong = |why: String| Box::new(ImageFault::Reference { why });
        let reference = Reference::parse(reference).map_err(|why| wrong(why.to_string()))?;
        let host = match reference.registry() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if plain_http { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{}", reference.repository());
        let login = credentials
            .of(reference.registry(), reference.repository())
            .and_then(|login| secret_header(&login.basic()));
        if plain_http && login.is_some() {
            let why = format!("the credentials for {} are not sent over plain HTTP", reference.registry());
            return Err(wrong(why));
        }
        let client = client(access, plain_http)?;
        let (access, authorization) = (access.clone(), Arc::default());
        Ok(Self { access, client, reference, base, plain_http, login, authorization })
    }

    async fn get(&self, path: &str, accept: &str, what: &str) -> Result<Response, ImageError> {
        self.get_part(path, accept, what, None).await
    }

    async fn get_part(
        &self,
        path: &str,
        accept: &str,
        what: &str,
        range: Option<&HeaderValue>,
    ) -> Result<Response, ImageError> {
        let mut reply = self.ask(path, accept, range).await?;
        if reply.status() == StatusCode::UNAUTHORIZED {
            let challenge =
                reply.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            let authorization = match challenge.map(|text| (Challenge::parse(text), is_basic(text))) {
                Some((Some(challenge), _)) => Some(self.authenticate(&challenge).await?),
                Some((None, true)) => self.login.clone(),
                _ => None,
            };
            if authorization.is_some() {
                *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = authorization;
                reply = self.ask(path, accept, range).await?;
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

    async fn ask(
        &self,
        path: &str,
        accept: &str,
        range: Option<&HeaderValue>,
    ) -> Result<Response, ImageError> {
        let url = format!("{}{path}", self.base);
        let mut attempt = 1;
        loop {
            let mut request = self.client.get(&url).header(header::ACCEPT, accept);
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            if let Some(range) = range {
                request = request.header(header::RANGE, range.clone());
            }
            match request.send().await {
                Ok(reply) if attempt < ATTEMPTS && passes(reply.status().as_u16()) => {
                    tokio::time::sleep(patience(&reply, attempt)).await;
                }
                Ok(reply) => return Ok(reply),
                Err(cause) if attempt < ATTEMPTS && !is_certificate(&cause) => {
                    tokio::time::sleep(WAITS.wait(attempt, u8::MAX, None)).await;
                }
                Err(cause) => return Err(self.failed(&cause)),
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// A token, for whom the credentials name or for anybody (distribution's token authentication, "Requesting a
    /// token").
    async fn authenticate(&self, challenge: &Challenge) -> Result<HeaderValue, ImageError> {
        if !self.plain_http && !challenge.realm.starts_with("https://") {
            return Err(self.status("its token service, which is not HTTPS,", StatusCode::UNAUTHORIZED));
        }
        let mut url = reqwest::Url::parse(&challenge.realm).map_err(|why| {
            Box::new(ImageFault::Reference { why: format!("the registry's token service: {why}") })
        })?;
        url.query_pairs_mut().extend_pairs(challenge.query(self.reference.repository()));
        let mut request = self.client.get(url);
        if let Some(login) = &self.login {
            request = request.header(header::AUTHORIZATION, login);
        }
        let reply = request.send().await.map_err(|cause| self.failed(&cause))?;
        if !reply.status().is_success() {
            return Err(self.status("a token", reply.status()));
        }
        let mut chunks = Body { reply, registry: self.name() };
        let body = crate::source::read_bounded(&mut chunks, "the registry's token", 64 << 10).await?;
        let token = read_token(&body).and_then(|token| secret_header(&format!("Bearer {token}")));
        token.ok_or_else(|| self.status("a token without one", StatusCode::UNAUTHORIZED))
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

/// A client with connections of its own.
fn client(access: &RegistryAccess, plain_http: bool) -> Result<reqwest::Client, ImageError> {
    let wrong = |why: String| Box::new(ImageFault::Reference { why });
    let mut trusted = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    access.roots.iter().try_for_each(|pem| add_roots(&mut trusted, pem)).map_err(wrong)?;
    let tls = tls_client(trusted, rustls::DEFAULT_VERSIONS).map_err(wrong)?;
    access
        .proxied(reqwest::Client::builder().no_proxy())
        .map_err(|why| wrong(format!("image_pull_proxy in cdh.toml: {}", reasons(&why))))?
        .tls_backend_preconfigured(tls)
        .https_only(!plain_http)
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .user_agent(concat!("coffer-agent/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|why| wrong(why.to_string()))
}

/// A header that is shown nowhere.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn is_basic(challenge: &str) -> bool {
    challenge.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "))
}

/// How long to wait before the next trial.
fn patience(reply: &Response, attempt: u32) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let said = reply.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    WAITS.wait(attempt, u8::MAX, said.and_then(|text| retry_after(text, now)))
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

    fn parts<'a>(&'a self, blob: &'a Descriptor) -> Pending<'a, Option<Parts>> {
        Box::pin(ranges::parts(self, blob))
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
