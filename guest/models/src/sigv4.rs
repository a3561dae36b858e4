//! AWS Signature Version 4, of requests that are sent and of requests that arrive.
//!
//! SPEC: Amazon S3 API reference, "Authenticating requests (AWS Signature Version 4)", authorization header. Left out:
//! signatures in queries, and those of single chunks of a body.

use aws_lc_rs::hmac;
use coffer_core_digest::Digest;
use coffer_core_secret::SecretBytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// SHA-256 of nothing: of the body of a request that has none.
pub const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Of a body that other means protect.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

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

/// What of a request is signed beside its headers.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it is sent, percent-encoded.
    pub path: &'a str,
    /// The query as it is sent, without `?`; may be empty.
    pub query: &'a str,
}

/// Signs requests.
#[derive(Clone, Debug)]
pub struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    /// For a region.
    #[must_use]
    pub fn new(credentials: Credentials, region: String) -> Self {
        Self { credentials, region }
    }

    /// The headers to add to a request, signed now. `headers` are signed too; they are to be sent as they are.
    pub fn headers(
        &self,
        request: Signed<'_>,
        host: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<HeaderMap, String> {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        self.headers_at(request, host, headers, body, &time)
    }

    pub(crate) fn headers_at(
        &self,
        request: Signed<'_>,
        host: &str,
        headers: &[(&str, &str)],
        body: &str,
        time: &str,
    ) -> Result<HeaderMap, String> {
        let token = match &self.credentials.token {
            Some(token) => {
                Some(std::str::from_utf8(token.expose()).map_err(|_| "the session's token is no text")?)
            }
            None => None,
        };
        let own = [
            ("host", Some(host)),
            ("x-amz-content-sha256", Some(body)),
            ("x-amz-date", Some(time)),
            ("x-amz-security-token", token),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut signed: Vec<(String, String)> = own
            .chain(headers.iter().copied())
            .map(|(name, value)| (name.to_ascii_lowercase(), trimmed(value)))
            .collect();
        signed.sort();
        let scope = Scope { day: time.get(..8).unwrap_or_default(), region: &self.region, service: "s3" };
        let (names, signature) = signature(&self.credentials.secret, request, &signed, body, time, &scope);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.credentials.id,
            hex::encode(signature.as_ref())
        );
        // The client itself sends the host.
        let more = [("x-amz-content-sha256", Some(body)), ("x-amz-date", Some(time))].into_iter();
        let more = more.chain([("x-amz-security-token", token), ("authorization", Some(&authorization))]);
        let mut found = HeaderMap::new();
        for (name, value) in more.filter_map(|(name, value)| Some((name, value?))) {
            let mut value =
                HeaderValue::from_str(value).map_err(|_| format!("{name} has control characters"))?;
            value.set_sensitive(true);
            found.insert(HeaderName::from_static(name), value);
        }
        Ok(found)
    }
}

/// Whether a request that arrived was signed with these credentials. That a signature is new, nothing says: who could
/// repeat a request could read it, and its answer.
#[must_use]
pub fn is_signed(credentials: &Credentials, request: Signed<'_>, headers: &HeaderMap) -> bool {
    check(credentials, request, headers).is_some()
}

fn check(credentials: &Credentials, request: Signed<'_>, headers: &HeaderMap) -> Option<()> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let rest = text("authorization")?.strip_prefix(ALGORITHM)?;
    let mut fields = rest.split(',').map(str::trim);
    let mut field =
        |name: &str| fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    let (credential, names, given) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let scope = credential.strip_prefix(&credentials.id)?.strip_prefix('/')?;
    let mut parts = scope.split('/');
    let scope = Scope { day: parts.next()?, region: parts.next()?, service: parts.next()? };
    if parts.next()? != "aws4_request" || parts.next().is_some() {
        return None;
    }
    let (time, body) = (text("x-amz-date")?, text("x-amz-content-sha256")?);
    let mut signed = Vec::new();
    for name in names.split(';') {
        let values: Option<Vec<_>> =
            headers.get_all(name).iter().map(|value| value.to_str().ok().map(trimmed)).collect();
        signed.push((name.to_owned(), values.filter(|values| !values.is_empty())?.join(",")));
    }
    // Without these a signature would be good for another host, another time or another body.
    let needed = ["host", "x-amz-content-sha256", "x-amz-date"];
    if !needed.iter().all(|name| signed.iter().any(|(own, _)| own == name)) {
        return None;
    }
    let given = hex::decode(given).ok()?;
    let (text, key) = to_sign(&credentials.secret, request, &signed, &names, body, time, &scope);
    hmac::verify(&key, text.as_bytes(), &given).ok()
}

/// What a signature is good for.
struct Scope<'a> {
    day: &'a str,
    region: &'a str,
    service: &'a str,
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }
}

fn signature(
    secret: &SecretBytes,
    request: Signed<'_>,
    headers: &[(String, String)],
    body: &str,
    time: &str,
    scope: &Scope<'_>,
) -> (String, hmac::Tag) {
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let (text, key) = to_sign(secret, request, headers, &names, body, time, scope);
    (names, hmac::sign(&key, text.as_bytes()))
}

/// The string to sign and the key for it.
fn to_sign(
    secret: &SecretBytes,
    request: Signed<'_>,
    headers: &[(String, String)],
    names: &str,
    body: &str,
    time: &str,
    scope: &Scope<'_>,
) -> (String, hmac::Key) {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let query = canonical_query(request.query);
    let text = format!("{}\n{}\n{query}\n{lines}\n{names}\n{body}", request.method, request.path);
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", Digest::sha256(text.as_bytes()).hex());
    let sign = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let first = Zeroizing::new([b"AWS4", secret.expose().as_slice()].concat());
    let key = [scope.day, scope.region, scope.service, "aws4_request"]
        .into_iter()
        .fold(first, |key, part| Zeroizing::new(sign(&key, part).as_ref().to_vec()));
    (text, hmac::Key::new(hmac::HMAC_SHA256, &key))
}

/// Without spaces at its ends, and with one where several are.
fn trimmed(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Pairs in the order of their encoded names, each encoded in the one way.
fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded(&decoded(name), Slash::Encoded), encoded(&decoded(value), Slash::Encoded))
        })
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// What is done with a slash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slash {
    /// It stands for itself, as in paths.
    Kept,
    /// It is a character like others, as in queries.
    Encoded,
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
#[must_use]
pub fn encoded(bytes: &[u8], slash: Slash) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte))
            }
            b'/' if slash == Slash::Kept => text.push('/'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Takes percent-encoding away; what is not encoded well stands for itself.
#[must_use]
pub fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let own = behind.get(..2).filter(|_| *first == b'%');
        let own = own.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(own.unwrap_or(*first));
        rest = if own.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: SecretBytes::copy_of(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            token: None,
        }
    }

    /// Amazon S3 API reference, "Signature calculations for the authorization header", all four examples.
    #[test]
    fn the_published_requests_are_signed_as_published() {
        let own = Signer::new(credentials(), "us-east-1".into());
        let put = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        for (method, path, query, headers, body, expected) in [
            (
                "GET",
                "/test.txt",
                "",
                vec![("Range", "bytes=0-9")],
                NO_BODY,
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "/test%24file.text",
                "",
                vec![
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ],
                put,
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "GET",
                "/",
                "lifecycle",
                vec![],
                NO_BODY,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "GET",
                "/",
                "prefix=J&max-keys=2",
                vec![],
                NO_BODY,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let (request, host) = (Signed { method, path, query }, "examplebucket.s3.amazonaws.com");
            let found = own.headers_at(request, host, &headers, body, "20130524T000000Z").unwrap();
            let authorization = found["authorization"].to_str().unwrap();
            assert!(authorization.ends_with(expected), "{authorization}");
            assert!(!format!("{found:?}").contains("Signature"));
            let mut arrived = found.clone();
            arrived.insert("host", HeaderValue::from_static("examplebucket.s3.amazonaws.com"));
            for (name, value) in headers {
                arrived.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            assert!(is_signed(&credentials(), request, &arrived), "{query}");
            // Twins: another path, query, method, host, secret, or no signature.
            assert!(!is_signed(&credentials(), Signed { path: "/other", ..request }, &arrived));
            assert!(!is_signed(&credentials(), Signed { query: "acl", ..request }, &arrived));
            assert!(!is_signed(&credentials(), Signed { method: "DELETE", ..request }, &arrived));
            let other = Credentials { secret: SecretBytes::copy_of(b"x"), ..credentials() };
            assert!(!is_signed(&other, request, &arrived));
            let mut elsewhere = arrived.clone();
            elsewhere.insert("host", HeaderValue::from_static("other.example"));
            assert!(!is_signed(&credentials(), request, &elsewhere));
            let mut changed = arrived.clone();
            changed.insert("x-amz-content-sha256", HeaderValue::from_static(UNSIGNED));
            assert!(!is_signed(&credentials(), request, &changed));
            arrived.remove("authorization");
            assert!(!is_signed(&credentials(), request, &arrived));
        }
    }

    #[test]
    fn a_signature_that_leaves_out_what_it_must_cover_is_none() {
        let own = credentials();
        for names in ["x-amz-content-sha256;x-amz-date", "host;x-amz-date", "host;x-amz-content-sha256"] {
            let scope = Scope { day: "20130524", region: "r", service: "s3" };
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("h"));
            headers.insert("x-amz-content-sha256", HeaderValue::from_static(NO_BODY));
            headers.insert("x-amz-date", HeaderValue::from_static("20130524T000000Z"));
            let signed: Vec<_> = names
                .split(';')
                .map(|name| (name.to_owned(), headers[name].to_str().unwrap().to_owned()))
                .collect();
            let request = Signed { method: "GET", path: "/", query: "" };
            let (_, tag) = signature(&own.secret, request, &signed, NO_BODY, "20130524T000000Z", &scope);
            let text = format!(
                "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={}",
                own.id,
                hex::encode(tag)
            );
            headers.insert("authorization", text.parse().unwrap());
            assert!(!is_signed(&own, request, &headers), "{names}");
        }
    }

    #[test]
    fn encoding_and_its_opposite_agree() {
        let all: Vec<u8> = (0..=255).collect();
        for slash in [Slash::Kept, Slash::Encoded] {
            assert_eq!(decoded(&encoded(&all, slash)), all);
        }
        assert_eq!(decoded("%zz%4"), b"%zz%4");
        assert_eq!(canonical_query("b=2&a=%2f&c&a=%7E"), "a=%2F&a=~&b=2&c=");
    }
}
