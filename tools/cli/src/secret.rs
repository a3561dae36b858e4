//! `coffer secret`: what the broker keeps for guests, and what is sealed for them outside of it.

mod sealing;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coffer_core_protocol::uri::ResourceUri;
use coffer_core_secret::SecretBytes;
use serde_json::json;

use crate::output::table;
use crate::{Context, block_on};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Store a secret, read from a file or from standard input; never from the command line.
    Put {
        /// Where guests will ask for it, as in kbs:///default/database/password.
        uri: String,
        /// The file that holds it; standard input if none is named.
        #[arg(long, short, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the secrets' names, sizes and versions; values never leave the broker this way.
    List,
    /// Remove a secret. Guests that already have it keep it.
    Rm {
        /// Its address.
        uri: String,
    },
    /// Make a key that signs sealed secrets.
    #[command(after_long_help = sealing::KEYGEN_HELP)]
    Keygen(sealing::KeygenOptions),
    /// Write a secret as text that is safe in a manifest: only an attested guest can open it.
    #[command(after_long_help = sealing::SEAL_HELP)]
    Seal(sealing::SealOptions),
    /// Verify a sealed secret, and say what it names. The secret itself is opened by an attested guest only.
    #[command(after_long_help = sealing::UNSEAL_HELP)]
    Unseal(sealing::UnsealOptions),
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = || context.home.broker_access(&context.broker)?.admin();
    match command {
        Command::Keygen(options) => sealing::keygen(context, &options),
        Command::Seal(options) => sealing::seal(context, &options),
        Command::Unseal(options) => sealing::unseal(context, &options),
        Command::Put { uri, file } => {
            let path = path_of(&uri)?;
            let admin = admin()?;
            let value = read_secret(file.as_deref())?;
            block_on(async { Ok(admin.put_resource(&path, value).await?) })?;
            context.output.show(&json!({"stored": uri}), |_| format!("stored {uri}"))
        }
        Command::List => {
            let admin = admin()?;
            let list = block_on(async { Ok(admin.list_resources().await?) })?;
            context.output.show(&list, |list| {
                let row = |r: &coffer_core_admin::ResourceInfo| {
                    let uri = format!("kbs:///{}", r.path);
                    vec![uri, r.bytes.to_string(), r.version.to_string(), r.changed_at.clone()]
                };
                table(&["ADDRESS", "BYTES", "VERSION", "CHANGED"], &list.iter().map(row).collect::<Vec<_>>())
            })
        }
        Command::Rm { uri } => {
            let path = path_of(&uri)?;
            let admin = admin()?;
            block_on(async { Ok(admin.delete_resource(&path).await?) })?;
            context.output.show(&json!({"removed": uri}), |_| format!("removed {uri}"))
        }
    }
}

/// The path in the broker of `kbs:///a/b/c`.
pub(crate) fn path_of(uri: &str) -> Result<String> {
    let parsed: ResourceUri = uri.parse().with_context(|| format!("{uri} is no resource address"))?;
    Ok(parsed.path().to_string())
}

fn read_secret(file: Option<&Path>) -> Result<SecretBytes> {
    let mut bytes = Vec::new();
    match file {
        Some(path) => {
            bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        }
        None => {
            if std::io::stdin().is_terminal() {
                eprintln!("Type or paste the secret, then end with Ctrl-D. It is stored byte for byte.");
            }
            std::io::stdin().read_to_end(&mut bytes).context("standard input cannot be read")?;
        }
    }
    if bytes.is_empty() {
        bail!("the secret is empty; nothing was stored");
    }
    Ok(SecretBytes::new(bytes))
}
