//! The broker's cache of collateral: listed, fetched, imported, exported, removed.

use axum::extract::{Path, Request};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use coffer_core_admin::{
    CollateralDocument, CollateralFetch, CollateralFetched, CollateralList, CollateralResult,
};
use coffer_core_protocol::error::Code;
use coffer_server_collateral::{CacheError, Hints, ImportError, Listed, State as Stand};
use coffer_verify_api::CollateralKey;

use super::MAX_BODY;
use crate::call::{Admin, Answer, blocking, body, parse};
use crate::reply::{Refused, json};

/// Bundles of many platforms.
const MAX_IMPORT: usize = 64 << 20;
/// How many documents one call fetches.
const MAX_KEYS: usize = 256;

pub(crate) async fn list(admin: Admin) -> Answer {
    let offline = admin.inner().collateral.settings().offline;
    let found = blocking(move || admin.inner().collateral.list()).await?.map_err(cache)?;
    Ok(json(StatusCode::OK, &CollateralList { offline, documents: found.into_iter().map(shown).collect() }))
}

/// Fetches anew, whatever the cache has.
pub(crate) async fn fetch(admin: Admin, request: Request) -> Answer {
    let CollateralFetch { keys } = parse(&body(request, MAX_BODY).await?)?;
    if keys.len() > MAX_KEYS {
        return Err(Refused::new(
            Code::TooLarge,
            format!("At most {MAX_KEYS} documents are fetched by one call."),
        ));
    }
    let keys: Vec<CollateralKey> = keys.iter().map(|text| key(text)).collect::<Result<_, _>>()?;
    let fetched = admin.inner().collateral.fetch(&keys, &Hints::default()).await;
    let result = |(key, result): (CollateralKey, Result<Listed, coffer_server_collateral::Missing>)| {
        let (document, error) = match result {
            Ok(listed) => (Some(shown(listed)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        CollateralResult { key: key.to_string(), document, error }
    };
    Ok(json(StatusCode::OK, &CollateralFetched { results: fetched.into_iter().map(result).collect() }))
}

/// The body is a file as `coffer collateral import` takes it.
pub(crate) async fn import(admin: Admin, request: Request) -> Answer {
    let body = body(request, MAX_IMPORT).await?.to_vec();
    let import = move || admin.inner().collateral.import_bytes("the import", body);
    let found = blocking(import).await?.map_err(|error| match error {
        ImportError::Store { source, .. } => cache(source),
        other => Refused::new(Code::CollateralInvalid, format!("{other}.")),
    })?;
    tracing::info!(documents = found.len(), "collateral imported");
    let documents = found.into_iter().map(shown).collect();
    Ok(json(StatusCode::OK, &CollateralList { offline: false, documents }))
}

/// The whole cache as a bundle in a tar.
pub(crate) async fn export(admin: Admin) -> Answer {
    let bundle = blocking(move || admin.inner().collateral.export_tar(None)).await?;
    let bundle = bundle.map_err(|error| {
        tracing::error!(%error, "collateral could not be exported");
        Refused::plain(Code::Internal)
    })?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], bundle).into_response())
}

pub(crate) async fn remove(admin: Admin, Path(name): Path<String>) -> Answer {
    let own = key(&name)?;
    match blocking(move || admin.inner().collateral.remove(&own)).await?.map_err(cache)? {
        true => Ok(StatusCode::OK.into_response()),
        false => Err(Refused::missing("There is no such document in the cache.")),
    }
}

fn key(text: &str) -> Result<CollateralKey, Refused> {
    text.parse().map_err(|error| Refused::new(Code::CollateralKey, format!("{error}.")))
}

fn cache(error: CacheError) -> Refused {
    match error {
        CacheError::Full { .. } => Refused::new(Code::CollateralFull, format!("{error}.")),
        other => {
            tracing::error!(error = %other, "the cache of collateral failed");
            Refused::plain(Code::CollateralFull)
        }
    }
}

fn shown(listed: Listed) -> CollateralDocument {
    CollateralDocument {
        key: listed.key.to_string(),
        origin: listed.origin,
        fetched: listed.fetched.to_string(),
        imported: listed.imported,
        valid_until: listed.valid_until.map(|at| at.to_string()),
        digest: listed.digest,
        bytes: listed.bytes as u64,
        state: match listed.state {
            Stand::Fresh => "fresh",
            Stand::Due => "due",
            Stand::Ended => "ended",
        }
        .to_owned(),
    }
}
