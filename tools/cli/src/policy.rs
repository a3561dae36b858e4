//! `coffer policy`: who may have resources.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::{Context, block_on};

/// The policy that decides about resources.
const RESOURCE: &str = "resource";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Put a policy in force: a Rego file of yours, or one that is built in.
    ///
    /// A policy is `package policy` with a set `deny` of reasons (allowed means that it is empty), or with
    /// `allow` as in Trustee. `default` asks for hardware evidence that was appraised as affirming;
    /// `insecure-lab` also accepts software evidence, which protects nothing from its host.
    Set {
        /// A Rego file.
        #[arg(required_unless_present = "preset", conflicts_with = "preset")]
        file: Option<PathBuf>,
        /// A built-in policy: `default` or `insecure-lab`.
        #[arg(long)]
        preset: Option<String>,
    },
    /// Show the policy in force.
    Show,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = context.home.broker_access(&context.broker)?.admin()?;
    match command {
        Command::Set { file, preset } => {
            let name = match (&file, &preset) {
                (Some(file), None) => {
                    let rego = std::fs::read_to_string(file)
                        .with_context(|| format!("{} cannot be read", file.display()))?;
                    block_on(async { Ok(admin.put_policy(RESOURCE, &rego).await?) })?;
                    file.display().to_string()
                }
                (None, Some(preset)) => {
                    block_on(async { Ok(admin.use_preset(RESOURCE, preset).await?) })?;
                    format!("the preset {preset}")
                }
                _ => bail!("name either a file or a preset"),
            };
            context.output.show(&json!({"policy": RESOURCE, "from": name}), |_| format!("in force: {name}"))
        }
        Command::Show => {
            let policy = block_on(async { Ok(admin.policy(RESOURCE).await?) })?;
            context.output.show(&policy, |policy| {
                let preset = policy.preset.as_ref().map(|name| format!("# the preset {name}\n"));
                format!("{}{}", preset.unwrap_or_default(), policy.rego.clone().unwrap_or_default())
            })
        }
    }
}
