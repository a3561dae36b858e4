//! `coffer model`: what is sealed, verified, opened and mounted.

mod mount;
mod read;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use coffer_core_digest::Digest;
use coffer_core_sealed_stream::{Key, SegmentSize, Signature};
use coffer_core_secret::{Secret, SecretBytes};
use coffer_guest_model_mount::Reach;
use coffer_guest_models::Partial;
use coffer_tools_images::{Destination, Progress, publish, sign_message};
use coffer_tools_models::{Options, SealError, SealedModel, model_pack, seal, survey};
use serde_json::json;

use crate::image::{KeyPlace, destination, read_private};
use crate::output::progress;
use crate::{Context, block_on};

const KEYS: &str = "\
Keys for signing are those for images: `coffer image keygen` makes them.";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Seal a folder: what is written is ciphertext, with a signed list of files that is ciphertext too.
    #[command(after_help = KEYS)]
    Seal {
        /// The folder.
        folder: PathBuf,
        /// The sealed folder; it must not exist.
        #[arg(long, value_name = "DIR", required_unless_present = "to")]
        out: Option<PathBuf>,
        /// Write a ModelPack artifact: docker://REFERENCE or oci:FOLDER[:TAG].
        #[arg(long, value_name = "DESTINATION")]
        to: Option<String>,
        /// Speak plain HTTP to the registry. What is sent is ciphertext, but for a password.
        #[arg(long, requires = "to")]
        plain_http: bool,
        /// The address under which guests ask for the key, as in kbs:///default/model-key/minilm.
        #[arg(long, value_name = "URI")]
        key_uri: String,
        /// Take the key (32 bytes) from this file instead of making one. It is not put into the broker: you have it.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// Write the new key to this file instead of the broker.
        #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
        key_out: Option<PathBuf>,
        /// Replace the key that the broker has at this address. What was sealed with the old one is lost.
        #[arg(long, conflicts_with_all = ["key_file", "key_out"])]
        replace_key: bool,
        /// The private key that signs (PKCS#8 PEM, mode 0600).
        #[arg(long, value_name = "FILE")]
        sign_key: PathBuf,
        /// How the files will be read.
        #[arg(long = "for", value_enum, default_value_t = Use::Model)]
        purpose: Use,
    },
    /// Verify a sealed model: its signature, and with the key every byte of every file.
    #[command(after_help = KEYS)]
    Verify {
        #[command(flatten)]
        from: read::From,
        /// The key (32 bytes). Without it, the list of files stays closed.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Verify a sealed model and write its files, as they were.
    #[command(after_help = KEYS)]
    Open {
        #[command(flatten)]
        from: read::From,
        /// Where the files go; it must not exist, and appears when everything was verified.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The key (32 bytes).
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Keep what was opened, in a private folder beside DIR, if this is interrupted; and go on from there.
        #[arg(long)]
        resume: bool,
    },
    /// Verify a sealed model's signature and mount it: files are fetched and opened as they are read. Runs until it is
    /// interrupted. Of a model that is near, header and tags of all files are compared with the manifest first.
    #[command(after_help = KEYS)]
    Mount {
        #[command(flatten)]
        from: read::From,
        /// An empty folder.
        folder: PathBuf,
        /// The key (32 bytes).
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Let every user of this machine read the files, not only this one.
        #[arg(long)]
        allow_other: bool,
    },
}

/// How sealed files will be read, which says how large their segments are.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Use {
    /// From beginning to end, or in large pieces: segments of 1 MiB.
    Model,
    /// In small pieces from anywhere: segments of 64 KiB.
    Dataset,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Seal {
            folder,
            out,
            to,
            plain_http,
            key_uri,
            key_file,
            key_out,
            replace_key,
            sign_key,
            purpose,
        } => {
            let place = KeyPlace::of(key_file, key_out, replace_key);
            let to = to.map(|text| destination(&text, plain_http)).transpose()?;
            seal_folder(context, &folder, (out.as_deref(), to.as_ref()), &key_uri, &place, &sign_key, purpose)
        }
        Command::Verify { from, key_file } => read::verify(context, &from, key_file.as_deref()),
        Command::Open { from, out, key_file, resume } => {
            let partial = if resume { Partial::Keep } else { Partial::Remove };
            read::open(context, &from, &out, &key_file, partial)
        }
        Command::Mount { from, folder, key_file, allow_other } => {
            let reach = if allow_other { Reach::Everyone } else { Reach::Owner };
            mount::run(context, &from, &folder, &key_file, reach)
        }
    }
}

fn seal_folder(
    context: &Context,
    folder: &Path,
    (out, to): (Option<&Path>, Option<&Destination>),
    uri: &str,
    place: &KeyPlace,
    sign_key: &Path,
    purpose: Use,
) -> Result<()> {
    let key_uri = uri.parse().with_context(|| format!("{uri} is no resource address"))?;
    let pem = Secret::new(read_private(sign_key)?);
    // What would fail at the end fails now, before there is a key.
    sign_message(&pem, b"").with_context(|| format!("{} cannot sign", sign_key.display()))?;
    if let Some(out) = out.filter(|out| out.symlink_metadata().is_ok()) {
        return Err(coded(SealError::Exists { path: out.into() }));
    }
    survey(folder).map_err(coded)?;
    let segment_size = match purpose {
        Use::Model => SegmentSize::MIB_1,
        Use::Dataset => SegmentSize::KIB_64,
    };
    let made = || Ok(SecretBytes::copy_of(Key::random()?.expose()));
    let key = place.key(context, uri, made).and_then(|bytes| stream_key(&bytes))?;
    let options = Options { key: &key, key_uri, segment_size };
    let sign = |statement: &coffer_core_sealed_stream::Statement| {
        let failed = |why: String| SealError::Signing(why);
        let message = statement.signing_bytes().map_err(|error| failed(error.to_string()))?;
        let (bytes, fingerprint) = sign_message(&pem, &message).map_err(|error| failed(error.to_string()))?;
        Ok(Signature { bytes, key_id: fingerprint.to_string() })
    };
    let began = Instant::now();
    // What goes to a registry only is written to a disk first, beside the layout if it is one.
    let beside = match to {
        Some(Destination::Layout(folder, _)) => folder.parent().filter(|parent| *parent != Path::new("")),
        _ => None,
    };
    let temporary = match out {
        Some(_) => None,
        None => Some(match beside {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        }),
    };
    let written = match (out, &temporary) {
        (Some(out), _) => out.to_path_buf(),
        (None, Some(folder)) => folder.path().join("sealed"),
        (None, None) => bail!("name --out or --to"),
    };
    let sealed = with_progress("seal", |shown| seal(folder, &written, options, sign, shown))?;
    let manifest = match to {
        Some(to) => Some(push(&written, uri, &sealed, to)?),
        None => None,
    };
    let name = match (out, to) {
        (Some(out), _) => out.display().to_string(),
        (None, Some(to)) => to.to_string(),
        (None, None) => String::new(),
    };
    let told = json!({"folder": out, "published": to.map(ToString::to_string), "manifest": manifest,
        "artifact": sealed.artifact.to_string(), "statement": sealed.statement, "files": sealed.files,
        "size": sealed.size, "sealed_size": sealed.sealed_size, "key": uri});
    context.output.show(&told, |_| {
        let (mib, seconds) = (sealed.size as f64 / 1_048_576.0, began.elapsed().as_secs_f64());
        format!(
            "sealed {} files, {mib:.1} MiB in {seconds:.1} s, as {name}\nkey {uri}\nstatement {}",
            sealed.files, sealed.statement
        )
    })
}

fn push(folder: &Path, uri: &str, sealed: &SealedModel, to: &Destination) -> Result<Digest> {
    let pack = model_pack(folder, uri, &sealed.statement).map_err(coded)?;
    let bar = progress("push", Some(sealed.sealed_size));
    let shown = bar.clone();
    let step = Progress::new(move |step| {
        shown.set_length(step.total.unwrap_or_default());
        shown.set_position(step.done);
    });
    let digest = block_on(async { Ok(publish(&pack.manifest, &pack.config, &pack.files, to, &step).await?) });
    bar.finish_and_clear();
    digest
}

pub(crate) fn stream_key(bytes: &SecretBytes) -> Result<Key> {
    match bytes.expose().as_slice().try_into() {
        Ok(own) => Ok(Key::new(own)),
        Err(_) => bail!("a key for this has 32 bytes; found {}", bytes.expose().len()),
    }
}

/// The message and, for programs and for search, the stable code.
fn coded(error: SealError) -> anyhow::Error {
    anyhow!("{error} [{}]", error.code())
}

fn with_progress<T>(
    what: &str,
    work: impl FnOnce(&coffer_tools_models::Progress<'_>) -> Result<T, SealError>,
) -> Result<T> {
    let bar = progress(what, Some(0));
    let shown = |done, total| {
        bar.set_length(total);
        // Several threads report; the bar never goes back.
        if done > bar.position() {
            bar.set_position(done);
        }
    };
    let result = work(&shown);
    bar.finish_and_clear();
    result.map_err(coded)
}
