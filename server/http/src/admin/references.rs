//! Reference values: put, listed with where they came from, revoked, removed.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coffer_core_admin::{NamedValueList, Provenance, ReferenceList, ReferenceSigners, SetReferenceState};
use coffer_core_launch::ReferenceValues;
use coffer_core_protocol::error::Code;
use coffer_server_limits::Quantity;
use coffer_server_store::{Scope, Table};
use serde_json::Value;

use super::{MAX_BODY, MAX_NAME};
use crate::call::{Admin, Answer, body, parse};
use crate::error::OpenError;
use crate::record;
use crate::references::{Content, Kept, NotTaken, SIGNERS, Sent, Signers};
use crate::reply::{Refused, json};

/// The member in which a listed value carries what the broker knows of it.
const PROVENANCE: &str = "provenance";

pub(crate) async fn list(admin: Admin) -> Answer {
    let in_force = admin.in_force();
    let shown = |kept: &Kept| {
        let mut value = kept.value.clone();
        if let (Some(members), Ok(provenance)) =
            (value.as_object_mut(), serde_json::to_value(&kept.provenance))
        {
            members.insert(PROVENANCE.to_owned(), provenance);
        }
        value
    };
    let reference_values = in_force.standards.kept.values().map(shown).collect();
    Ok(json(StatusCode::OK, &ReferenceList { reference_values }))
}

pub(crate) async fn add(admin: Admin, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let sent = admin.in_force().standards.signers.take(&body, admin.inner().now());
    take(&admin, sent.map_err(not_taken)?).await
}

pub(crate) fn not_taken(error: NotTaken) -> Refused {
    Refused::new(Code::ReferenceInvalid, format!("{error}."))
}

/// Stores what was read and verified: all of it or nothing.
pub(crate) async fn take(admin: &Admin, sent: Sent) -> Answer {
    let in_force = admin.in_force();
    let provenance = Provenance {
        at: Some(record::seconds(admin.inner().now())),
        by: Some(admin.who.who().subject().to_owned()),
        source: Some(sent.source.to_owned()),
        signed_by: sent.signed_by,
        ..Provenance::default()
    };
    let (table, known, values) = match sent.content {
        Content::Ours(list) => (Table::ReferenceValues, &in_force.standards.kept, ours(list)?),
        Content::Named(values) => (Table::NamedValues, &in_force.standards.kept_values, named_rows(values)?),
    };
    // What was revoked stays revoked: an old document that is imported again must not undo it.
    if let Some((name, _)) = values
        .iter()
        .find(|(name, _)| known.get(name).is_some_and(|kept| kept.provenance.revoked_at.is_some()))
    {
        let detail =
            format!("The reference value {name} was revoked. Remove it first if it is to count again.");
        return Err(Refused::new(Code::Conflict, detail));
    }
    let new = values.iter().filter(|(name, _)| !known.contains_key(name)).count();
    let count = known.len().saturating_add(new) as u64;
    in_force.quotas.check(count, Quantity::ReferenceValues).map_err(super::over)?;
    let rows: Vec<(String, Vec<u8>)> = values
        .into_iter()
        .map(|(name, value)| (name, Kept { value, provenance: provenance.clone() }.row()))
        .collect();
    let names = rows.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let put = move |own: &Scope| {
        let put: Vec<(&str, &[u8])> =
            rows.iter().map(|(name, row)| (name.as_str(), row.as_slice())).collect();
        own.put_and_delete(table, &put, &[])?;
        Ok(true)
    };
    admin.change("reference value", names, put).await
}

fn ours(list: Vec<ReferenceValues>) -> Result<Vec<(String, Value)>, Refused> {
    let mut values = Vec::new();
    for one in list {
        let missing = one.missing_registers();
        if !missing.is_empty() {
            let detail = format!("The reference value has no value for {}.", missing.join(", "));
            return Err(Refused::new(Code::ReferenceIncomplete, detail));
        }
        let value = serde_json::to_value(&one).map_err(|_| Code::Internal)?;
        values.push((one.id().to_owned(), value));
    }
    Ok(values)
}

fn named_rows(values: impl IntoIterator<Item = (String, Value)>) -> Result<Vec<(String, Value)>, Refused> {
    let check = |(name, value): (String, Value)| match name.is_empty() || name.len() > MAX_NAME {
        true => {
            let detail = format!("A reference value's name has 1 to {MAX_NAME} bytes.");
            Err(Refused::new(Code::ReferenceInvalid, detail))
        }
        false => Ok((name, value)),
    };
    values.into_iter().map(check).collect()
}

pub(crate) async fn remove(admin: Admin, Path(id): Path<String>) -> Answer {
    let name = id.clone();
    admin.change("reference value", id, move |rows| Ok(rows.delete(Table::ReferenceValues, &name)?)).await
}

pub(crate) async fn set_state(admin: Admin, Path(id): Path<String>, request: Request) -> Answer {
    change_state(&admin, Table::ReferenceValues, id, request).await
}

pub(crate) async fn set_named_state(admin: Admin, Path(name): Path<String>, request: Request) -> Answer {
    change_state(&admin, Table::NamedValues, name, request).await
}

async fn change_state(admin: &Admin, table: Table, name: String, request: Request) -> Answer {
    let SetReferenceState { revoked, reason, expires_at } = parse(&body(request, MAX_BODY).await?)?;
    if let Some(text) = &expires_at
        && text.parse::<jiff::Timestamp>().is_err()
    {
        return Err(Refused::new(
            Code::Malformed,
            "expires_at is a time in RFC 3339, as in 2027-01-31T00:00:00Z.",
        ));
    }
    let now = record::seconds(admin.inner().now());
    let own = name.clone();
    let put = move |rows: &Scope| {
        rows.transact(|rows| {
            let Some(body) = rows.get(table, &own)? else { return Ok(false) };
            let mut kept = Kept::read(body.expose()).map_err(|error| OpenError::Stored {
                what: "reference value",
                name: own.clone(),
                why: error.to_string(),
            })?;
            let about = &mut kept.provenance;
            about.expires_at.clone_from(&expires_at);
            about.revoked_at = revoked.then(|| about.revoked_at.clone().unwrap_or_else(|| now.clone()));
            about.reason = reason.clone().filter(|_| revoked);
            rows.put(table, &own, &kept.row())?;
            Ok(true)
        })
    };
    admin.change("reference value", name, put).await
}

pub(crate) async fn named(admin: Admin) -> Answer {
    let in_force = admin.in_force();
    let kept = &in_force.standards.kept_values;
    let named_values = kept.iter().map(|(name, kept)| (name.clone(), kept.value.clone())).collect();
    let provenance = kept.iter().map(|(name, kept)| (name.clone(), kept.provenance.clone())).collect();
    Ok(json(StatusCode::OK, &NamedValueList { named_values, provenance }))
}

pub(crate) async fn put_named(admin: Admin, Path(name): Path<String>, request: Request) -> Answer {
    let value: Value = parse(&body(request, MAX_BODY).await?)?;
    take_named(&admin, [(name, value)], "json").await
}

/// Values by name that nobody signed.
pub(crate) async fn take_named(
    admin: &Admin,
    values: impl IntoIterator<Item = (String, Value)>,
    source: &'static str,
) -> Answer {
    if admin.in_force().standards.signers.form.required {
        return Err(not_taken(NotTaken::Unsigned));
    }
    let content = Content::Named(values.into_iter().collect());
    take(admin, Sent { content, signed_by: None, source }).await
}

pub(crate) async fn remove_named(admin: Admin, Path(name): Path<String>) -> Answer {
    let own = name.clone();
    let remove = move |rows: &Scope| Ok(rows.delete(Table::NamedValues, &own)?);
    admin.change("named reference value", name, remove).await
}

pub(crate) async fn signers(admin: Admin) -> Answer {
    Ok(json(StatusCode::OK, &admin.in_force().standards.signers.form))
}

pub(crate) async fn put_signers(admin: Admin, request: Request) -> Answer {
    let form: ReferenceSigners = parse(&body(request, MAX_BODY).await?)?;
    let row = serde_json::to_vec(&form).map_err(|_| Code::Internal)?;
    Signers::read(form).map_err(|why| Refused::new(Code::ReferenceInvalid, format!("{why}.")))?;
    let put = move |rows: &Scope| {
        rows.put(Table::Settings, SIGNERS, &row)?;
        Ok(true)
    };
    admin.change("setting", SIGNERS.to_owned(), put).await?;
    Ok(StatusCode::OK.into_response())
}
