//! A request, an answer, a table of routes, and the gate between reading a call and handling it.
//!
//! INVARIANT: a call is handled only as [`Permitted`], and only [`authorize`] makes one.

use zeroize::Zeroizing;

use crate::{KeyName, WrapError};

/// The longest body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 4 << 20;
/// The longest path or query that is read, in bytes.
const MAX_PATH: usize = 16 << 10;

/// A request, as HTTP brought it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path as it was sent, from `/kms/v1` or `/v1` on: a tenant's prefix is taken off before.
    pub path: &'a str,
    /// The query as it was sent, without `?`.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// An answer for HTTP to bring back. The body may hold a plaintext data key, so it is wiped.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body's type, where there is a body.
    pub content_type: Option<&'static str>,
    /// Where what was created is, relative to the request's path.
    pub location: Option<String>,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// Why it was refused, for the log and the counters.
    pub code: Option<&'static str>,
}

impl Answer {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, content_type: None, location: None, body: Zeroizing::default(), code: None }
    }
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Nothing: it says only that the broker is there, or who the caller is.
    Open,
    /// Names and descriptions of keys.
    Read,
    /// Data keys wrapped, none seen: what a name node or a writer does.
    Wrap,
    /// Plaintext data keys: what a reader does.
    Unwrap,
    /// Keys created, changed, rotated and deleted.
    Manage,
}

impl Permission {
    /// The word for a refusal.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Manage => "manage",
        }
    }
}

/// A line of a dialect's table: a call, where it is, and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<O: 'static> {
    /// The method.
    pub method: &'static str,
    /// The path; `{x}` stands for one segment.
    pub pattern: &'static str,
    /// A parameter of the query that must have this value.
    pub query: Option<(&'static str, &'static str)>,
    /// The call.
    pub operation: O,
    /// What it needs.
    pub permission: Permission,
}

/// The request's route, with its segments decoded and its query in pairs.
pub(crate) struct Matched<O: 'static> {
    pub(crate) route: &'static Route<O>,
    pub(crate) segments: Vec<(&'static str, String)>,
    pub(crate) query: Vec<(String, String)>,
}

impl<O> Matched<O> {
    pub(crate) fn segment(&self, name: &str) -> &str {
        self.segments.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Finds the route of a request that is within bounds.
pub(crate) fn find<O>(routes: &'static [Route<O>], request: &Request<'_>) -> Result<Matched<O>, WrapError> {
    crate::error::most("the path in bytes", request.path.len(), MAX_PATH)?;
    crate::error::most("the query in bytes", request.query.len(), MAX_PATH)?;
    crate::error::most("the body in bytes", request.body.len(), MAX_BODY)?;
    let query: Vec<(String, String)> =
        form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    let asked = |route: &Route<O>| {
        route.query.is_none_or(|(key, value)| query.iter().any(|(k, v)| k == key && v == value))
    };
    let found = routes
        .iter()
        .filter(|route| route.method == request.method && asked(route))
        .find_map(|route| Some((route, segments(route.pattern, request.path)?)));
    match found {
        Some((route, segments)) => Ok(Matched { route, segments, query }),
        None => {
            let path: String = request.path.chars().take(200).collect();
            let method: String = request.method.chars().take(20).collect();
            Err(WrapError::Route(format!("{method} {path}")))
        }
    }
}

fn segments(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    let mut path = path.split('/');
    for expected in pattern.split('/') {
        let segment = path.next()?;
        match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => found.push((name, decoded(segment)?)),
            None if expected == segment => {}
            None => return None,
        }
    }
    path.next().is_none().then_some(found)
}

/// A path segment without percent-encoding (RFC 3986, section 2.1); `+` is itself there.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                bytes.push(high << 4 | low);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A call that was read: what it needs, and for which keys.
pub trait Ask {
    /// What the call needs.
    fn permission(&self) -> Permission;
    /// The keys that it is about; none where it is about no key in particular.
    fn keys(&self) -> Vec<&KeyName>;
    /// The answer to who may not.
    fn denied(&self) -> Answer;
}

/// A call that the gate let through.
pub struct Permitted<C>(C);

impl<C> Permitted<C> {
    pub(crate) fn into_call(self) -> C {
        self.0
    }
}

/// Asks the gate whether this caller may make this call on these keys.
pub fn authorize<C: Ask>(
    call: C,
    gate: impl FnOnce(Permission, &[&KeyName]) -> bool,
) -> Result<Permitted<C>, Answer> {
    match gate(call.permission(), &call.keys()) {
        true => Ok(Permitted(call)),
        false => Err(call.denied()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[Route<u8>] = &[
        Route { method: "GET", pattern: "/a/{x}/b", query: None, operation: 1, permission: Permission::Read },
        Route {
            method: "GET",
            pattern: "/a/{x}",
            query: Some(("op", "go")),
            operation: 2,
            permission: Permission::Wrap,
        },
    ];

    fn find_in(method: &str, path: &str, query: &str) -> Option<(u8, String)> {
        let request = Request { method, path, query, body: b"" };
        let found = find(ROUTES, &request).ok()?;
        Some((found.route.operation, found.segment("x").to_string()))
    }

    #[test]
    fn a_route_is_found_by_method_path_and_query() {
        assert_eq!(find_in("GET", "/a/k%400/b", ""), Some((1, "k@0".into())));
        assert_eq!(find_in("GET", "/a/k+", "z=1&op=go"), Some((2, "k+".into())));
        for (method, path, query) in [
            ("POST", "/a/k/b", ""),
            ("GET", "/a/k", ""),
            ("GET", "/a/k", "op=stop"),
            ("GET", "/a/k/b/", ""),
            ("GET", "/a/k/b/c", ""),
            ("GET", "a/k/b", ""),
            ("GET", "/a/%/b", ""),
            ("GET", "/a/%ff/b", ""),
            ("GET", "/a/%4/b", ""),
        ] {
            assert_eq!(find_in(method, path, query), None, "{method} {path}?{query}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_read() {
        let long = "x".repeat(MAX_PATH + 1);
        let body = vec![0; MAX_BODY + 1];
        for request in [
            Request { method: "GET", path: &long, query: "", body: b"" },
            Request { method: "GET", path: "/a/k/b", query: &long, body: b"" },
            Request { method: "GET", path: "/a/k/b", query: "", body: &body },
        ] {
            assert!(matches!(find(ROUTES, &request), Err(WrapError::TooMuch { .. })));
        }
    }
}
