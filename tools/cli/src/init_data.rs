//! `coffer init-data`: what the owner tells the guest, and how an image is found for it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use coffer_core_channel::ImageSource;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_initdata::{
    AllowedContainer, Attestation, Broker, Builder, DATA_HUB, GuestConfig, InitData, Overlay, Permission,
    RegistryAccess, Scratch, Secret, SignatureRule, Volume,
};
use coffer_core_oci::sealed::SealedBlock;
use coffer_host_cache::{Blob, Cache, CacheError};
use coffer_host_sandbox::{SealedContent, SealedDisk};
use coffer_host_vmm::qemu;
use coffer_tools_images::{Layout, Source, Transport, resolve};
use serde_json::json;

use crate::cache::coded;
use crate::{Context, block_on, image, volume};

/// The container that the guest may run: shared by `coffer init-data` and `coffer run`.
#[derive(clap::Args)]
pub(crate) struct Wanted {
    /// The image: docker://registry/repository:tag or oci:FOLDER:TAG.
    pub(crate) image: String,
    /// Who must have signed it (public key, PEM). Repeatable: one of them must have.
    ///
    /// Without a signer the image's digest is pinned, so only exactly this image runs. With one, a registry's image
    /// may change as long as the signer signs it under its name; an image in a layout is pinned besides.
    #[arg(long, value_name = "FILE")]
    signer: Vec<PathBuf>,
    /// An environment variable added to the image's. Its value passes through the host: no secrets here.
    #[arg(short, long, value_name = "K=V", value_parser = variable)]
    pub(crate) env: Vec<String>,
    /// A resource (kbs:///repository/type/tag) that the workload may ask the guest's local API for. Repeatable.
    #[arg(long, value_name = "URI")]
    resource: Vec<String>,
    /// Put a secret into the workload's environment or a file before it starts. Repeatable.
    ///
    /// env=NAME or file=/PATH, and resource=kbs:///repository/type/tag or sealed=sealed.… (`coffer secret seal`); with a
    /// file also mode=0400 and owner=UID:GID. The guest has the secret from the broker; this machine does not see it.
    #[arg(long, value_name = "WORDS", value_parser = secret)]
    secret: Vec<Secret>,
    /// Let the workload have evidence and token of its guest.
    ///
    /// With them it can attest as the guest, and so obtain everything that the broker gives this guest.
    #[arg(long)]
    allow_workload_evidence: bool,
    /// Pass standard input to the workload.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the workload a terminal, and the input that is typed there.
    #[arg(short, long)]
    pub(crate) terminal: bool,
    /// A root (PEM) that the guest trusts for registries, besides the public ones. Repeatable.
    ///
    /// It is for the guest only: here, the image is looked up with the roots of this system.
    #[arg(long, value_name = "FILE")]
    registry_ca: Vec<PathBuf>,
    /// The address of the credentials for registries, as in kbs:///default/registry/auth: a containers-auth.json that
    /// the broker releases to the guest. This machine does not use it.
    #[arg(long, value_name = "URI")]
    registry_auth: Option<String>,
    /// The proxy through which the guest reaches registries, as in http://proxy.example:3128.
    #[arg(long, value_name = "URL")]
    registry_proxy: Option<String>,
    /// Speak plain HTTP to registries. Digest and signature are checked all the same.
    #[arg(long)]
    plain_http: bool,
    /// Run without a broker: nothing is attested, nothing sealed can be opened.
    #[arg(long)]
    insecure_no_attestation: bool,
    /// Open a volume for the workload. Repeatable.
    ///
    /// name=NAME,key=kbs:///repository/type/tag,path=/PATH, and besides access=read-only, or
    /// rollback=insecure-not-detected for a volume whose old copies are as good as the last one. With kind=ephemeral it
    /// is an empty disk under a key that the guest draws (and owner=UID:GID); with kind=sealed, what `coffer volume
    /// seal` printed.
    #[arg(long, value_name = "WORDS", value_parser = volume::mount)]
    mount: Vec<Volume>,
    /// Where the workload's writable layer lies: in the guest's memory, or on a disk of the host's under a key that the
    /// guest draws.
    ///
    /// An image that is not a sealed block is unpacked there, too. `coffer run --scratch SIZE` says disk, unless it is
    /// said otherwise.
    #[arg(long, value_enum)]
    pub(crate) overlay: Option<Place>,
    /// Arguments instead of the image's own command.
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// Where a writable layer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Place {
    /// In the guest's memory: up to half of what the workload may have.
    Memory,
    /// On the disk that `coffer run --scratch` attaches.
    Disk,
}

/// Write the init-data for an image.
///
/// It tells the guest which broker to trust, what may run and who must have signed it. Its digest is measured. The
/// file is TOML with comments: read it before you measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    wanted: Wanted,
    /// The file to write; standard output if none is named.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, options: &Options) -> Result<()> {
    let found = options.wanted.find(context)?;
    let init_data = options.wanted.init_data(context, &found)?;
    let Some(out) = &options.out else {
        print!("{}", init_data.text());
        return Ok(());
    };
    std::fs::write(out, init_data.text()).with_context(|| format!("{} cannot be written", out.display()))?;
    let told = json!({"file": out, "digest": init_data.digest()});
    context.output.show(&told, |_| format!("wrote {} ({})", out.display(), init_data.digest()))
}

/// An image as the sandbox needs it.
pub(crate) struct Found {
    /// Its name for the gate: without the folder in which it lies here.
    pub(crate) name: String,
    /// Where the guest finds it.
    pub(crate) source: ImageSource,
    /// Its sealed blocks, as disks.
    pub(crate) disks: Vec<SealedDisk>,
    /// The layout whose blobs the guest may ask for.
    pub(crate) layout: Option<PathBuf>,
    /// Blobs of the cache that the guest may ask for.
    pub(crate) documents: Vec<Blob>,
    digest: Digest,
    named: Named,
}

/// What the image's name says of it.
enum Named {
    /// A signature can be over it.
    InRegistry,
    /// It is a folder of this machine, which no signature names.
    InLayout,
}

impl Wanted {
    /// Finds the image.
    pub(crate) fn find(&self, _context: &Context) -> Result<Found> {
        let source = image::source(&self.image, self.plain_http)?;
        let resolved = block_on(async { Ok(resolve(&source).await?) })?;
        let digest = resolved.digest;
        match &source {
            Source::Registry(reference, transport) => Ok(Found {
                name: reference.to_string(),
                source: ImageSource::Registry {
                    reference: seen_from_guest(&reference.to_string()),
                    plain_http: *transport == Transport::InsecurePlainHttp,
                },
                disks: Vec::new(),
                layout: None,
                documents: Vec::new(),
                digest,
                named: Named::InRegistry,
            }),
            Source::Layout(folder, tag) => {
                let layout = Layout::open(folder)?;
                let signatures = layout.signatures(&digest)?;
                let sealed = SealedBlock::from_manifest(&resolved.manifest)?;
                let disks: Vec<SealedDisk> = sealed
                    .iter()
                    .map(|(layer, _)| SealedDisk {
                        digest: layer.digest,
                        content: SealedContent::File(layout.blob_path(&layer.digest)),
                    })
                    .collect();
                let base =
                    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                Ok(Found {
                    name: format!("{base}:{}", tag.as_deref().unwrap_or("latest")),
                    source: on_host(&digest, signatures.iter().map(|signature| &signature.digest), &disks),
                    disks,
                    layout: Some(std::path::absolute(folder)?),
                    documents: Vec::new(),
                    digest,
                    named: Named::InLayout,
                })
            }
            Source::Folder(..) => bail!(
                "a guest reads images from a registry or an OCI layout; make one of the folder with \
                 `coffer image seal {} --to oci:FOLDER:TAG --key URI`",
                self.image
            ),
            Source::Archive(_) => bail!(
                "a guest reads images from a registry or an OCI layout; copy it first, for instance with \
                 `skopeo copy {} oci:FOLDER:TAG`",
                self.image
            ),
        }
    }

    /// Finds the image through the host's cache, if it is a sealed one of a registry: then the guest reads it from
    /// there. `None` leaves it to [`Self::find`].
    pub(crate) async fn find_cached(&self, open: impl FnOnce() -> Result<Cache>) -> Result<Option<Found>> {
        let Source::Registry(reference, transport) = image::source(&self.image, self.plain_http)? else {
            return Ok(None);
        };
        let image = match open()?.image(&reference, transport == Transport::InsecurePlainHttp).await {
            Ok(image) => image,
            // The owner's credentials may open what the host may not have, and the guest sees for itself.
            Err(error @ (CacheError::Registry { .. } | CacheError::Missing { .. })) => {
                eprintln!("coffer: the cache is not used: {error}");
                return Ok(None);
            }
            Err(error) => return Err(coded(error)),
        };
        let Some(sealed) = image.sealed else { return Ok(None) };
        let disks = vec![SealedDisk { digest: *sealed.digest(), content: SealedContent::Cached(sealed) }];
        Ok(Some(Found {
            name: reference.to_string(),
            source: on_host(&image.digest, image.signatures.iter(), &disks),
            disks,
            layout: None,
            documents: image.documents,
            digest: image.chosen,
            named: Named::InRegistry,
        }))
    }

    /// The init-data that lets the guest run exactly this.
    pub(crate) fn init_data(&self, context: &Context, found: &Found) -> Result<InitData> {
        let signers = texts(&self.signer)?;
        // A signature in a layout names no repository, so the digest is pinned there besides.
        let (signature, digest) = match (signers.is_empty(), &found.named) {
            (true, _) => (SignatureRule::DigestOnly, Some(found.digest)),
            (false, Named::InLayout) => (SignatureRule::Required, Some(found.digest)),
            (false, Named::InRegistry) => (SignatureRule::Required, None),
        };
        let (attestation, broker) = match self.insecure_no_attestation {
            true => (Attestation::InsecureNone, None),
            false => {
                let access = context.home.broker_access(&context.broker)?;
                let broker = Broker { url: seen_from_guest(&access.guest_url()), certificate: access.ca_pem };
                (Attestation::Required, Some(broker))
            }
        };
        let container = AllowedContainer {
            image: found.name.clone(),
            signature,
            digest,
            signers,
            args: (!self.args.is_empty()).then(|| self.args.clone()),
            env: self.env.clone(),
            resources: self.resource.clone(),
            secrets: self.secret.clone(),
            evidence: permission(self.allow_workload_evidence),
            stdin: permission(self.interactive || self.terminal),
            terminal: permission(self.terminal),
        };
        let overlay = match self.overlay {
            Some(Place::Disk) => Overlay::Disk,
            Some(Place::Memory) | None => Overlay::Memory,
        };
        let (volumes, scratch) = (self.mount.clone(), Scratch { overlay });
        let config = GuestConfig { attestation, broker, containers: vec![container], volumes, scratch };
        let mut builder = Builder::new(Algorithm::Sha256).guest(&config)?;
        let access = RegistryAccess {
            roots: texts(&self.registry_ca)?,
            credentials: self.registry_auth.clone(),
            proxy: self.registry_proxy.clone(),
        };
        if !access.is_empty() {
            builder = builder.entry(DATA_HUB, access.to_toml()?);
        }
        Ok(builder.build()?)
    }
}

/// Where the guest finds an image that the host serves.
fn on_host<'a>(
    manifest: &Digest,
    signatures: impl Iterator<Item = &'a Digest>,
    disks: &[SealedDisk],
) -> ImageSource {
    let disk = |disk: &SealedDisk| (disk.digest.to_string(), coffer_host_sandbox::disk_serial(&disk.digest));
    ImageSource::Host {
        manifest: manifest.to_string(),
        signatures: signatures.map(Digest::to_string).collect(),
        disks: disks.iter().map(disk).collect(),
    }
}

fn texts(files: &[PathBuf]) -> Result<Vec<String>> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
    };
    files.iter().map(read).collect()
}

fn permission(asked_for: bool) -> Permission {
    if asked_for { Permission::Allowed } else { Permission::Denied }
}

/// In the guest's network this machine's loopback has another address.
fn seen_from_guest(address: &str) -> String {
    let mut seen = address.to_string();
    for own in ["127.0.0.1:", "localhost:", "[::1]:"] {
        for before in ["https://", "http://", ""] {
            if let Some(rest) = address.strip_prefix(&format!("{before}{own}")) {
                seen = format!("{before}{}:{rest}", qemu::GATEWAY);
            }
        }
    }
    seen
}

/// `env=…` or `file=…`, with `resource=…` or `sealed=…`. What is wrong with its values, init-data says.
fn secret(text: &str) -> Result<Secret, String> {
    const MEMBERS: [&str; 6] = ["resource", "sealed", "env", "file", "mode", "owner"];
    let mut values = [const { None }; 6];
    for word in text.split(',') {
        let (member, value) = word.split_once('=').ok_or_else(|| format!("{word:?} has no value"))?;
        let place = MEMBERS.iter().zip(&mut values).find(|(name, _)| **name == member);
        let (_, place) =
            place.ok_or_else(|| format!("{member} is not known; expected {}", MEMBERS.join(", ")))?;
        if place.replace(value.to_owned()).is_some() {
            return Err(format!("{member} is there twice"));
        }
    }
    Ok(Secret::of(values)?)
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_string()),
        _ => Err(format!("{text:?} is no variable; expected NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_another_address_in_the_guest() {
        assert_eq!(seen_from_guest("https://127.0.0.1:8443"), "https://10.0.2.2:8443");
        assert_eq!(seen_from_guest("localhost:5000/a/b:1"), "10.0.2.2:5000/a/b:1");
        assert_eq!(seen_from_guest("https://broker.example:8443"), "https://broker.example:8443");
    }

    #[test]
    fn a_secret_has_a_source_and_a_place() {
        for right in ["env=A,resource=kbs:///a/b/c", "sealed=sealed.a.b.c,file=/x,mode=0440,owner=1:2"] {
            assert!(secret(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "env=A",
            "env=A,env=B,resource=x",
            "env=A,resource=x,sealed=y",
            "env=A,resource=x,mode=0400",
            "x=y",
        ] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variable_needs_a_name_and_a_value() {
        assert!(variable("A=").is_ok());
        assert!(variable("=b").is_err());
        assert!(variable("A").is_err());
    }
}
