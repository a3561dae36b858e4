//! `coffer image convert` and `coffer image open`: images whose plaintext the owner may see.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use coffer_core_keywrap::{CertificateHolders, KeyHolders};
use coffer_core_oci::Reference;
use coffer_core_seal::ocicrypt::KeyWrap;
use coffer_tools_images::{Limits, OpeningKeys, SealFormat, Source, export, resolve, unseal, verify};
use serde_json::json;

use super::{
    KeyPlace, Sealing, destination, read_key, read_private, read_text, seal_image, source, with_progress,
};
use crate::{Context, block_on};

/// What is converted, and how.
#[derive(clap::Args)]
pub(crate) struct Convert {
    /// The image: plain, eStargz, ocicrypt or a sealed block.
    source: String,
    /// Where the new image goes.
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// The form of the new image.
    #[arg(long, value_enum, default_value_t = Form::SealedBlock)]
    format: Form,
    /// A key that opens the source: the bytes that the broker keeps, or a private key in PEM of a recipient. Repeatable.
    #[arg(long, value_name = "FILE")]
    from_key: Vec<PathBuf>,
    /// The address under which guests ask for the new key, as in kbs:///default/image-key/app.
    #[arg(long, value_name = "URI")]
    key: Option<String>,
    /// Take the new key from this file (64 bytes, 32 for ocicrypt) instead of making one.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write the new key to this file instead of the broker.
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    key_out: Option<PathBuf>,
    /// Replace the key that the broker has at this address. What was sealed with the old one is lost.
    #[arg(long, conflicts_with_all = ["key_file", "key_out"])]
    replace_key: bool,
    /// Who else can open the layers of an ocicrypt image: jwe:FILE or pkcs7:FILE. Repeatable.
    #[arg(long, value_name = "KIND:FILE")]
    recipient: Vec<Recipient>,
    /// Speak plain HTTP to registries.
    #[arg(long)]
    plain_http: bool,
}

/// The form of a converted image.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// One block device, verified and decrypted as it is read.
    SealedBlock,
    /// Encrypted layers, as other confidential runtimes read them.
    Ocicrypt,
    /// Not sealed: everybody who gets it reads it.
    Plain,
}

/// What is opened, and by what it is known to be the owner's.
#[derive(clap::Args)]
pub(crate) struct Open {
    /// The image. Named by digest (NAME@sha256:…), it needs no signature.
    image: String,
    /// The tar that is written; it must not exist. `-` is standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A key that opens it: the bytes that the broker keeps, or a private key in PEM of a recipient. Repeatable.
    #[arg(long = "key-file", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// A public key (PEM) that must have signed the image.
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// Open an image that nobody vouches for. Who can write to its place decides what it holds.
    #[arg(long, conflicts_with = "signer")]
    insecure_unsigned: bool,
    /// Speak plain HTTP to registries.
    #[arg(long)]
    plain_http: bool,
}

/// Who else opens a layer.
#[derive(Clone)]
pub(crate) enum Recipient {
    /// The holder of a key.
    Jwe(PathBuf),
    /// The holder of a certificate.
    Pkcs7(PathBuf),
}

impl FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("jwe", file)) if !file.is_empty() => Ok(Self::Jwe(file.into())),
            Some(("pkcs7", file)) if !file.is_empty() => Ok(Self::Pkcs7(file.into())),
            _ => Err(format!("{text:?} is no recipient; expected jwe:FILE or pkcs7:FILE")),
        }
    }
}

/// Reads the recipients' keys and certificates.
pub(crate) fn recipients(named: &[Recipient]) -> Result<Vec<Box<dyn KeyWrap + Send>>> {
    let read = |path: &Path| Ok::<_, anyhow::Error>((path.to_owned(), read_text(path)?));
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for recipient in named {
        match recipient {
            Recipient::Jwe(file) => keys.push(read(file)?),
            Recipient::Pkcs7(file) => certificates.push(read(file)?),
        }
    }
    let shown = |all: &[(PathBuf, String)]| {
        all.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut found: Vec<Box<dyn KeyWrap + Send>> = Vec::new();
    if !keys.is_empty() {
        let holders = KeyHolders::from_pem(keys.iter().map(|(_, text)| text.as_str()));
        found.push(Box::new(holders.with_context(|| shown(&keys))?));
    }
    if !certificates.is_empty() {
        let holders = CertificateHolders::from_pem(certificates.iter().map(|(_, text)| text.as_str()));
        found.push(Box::new(holders.with_context(|| shown(&certificates))?));
    }
    Ok(found)
}

/// Reads the keys that open a source.
fn opening(files: &[PathBuf]) -> Result<OpeningKeys> {
    let mut keys = OpeningKeys::none();
    for file in files {
        let bytes = read_key(file)?;
        if bytes.expose().trim_ascii_start().starts_with(b"-----BEGIN ") {
            let pem = coffer_core_secret::Secret::new(read_private(file)?);
            keys.add_pem(pem.expose()).with_context(|| file.display().to_string())?;
        } else {
            keys.add_bytes(bytes);
        }
    }
    Ok(keys)
}

pub(crate) fn convert(context: &Context, options: Convert) -> Result<()> {
    let (from, to) =
        (source(&options.source, options.plain_http)?, destination(&options.to, options.plain_http)?);
    let opening = opening(&options.from_key)?;
    let format = match options.format {
        Form::SealedBlock => SealFormat::SealedBlock,
        Form::Ocicrypt => SealFormat::Ocicrypt,
        Form::Plain => {
            if options.key.is_some() || !options.recipient.is_empty() {
                bail!(
                    "an image in plaintext has neither key nor recipients; leave --key and --recipient out"
                );
            }
            let opened = with_progress(|progress| {
                let (from, to, progress) = (&from, &to, progress.clone());
                block_on(async move { Ok(unseal(from, to, opening, Limits::default(), &progress).await?) })
            })?;
            let told = json!({"manifest": opened.manifest, "original": opened.original, "size": opened.size});
            return context
                .output
                .show(&told, |_| format!("opened {} as {}, in plaintext", opened.original, opened.manifest));
        }
    };
    let Some(uri) = options.key else {
        bail!("name the address of the new key with --key, as in kbs:///default/image-key/app");
    };
    let place = KeyPlace::of(options.key_file, options.key_out, options.replace_key);
    let recipients = recipients(&options.recipient)?;
    seal_image(context, &from, &to, Sealing { format, uri, place, recipients, opening })
}

pub(crate) fn open(context: &Context, options: &Open) -> Result<()> {
    let from = source(&options.image, options.plain_http)?;
    let expected = match &options.signer {
        Some(signer) => {
            let pem = read_text(signer)?;
            *block_on(async { Ok(verify(&from, &pem).await?) })?.value()
        }
        None if options.insecure_unsigned || pinned(&from) => {
            block_on(async { Ok(resolve(&from).await?) })?.digest
        }
        None => bail!(
            "nobody vouches for {}; name who signed it with --signer, or name it by digest (@sha256:…)",
            options.image
        ),
    };
    let keys = opening(&options.keys)?;
    let write = |out: Box<dyn Write + Send>| {
        with_progress(|progress| {
            let (from, progress) = (&from, progress.clone());
            block_on(async move {
                Ok(export(from, Some(expected), out, keys, Limits::default(), &progress).await?)
            })
        })
    };
    if options.out == Path::new("-") {
        if std::io::stdout().is_terminal() {
            bail!("a tar is not for a terminal; name a file, or pipe it into `tar -t`");
        }
        write(Box::new(std::io::stdout()))?;
        return Ok(());
    }
    let out = &options.out;
    if out.symlink_metadata().is_ok() {
        bail!("{} is there already; name a file that is not", out.display());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It appears when all of it was verified; until then, as after, only its owner reads it.
    let part = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("nothing can be written in {}", folder.display()))?;
    let digest = write(Box::new(part.reopen()?))?;
    part.as_file().sync_all()?;
    part.persist_noclobber(out).with_context(|| format!("{} cannot be made", out.display()))?;
    context
        .output
        .show(&json!({"image": digest, "file": out}), |_| format!("opened {digest} in {}", out.display()))
}

/// Whether a place names an image by its digest.
fn pinned(source: &Source) -> bool {
    match source {
        Source::Registry(reference, _) => Reference::digest(reference).is_some(),
        Source::Layout(_, name) => name.as_deref().is_some_and(|name| name.contains(':')),
        Source::Archive(_) | Source::Folder(..) => false,
    }
}
