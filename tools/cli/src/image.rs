//! `coffer image`: seal, convert, open, sign, verify, inspect.

mod bundle;
mod key_provider;
mod opening;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use coffer_core_oci::{ImageConfig, Reference};
use coffer_core_seal::ocicrypt::KeyWrap;
use coffer_core_secret::{Secret, SecretBytes};
use coffer_tools_images::{
    Destination, ImageError, Inspection, OpeningKeys, Progress, SealFormat, SealOptions, Source, inspect,
    keygen, new_image_key, seal, sign, sign_as, verify,
};
use indicatif::ProgressBar;
use serde_json::json;

use crate::output::{progress, table};
use crate::{Context, block_on, secret};

const PLACES: &str = "\
Places are written as skopeo writes them: docker://registry/repository:tag, oci:FOLDER:TAG, docker-archive:FILE.\nrootfs:FOLDER is a root file system that is no image yet.";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Seal an image: what is written is ciphertext that only an attested guest gets the key of.
    #[command(after_help = PLACES)]
    Seal {
        /// The image to seal.
        source: String,
        /// Where the sealed image goes.
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// The address under which guests ask for the key, as in kbs:///default/image-key/app.
        #[arg(long, value_name = "URI")]
        key: String,
        /// Take the key from this file (64 bytes, 32 for ocicrypt) instead of making one.
        ///
        /// The same image and key give the same bytes. The key is not put into the broker: you have it.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// Write the new key to this file instead of the broker.
        #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
        key_out: Option<PathBuf>,
        /// Replace the key that the broker has at this address. What was sealed with the old one is lost.
        #[arg(long, conflicts_with_all = ["key_file", "key_out"])]
        replace_key: bool,
        /// The form of the sealed image.
        #[arg(long, value_enum, default_value_t = Form::SealedBlock)]
        format: Form,
        /// Who else can open the layers of an ocicrypt image: jwe:FILE with a public key, or pkcs7:FILE with a
        /// certificate, both PEM. Repeatable.
        #[arg(long, value_name = "KIND:FILE")]
        recipient: Vec<opening::Recipient>,
        /// For rootfs:FOLDER: how the image is run, an OCI image configuration such as {"config":{"Cmd":["/bin/app"]}}.
        #[arg(long, value_name = "FILE")]
        image_config: Option<PathBuf>,
        /// Speak plain HTTP to registries. Ciphertext and digests stay what they are; names can be seen.
        #[arg(long)]
        plain_http: bool,
    },
    /// Make an image of another form: of ocicrypt or eStargz a sealed block, of a sealed block ocicrypt, or plaintext.
    #[command(after_help = PLACES)]
    Convert(opening::Convert),
    /// Open an image here, without a kernel's help, and write its files as a tar.
    #[command(after_help = PLACES)]
    Open(opening::Open),
    /// Answer as a key provider of skopeo, podman and buildah: one request on standard input, one answer.
    #[command(after_help = key_provider::HELP)]
    KeyProvider,
    /// Sign an image's digest, as cosign does. The signature goes beside the image.
    #[command(after_help = PLACES)]
    Sign {
        /// The image.
        image: String,
        /// The private key (PKCS#8 PEM, mode 0600), as `coffer image keygen` makes it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The name to sign under, as in registry.example/team/app [default: where the image is, if in a registry].
        ///
        /// An image in a folder has no name of its own. Signed under none, it runs only where its digest is named
        /// too; name here what it will be called when it is copied to a registry.
        #[arg(long, value_name = "NAME", value_parser = Reference::parse)]
        identity: Option<Reference>,
        /// Speak plain HTTP to registries.
        #[arg(long)]
        plain_http: bool,
    },
    /// Verify an image's signature: by a key, or by a sigstore bundle that says who signed.
    #[command(after_help = bundle::HELP)]
    Verify {
        /// The image.
        image: String,
        /// The public key (PEM) that must have signed.
        #[arg(long, value_name = "FILE", required_unless_present = "bundle")]
        key: Option<PathBuf>,
        #[command(flatten)]
        bundle: bundle::Options,
        /// Speak plain HTTP to registries.
        #[arg(long)]
        plain_http: bool,
    },
    /// Show what an image is, how it is protected and who signed it.
    #[command(after_help = PLACES)]
    Inspect {
        /// The image.
        image: String,
        /// Speak plain HTTP to registries.
        #[arg(long)]
        plain_http: bool,
    },
    /// Make a key pair for signing images (ECDSA P-256; cosign imports it).
    Keygen {
        /// The private key's file; it must not exist.
        #[arg(long, value_name = "FILE")]
        private: PathBuf,
        /// The public key's file; it must not exist.
        #[arg(long, value_name = "FILE")]
        public: PathBuf,
    },
}

/// The form of a sealed image.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// One block device, verified and decrypted as it is read.
    SealedBlock,
    /// Encrypted layers, as other confidential runtimes read them.
    Ocicrypt,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Seal {
            source,
            to,
            key,
            key_file,
            key_out,
            replace_key,
            format,
            recipient,
            image_config,
            plain_http,
        } => {
            let (source, to) = (self::source(&source, plain_http)?, destination(&to, plain_http)?);
            let source = configured(source, image_config.as_deref())?;
            let with = Sealing {
                format: match format {
                    Form::SealedBlock => SealFormat::SealedBlock,
                    Form::Ocicrypt => SealFormat::Ocicrypt,
                },
                uri: key,
                place: KeyPlace::of(key_file, key_out, replace_key),
                recipients: opening::recipients(&recipient)?,
                opening: OpeningKeys::none(),
            };
            seal_image(context, &source, &to, with)
        }
        Command::Convert(options) => opening::convert(context, options),
        Command::Open(options) => opening::open(context, &options),
        Command::KeyProvider => key_provider::answer(),
        Command::Sign { image, key, identity, plain_http } => {
            let pem = Secret::new(read_private(&key)?);
            let to = destination(&image, plain_http)?;
            let signature = block_on(async {
                Ok(match identity {
                    Some(name) => sign_as(&to, &pem, &name.name()).await?,
                    None => sign(&to, &pem).await?,
                })
            })?;
            let told = json!({"image": signature.image, "tag": signature.tag, "signature": signature.artifact,
                "key": signature.key});
            context.output.show(&told, |_| format!("signed {} ({})", signature.image, signature.tag))
        }
        Command::Verify { image, key, bundle, plain_http } => {
            let from = source(&image, plain_http)?;
            let Some(key) = key else { return bundle::verify(context, &from, &bundle) };
            let pem = read_text(&key)?;
            let signed = block_on(async { Ok(verify(&from, &pem).await?) })?;
            let digest = *signed.value();
            context.output.show(&json!({"verified": digest}), |_| format!("verified: {digest}"))
        }
        Command::Inspect { image, plain_http } => {
            let from = source(&image, plain_http)?;
            let inspection = block_on(async { Ok(inspect(&from).await?) })?;
            context.output.show(&inspection, inspection_text)
        }
        Command::Keygen { private, public } => {
            let pair = keygen()?;
            write_new(&private, pair.private_pem.expose().as_bytes(), 0o600)?;
            write_new(&public, pair.public_pem.as_bytes(), 0o644)?;
            let told = json!({"private": private, "public": public, "fingerprint": pair.fingerprint});
            context.output.show(&told, |_| {
                format!("made {} (keep it) and {} (give it to guests)", private.display(), public.display())
            })
        }
    }
}

/// A folder with the configuration that its image is to have.
fn configured(source: Source, config: Option<&Path>) -> Result<Source> {
    let Some(file) = config else { return Ok(source) };
    let Source::Folder(folder, _) = source else {
        bail!("--image-config is for rootfs:FOLDER; {source} has a configuration of its own");
    };
    let config = ImageConfig::parse(read_text(file)?.as_bytes())
        .with_context(|| format!("{} is no image configuration", file.display()))?;
    Ok(Source::Folder(folder, Some(Box::new(config))))
}

/// A place to read from.
pub(crate) fn source(text: &str, plain_http: bool) -> Result<Source> {
    let source = Source::parse(text)?;
    Ok(if plain_http { source.insecure_plain_http() } else { source })
}

pub(crate) fn destination(text: &str, plain_http: bool) -> Result<Destination> {
    let destination = Destination::parse(text)?;
    Ok(if plain_http { destination.insecure_plain_http() } else { destination })
}

/// Where a key comes from, and where it goes.
pub(crate) enum KeyPlace {
    /// Made, and put into the broker where there was none.
    Broker,
    /// Made, and put into the broker whatever was there.
    BrokerReplacing,
    /// Taken from a file.
    From(PathBuf),
    /// Made, and written to a file.
    Into(PathBuf),
}

impl KeyPlace {
    pub(crate) fn of(from: Option<PathBuf>, into: Option<PathBuf>, replace: bool) -> Self {
        match (from, into) {
            (Some(file), _) => Self::From(file),
            (None, Some(file)) => Self::Into(file),
            (None, None) if replace => Self::BrokerReplacing,
            (None, None) => Self::Broker,
        }
    }

    /// The key for what is to be sealed, safe in its place: sealed bytes without their key are lost.
    pub(crate) fn key(
        &self,
        context: &Context,
        uri: &str,
        make: impl FnOnce() -> Result<SecretBytes>,
    ) -> Result<SecretBytes> {
        let path = secret::path_of(uri)?;
        let key = match self {
            Self::From(file) => return read_key(file),
            _ => make()?,
        };
        if let Self::Into(file) = self {
            write_new(file, key.expose(), 0o600)?;
            return Ok(key);
        }
        let admin = context.home.broker_access(&context.broker)?.admin()?;
        let there = block_on(async { Ok(admin.list_resources().await?) })?;
        if matches!(self, Self::Broker) && there.iter().any(|resource| resource.path == path) {
            bail!(
                "the broker has a key at {uri}, and what was sealed with it would be lost; name another address, \
                 or say --replace-key"
            );
        }
        block_on(async { Ok(admin.put_resource(&path, SecretBytes::copy_of(key.expose())).await?) })?;
        Ok(key)
    }
}

/// How an image is sealed.
struct Sealing {
    format: SealFormat,
    uri: String,
    place: KeyPlace,
    recipients: Vec<Box<dyn KeyWrap + Send>>,
    opening: OpeningKeys,
}

fn seal_image(context: &Context, source: &Source, to: &Destination, with: Sealing) -> Result<()> {
    let Sealing { format, uri, place, recipients, opening } = with;
    if !recipients.is_empty() && format == SealFormat::SealedBlock {
        // Before there is a key.
        return Err(ImageError::Recipients.into());
    }
    let key = place.key(context, &uri, || Ok(new_image_key(format)?))?;
    let options = SealOptions { recipients, opening, ..SealOptions::new(format, &uri, key) };
    let sealed = with_progress(|progress| {
        let progress = progress.clone();
        block_on(async move { Ok(seal(source, to, options, &progress).await?) })
    })?;
    let told =
        json!({"manifest": sealed.manifest, "original": sealed.original, "size": sealed.size, "key": uri});
    context.output.show(&told, |_| {
        format!(
            "sealed {} as {}\nkey {uri}, {:.1} MiB",
            sealed.original,
            sealed.manifest,
            sealed.size as f64 / 1_048_576.0
        )
    })
}

/// Runs work that reports its steps, with a bar for each kind of step.
fn with_progress<T>(work: impl FnOnce(&Progress) -> Result<T>) -> Result<T> {
    let shown: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    let steps = Progress::new(move |step| {
        let Ok(mut shown) = shown.lock() else { return };
        let name = format!("{} {}", step.what, step.item);
        let fresh = shown.as_ref().is_none_or(|(current, _)| *current != name);
        if fresh {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            let bar = progress(&name, step.total);
            *shown = Some((name, bar));
        }
        if let Some((_, bar)) = shown.as_ref() {
            bar.set_position(step.done);
            if step.total == Some(step.done) {
                bar.finish_and_clear();
            }
        }
    });
    work(&steps)
}

fn inspection_text(inspection: &Inspection) -> String {
    let mut text = format!("{}\n{}\n", inspection.source, inspection.digest);
    text.push_str(&format!("protection  {}\n", inspection.protection));
    for key in &inspection.keys {
        text.push_str(&format!("key         {key}\n"));
    }
    for signature in &inspection.signatures {
        match (&signature.covers, &signature.fault) {
            (Some(digest), None) if signature.identity.is_empty() => {
                text.push_str(&format!(
                    "signature   over {digest}; whose it is, `coffer image verify` says\n"
                ));
            }
            (Some(digest), None) => {
                text.push_str(&format!("signature   over {digest} as {}\n", signature.identity));
            }
            (_, fault) => {
                text.push_str(&format!(
                    "signature   not usable: {}\n",
                    fault.as_deref().unwrap_or("unknown")
                ));
            }
        }
    }
    let rows: Vec<_> = inspection
        .layers
        .iter()
        .map(|layer| vec![layer.digest.to_string(), layer.size.to_string(), layer.media_type.clone()])
        .collect();
    text.push_str(&table(&["LAYER", "BYTES", "TYPE"], &rows));
    text
}

pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The longest file that is read as a key; keys have 32 or 64 bytes.
const MAX_KEY: u64 = 4096;

/// The bytes of a key that something is sealed with.
pub(crate) fn read_key(path: &Path) -> Result<SecretBytes> {
    let shown = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(shown)?;
    let read = file.take(MAX_KEY + 1).read_to_end(&mut bytes).with_context(shown);
    let key = SecretBytes::new(bytes);
    if read? as u64 > MAX_KEY {
        bail!("{} is longer than any key; name the file with the key's bytes", path.display());
    }
    Ok(key)
}

/// A private key must be nobody else's to read.
pub(crate) fn read_private(path: &Path) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map(|data| data.permissions().mode()).unwrap_or(0);
    if mode & 0o077 != 0 {
        bail!("{} can be read by others (mode {:o}); run chmod 600 on it", path.display(), mode & 0o777);
    }
    read_text(path)
}

/// Never over an existing file: a key that is overwritten is lost.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let made: std::io::Result<File> = File::options().write(true).create_new(true).mode(mode).open(path);
    let mut file = made.with_context(|| format!("{} cannot be made (it must not exist)", path.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} cannot be written", path.display()))
}
