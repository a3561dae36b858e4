//! `GET /kbs/v0/resource/…`: a secret for whom the policy allows, encrypted to the key inside the token.

use std::sync::Arc;

use axum::extract::{Path, Query, Request};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use coffer_core_protocol::error::{Cause, Code};
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;
use coffer_server_store::State;
use serde::Deserialize;

use crate::call::{Answer, Call};
use crate::journal::NotWritten;
use crate::release::{Asker, Outcome, ROUNDS};
use crate::reply::Refused;

#[derive(Deserialize)]
pub(crate) struct Which {
    /// A version that is not the newest.
    version: Option<u64>,
}

pub(crate) async fn get(
    call: Call,
    Path((repository, kind, tag)): Path<(String, String, String)>,
    Query(which): Query<Which>,
    request: Request,
) -> Answer {
    let asker = Arc::new(Asker::of(&call, request.headers()).await?);
    let path = ResourcePath::new(&repository, &kind, &tag);
    let path = path.map_err(|error| Refused::new(Code::ResourcePath, format!("{error}.")))?.to_string();
    for _ in 0..ROUNDS {
        match release(&call, &asker, &path, which.version).await {
            // An admin changed something between the decision and its line: decide again, on what is now in force.
            Err(Ended::Not(NotWritten::Stale)) => call.reload().await?,
            Err(Ended::Not(not)) => return Err(Refused::plain(not.into()).attempt(&asker.attempt)),
            Err(Ended::Refused(refused)) => return Err(refused.attempt(&asker.attempt)),
            Ok(sealed) => {
                let headers = [(header::CONTENT_TYPE, "application/json")];
                return Ok((StatusCode::OK, headers, sealed).into_response());
            }
        }
    }
    Err(Refused::plain(Code::ChangedMeanwhile).attempt(&asker.attempt))
}

/// Why there is no value.
enum Ended {
    /// It was refused, and that was written down.
    Refused(Refused),
    /// It was not written down: nobody is told more than that.
    Not(NotWritten),
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// A value that could be released.
struct Found {
    value: SecretBytes,
    /// None if it is not of the store.
    version: Option<u64>,
    /// Why it is released to nobody, if it is not.
    ended: Option<Code>,
}

async fn release(
    call: &Call,
    asker: &Arc<Asker>,
    path: &str,
    version: Option<u64>,
) -> Result<Vec<u8>, Ended> {
    let (in_force, decided) = asker.decided(call, "resource", path, "GET").await?;
    let causes = match decided {
        Ok(causes) => causes,
        Err(fault) => {
            asker.write(call, path, Outcome::Refused(&[])).await.map_err(Ended::Not)?;
            return Err(fault.into());
        }
    };
    if !causes.is_empty() {
        asker.write(call, path, Outcome::Refused(&causes)).await.map_err(Ended::Not)?;
        return Err(Refused::plain(Code::PolicyDenied).because(causes).into());
    }
    let Some(found) = find(call, path, version).await? else {
        asker.write(call, path, Outcome::Absent).await.map_err(Ended::Not)?;
        return Err(Refused::plain(Code::ResourceMissing).into());
    };
    if let Some(code) = found.ended {
        return Err(not_now(call, asker, path, code).await?);
    }
    // The value is made ready before the decision is written down, so that "released" is then true.
    let sealed = asker.seal(found.value.expose())?;
    let outcome = Outcome::Released { revision: in_force.revision, version: found.version };
    match asker.write(call, path, outcome).await {
        Ok(()) => Ok(sealed),
        Err(not @ (NotWritten::Revoked | NotWritten::Expired | NotWritten::Spent)) => {
            Err(not_now(call, asker, path, not.into()).await?)
        }
        Err(not) => Err(Ended::Not(not)),
    }
}

/// The resource itself refuses, whatever the policies say.
async fn not_now(call: &Call, asker: &Asker, path: &str, code: Code) -> Result<Ended, Ended> {
    let cause = Cause {
        code: code.as_str().to_owned(),
        title: code.title().to_owned(),
        expected: None,
        found: None,
        remedy: Some(code.remedy().to_owned()),
    };
    let causes = [cause];
    asker.write(call, path, Outcome::Refused(&causes)).await.map_err(Ended::Not)?;
    Ok(Ended::Refused(Refused::plain(code)))
}

/// Why a resource is released to nobody now, if it is not.
pub(super) async fn standing(call: &Call, path: &str) -> Result<Option<Code>, Refused> {
    Ok(find(call, path, None).await?.map_or(Some(Code::ResourceMissing), |found| found.ended))
}

/// Whether there is such a resource at all.
pub(super) async fn exists(call: &Call, path: &str) -> Result<bool, Refused> {
    Ok(find(call, path, None).await?.is_some())
}

/// In the tenant's rows, or where its vaults have it.
async fn find(call: &Call, path: &str, version: Option<u64>) -> Result<Option<Found>, Refused> {
    let name = path.to_owned();
    let stored = call.stored(move |rows| match version {
        Some(version) => rows.resource_version(&name, version),
        None => rows.resource(&name),
    });
    if let Some(resource) = stored.await? {
        let about = resource.about;
        let over = about.expires_at.is_some_and(|end| end <= call.inner().now().as_second());
        let ended = match (&about.state, over) {
            (State::Revoked { .. }, _) => Some(Code::ResourceRevoked),
            (State::Active, true) => Some(Code::ResourceExpired),
            (State::Active, false) => None,
        };
        return Ok(Some(Found { value: resource.value, version: Some(about.version), ended }));
    }
    if version.is_some() {
        return Ok(None);
    }
    let value = call.inner().sources.find(&call.tenant.name, path).await?;
    Ok(value.map(|value| Found { value, version: None, ended: None }))
}
