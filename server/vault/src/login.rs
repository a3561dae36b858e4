//! Getting a token, and making it last.

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::http::{Ask, Reply, Wire, object};
use crate::{Auth, VaultError};

/// No credential is longer.
const MAX_FILE: u64 = 64 << 10;

/// A token and what is known of its life.
pub(crate) struct Grant {
    pub(crate) token: HeaderValue,
    /// `None` for a token without an end.
    pub(crate) lease: Option<Duration>,
    pub(crate) renewable: bool,
}

/// By what a changed file is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

#[derive(Deserialize)]
struct Granted<'a> {
    #[serde(borrow)]
    auth: Option<GrantedAuth<'a>>,
}

#[derive(Deserialize)]
struct GrantedAuth<'a> {
    #[serde(borrow)]
    client_token: Cow<'a, str>,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Looked {
    data: LookedData,
}

#[derive(Deserialize)]
struct LookedData {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

/// Logs in as the settings say.
pub(crate) async fn login(wire: &Wire, auth: &Auth) -> Result<Grant, VaultError> {
    match auth {
        Auth::TokenFile(path) => from_file(wire, path).await,
        Auth::Approle { mount, role_id, secret_id_file } => {
            let secret_id = read_credential(secret_id_file, Readers::Private).await?;
            let body = object(&[("role_id", role_id), ("secret_id", &secret_id)]);
            ask_login(wire, "AppRole", mount, body, secret_id_file).await
        }
        Auth::Kubernetes { mount, role, jwt_file } => {
            // The kubelet decides who may read a projected token.
            let jwt = read_credential(jwt_file, Readers::Any).await?;
            let body = object(&[("role", role), ("jwt", &jwt)]);
            ask_login(wire, "Kubernetes", mount, body, jwt_file).await
        }
    }
}

/// Renews a token.
pub(crate) async fn renew(wire: &Wire, token: &HeaderValue) -> Result<Grant, VaultError> {
    let ask = Ask {
        method: Method::POST,
        path: vec!["auth", "token", "renew-self"],
        query: None,
        body: Some(object(&[])),
        repeatable: true,
    };
    let reply = wire.ask(&ask, Some(token)).await?;
    match reply.status {
        StatusCode::OK => granted(&ask, &reply),
        _ => Err(refused(&ask, &reply)),
    }
}

/// What is left of a token's life; `None` if the server does not know the token.
pub(crate) async fn look_up(
    wire: &Wire,
    token: &HeaderValue,
) -> Result<Option<(Option<Duration>, bool)>, VaultError> {
    let ask = Ask {
        method: Method::GET,
        path: vec!["auth", "token", "lookup-self"],
        query: None,
        body: None,
        repeatable: true,
    };
    let reply = wire.ask(&ask, Some(token)).await?;
    match reply.status {
        StatusCode::OK => {
            let LookedData { ttl, renewable } = reply.parse::<Looked>(&ask)?.data;
            Ok(Some((lease(ttl), renewable)))
        }
        StatusCode::FORBIDDEN => Ok(None),
        _ => Err(refused(&ask, &reply)),
    }
}

/// What a file looks like from outside, or `None` if it is not there.
pub(crate) async fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some(Stamp { inode: metadata.ino(), length: metadata.len(), modified: metadata.modified().ok() })
}

async fn from_file(wire: &Wire, path: &Path) -> Result<Grant, VaultError> {
    let text = read_credential(path, Readers::Private).await?;
    let unusable = |why| VaultError::Credential { path: path.into(), why };
    let mut token =
        HeaderValue::from_str(&text).map_err(|_| unusable("it has characters that no token has"))?;
    token.set_sensitive(true);
    match look_up(wire, &token).await? {
        Some((lease, renewable)) => Ok(Grant { token, lease, renewable }),
        None => Err(unusable("the Vault does not know this token, it ended or was revoked; write a new one")),
    }
}

async fn ask_login(
    wire: &Wire,
    method: &'static str,
    mount: &str,
    body: Zeroizing<String>,
    credential: &Path,
) -> Result<Grant, VaultError> {
    let mut path = vec!["auth"];
    path.extend(
        coffer_server_source::segments(mount)
            .map_err(|why| VaultError::Path { path: mount.to_owned(), why })?,
    );
    path.push("login");
    // A secret id may be good for a counted number of logins, so a login is not repeated.
    let ask = Ask { method: Method::POST, path, query: None, body: Some(body), repeatable: false };
    let reply = wire.ask(&ask, None).await?;
    match reply.status {
        StatusCode::OK => granted(&ask, &reply),
        StatusCode::NOT_FOUND => Err(VaultError::NoEngine { engine: method, mount: format!("auth/{mount}") }),
        status => Err(VaultError::Login {
            method,
            status: status.as_u16(),
            why: reply.words(),
            credential: credential.into(),
        }),
    }
}

fn granted(ask: &Ask<'_>, reply: &Reply) -> Result<Grant, VaultError> {
    let malformed = |why| VaultError::Malformed { path: ask.path(), why };
    let auth = reply.parse::<Granted<'_>>(ask)?.auth.ok_or_else(|| malformed("it has no token"))?;
    let mut token = HeaderValue::from_str(&auth.client_token)
        .map_err(|_| malformed("its token has characters that no token has"))?;
    token.set_sensitive(true);
    Ok(Grant { token, lease: lease(auth.lease_duration), renewable: auth.renewable })
}

fn refused(ask: &Ask<'_>, reply: &Reply) -> VaultError {
    match reply.status {
        StatusCode::FORBIDDEN => VaultError::Forbidden { path: ask.path(), capability: "update" },
        status => VaultError::Refused { path: ask.path(), status: status.as_u16(), why: reply.words() },
    }
}

/// Vault writes 0 for a token without an end.
const fn lease(seconds: u64) -> Option<Duration> {
    match seconds {
        0 => None,
        seconds => Some(Duration::from_secs(seconds)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// The file's owner and group.
    Private,
    Any,
}

/// A credential's file, without the line's end that editors leave.
async fn read_credential(path: &Path, readers: Readers) -> Result<Zeroizing<String>, VaultError> {
    let failed = |source: io::Error| VaultError::File { path: PathBuf::from(path), source };
    let unusable = |why| VaultError::Credential { path: path.into(), why };
    let metadata = tokio::fs::metadata(path).await.map_err(failed)?;
    if readers == Readers::Private && metadata.mode() & 0o007 != 0 {
        return Err(unusable("everybody may read it; chmod o= it"));
    }
    if metadata.len() > MAX_FILE {
        return Err(unusable("it is longer than 64 KiB"));
    }
    let bytes = Zeroizing::new(tokio::fs::read(path).await.map_err(failed)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not text"))?.trim();
    match text.is_empty() {
        true => Err(unusable("it is empty")),
        false => Ok(Zeroizing::new(text.to_owned())),
    }
}
