//! `coffer policy platform`: which platforms are acceptable.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use coffer_verify_appraisal::PlatformPolicy;
use serde_json::json;

use crate::output::plain;
use crate::{Context, block_on};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show the platform policy of the broker.
    Show,
    /// Put a platform policy (TOML) in force. `coffer policy platform example` writes one to begin from.
    Set {
        /// The file.
        file: PathBuf,
    },
    /// Put the built-in one in force again.
    Reset,
    /// Write the built-in one as TOML with comments.
    Example,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = || context.home.broker_access(&context.broker)?.admin();
    match command {
        Command::Show => {
            let admin = admin()?;
            let policy = block_on(async { Ok(admin.platform_policy().await?) })?;
            let read = PlatformPolicy::from_json(policy.to_string().as_bytes());
            let read = read.context("the broker's platform policy is not understood")?;
            context.output.show(&policy, |_| read.to_toml())
        }
        Command::Set { file } => {
            let text = super::text(&file)?;
            // Told here, with the line, before the broker is asked.
            PlatformPolicy::from_toml(&text)
                .with_context(|| format!("{} is no platform policy", file.display()))?;
            let admin = admin()?;
            block_on(async { Ok(admin.put_platform_policy(&text).await?) })?;
            let from = file.display().to_string();
            context.output.show(&json!({"platform_policy": from}), |_| format!("in force: {from}"))
        }
        Command::Reset => {
            let admin = admin()?;
            block_on(async { Ok(admin.reset_platform_policy().await?) })?;
            context
                .output
                .show(&json!({"platform_policy": "default"}), |_| "in force: the built-in one".to_owned())
        }
        Command::Example => plain(PlatformPolicy::EXAMPLE),
    }
}
