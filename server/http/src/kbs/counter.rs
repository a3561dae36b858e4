//! `/coffer/v1/counter/…`: how often a volume was opened, for the guest that may have the volume's key.
//!
//! INVARIANT: a counter moves by one, from the value that the caller names, and never back but by an admin. Left out:
//! what a guest makes of it.

use std::sync::Arc;

use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use coffer_core_protocol::counter::{Counter, MoveCounter};
use coffer_core_protocol::error::Code;
use coffer_server_store::{Scope, StoreError, Table};

use super::resource;
use crate::call::{Admin, Answer, Call, body, parse};
use crate::release::{Asker, Outcome};
use crate::reply::{Refused, json};

const MAX_BODY: usize = 1 << 10;

type Parts = Path<(String, String, String)>;

/// What became of a move.
enum Moved {
    To(Counter),
    /// The counter has another value than the caller named.
    Not(Counter),
}

pub(crate) async fn get(call: Call, Path(parts): Parts, headers: HeaderMap) -> Answer {
    let path = crate::admin::resources::path(parts)?.to_string();
    let (asker, _) = allowed(&call, &headers, &path).await?;
    let counter = call.stored(move |rows| read(rows, &path)).await;
    Ok(json(StatusCode::OK, &counter.map_err(|error| error.attempt(&asker.attempt))?))
}

pub(crate) async fn advance(call: Call, Path(parts): Parts, request: Request) -> Answer {
    let path = crate::admin::resources::path(parts)?.to_string();
    let (asker, revision) = allowed(&call, request.headers(), &path).await?;
    let asked: MoveCounter = parse(&body(request, MAX_BODY).await?)?;
    let to = asked.to().map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    let name = path.clone();
    let moved = call.stored(move |rows| advance_row(rows, &name, &asked.from, to, revision)).await;
    match moved.map_err(|error| error.attempt(&asker.attempt))? {
        None => Err(Refused::plain(Code::ChangedMeanwhile).attempt(&asker.attempt)),
        Some(Moved::To(counter)) => {
            tracing::info!(tenant = %call.tenant.name, attempt = asker.attempt, counter = path, number = counter.number, "counter moved");
            Ok(json(StatusCode::OK, &counter))
        }
        Some(Moved::Not(found)) => {
            let detail = format!("The counter is at {}, and another guest moved it last.", found.number);
            Err(Refused::new(Code::CounterConflict, detail).attempt(&asker.attempt))
        }
    }
}

/// Sets a counter to what an admin says, back as well: after a restore.
pub(crate) async fn set(admin: Admin, Path(parts): Parts, request: Request) -> Answer {
    let path = crate::admin::resources::path(parts)?.to_string();
    let counter: Counter = parse(&body(request, MAX_BODY).await?)?;
    counter.check().map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    if !resource::exists(&admin, &path).await? {
        return Err(Code::ResourceMissing.into());
    }
    let (name, number) = (path.clone(), counter.number);
    let row = serde_json::to_vec(&counter).map_err(|_| Code::Internal)?;
    admin.stored(move |rows| rows.put(Table::Counters, &name, &row)).await?;
    let by = admin.who.who().subject();
    tracing::info!(tenant = %admin.tenant.name, by, counter = path, number, "counter set");
    Ok(StatusCode::OK.into_response())
}

/// Whether the guest may have the key that the counter belongs to; it is written down either way. Gives the revision
/// that this was decided under.
async fn allowed(call: &Call, headers: &HeaderMap, path: &str) -> Result<(Arc<Asker>, u64), Refused> {
    let asker = Arc::new(Asker::of(call, headers).await?);
    let named = |refused: Refused| refused.attempt(&asker.attempt);
    let what = format!("counter/{path}");
    let (in_force, decided) = asker.decided(call, "resource", path, "GET").await.map_err(named)?;
    let causes = decided.map_err(named)?;
    if !causes.is_empty() {
        let written = asker.write(call, &what, Outcome::Refused(&causes)).await;
        written.map_err(|not| named(Refused::plain(not.into())))?;
        return Err(named(Refused::plain(Code::PolicyDenied).because(causes)));
    }
    // Only what there is a key for is counted: a guest cannot fill the store with names.
    if let Some(ended) = resource::standing(call, path).await.map_err(named)? {
        let written = asker.write(call, &what, Outcome::Absent).await;
        written.map_err(|not| named(Refused::plain(not.into())))?;
        return Err(named(Refused::plain(ended)));
    }
    let written = asker.write(call, &what, Outcome::Counted).await;
    written.map_err(|not| named(Refused::plain(not.into())))?;
    Ok((asker, in_force.revision))
}

fn read(rows: &Scope, path: &str) -> Result<Counter, StoreError> {
    known(rows.get(Table::Counters, path)?.as_ref().map(|row| row.expose().as_slice()), path)
}

/// A counter that nobody moved has no row. One that cannot be read is no counter that nobody moved.
fn known(row: Option<&[u8]>, path: &str) -> Result<Counter, StoreError> {
    let damaged = |_| StoreError::Record { table: Table::Counters.name(), key: path.to_owned() };
    row.map_or_else(|| Ok(Counter::default()), |row| serde_json::from_slice(row).map_err(damaged))
}

/// In one transaction, durable when this returns; nothing if what the decision rests on was changed meanwhile.
fn advance_row(
    rows: &Scope,
    path: &str,
    from: &Counter,
    to: Counter,
    revision: u64,
) -> Result<Option<Moved>, StoreError> {
    rows.transact(|transaction| {
        if transaction.revision() != revision {
            return Ok(None);
        }
        let row = transaction.get(Table::Counters, path)?;
        let found = known(row.as_ref().map(|row| row.expose().as_slice()), path)?;
        // The caller did not hear of it, and asks again.
        if found == to {
            return Ok(Some(Moved::To(found)));
        }
        if found != *from {
            return Ok(Some(Moved::Not(found)));
        }
        let row = serde_json::to_vec(&to).map_err(|_| StoreError::GivenUp)?;
        transaction.put(Table::Counters, path, &row)?;
        Ok(Some(Moved::To(to.clone())))
    })
}
