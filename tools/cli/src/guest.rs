//! `coffer guest`: the guest's firmware, kernel and initial ramdisk, in one folder with their digests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coffer_host_sandbox::GuestFiles;
use coffer_host_vmm::accelerator::{self, Trial};
use coffer_host_vmm::doctor;
use coffer_host_vmm::{Accelerator, Qemu};
use coffer_tools_guest_image::{BuildSpec, Component, GUEST_MODULES, Kernel, Manifest};

use crate::Context;
use crate::home::Home;
use crate::output::{progress, table};

const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initramfs.cpio.zst";
const FIRMWARE: &str = "OVMF_CODE.fd";
const VARIABLES: &str = "OVMF_VARS.fd";
const MANIFEST: &str = "guest.json";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Build the guest: a Debian kernel (downloaded, not installed here), our agent and the modules it needs.
    ///
    /// The same inputs give the same bytes, so an owner can build what an operator offers and compare.
    Build {
        /// The agent, a static program [default: coffer-agent beside this program].
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
        /// A folder with an unpacked Debian kernel package, instead of downloading one.
        #[arg(long, value_name = "DIR")]
        kernel: Option<PathBuf>,
        /// UEFI firmware code and variables [default: Debian's ovmf].
        #[arg(long, num_args = 2, value_names = ["CODE", "VARS"])]
        firmware: Option<Vec<PathBuf>>,
    },
    /// Show what the built guest is made of.
    Show,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Build { agent, kernel, firmware } => {
            let manifest = build(&context.home, agent, kernel.as_deref(), firmware)?;
            context.output.show(&manifest, summary)
        }
        Command::Show => {
            let guest = Guest::built(&context.home)?;
            let manifest =
                fs::read(guest.folder.join(MANIFEST)).context("the guest's manifest cannot be read")?;
            let manifest: Manifest = serde_json::from_slice(&manifest).context("the guest's manifest")?;
            context.output.show(&manifest, text)
        }
    }
}

/// A built guest.
pub(crate) struct Guest {
    folder: PathBuf,
}

impl Guest {
    /// The guest in this home.
    pub(crate) fn built(home: &Home) -> Result<Self> {
        let guest = Self { folder: home.guest() };
        if !guest.folder.join(MANIFEST).exists() {
            bail!("there is no guest in {}; build it with `coffer guest build`", guest.folder.display());
        }
        Ok(guest)
    }

    /// Its files.
    pub(crate) fn files(&self) -> GuestFiles {
        files_in(&self.folder)
    }

    /// What runs its instructions on this machine.
    pub(crate) fn accelerator(&self, home: &Home) -> Accelerator {
        let trial = Trial { kernel: self.folder.join(KERNEL), cache_dir: home.cache() };
        accelerator::detect(&Qemu::default(), Some(&trial)).accelerator
    }
}

/// The files of the guest in this home, whether they are there or not.
pub(crate) fn files(home: &Home) -> GuestFiles {
    files_in(&home.guest())
}

fn files_in(folder: &Path) -> GuestFiles {
    GuestFiles {
        firmware: folder.join(FIRMWARE),
        variables: folder.join(VARIABLES),
        kernel: folder.join(KERNEL),
        initrd: folder.join(INITRAMFS),
    }
}

fn build(
    home: &Home,
    agent: Option<PathBuf>,
    kernel: Option<&Path>,
    firmware: Option<Vec<PathBuf>>,
) -> Result<Manifest> {
    let agent = match agent {
        Some(agent) => agent,
        None => std::env::current_exe()?.with_file_name("coffer-agent"),
    };
    let bar = progress("guest kernel", None);
    let kernel = match kernel {
        Some(folder) => Kernel::open(folder)?,
        None => {
            fs::create_dir_all(home.cache())?;
            Kernel::download(&home.cache())?
        }
    };
    bar.set_message("initial ramdisk");
    let built =
        coffer_tools_guest_image::build(&BuildSpec { agent, kernel: &kernel, modules: GUEST_MODULES })?;
    let firmware = firmware.unwrap_or_else(|| {
        let (code, variables) = doctor::FIRMWARE;
        vec![code.into(), variables.into()]
    });
    let [code, variables] = firmware.as_slice() else {
        bail!("--firmware wants two files, code and variables")
    };
    bar.finish_and_clear();

    // Complete beside its place, then moved there: a killed build leaves the old guest whole.
    let folder = home.guest();
    let fresh = folder.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh)?;
    for (from, name) in [(code, FIRMWARE), (variables, VARIABLES), (&kernel.image, KERNEL)] {
        fs::copy(from, fresh.join(name)).with_context(|| {
            format!("{} cannot be copied; for the firmware install the package ovmf", from.display())
        })?;
    }
    fs::write(fresh.join(INITRAMFS), &built.initramfs)?;
    fs::write(fresh.join(MANIFEST), serde_json::to_vec_pretty(&built.manifest)?)?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&fresh, &folder)
        .with_context(|| format!("the guest cannot be moved to {}", folder.display()))?;
    Ok(built.manifest)
}

fn summary(manifest: &Manifest) -> String {
    let size = |part: &Component| format!("{:.1} MiB", part.size as f64 / 1_048_576.0);
    format!(
        "guest with Linux {}: agent {}, initial ramdisk with {} modules {}\n{} (all parts: coffer guest show)",
        manifest.kernel_version,
        size(&manifest.agent),
        manifest.modules.len(),
        size(&manifest.initramfs),
        manifest.initramfs.digest
    )
}

fn text(manifest: &Manifest) -> String {
    let parts = [&manifest.kernel, &manifest.agent, &manifest.initramfs].into_iter().chain(&manifest.modules);
    let rows: Vec<_> = parts
        .map(|part| {
            let size = format!("{:.1} KiB", part.size as f64 / 1024.0);
            vec![part.name.clone(), size, part.digest.to_string()]
        })
        .collect();
    format!("guest with Linux {}\n{}", manifest.kernel_version, table(&["PART", "SIZE", "DIGEST"], &rows))
}
