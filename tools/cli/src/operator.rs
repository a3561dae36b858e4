//! `coffer operator`: who may operate the cluster. Operators see nothing of what a tenant holds.

use anyhow::Result;
use coffer_core_admin::Role;
use serde_json::json;

use crate::admin::{Shows, admins};
use crate::when::Expiry;
use crate::{Context, block_on};

pub(crate) const HELP: &str = "\
  coffer admin keygen --out ben.pem > ben.pub            (Ben)
  coffer operator add ben --public-key ben.pub --expires-in 1y
  coffer operator list

The last operator cannot be removed. Operators of an OpenID issuer stand in the broker's configuration
([[admin_issuers]] with speaks_for = \"cluster\").";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the operators with keys or certificates of their own.
    List,
    /// Add an operator's public key or certificate, or replace the one of that name.
    Add {
        /// A name, which logs show.
        name: String,
        #[command(flatten)]
        shows: Shows,
        #[command(flatten)]
        expiry: Expiry,
    },
    /// Remove an operator.
    Rm {
        /// The name.
        name: String,
    },
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::List => {
            let admin = context.admin()?;
            let list = block_on(async { Ok(admin.list_operators().await?) })?;
            context.output.show(&list, |list| admins(list))
        }
        Command::Add { name, shows, expiry } => {
            let new = shows.read(vec![Role::Operator], expiry.time()?)?;
            let admin = context.admin()?;
            block_on(async { Ok(admin.put_operator(&name, &new).await?) })?;
            context.output.show(&json!({"operator": name}), |_| format!("{name} is operator now"))
        }
        Command::Rm { name } => {
            let admin = context.admin()?;
            block_on(async { Ok(admin.remove_operator(&name).await?) })?;
            context.output.show(&json!({"removed": name}), |_| format!("removed the operator {name}"))
        }
    }
}
