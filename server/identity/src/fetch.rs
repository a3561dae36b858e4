//! Fetching an issuer's keys with bounds: on time, on length, on where to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::error::FetchError;
use crate::issuer::allowed_url;
use crate::json;
use crate::key_set::{KeySet, KeySlot, KeySource, MAX_DOCUMENT};
use crate::scope::Scope;

const MAX_DISCOVERY: usize = 64 << 10;

/// Where keys may be fetched from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// From public addresses only, so that a tenant cannot make the broker ask its own network.
    #[default]
    Public,
    /// From anywhere.
    Anywhere,
}

/// Whether the environment's proxy is used. Never where only public addresses may be reached: the proxy would resolve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// As the environment says.
    #[default]
    Environment,
    /// None.
    None,
}

/// How keys are fetched.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// For one fetch, discovery and keys together.
    pub timeout: Duration,
    /// More roots, in PEM, beside the public ones.
    pub extra_ca: Option<PathBuf>,
    /// For the cluster's issuers, and for tenants' where `tenants` is `Anywhere`.
    pub proxy: Proxy,
    /// Where the keys of tenants' issuers may be fetched from. The cluster's may be fetched from anywhere.
    pub tenants: Reach,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            extra_ca: None,
            proxy: Proxy::default(),
            tenants: Reach::default(),
        }
    }
}

/// Fetches keys.
pub(crate) struct Fetcher {
    timeout: Duration,
    tenants: Reach,
    anywhere: Client,
    public: Client,
}

impl Fetcher {
    pub(crate) fn new(settings: &FetchSettings) -> Result<Self, FetchError> {
        Ok(Self {
            timeout: settings.timeout,
            tenants: settings.tenants,
            anywhere: client(settings, Reach::Anywhere)?,
            public: client(settings, Reach::Public)?,
        })
    }

    pub(crate) async fn fetch(&self, slot: &KeySlot) -> Result<KeySet, FetchError> {
        let named = source_name(slot);
        let limit = self.timeout;
        let timed_out = |_| FetchError::TimedOut { source_url: named.clone(), limit };
        let bytes = tokio::time::timeout(limit, self.document(slot)).await.map_err(timed_out)??;
        KeySet::parse(&bytes).map_err(|why| FetchError::Keys { source_url: named, why })
    }

    async fn document(&self, slot: &KeySlot) -> Result<Vec<u8>, FetchError> {
        match &slot.source {
            KeySource::Inline(text) => Ok(text.as_bytes().to_vec()),
            KeySource::File(path) => {
                let named = path.display().to_string();
                let failed = |error: std::io::Error| FetchError::Failed {
                    source_url: named.clone(),
                    why: error.to_string(),
                };
                let file = tokio::fs::File::open(path).await.map_err(failed)?;
                let mut bytes = Vec::new();
                let limit = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX).saturating_add(1);
                file.take(limit).read_to_end(&mut bytes).await.map_err(failed)?;
                match bytes.len() > MAX_DOCUMENT {
                    true => Err(FetchError::TooLong { source_url: named, limit: MAX_DOCUMENT }),
                    false => Ok(bytes),
                }
            }
            KeySource::Url(url) => self.get(slot, url, MAX_DOCUMENT).await,
            KeySource::Discovery => {
                let base = slot.issuer.strip_suffix('/').unwrap_or(&slot.issuer);
                let url = format!("{base}/.well-known/openid-configuration");
                let document = self.get(slot, &url, MAX_DISCOVERY).await?;
                let failed = |why: &str| FetchError::Failed { source_url: url.clone(), why: why.to_owned() };
                let document = json::object(&document).map_err(|_| failed("not a JSON object"))?;
                // OpenID Connect Discovery 1.0, section 4.3: the same issuer, to the letter.
                if document.get("issuer").and_then(Value::as_str) != Some(slot.issuer.as_str()) {
                    return Err(failed("the document is another issuer's"));
                }
                let keys = document.get("jwks_uri").and_then(Value::as_str);
                self.get(slot, keys.ok_or_else(|| failed("there is no jwks_uri"))?, MAX_DOCUMENT).await
            }
        }
    }

    async fn get(&self, slot: &KeySlot, url: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
        let source_url = json::short(url);
        let reach = match slot.owner {
            Scope::Cluster => Reach::Anywhere,
            Scope::Tenant(_) => self.tenants,
        };
        let parsed = Url::parse(url).ok().filter(|parsed| allowed_url(parsed) && may_reach(parsed, reach));
        let parsed = parsed.ok_or_else(|| FetchError::Unreachable(source_url.clone()))?;
        let failed = |why: String| FetchError::Failed { source_url: source_url.clone(), why };
        let client = match reach {
            Reach::Anywhere => &self.anywhere,
            Reach::Public => &self.public,
        };
        let answer = client.get(parsed).header("accept", "application/json").send().await;
        let mut answer = answer.map_err(|error| failed(causes(&error)))?;
        if !answer.status().is_success() {
            return Err(failed(format!("status {}", answer.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(causes(&error)))? {
            if body.len().saturating_add(chunk.len()) > limit {
                return Err(FetchError::TooLong { source_url, limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn source_name(slot: &KeySlot) -> String {
    match &slot.source {
        KeySource::Discovery => json::short(&slot.issuer),
        KeySource::Url(url) => json::short(url),
        KeySource::File(path) => path.display().to_string(),
        KeySource::Inline(_) => "the settings".to_owned(),
    }
}

/// An error with what is behind it, without the address, which may be long.
fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { "the request failed".to_owned() };
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text.chars().take(512).collect()
}

fn client(settings: &FetchSettings, reach: Reach) -> Result<Client, FetchError> {
    let wrong = |why: String| FetchError::Client(why);
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = &settings.extra_ca {
        let named = |why: String| wrong(format!("{}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| named(error.to_string()))?;
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| named(error.to_string()))?;
            roots.add(certificate).map_err(|error| named(error.to_string()))?;
            found = true;
        }
        if !found {
            return Err(named("there is no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        // A redirect could lead to where the settings may not.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(settings.timeout)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")));
    if reach == Reach::Public {
        builder = builder.no_proxy().dns_resolver(Arc::new(PublicOnly));
    } else if settings.proxy == Proxy::None {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| wrong(causes(&error)))
}

/// An address in the URL itself is not resolved, so it is looked at here.
fn may_reach(url: &Url, reach: Reach) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match (reach, host.parse::<IpAddr>()) {
        (Reach::Anywhere, _) | (Reach::Public, Err(_)) => true,
        (Reach::Public, Ok(address)) => is_public(address),
    }
}

/// Resolves names, and leaves out addresses that are not public: what is connected to is what was looked at.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            match public.is_empty() {
                true => Err(format!("{} has no public address", name.as_str()).into()),
                false => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether an address is one of the public internet (IANA's registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => true,
        [100, second, ..] => second & 0xc0 == 64,
        [198, second, ..] => second & 0xfe == 18,
        _ => false,
    };
    !special
        && !address.is_private()
        && !address.is_loopback()
        && !address.is_link_local()
        && !address.is_multicast()
        && !address.is_documentation()
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Teredo, benchmarking and documentation; 6to4 and NAT64 lead to addresses of the other family.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x2002 | 0x3fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for good in ["1.1.1.1", "100.128.0.1", "198.20.0.1", "2606:4700::1", "2001:4860:4860::8888"] {
            assert!(is_public(good.parse().unwrap()), "{good}");
        }
        let bad = "0.0.0.0 10.1.2.3 127.0.0.1 169.254.169.254 172.16.0.1 192.168.1.1 100.64.0.1 198.18.0.1 \
            224.0.0.1 255.255.255.255 240.0.0.1 192.0.2.1 192.0.0.8 :: ::1 fe80::1 fc00::1 fd00:ec2::254 ff02::1 \
            ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::a9fe:a9fe 2002:7f00:1:: 2001:db8::1 2001::1";
        for bad in bad.split_whitespace() {
            assert!(!is_public(bad.parse().unwrap()), "{bad}");
        }
        for url in ["https://169.254.169.254/a", "https://[::1]/", "https://2130706433/", "https://0x7f.1/"] {
            assert!(!may_reach(&Url::parse(url).unwrap(), Reach::Public), "{url}");
            assert!(may_reach(&Url::parse(url).unwrap(), Reach::Anywhere), "{url}");
        }
    }
}
