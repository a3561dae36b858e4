//! S3-compatible stores: addresses, and requests for single objects.
//!
//! GET only; listing and writing are left out.

use coffer_core_secret::SecretBytes;
use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::SourceError;
use crate::sigv4::{self, Credentials, NO_BODY, Signed, Signer, Slash};

const REGION: &str = "us-east-1";

/// Where the bucket stands in an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum S3Style {
    /// In the path, as every compatible store understands it.
    #[default]
    Path,
    /// Before the host.
    Virtual,
}

/// An object store.
#[derive(Clone, Debug, Default)]
pub struct S3Access {
    /// The store's address; without one, that of Amazon S3 in the region.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` where nobody says one.
    pub region: Option<String>,
    /// Where the bucket stands.
    pub style: S3Style,
    /// Without them, requests are anonymous.
    pub credentials: Option<Credentials>,
}

impl S3Access {
    /// What the variables of the AWS tools and of KServe say: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `S3_ENDPOINT`
    /// with `S3_USE_HTTPS`; `AWS_REGION`, `AWS_DEFAULT_REGION`; `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`; `S3_USER_VIRTUAL_BUCKET`; `awsAnonymousCredential`.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is = |name: &str, word: &str| variable(name).is_some_and(|own| own.eq_ignore_ascii_case(word));
        let yes = |name: &str| is(name, "true") || is(name, "1");
        let kserve = || {
            let plain = is("S3_USE_HTTPS", "0") || is("S3_USE_HTTPS", "false");
            variable("S3_ENDPOINT").map(|host| match host.contains("://") {
                true => host,
                false => format!("{}://{host}", if plain { "http" } else { "https" }),
            })
        };
        let secret = |name: &str| variable(name).map(|text| SecretBytes::copy_of(text.as_bytes()));
        let credentials = match (variable("AWS_ACCESS_KEY_ID"), secret("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret_key)) if !yes("awsAnonymousCredential") => {
                Some(Credentials { id, secret: secret_key, token: secret("AWS_SESSION_TOKEN") })
            }
            _ => None,
        };
        Self {
            endpoint: variable("AWS_ENDPOINT_URL_S3")
                .or_else(|| variable("AWS_ENDPOINT_URL"))
                .or_else(kserve),
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
            style: if yes("S3_USER_VIRTUAL_BUCKET") { S3Style::Virtual } else { S3Style::Path },
            credentials,
        }
    }

    /// The address of a prefix, ending with `/`, and who signs for it.
    pub fn at(&self, bucket: &str, prefix: &str) -> Result<(Url, Option<Signer>), SourceError> {
        let place = format!("s3://{bucket}/{prefix}");
        let refuse = |why: String| SourceError::Client { place: place.clone(), why };
        let region = self.region.as_deref().unwrap_or(REGION).to_owned();
        let endpoint = self.endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let mut url =
            Url::parse(&endpoint).map_err(|why| refuse(format!("its endpoint {endpoint}: {why}")))?;
        let mut path = url.path().trim_end_matches('/').to_owned();
        match (self.style, url.host_str().map(str::to_owned)) {
            (S3Style::Virtual, Some(host)) => {
                url.set_host(Some(&format!("{bucket}.{host}"))).map_err(|why| refuse(why.to_string()))?;
            }
            _ => path = format!("{path}/{bucket}"),
        }
        if !prefix.is_empty() {
            path = format!("{path}/{}", sigv4::encoded(prefix.as_bytes(), Slash::Kept));
        }
        url.set_path(&format!("{path}/"));
        let signer = self.credentials.clone().map(|credentials| Signer::new(credentials, region));
        Ok((url, signer))
    }
}

/// The headers of a GET of `url`, signed now.
pub(super) fn signed(signer: &Signer, url: &Url, range: Option<&str>) -> Result<HeaderMap, String> {
    let host = host_of(url).ok_or("the address has no host")?;
    let request = Signed { method: "GET", path: url.path(), query: url.query().unwrap_or_default() };
    let range = range.map(|range| ("range", range));
    signer.headers(request, &host, range.as_slice(), NO_BODY)
}

/// The host as it stands in a request.
#[must_use]
pub fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(variables: &[(&str, &str)]) -> S3Access {
        let find =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        S3Access::from_variables(find)
    }

    #[test]
    fn addresses_have_the_bucket_where_the_store_wants_it() {
        let at = |variables: &[(&str, &str)]| {
            let (url, signer) = access(variables).at("b", "a b/ü").unwrap();
            (url.to_string(), signer.is_some())
        };
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        assert_eq!(at(&[]), ("https://s3.us-east-1.amazonaws.com/b/a%20b/%C3%BC/".into(), false));
        assert!(at(&[&keys[..], &[("AWS_REGION", "eu-1")]].concat()).1);
        assert!(!at(&[&keys[..], &[("awsAnonymousCredential", "True")]].concat()).1);
        let kserve = [("S3_ENDPOINT", "minio:9000"), ("S3_USE_HTTPS", "0")];
        assert_eq!(at(&kserve).0, "http://minio:9000/b/a%20b/%C3%BC/");
        let virtual_style = [("AWS_ENDPOINT_URL", "https://store"), ("S3_USER_VIRTUAL_BUCKET", "1")];
        assert_eq!(at(&virtual_style).0, "https://b.store/a%20b/%C3%BC/");
        let debugged = format!("{:?}", access(&keys));
        assert!(!debugged.contains("secret\""), "{debugged}");
    }
}
