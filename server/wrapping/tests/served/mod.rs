//! Both dialects behind a small HTTP server on loopback, as a broker would mount them.
//!
//! Tokens are words: `reader` may unwrap, `writer` wrap, `auditor` read, `owner` everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request as HttpRequest, Response};
use coffer_server_wrapping::transit::Caller;
use coffer_server_wrapping::{
    Answer, KeyName, Keyring, MemoryTable, Moment, Permission, Request, hadoop, transit,
};

/// The longest body that the server takes.
const MAX_BODY: usize = 4 << 20;

/// Serves until the runtime ends.
pub(crate) async fn serve() -> SocketAddr {
    let ring = Arc::new(Keyring::new(Arc::new(MemoryTable::default())));
    let router = Router::new().fallback(answer).with_state(ring);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn allowed(token: &str, permission: Permission) -> bool {
    match (token, permission) {
        ("owner", _) => true,
        ("", permission) => permission == Permission::Open,
        ("reader", permission) => matches!(permission, Permission::Open | Permission::Unwrap),
        ("writer", permission) => matches!(permission, Permission::Open | Permission::Wrap),
        ("auditor", permission) => matches!(permission, Permission::Open | Permission::Read),
        _ => false,
    }
}

/// The token of a Vault client, or the user whom Hadoop's simple authentication names.
fn token(headers: &HeaderMap, query: &str) -> String {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user = query.split('&').find_map(|pair| pair.strip_prefix("user.name=")).unwrap_or_default();
    let cookie = header("cookie").split("u=").nth(1).and_then(|rest| rest.split('&').next());
    let candidates = [header("x-vault-token"), user, cookie.unwrap_or_default()];
    candidates.into_iter().find(|token| !token.is_empty()).unwrap_or_default().to_string()
}

async fn answer(State(ring): State<Arc<Keyring>>, request: HttpRequest<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Response::builder().status(413).body(Body::empty()).unwrap();
    };
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let request = Request { method: parts.method.as_str(), path, query, body: &body };
    let token = token(&parts.headers, query);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = Moment(u64::try_from(now).unwrap());
    let gate = |permission: Permission, _: &[&KeyName]| allowed(&token, permission);
    let caller = Caller { display_name: &token, policies: &["default".to_string()], ttl_seconds: 3600 };
    let answer = match path.starts_with("/kms/") {
        true => hadoop::answer(&request, &ring, now, gate),
        false => transit::answer(&request, &ring, &caller, now, gate),
    };
    let mut response = http(answer);
    if parts.method == "OPTIONS" && query.contains("user.name=") {
        let cookie = format!("hadoop.auth=\"u={token}&p={token}&t=simple&e=9999999999999&s=x\"; HttpOnly");
        response.headers_mut().insert("set-cookie", cookie.parse().unwrap());
    }
    response
}

fn http(answer: Answer) -> Response<Body> {
    let mut response = Response::builder().status(answer.status);
    if let Some(kind) = answer.content_type {
        response = response.header("content-type", kind);
    }
    if let Some(location) = answer.location {
        response = response.header("location", location);
    }
    response.body(Body::from(answer.body.to_vec())).unwrap()
}
