//! `coffer revoke`: what nothing is released to any more, whatever the policy says.

use anyhow::Result;
use coffer_core_admin::{NewRevocation, Revocation, RevocationKind};
use serde_json::json;

use crate::output::table;
use crate::{Context, block_on};

pub(crate) const HELP: &str = "\
A revocation counts at once, on every replica, also for guests that have a token already. What a guest holds it keeps:
replace the secret as well (`coffer secret put`).

  coffer revoke attempt 3f2a…  --reason 'host seized'       the guest that `coffer explain` shows
  coffer revoke chip 4242…     --reason 'returned to vendor'
  coffer revoke measurement sha384:00ff… --reason CVE-2027-1234
  coffer revoke list
  coffer revoke undo chip-0a1b…

To revoke a secret: `coffer secret revoke`; a reference value: `coffer ref revoke`.";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// One machine, by what its evidence calls the chip (hexadecimal).
    Chip(What),
    /// Every guest that has this measurement: a register or digest of its claims, or a reference value's id.
    Measurement(What),
    /// Every guest that was started with this init-data, by its digest (hexadecimal).
    InitData(What),
    /// One attested guest, by the name of its attempt.
    Attempt(What),
    /// List the revocations.
    List,
    /// Take a revocation back.
    Undo {
        /// Its id, as `coffer revoke list` shows it.
        id: String,
    },
}

/// What is revoked, and why.
#[derive(clap::Args)]
pub(crate) struct What {
    /// The value, as `coffer explain --output json` has it.
    value: String,
    /// Why; shown to auditors and to the guests that are refused.
    #[arg(long)]
    reason: String,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Chip(what) => revoke(context, RevocationKind::Chip, what),
        Command::Measurement(what) => revoke(context, RevocationKind::Measurement, what),
        Command::InitData(what) => revoke(context, RevocationKind::InitData, what),
        Command::Attempt(what) => revoke(context, RevocationKind::Attempt, what),
        Command::List => {
            let admin = context.admin()?;
            let list = block_on(async { Ok(admin.list_revocations().await?) })?;
            context.output.show(&list, |list| {
                let row = |one: &Revocation| {
                    let what = &one.what;
                    let kind = name(what.kind).to_owned();
                    [&one.id, &kind, &what.value, &one.at, &one.by, &what.reason].map(String::clone).to_vec()
                };
                let rows: Vec<_> = list.iter().map(row).collect();
                table(&["ID", "KIND", "VALUE", "SINCE", "BY", "REASON"], &rows)
            })
        }
        Command::Undo { id } => {
            let admin = context.admin()?;
            block_on(async { Ok(admin.remove_revocation(&id).await?) })?;
            context
                .output
                .show(&json!({"removed": id}), |_| format!("taken back: {id}; policy decides again"))
        }
    }
}

fn revoke(context: &Context, kind: RevocationKind, what: What) -> Result<()> {
    let admin = context.admin()?;
    let new = NewRevocation { kind, value: what.value, reason: what.reason };
    let revoked = block_on(async { Ok(admin.revoke(&new).await?) })?;
    context.output.show(&revoked, |one| format!("revoked: {} {} ({})", name(kind), one.what.value, one.id))
}

const fn name(kind: RevocationKind) -> &'static str {
    match kind {
        RevocationKind::Chip => "chip",
        RevocationKind::Measurement => "measurement",
        RevocationKind::InitData => "init-data",
        RevocationKind::Attempt => "attempt",
    }
}
