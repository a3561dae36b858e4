//! `coffer model verify` and `open`, from wherever the model is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow};
use coffer_core_oci::cosign::PublicKey;
use coffer_guest_models::{
    Access, Destination, Job, Logins, Model, ModelError, Partial, Place, S3Access, Signed, Transport,
};
use serde_json::json;

use super::stream_key;
use crate::Context;
use crate::image::{read_key, read_text};
use crate::output::{progress, table};

/// Where a model is, who may have signed it, and how it is reached.
#[derive(clap::Args)]
pub(crate) struct From {
    /// A sealed folder, https://…, s3://BUCKET/PREFIX, docker://REFERENCE or oci:FOLDER[:TAG].
    source: String,
    /// A public key (PEM) that may have signed it; can be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    signer: Vec<PathBuf>,
    /// A certificate authority (PEM) of the source, beside the public ones; can be repeated.
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Speak plain HTTP to a registry. What is sent is ciphertext, but for a password.
    #[arg(long)]
    plain_http: bool,
}

impl From {
    /// Verifies the signature.
    pub(crate) fn signed(&self) -> Result<Signed> {
        let key = |path: &PathBuf| {
            PublicKey::from_pem(&read_text(path)?).with_context(|| format!("{}", path.display()))
        };
        let keys = self.signer.iter().map(key).collect::<Result<Vec<_>>>()?;
        let transport = match self.plain_http {
            true => Transport::InsecurePlainHttp,
            false => Transport::Tls,
        };
        let access = Access {
            authorities: self.ca.iter().map(|path| read_text(path)).collect::<Result<_>>()?,
            s3: S3Access::from_variables(|name| std::env::var(name).ok()),
            logins: Arc::new(logins()?),
            transport,
            ..Access::default()
        };
        let place = Place::parse(&self.source).map_err(|error| coded(error.into()))?;
        let store = access.store(&place).map_err(|error| coded(error.into()))?;
        Signed::read(store, &keys).map_err(coded)
    }

    /// Verifies the signature and opens the list of files.
    pub(crate) fn model(&self, key_file: &Path) -> Result<Model> {
        self.signed()?.open(key_in(key_file)?).map_err(coded)
    }
}

fn key_in(path: &Path) -> Result<coffer_core_sealed_stream::Key> {
    stream_key(&read_key(path)?).with_context(|| format!("{}", path.display()))
}

/// What `docker login`, `skopeo login` and the like stored.
fn logins() -> Result<Logins> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let files = [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
        variable("DOCKER_CONFIG").map(|directory| directory.join("config.json")),
        variable("HOME").map(|directory| directory.join(".docker/config.json")),
    ];
    let found = files.into_iter().flatten().find_map(|path| Some((std::fs::read(&path).ok()?, path)));
    let Some((text, path)) = found else { return Ok(Logins::default()) };
    let text = zeroize::Zeroizing::new(text);
    Logins::parse_own(&text).with_context(|| path.display().to_string())
}

pub(super) fn verify(context: &Context, from: &From, key_file: Option<&Path>) -> Result<()> {
    let signed = from.signed()?;
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
    let model = signed.open(key_in(key_file)?).map_err(coded)?;
    with_progress("verify", |job| model.check(job))?;
    let told = json!({"statement": statement, "signer": by, "key": uri, "files": files(&model)});
    context.output.show(&told, |_| {
        let rows: Vec<_> = model.artifact().manifest().files().iter().map(row).collect();
        let list = table(&["FILE", "BYTES", "DIGEST OF THE SEALED FILE"], &rows);
        format!("verified: {statement}\nsigned by {by}, key {uri}\n{list}")
    })
}

pub(super) fn open(
    context: &Context,
    from: &From,
    out: &Path,
    key_file: &Path,
    partial: Partial,
) -> Result<()> {
    let model = from.model(key_file)?;
    let destination = Destination::New(out.into());
    let opened = with_progress("open", |job| model.unpack(&destination, partial, job));
    if partial == Partial::Keep {
        opened.context("what was opened is kept in a private folder; run the same command again to go on")?;
    } else {
        opened?;
    }
    let told =
        json!({"folder": out, "statement": model.artifact().verified().digest(), "files": files(&model)});
    let count = model.artifact().manifest().files().len();
    context.output.show(&told, |_| format!("opened {count} files in {}", out.display()))
}

/// The message and, for programs and for search, the stable code.
pub(crate) fn coded(error: ModelError) -> anyhow::Error {
    anyhow!("{error} [{}]", error.code())
}

/// Does long work, shown, and ended in good order by SIGINT, SIGTERM and SIGHUP.
fn with_progress<T>(what: &str, work: impl FnOnce(&Job<'_>) -> Result<T, ModelError>) -> Result<T> {
    let bar = progress(what, Some(0));
    let shown = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    on_signal(move || asked.store(true, Ordering::Relaxed))?;
    let result = work(&Job { progress: &shown, stop: &stop });
    bar.finish_and_clear();
    result.map_err(coded)
}

/// Calls `then` once, when somebody asks this program to end; from then on, asking again ends it at once.
pub(crate) fn on_signal(then: impl FnOnce() + Send + 'static) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        let asked = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        };
        runtime.block_on(asked);
        then();
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        std::process::exit(130);
    });
    Ok(())
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
