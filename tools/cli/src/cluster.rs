//! `coffer cluster`: what the replicas share, as an operator sees it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{Context, block_on};

pub(crate) const HELP: &str = "\
  coffer cluster status
  coffer cluster data-keys
  coffer cluster backup --out broker-2027-01-31.coffer

A backup is sealed as the store is: it is of use only with the master key. Keep the two apart.";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Say where the store is, under which master key, and what the replica that answers is doing.
    Status,
    /// Say how many rows older data keys seal yet: after a rotation rows are sealed anew while the broker serves.
    DataKeys,
    /// Write everything that the broker keeps into one sealed file, while it serves.
    Backup {
        /// The file. It must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Status => {
            let admin = context.admin()?;
            let status = block_on(async { Ok(admin.cluster_status().await?) })?;
            context.output.show(&status, |status| lines(status, ""))
        }
        Command::DataKeys => {
            let admin = context.admin()?;
            let keys = block_on(async { Ok(admin.cluster_data_keys().await?) })?;
            context.output.show(&keys, data_keys)
        }
        Command::Backup { out } => {
            let length = backup(context, &out)?;
            context.output.show(&json!({"backup": out, "bytes": length}), |_| {
                format!("wrote {} ({length} bytes), sealed under the master key", out.display())
            })
        }
    }
}

/// Into a file beside it first, so that what bears the name is whole.
fn backup(context: &Context, out: &Path) -> Result<u64> {
    if out.exists() {
        bail!("{} is there already; name another file", out.display());
    }
    let admin = context.admin()?;
    let mut name = out.file_name().context("--out names no file")?.to_owned();
    name.push(".partial");
    let part = out.with_file_name(name);
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    let mut file = made.with_context(|| format!("{} cannot be made", part.display()))?;
    let written = block_on(async { Ok(admin.backup(&mut file).await?) }).and_then(|length| {
        file.flush()?;
        file.sync_all()?;
        // A hard link fails where a rename would replace what came there meanwhile.
        std::fs::hard_link(&part, out).with_context(|| format!("{} cannot be made", out.display()))?;
        Ok(length)
    });
    let _ = std::fs::remove_file(&part);
    written
}

/// One line for each that has rows left, and one for all.
fn data_keys(keys: &Value) -> String {
    let left = |of: &Value| {
        let least = if of["counted"] == true { "" } else { "at least " };
        format!("{least}{} rows are sealed under older data keys", of["rows_left"])
    };
    let line = |one: &Value| {
        let whose = one["tenant"].as_str().map_or("the cluster".to_owned(), |name| format!("tenant {name}"));
        format!("{whose}: {} (epoch {} is the newest)\n", left(one), one["epoch"])
    };
    let mut text: String = keys["unfinished"].as_array().into_iter().flatten().map(line).collect();
    text.push_str(&match text.is_empty() {
        true => "all rows are sealed under the newest data keys\n".to_owned(),
        false => format!(
            "{}; where the number stays, rotate again or run `coffer-broker reseal` with the broker stopped\n",
            left(keys)
        ),
    });
    text
}

/// One line for each member, those of objects under them.
fn lines(value: &Value, indent: &str) -> String {
    let Some(members) = value.as_object() else { return value.to_string() };
    let line = |(name, value): (&String, &Value)| match value {
        Value::Object(_) => format!("{indent}{name}\n{}", lines(value, &format!("{indent}  "))),
        Value::String(text) => format!("{indent}{name}: {text}\n"),
        Value::Null => format!("{indent}{name}: -\n"),
        Value::Array(list) => {
            let list = list.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
            format!("{indent}{name}: {}\n", list.collect::<Vec<_>>().join(", "))
        }
        other => format!("{indent}{name}: {other}\n"),
    };
    members.iter().map(line).collect()
}
