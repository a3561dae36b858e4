//! Reference values as the broker keeps them: where each came from, and whether it still counts.

use anyhow::{Context as _, Result};
use coffer_core_admin::{Provenance, SetReferenceState};
use coffer_tools_client::AdminClient;
use serde_json::{Value, json};

use super::member;
use crate::output::{Output, table};
use crate::{block_on, when};

/// When something counts no more.
#[derive(clap::Args)]
#[group(required = true)]
pub(crate) struct When {
    /// The time (RFC 3339), as in 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Never by the broker's word: only its own times count again.
    #[arg(long, conflicts_with = "at")]
    never: bool,
}

impl When {
    fn time(&self) -> Result<Option<String>> {
        self.at.as_deref().map(when::time).transpose()
    }
}

pub(super) fn list(output: Output, admin: &AdminClient) -> Result<()> {
    let list = block_on(async { Ok(admin.list_references().await?) })?;
    output.show(&list, |list| {
        let row = |value: &Value| {
            let from = provenance_of(value);
            let state = state(&from);
            let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                member(value, "id"),
                member(value, "platform"),
                member(value, "origin"),
                state,
                cell(from.source),
                cell(from.by),
                cell(from.signed_by),
                member(value, "made_at"),
            ]
        };
        let rows: Vec<_> = list.iter().map(row).collect();
        table(&["ID", "PLATFORM", "ORIGIN", "STATE", "FORM", "BY", "SIGNED BY", "MADE"], &rows)
    })
}

pub(super) fn list_named(output: Output, admin: &AdminClient) -> Result<()> {
    let list = block_on(async { Ok(admin.named_value_list().await?) })?;
    let rows = list.named_values.iter().map(|(name, value)| {
        let from = list.provenance.get(name).cloned().unwrap_or_default();
        let state = state(&from);
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![name.clone(), state, cell(from.by), cell(from.signed_by), value.to_string()]
    });
    let rows: Vec<_> = rows.collect();
    output.show(&list, |_| table(&["NAME", "STATE", "BY", "SIGNED BY", "VALUE"], &rows))
}

pub(super) fn expire(output: Output, admin: &AdminClient, id: &str, when: &When) -> Result<()> {
    let at = when.time()?;
    block_on(async {
        let before = reference(admin, id).await?;
        Ok(admin.set_reference_state(id, &ending(before, at.clone())).await?)
    })?;
    told_end(output, id, at)
}

pub(super) fn revoke(output: Output, admin: &AdminClient, id: &str, reason: String) -> Result<()> {
    block_on(async {
        let before = reference(admin, id).await?;
        Ok(admin.set_reference_state(id, &revoked(before, reason)).await?)
    })?;
    output.show(&json!({"revoked": id}), |_| format!("revoked: {id} counts no more"))
}

pub(super) fn expire_named(output: Output, admin: &AdminClient, name: &str, when: &When) -> Result<()> {
    let at = when.time()?;
    block_on(async {
        let before = named(admin, name).await?;
        Ok(admin.set_named_value_state(name, &ending(before, at.clone())).await?)
    })?;
    told_end(output, name, at)
}

pub(super) fn revoke_named(output: Output, admin: &AdminClient, name: &str, reason: String) -> Result<()> {
    block_on(async {
        let before = named(admin, name).await?;
        Ok(admin.set_named_value_state(name, &revoked(before, reason)).await?)
    })?;
    output.show(&json!({"revoked": name}), |_| format!("revoked: {name} counts no more"))
}

fn told_end(output: Output, name: &str, at: Option<String>) -> Result<()> {
    output.show(&json!({"name": name, "expires_at": at}), |_| match &at {
        Some(at) => format!("{name} counts until {at}"),
        None => format!("{name} has no end but its own"),
    })
}

/// The call sets the whole state, so what was said before goes with it: an end must not undo a revocation.
fn ending(before: Provenance, expires_at: Option<String>) -> SetReferenceState {
    SetReferenceState { revoked: before.revoked_at.is_some(), reason: before.reason, expires_at }
}

fn revoked(before: Provenance, reason: String) -> SetReferenceState {
    SetReferenceState { revoked: true, reason: Some(reason), expires_at: before.expires_at }
}

async fn reference(admin: &AdminClient, id: &str) -> Result<Provenance> {
    let list = admin.list_references().await?;
    let found = list.iter().find(|value| member(value, "id") == id);
    found
        .map(provenance_of)
        .with_context(|| format!("there are no reference values {id}; see `coffer ref list`"))
}

async fn named(admin: &AdminClient, name: &str) -> Result<Provenance> {
    let list = admin.named_value_list().await?;
    let known = list.named_values.contains_key(name);
    let found = list.provenance.get(name).cloned().or_else(|| known.then(Provenance::default));
    found.with_context(|| format!("there is no named value {name}; see `coffer ref value list`"))
}

fn provenance_of(value: &Value) -> Provenance {
    let from = value.get("provenance").cloned();
    from.and_then(|from| serde_json::from_value(from).ok()).unwrap_or_default()
}

fn state(from: &Provenance) -> String {
    match (&from.revoked_at, &from.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "counts".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_does_not_undo_a_revocation_and_a_revocation_keeps_the_end() {
        let time = || Some("2030-01-01T00:00:00Z".to_owned());
        let before =
            Provenance { revoked_at: time(), reason: Some("leaked".into()), ..Provenance::default() };
        let after = ending(before, time());
        assert!(after.revoked && after.reason.as_deref() == Some("leaked") && after.expires_at == time());
        let after = revoked(Provenance { expires_at: time(), ..Provenance::default() }, "old".into());
        assert!(after.revoked && after.expires_at == time());
    }
}
