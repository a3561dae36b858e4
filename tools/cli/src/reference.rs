//! `coffer ref`: the measurements that the broker expects.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::output::table;
use crate::{Context, block_on};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Add reference values that `coffer measure` wrote.
    Add {
        /// The file.
        file: PathBuf,
    },
    /// List the reference values.
    List,
    /// Remove reference values: guests that match only them get nothing any more.
    Rm {
        /// Their id, as `coffer ref list` shows it.
        id: String,
    },
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = context.home.broker_access(&context.broker)?.admin()?;
    match command {
        Command::Add { file } => {
            let text = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let values: Value = serde_json::from_slice(&text)
                .with_context(|| format!("{} is not what `coffer measure` writes", file.display()))?;
            block_on(async { Ok(admin.add_reference(&values).await?) })?;
            let id = member(&values, "id");
            context.output.show(&json!({"added": id}), |_| format!("added reference values {id}"))
        }
        Command::List => {
            let list = block_on(async { Ok(admin.list_references().await?) })?;
            context.output.show(&list, |list| {
                let row = |value: &Value| {
                    ["id", "platform", "origin", "made_at", "expires"]
                        .map(|name| member(value, name))
                        .to_vec()
                };
                let rows: Vec<_> = list.iter().map(row).collect();
                table(&["ID", "PLATFORM", "ORIGIN", "MADE", "EXPIRES"], &rows)
            })
        }
        Command::Rm { id } => {
            block_on(async { Ok(admin.remove_reference(&id).await?) })?;
            context.output.show(&json!({"removed": id}), |_| format!("removed reference values {id}"))
        }
    }
}

fn member(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or("-").to_string()
}
