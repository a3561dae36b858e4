//! `coffer secret`: what the broker keeps for guests, and what is sealed for them outside of it.

mod sealing;
mod terms;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coffer_core_protocol::uri::ResourceUri;
use coffer_core_secret::SecretBytes;
use serde_json::json;

use crate::{Context, block_on};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Store a secret, read from a file or from standard input; never from the command line.
    #[command(after_help = terms::PUT_HELP)]
    Put {
        /// Where guests will ask for it, as in kbs:///default/database/password.
        uri: String,
        /// The file that holds it; standard input if none is named.
        #[arg(long, short, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        terms: terms::Terms,
    },
    /// List the secrets' names, sizes, versions and terms; values never leave the broker this way.
    List,
    /// Show the versions of a secret that are kept, and the terms of each; never a value.
    Show {
        /// Its address.
        uri: String,
    },
    /// Have the broker make a random key that no admin ever sees: only attested guests get it.
    #[command(after_help = terms::GENERATE_HELP)]
    Generate {
        /// Where guests will ask for it, as in kbs:///default/disk-key/1.
        uri: String,
        /// Its length in bytes, 16 to 4096.
        #[arg(long, value_name = "N", default_value_t = 32)]
        bytes: u32,
        #[command(flatten)]
        terms: terms::Terms,
    },
    /// Release a secret to nobody any more, but keep it. Guests that already have it keep it.
    Revoke(terms::Revoke),
    /// Let policy decide again about a revoked secret.
    Restore(terms::Restore),
    /// Remove a secret and its versions. Guests that already have it keep it.
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
    match command {
        Command::Keygen(options) => sealing::keygen(context, &options),
        Command::Seal(options) => sealing::seal(context, &options),
        Command::Unseal(options) => sealing::unseal(context, &options),
        Command::Put { uri, file, terms } => terms::put(context, &uri, file.as_deref(), &terms),
        Command::List => terms::list(context),
        Command::Show { uri } => terms::show(context, &uri),
        Command::Generate { uri, bytes, terms } => terms::generate(context, &uri, bytes, &terms),
        Command::Revoke(options) => terms::revoke(context, options),
        Command::Restore(options) => terms::restore(context, &options),
        Command::Rm { uri } => {
            let path = path_of(&uri)?;
            let admin = context.admin()?;
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
