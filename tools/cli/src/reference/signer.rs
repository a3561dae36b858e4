//! `coffer ref signer`: who may sign reference values, and whether they must be signed.

use std::path::PathBuf;

use anyhow::{Result, bail};
use coffer_core_admin::ReferenceSigners;
use coffer_tools_client::AdminClient;
use serde_json::json;

use crate::output::{Output, table};
use crate::{block_on, document};

pub(crate) const HELP: &str = "\
  coffer ref signer add builder --public-key builder.pub
  coffer measure --corim --sign-key builder.key -o guest.corim …
  coffer ref add guest.corim                 the broker verifies it, and keeps who signed it
  coffer ref signer require on               what nobody of them signed is refused from now on";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Believe the signatures of a key.
    Add {
        /// A name, which provenance shows.
        name: String,
        /// The public key: PEM (P-256 or P-384 for CoRIM, P-256 for JWS) or JWK.
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
    },
    /// Believe a key no more. What it signed stays: revoke that with `coffer ref revoke`.
    Rm {
        /// The name.
        name: String,
    },
    /// List the keys, and say whether signatures are required.
    List,
    /// Refuse reference values that nobody of them signed, or take those too.
    Require {
        /// Whether.
        #[arg(value_enum)]
        required: Required,
    },
}

/// Whether reference values must be signed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Required {
    /// They must be.
    On,
    /// They need not be.
    Off,
}

pub(super) fn run(output: Output, admin: &AdminClient, command: Command) -> Result<()> {
    let change = |change: &dyn Fn(&mut ReferenceSigners) -> Result<()>| {
        block_on(async {
            let mut signers = admin.reference_signers().await?;
            change(&mut signers)?;
            Ok(admin.put_reference_signers(&signers).await?)
        })
    };
    match command {
        Command::Add { name, public_key } => {
            let key = document::public_key(&public_key)?;
            change(&|signers| {
                signers.keys.insert(name.clone(), key.clone());
                Ok(())
            })?;
            output.show(&json!({"signer": name}), |_| format!("{name} may sign reference values now"))
        }
        Command::Rm { name } => {
            change(&|signers| match signers.keys.remove(&name) {
                Some(_) => Ok(()),
                None => bail!("there is no signer {name}; `coffer ref signer list` shows them"),
            })?;
            output
                .show(&json!({"removed": name}), |_| format!("{name} may not sign reference values any more"))
        }
        Command::List => {
            let signers = block_on(async { Ok(admin.reference_signers().await?) })?;
            output.show(&signers, |signers| {
                let rows: Vec<_> = signers.keys.keys().map(|name| vec![name.clone()]).collect();
                let required = if signers.required { "required" } else { "not required" };
                format!("{}\nsignatures are {required}", table(&["SIGNER"], &rows))
            })
        }
        Command::Require { required } => {
            let on = required == Required::On;
            change(&|signers| {
                signers.required = on;
                Ok(())
            })?;
            output.show(&json!({"required": on}), |_| match on {
                true => "reference values must be signed now".to_owned(),
                false => "reference values need not be signed now".to_owned(),
            })
        }
    }
}
