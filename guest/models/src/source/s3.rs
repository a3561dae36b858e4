//! S3-compatible stores: addresses, and requests signed with AWS Signature Version 4.
//!
//! SPEC: Amazon S3 API reference, "Authenticating requests (AWS Signature Version 4)", authorization header, single
//! chunk. GET only; listing and writing are left out.

use aws_lc_rs::hmac;
use coffer_core_digest::Digest;
use coffer_core_secret::SecretBytes;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::SourceError;

/// SHA-256 of nothing: a GET has no body.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
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

/// A key of an object store.
pub struct Credentials {
    /// Its id.
    pub id: String,
    /// The secret.
    pub secret: SecretBytes,
    /// The session's token, of temporary credentials.
    pub token: Option<SecretBytes>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        let copy = |bytes: &SecretBytes| SecretBytes::copy_of(bytes.expose());
        Self { id: self.id.clone(), secret: copy(&self.secret), token: self.token.as_ref().map(copy) }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("id", &self.id).finish_non_exhaustive()
    }
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
    pub(crate) fn at(&self, bucket: &str, prefix: &str) -> Result<(Url, Option<Signer>), SourceError> {
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
            path = format!("{path}/{}", encoded(prefix));
        }
        url.set_path(&format!("{path}/"));
        let signer = self.credentials.clone().map(|credentials| Signer { credentials, region });
        Ok((url, signer))
    }
}

/// Percent-encodes all but the unreserved characters and `/`.
fn encoded(key: &str) -> String {
    let mut text = String::new();
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(byte.into())
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Signs requests.
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    /// The headers of a GET of `url`, signed now.
    pub(super) fn headers(&self, url: &Url, range: Option<&str>) -> Result<HeaderMap, String> {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        self.headers_at(url, range, &time)
    }

    fn headers_at(&self, url: &Url, range: Option<&str>, time: &str) -> Result<HeaderMap, String> {
        let host = match (url.host_str(), url.port()) {
            (Some(host), None) => host.to_owned(),
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (None, _) => return Err("the address has no host".into()),
        };
        let token = match &self.credentials.token {
            Some(token) => {
                Some(String::from_utf8(token.expose().to_vec()).map_err(|_| "the token is no text")?)
            }
            None => None,
        };
        // In the order of their names, as the canonical form has them.
        let signed: Vec<(&str, String)> = [
            ("host", Some(host)),
            ("range", range.map(str::to_owned)),
            ("x-amz-content-sha256", Some(NO_BODY.to_owned())),
            ("x-amz-date", Some(time.to_owned())),
            ("x-amz-security-token", token),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let request = format!("GET\n{}\n\n{lines}\n{names}\n{NO_BODY}", url.path());
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", Digest::sha256(request.as_bytes()).hex());
        let first = zeroize::Zeroizing::new([b"AWS4", self.credentials.secret.expose().as_slice()].concat());
        let sign =
            |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let key = [day, &self.region, "s3", "aws4_request"]
            .into_iter()
            .fold(first, |key, part| zeroize::Zeroizing::new(sign(&key, part).as_ref().to_vec()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.credentials.id,
            hex::encode(sign(&key, &text))
        );
        let mut headers = HeaderMap::new();
        // The client itself sends host and range.
        let own = signed.iter().filter(|(name, _)| name.starts_with("x-amz-"));
        for (name, value) in
            own.map(|(name, value)| (*name, value)).chain([("authorization", &authorization)])
        {
            let mut value =
                HeaderValue::from_str(value).map_err(|_| format!("{name} has control characters"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|why| why.to_string())?, value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(variables: &[(&str, &str)]) -> S3Access {
        let find =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        S3Access::from_variables(find)
    }

    /// Amazon S3 API reference, "Signature calculations for the authorization header", example "GET object".
    #[test]
    fn the_published_request_is_signed_as_published() {
        let signer = Signer {
            credentials: Credentials {
                id: "AKIAIOSFODNN7EXAMPLE".into(),
                secret: SecretBytes::copy_of(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                token: None,
            },
            region: "us-east-1".into(),
        };
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").unwrap();
        let headers = signer.headers_at(&url, Some("bytes=0-9"), "20130524T000000Z").unwrap();
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(
            authorization.ends_with("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            "{authorization}"
        );
        assert!(authorization.contains("20130524/us-east-1/s3/aws4_request"));
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
