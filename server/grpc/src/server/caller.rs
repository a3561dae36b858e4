//! What a request's head says of its caller: token, tenant, host, and how long an answer is waited for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use coffer_core_admin::TenantName;
use coffer_core_secret::Secret;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, http};
use tonic::Status;

use super::refusal::malformed;
use crate::backend::AuthContext;

/// The metadata that names a tenant.
pub const TENANT_METADATA: &str = "coffer-tenant";

const TIMEOUT: &str = "grpc-timeout";
/// "TimeoutValue: positive integer as ASCII string of at most 8 digits" (gRPC over HTTP/2).
const TIMEOUT_DIGITS: usize = 8;

/// The other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address; none on a Unix socket.
    pub address: Option<SocketAddr>,
    /// The certificate that TLS verified, in DER.
    pub certificate: Option<Vec<u8>>,
}

/// Whether a request is for this crate, where one port serves HTTP too.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence == "application/grpc" || essence == "application/grpc+proto"
}

/// A path: the service and method, and the tenant of its prefix.
pub(super) struct Route<'a> {
    pub(super) service: &'a str,
    pub(super) method: &'a str,
    pub(super) tenant: Option<TenantName>,
}

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Result<Self, Status> {
        let segments: Vec<&str> = path.split('/').take(6).collect();
        match segments.as_slice() {
            ["", "t", tenant, service, method] => {
                let tenant = tenant.parse().map_err(|error| malformed(format!("the path: {error}")))?;
                Ok(Self { service, method, tenant: Some(tenant) })
            }
            ["", service, method] => Ok(Self { service, method, tenant: None }),
            _ => Err(malformed("the path is /<service>/<method>, with /t/<tenant> before it or not")),
        }
    }
}

/// How long the caller waits, if it says so.
pub(super) fn patience(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let wrong = || malformed("grpc-timeout is 1 to 8 digits and one of H, M, S, m, u, n");
    let text = value.to_str().map_err(|_| wrong())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let plain = (1..=TIMEOUT_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let amount: u64 = digits.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(amount.saturating_mul(3600)),
        "M" => Duration::from_secs(amount.saturating_mul(60)),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(wrong()),
    }))
}

/// Gathers what a backend is told.
pub(super) fn context(
    parts: &Parts,
    from_path: Option<TenantName>,
    peer: &Peer,
    deadline: Instant,
) -> Result<AuthContext, Status> {
    Ok(AuthContext {
        bearer: bearer(&parts.headers)?,
        peer_certificate: peer.certificate.clone(),
        tenant: tenant(&parts.headers, from_path)?,
        host: host(parts),
        address: peer.address,
        deadline,
    })
}

fn bearer(headers: &HeaderMap) -> Result<Option<Secret<String>>, Status> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(AUTHORIZATION) {
            true => Err(malformed("there is more than one authorization; send one")),
            false => Ok(None),
        };
    };
    let text = value.to_str().map_err(|_| malformed("authorization is not visible ASCII"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(Secret::new(token.trim().to_owned())))
        }
        _ => Err(malformed("authorization is of an unknown scheme; send \"Bearer <token>\"")),
    }
}

/// Two names of a tenant must not differ: what checks one and what uses the other would be two things.
fn tenant(headers: &HeaderMap, from_path: Option<TenantName>) -> Result<Option<TenantName>, Status> {
    let mut found = from_path;
    for value in headers.get_all(TENANT_METADATA) {
        let text = value.to_str().map_err(|_| malformed("coffer-tenant is not visible ASCII"))?;
        let named: TenantName = text.parse().map_err(|error| malformed(format!("coffer-tenant: {error}")))?;
        match &found {
            Some(other) if *other != named => {
                return Err(malformed(format!("two tenants are named, {other} and {named}; name one")));
            }
            _ => found = Some(named),
        }
    }
    Ok(found)
}

fn host(parts: &Parts) -> Option<String> {
    let of = |authority: &Authority| authority.host().to_ascii_lowercase();
    match parts.uri.authority() {
        Some(authority) => Some(of(authority)),
        None => {
            let text = parts.headers.get(HOST)?.to_str().ok()?;
            text.parse::<http::uri::Authority>().ok().as_ref().map(of)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&'static str, &str)]) -> Parts {
        let mut builder = hyper::Request::builder().uri("http://Acme.Example:50004/x");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn read(headers: &[(&'static str, &str)], path: Option<&str>) -> Result<AuthContext, Status> {
        let tenant = path.map(|name| name.parse().unwrap());
        context(&parts(headers), tenant, &Peer::default(), Instant::now())
    }

    #[test]
    fn token_tenant_and_host_are_read() {
        let auth =
            read(&[("authorization", "bearer  abc"), ("coffer-tenant", "acme")], Some("acme")).unwrap();
        assert_eq!(auth.bearer.unwrap().expose(), "abc");
        assert_eq!(auth.tenant.unwrap().as_str(), "acme");
        assert_eq!(auth.host.unwrap(), "acme.example");
        let none = read(&[], None).unwrap();
        assert!(none.bearer.is_none() && none.tenant.is_none());
    }

    #[test]
    fn doubtful_heads_are_refused() {
        for (headers, path) in [
            (&[("authorization", "Bearer a"), ("authorization", "Bearer b")][..], None),
            (&[("authorization", "Basic a")], None),
            (&[("authorization", "Bearer ")], None),
            (&[("authorization", "Bearer")], None),
            (&[("coffer-tenant", "Acme")], None),
            (&[("coffer-tenant", "acme"), ("coffer-tenant", "other")], None),
            (&[("coffer-tenant", "acme")], Some("other")),
        ] {
            let error = read(headers, path).err().unwrap();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{headers:?}");
        }
    }

    #[test]
    fn a_timeout_is_read_in_each_unit_or_refused() {
        let of = |text: &str| patience(&parts(&[(TIMEOUT, text)]).headers);
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(of(text).unwrap(), Some(expected));
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "999999999S", "1 S"] {
            assert!(of(text).is_err(), "{text:?}");
        }
        assert_eq!(patience(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_route_is_a_service_and_method_with_a_tenant_or_not() {
        let route = Route::parse("/t/acme/a.B/C").unwrap();
        assert_eq!((route.service, route.method, route.tenant.unwrap().as_str()), ("a.B", "C", "acme"));
        assert!(Route::parse("/a.B/C").unwrap().tenant.is_none());
        for path in ["", "/", "/a", "/a/b/c", "/t/UP/a/b", "/t//a/b", "/t/x/a/b/c", "//a/b"] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn only_grpc_is_taken_for_grpc() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc+json", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&parts(&[("content-type", value)]).headers), expected, "{value}");
        }
    }
}
