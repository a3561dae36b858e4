//! `coffer model`: seal, verify, open.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{Key, SegmentSize, Signature};
use coffer_core_secret::{Secret, SecretBytes};
use coffer_tools_images::sign_message;
use coffer_tools_models::{Model, ModelError, Options, Signed, seal, survey};
use serde_json::json;

use crate::Context;
use crate::image::{KeyPlace, read_key, read_private, read_text};
use crate::output::{progress, table};

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
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
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
    /// Verify a sealed folder: its signature, and with the key every byte of every file.
    #[command(after_help = KEYS)]
    Verify {
        /// The sealed folder.
        folder: PathBuf,
        /// A public key (PEM) that may have signed it; can be repeated.
        #[arg(long, value_name = "FILE", required = true)]
        signer: Vec<PathBuf>,
        /// The key (32 bytes). Without it, the list of files stays closed.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Verify a sealed folder and write its files, as they were.
    #[command(after_help = KEYS)]
    Open {
        /// The sealed folder.
        folder: PathBuf,
        /// Where the files go; it must not exist, and appears when everything was verified.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A public key (PEM) that may have signed it; can be repeated.
        #[arg(long, value_name = "FILE", required = true)]
        signer: Vec<PathBuf>,
        /// The key (32 bytes).
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
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
        Command::Seal { folder, out, key_uri, key_file, key_out, replace_key, sign_key, purpose } => {
            let place = KeyPlace::of(key_file, key_out, replace_key);
            seal_folder(context, &folder, &out, &key_uri, &place, &sign_key, purpose)
        }
        Command::Verify { folder, signer, key_file } => {
            let signed = signed(&folder, &signer)?;
            let verified = signed.verified().clone();
            let (statement, by) = (*verified.digest(), *verified.signer());
            let uri = verified.statement().key().to_string();
            let Some(key_file) = key_file else {
                let told = json!({"statement": statement, "signer": by, "key": uri, "files": null});
                return context.output.show(&told, |_| {
                    format!(
                        "signature verified: {statement}\nsigned by {by}, key {uri}\n\
                         the files were not looked at; name the key with --key-file"
                    )
                });
            };
            let model = signed.open(key_in(&key_file)?).map_err(coded)?;
            with_progress("verify", |shown| model.check(shown))?;
            let told = json!({"statement": statement, "signer": by, "key": uri, "files": files(&model)});
            context.output.show(&told, |_| {
                let rows: Vec<_> = model.artifact().manifest().files().iter().map(row).collect();
                let list = table(&["FILE", "BYTES", "DIGEST OF THE SEALED FILE"], &rows);
                format!("verified: {statement}\nsigned by {by}, key {uri}\n{list}")
            })
        }
        Command::Open { folder, out, signer, key_file } => {
            let model = signed(&folder, &signer)?.open(key_in(&key_file)?).map_err(coded)?;
            with_progress("open", |shown| model.unpack(&out, shown))?;
            let told = json!({"folder": out, "statement": model.artifact().verified().digest(),
                "files": files(&model)});
            let count = model.artifact().manifest().files().len();
            context.output.show(&told, |_| format!("opened {count} files in {}", out.display()))
        }
    }
}

fn seal_folder(
    context: &Context,
    folder: &Path,
    out: &Path,
    uri: &str,
    place: &KeyPlace,
    sign_key: &Path,
    purpose: Use,
) -> Result<()> {
    let key_uri = uri.parse().with_context(|| format!("{uri} is no resource address"))?;
    let pem = Secret::new(read_private(sign_key)?);
    // What would fail at the end fails now, before there is a key.
    sign_message(&pem, b"").with_context(|| format!("{} cannot sign", sign_key.display()))?;
    if out.symlink_metadata().is_ok() {
        return Err(coded(ModelError::Exists { path: out.into() }));
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
        let failed = |why: String| ModelError::Signing(why);
        let message = statement.signing_bytes().map_err(|error| failed(error.to_string()))?;
        let (bytes, fingerprint) = sign_message(&pem, &message).map_err(|error| failed(error.to_string()))?;
        Ok(Signature { bytes, key_id: fingerprint.to_string() })
    };
    let began = Instant::now();
    let sealed = with_progress("seal", |shown| seal(folder, out, options, sign, shown))?;
    let told = json!({"folder": out, "artifact": sealed.artifact.to_string(), "statement": sealed.statement,
        "files": sealed.files, "size": sealed.size, "sealed_size": sealed.sealed_size, "key": uri});
    context.output.show(&told, |_| {
        let (mib, seconds) = (sealed.size as f64 / 1_048_576.0, began.elapsed().as_secs_f64());
        format!(
            "sealed {} files, {mib:.1} MiB in {seconds:.1} s, as {}\nkey {uri}\nstatement {}",
            sealed.files,
            out.display(),
            sealed.statement
        )
    })
}

fn signed(folder: &Path, signers: &[PathBuf]) -> Result<Signed> {
    let key = |path: &PathBuf| {
        PublicKey::from_pem(&read_text(path)?).with_context(|| format!("{}", path.display()))
    };
    let keys = signers.iter().map(key).collect::<Result<Vec<_>>>()?;
    Signed::read(folder, &keys).map_err(coded)
}

fn key_in(path: &Path) -> Result<Key> {
    stream_key(&read_key(path)?).with_context(|| format!("{}", path.display()))
}

fn stream_key(bytes: &SecretBytes) -> Result<Key> {
    match bytes.expose().as_slice().try_into() {
        Ok(own) => Ok(Key::new(own)),
        Err(_) => bail!("a model's key has 32 bytes; found {}", bytes.expose().len()),
    }
}

/// The message and, for programs and for search, the stable code.
fn coded(error: ModelError) -> anyhow::Error {
    anyhow!("{error} [{}]", error.code())
}

fn with_progress<T>(
    what: &str,
    work: impl FnOnce(&coffer_tools_models::Progress<'_>) -> Result<T, ModelError>,
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

fn row(file: &coffer_core_sealed_stream::FileEntry) -> Vec<String> {
    vec![file.path().to_string(), file.layout().size().to_string(), file.digest().to_string()]
}

fn files(model: &Model) -> serde_json::Value {
    let one = |file: &coffer_core_sealed_stream::FileEntry| {
        json!({"path": file.path().as_str(), "size": file.layout().size(), "executable": file.executable(),
            "digest": file.digest(), "root": file.root()})
    };
    model.artifact().manifest().files().iter().map(one).collect()
}
