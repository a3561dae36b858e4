//! `coffer trust`: the roots of attestation keys that the broker believes.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use coffer_core_admin::TrustAnchor;
use serde_json::json;

use crate::output::table;
use crate::{Context, block_on};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Trust a root certificate for attestation keys.
    Add {
        /// A name for it, as in `gce-us` or `laptop`.
        name: String,
        /// The root certificate (PEM).
        certificate: PathBuf,
        /// What this root certifies.
        #[arg(long, value_enum)]
        kind: Kind,
    },
    /// List the trusted roots.
    List,
    /// Trust the keys of Arm CCA platforms, and no others: a JSON list of endorsements.
    Cca {
        /// The file: a list of objects with `pkey` (JWK), `implementation-id` and `instance-id`.
        #[arg(required_unless_present = "remove")]
        file: Option<PathBuf>,
        /// Trust no Arm platform.
        #[arg(long, conflicts_with = "file")]
        remove: bool,
    },
    /// Distrust a root.
    Rm {
        /// Its name.
        name: String,
    },
}

/// What a root certifies. There is no default: calling software hardware opens every policy.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Keys that a host cannot use: a TPM inside a TEE, or a cloud's virtual TPM whose cloud you trust.
    Hardware,
    /// Keys of software TPMs, which their hosts can use.
    InsecureSoftware,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = context.home.broker_access(&context.broker)?.admin()?;
    match command {
        Command::Add { name, certificate, kind } => {
            let pem = std::fs::read_to_string(&certificate)
                .with_context(|| format!("{} cannot be read", certificate.display()))?;
            let anchor = TrustAnchor { certificate: pem, hardware: matches!(kind, Kind::Hardware) };
            block_on(async { Ok(admin.put_trust_anchor(&name, &anchor).await?) })?;
            context.output.show(&json!({"trusted": name}), |_| format!("trusted: {name}"))
        }
        Command::List => {
            let list = block_on(async { Ok(admin.list_trust_anchors().await?) })?;
            context.output.show(&list, |list| {
                let rows = list.iter().map(|named| {
                    let kind = if named.anchor.hardware { "hardware" } else { "software" };
                    vec![named.name.clone(), kind.to_string()]
                });
                table(&["NAME", "CERTIFIES"], &rows.collect::<Vec<_>>())
            })
        }
        Command::Cca { file: Some(file), .. } => {
            let text = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let keys =
                serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
            block_on(async { Ok(admin.put_cca_endorsements(&keys).await?) })?;
            let from = file.display().to_string();
            context.output.show(&json!({"cca": from}), |_| format!("Arm platforms are trusted by {from}"))
        }
        Command::Cca { file: None, .. } => {
            block_on(async { Ok(admin.remove_cca_endorsements().await?) })?;
            context.output.show(&json!({"cca": null}), |_| "no Arm platform is trusted".to_owned())
        }
        Command::Rm { name } => {
            block_on(async { Ok(admin.remove_trust_anchor(&name).await?) })?;
            context.output.show(&json!({"distrusted": name}), |_| format!("distrusted: {name}"))
        }
    }
}
