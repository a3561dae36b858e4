//! Secrets and the terms on which they are released.

use axum::extract::{Path, Query, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coffer_core_admin::{
    GenerateResource, ResourceInfo, ResourceList, ResourceOrigin, ResourceState, ResourceStored,
    ResourceTerms, ResourceVersion, ResourceVersions, SetResourceState,
};
use coffer_core_protocol::error::Code;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::{Secret, SecretBytes};
use coffer_server_limits::Quantity;
use coffer_server_store::{
    KEPT_VERSIONS, NewResource, Origin, ResourceError, State, StoredResource, VersionInfo,
};
use serde::Deserialize;

use super::MAX_BODY;
use crate::call::{Admin, Answer, blocking, body, parse};
use crate::record;
use crate::reply::{Refused, json};

/// As upstream.
pub(crate) const MAX_RESOURCE: usize = 2 << 20;
/// How many a page of the list has at most.
const PAGE: usize = 1000;
const MAX_GENERATED: u32 = 4096;
const MIN_GENERATED: u32 = 16;

type Parts = Path<(String, String, String)>;

pub(crate) fn path(parts: (String, String, String)) -> Result<ResourcePath, Refused> {
    let path = ResourcePath::new(&parts.0, &parts.1, &parts.2);
    path.map_err(|error| Refused::new(Code::ResourcePath, format!("{error}.")))
}

#[derive(Deserialize)]
pub(crate) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn list(admin: Admin, Query(page): Query<Page>) -> Answer {
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let after = page.after;
    let found = admin.stored(move |rows| rows.resources(after.as_deref(), limit)).await?;
    let next = (found.len() == limit).then(|| found.last().map(|last| last.path.clone())).flatten();
    let resources = found.into_iter().map(shown).collect();
    Ok(json(StatusCode::OK, &ResourceList { resources, next }))
}

pub(crate) async fn versions(admin: Admin, Path(parts): Parts) -> Answer {
    let path = path(parts)?.to_string();
    let name = path.clone();
    let found = admin.stored(move |rows| rows.resource_info(&name)).await?;
    let found = found.ok_or(Code::ResourceMissing)?;
    let versions = found.versions.iter().rev().map(|version| version_shown(&path, version)).collect();
    Ok(json(StatusCode::OK, &ResourceVersions { path, versions }))
}

/// Upstream's call: on no terms.
pub(crate) async fn put_plain(admin: Admin, Path(parts): Parts, request: Request) -> Answer {
    let path = path(parts)?;
    let value = SecretBytes::copy_of(&body(request, MAX_RESOURCE).await?);
    store(&admin, &path, value, ResourceTerms::default(), Origin::Stored).await?;
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn put(
    admin: Admin,
    Path(parts): Parts,
    Query(terms): Query<ResourceTerms>,
    request: Request,
) -> Answer {
    let path = path(parts)?;
    let value = SecretBytes::copy_of(&body(request, MAX_RESOURCE).await?);
    let version = store(&admin, &path, value, terms, Origin::Stored).await?;
    Ok(json(StatusCode::OK, &ResourceStored { path: path.to_string(), version }))
}

pub(crate) async fn generate(admin: Admin, Path(parts): Parts, request: Request) -> Answer {
    let path = path(parts)?;
    let sent = body(request, MAX_BODY).await?;
    let wanted: GenerateResource = if sent.is_empty() { GenerateResource::default() } else { parse(&sent)? };
    let length = wanted.bytes.unwrap_or(32);
    if !(MIN_GENERATED..=MAX_GENERATED).contains(&length) {
        let detail = format!("A generated key has {MIN_GENERATED} to {MAX_GENERATED} bytes, not {length}.");
        return Err(Refused::new(Code::Malformed, detail));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    while bytes.len() < length as usize {
        let block = Secret::<[u8; 16]>::random().map_err(|_| Code::Internal)?;
        let missing = (length as usize).saturating_sub(bytes.len()).min(16);
        bytes.extend_from_slice(block.expose().get(..missing).unwrap_or_default());
    }
    let GenerateResource { expires_at, release_limit, if_version, .. } = wanted;
    let terms = ResourceTerms { expires_at, release_limit, if_version };
    let version = store(&admin, &path, SecretBytes::new(bytes), terms, Origin::Generated).await?;
    Ok(json(StatusCode::OK, &ResourceStored { path: path.to_string(), version }))
}

async fn store(
    admin: &Admin,
    path: &ResourcePath,
    value: SecretBytes,
    terms: ResourceTerms,
    origin: Origin,
) -> Result<u64, Refused> {
    let quotas = admin.in_force();
    quotas.quotas.check(value.expose().len() as u64, Quantity::ResourceBytes).map_err(super::over)?;
    let at = admin.inner().now().as_second();
    let expires_at = terms.expires_at.as_deref().map(|text| future(text, at)).transpose()?;
    if terms.release_limit == Some(0) {
        return Err(Refused::new(
            Code::Malformed,
            "A release limit is 1 or more; to release to nobody, revoke.",
        ));
    }
    let at_most = Some(quotas.quotas.limit(Quantity::Resources));
    let (name, call) = (path.to_string(), admin.call.clone());
    let put = move || {
        let ResourceTerms { release_limit, if_version, .. } = terms;
        let keep = KEPT_VERSIONS;
        let value = &value;
        let new = NewResource { value, at, expires_at, release_limit, origin, keep, if_version, at_most };
        call.rows().put_resource(&name, new)
    };
    let version = blocking(put).await?.map_err(|error| match error {
        ResourceError::Store(error) => Refused::from(error),
        ResourceError::Conflict { .. } => Refused::new(Code::Conflict, format!("{error}.")),
        ResourceError::TooMany { .. } => Refused::new(Code::QuotaExceeded, format!("{error}.")),
    })?;
    tracing::info!(tenant = %admin.tenant.name, by = admin.who.who().subject(), resource = %path, version, "resource stored");
    Ok(version)
}

fn future(text: &str, now: i64) -> Result<i64, Refused> {
    let wrong = || {
        let text: String = text.chars().take(64).collect();
        Refused::new(
            Code::Malformed,
            format!("{text:?} is no time to come in RFC 3339, as in 2027-01-31T00:00:00Z."),
        )
    };
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    if at.as_second() <= now { Err(wrong()) } else { Ok(at.as_second()) }
}

pub(crate) async fn remove(admin: Admin, Path(parts): Parts) -> Answer {
    let path = path(parts)?.to_string();
    let (name, call) = (path.clone(), admin.call.clone());
    match blocking(move || call.rows().delete_resource(&name)).await?? {
        true => {
            admin.told("resource removed", &path);
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::plain(Code::ResourceMissing)),
    }
}

pub(crate) async fn set_state(admin: Admin, Path(parts): Parts, request: Request) -> Answer {
    let path = path(parts)?.to_string();
    let SetResourceState { state, version, reason } = parse(&body(request, MAX_BODY).await?)?;
    let state = match state {
        ResourceState::Active => State::Active,
        ResourceState::Revoked => State::Revoked { at: admin.inner().now().as_second(), why: reason },
    };
    let (name, call) = (path.clone(), admin.call.clone());
    match blocking(move || call.rows().set_resource_state(&name, version, state)).await?? {
        true => {
            admin.told("resource's state", &path);
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::plain(Code::ResourceMissing)),
    }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(record::seconds).unwrap_or_default()
}

const fn origin(origin: Origin) -> ResourceOrigin {
    match origin {
        Origin::Stored => ResourceOrigin::Stored,
        Origin::Generated => ResourceOrigin::Generated,
    }
}

const fn state(state: &State) -> ResourceState {
    match state {
        State::Active => ResourceState::Active,
        State::Revoked { .. } => ResourceState::Revoked,
    }
}

fn shown(about: StoredResource) -> ResourceInfo {
    ResourceInfo {
        bytes: about.bytes,
        version: about.version,
        changed_at: time(about.changed_at),
        state: state(&about.state),
        origin: origin(about.origin),
        expires_at: about.expires_at.map(time),
        release_limit: about.release_limit,
        released: about.released,
        path: about.path,
    }
}

fn version_shown(path: &str, version: &VersionInfo) -> ResourceVersion {
    let (revoked_at, reason) = match &version.state {
        State::Active => (None, None),
        State::Revoked { at, why } => (Some(time(*at)), Some(why.clone()).filter(|why| !why.is_empty())),
    };
    ResourceVersion {
        info: ResourceInfo {
            path: path.to_owned(),
            bytes: version.bytes,
            version: version.version,
            changed_at: time(version.changed_at),
            state: state(&version.state),
            origin: origin(version.origin),
            expires_at: version.expires_at.map(time),
            release_limit: version.release_limit,
            released: version.released,
        },
        revoked_at,
        reason,
    }
}
