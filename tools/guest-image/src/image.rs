//! The initramfs and its manifest.

use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;
use object::read::elf::{ElfFile64, ProgramHeader};
use serde::{Deserialize, Serialize};

use crate::cpio::Archive;
use crate::error::GuestImageError;
use crate::kernel::{Kernel, Package};
use crate::modules;

/// The modules that a guest needs; what they need comes with them.
pub const GUEST_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "vmw_vsock_virtio_transport",
    "loop",
    "nbd",
    "erofs",
    "overlay",
    "dm-mod",
    "dm-verity",
    "dm-crypt",
    "dm-integrity",
    "authenc",
    "xts",
    "aesni-intel",
    "sha256-ssse3",
];

/// The drivers of TEEs. Of those that the kernel has, the machine takes the one that it is made for; the older kernels of
/// plain guests have none.
const TEE_MODULES: &[&str] = &["tdx-guest", "sev-guest", "arm-cca-guest", "nsm"];

/// The best compression for the time: a guest is built once, and read and hashed at each start.
const COMPRESSION: i32 = 19;
/// The manifest's form.
const MANIFEST_VERSION: u32 = 1;
/// Where the modules lie in the guest.
const MODULE_DIRECTORY: &str = "lib/modules";

/// What goes into a guest.
#[derive(Clone, Debug)]
pub struct BuildSpec<'a> {
    /// The guest's one program: static, for the guest's processor.
    pub agent: PathBuf,
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// Its modules, usually [`GUEST_MODULES`].
    pub modules: &'a [&'a str],
}

/// A built guest.
#[derive(Clone, Debug)]
pub struct Built {
    /// The initramfs, compressed.
    pub initramfs: Vec<u8>,
    /// What went in and what came out.
    pub manifest: Manifest,
}

/// What went into a guest and what came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this manifest.
    pub version: u32,
    /// The kernel's version.
    pub kernel_version: String,
    /// The package that the kernel and, where no other is named, the modules came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_package: Option<Package>,
    /// The packages that the modules came from, where they are not in the kernel's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub module_packages: Vec<Package>,
    /// The kernel image.
    pub kernel: Component,
    /// The agent.
    pub agent: Component,
    /// The modules, in the order in which they are loaded.
    pub modules: Vec<Component>,
    /// The initramfs.
    pub initramfs: Component,
}

/// A file by name, size and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

/// Builds a guest's initramfs: the same bytes from the same inputs.
pub fn build(spec: &BuildSpec<'_>) -> Result<Built, GuestImageError> {
    let agent = read(&spec.agent)?;
    check_agent(&spec.agent, &agent)?;
    let kernel = read(&spec.kernel.image)?;
    let modules = modules::resolve(spec.kernel, spec.modules, TEE_MODULES)?;

    let mut archive = Archive::default();
    for directory in ["dev", "etc", "lib", MODULE_DIRECTORY, "proc", "run", "sys"] {
        archive.directory(directory, 0o755);
    }
    let list = |modules: &[modules::Module]| -> String {
        modules.iter().map(|module| format!("/{MODULE_DIRECTORY}/{}\n", module.file_name)).collect()
    };
    let (needed, optional) = (list(&modules.needed), list(&modules.optional));
    let modules: Vec<_> = modules.needed.into_iter().chain(modules.optional).collect();
    let components = modules.iter().map(|module| component(&module.file_name, &module.content)).collect();
    let agent_component = component("coffer-agent", &agent);
    archive.file("etc/modules", 0o644, needed.into_bytes());
    if !optional.is_empty() {
        archive.file("etc/modules.tee", 0o644, optional.into_bytes());
    }
    archive.file("init", 0o755, agent);
    for module in modules {
        archive.file(&format!("{MODULE_DIRECTORY}/{}", module.file_name), 0o644, module.content);
    }
    let initramfs = compress(&archive.finish()?).map_err(GuestImageError::Compress)?;

    let manifest = Manifest {
        version: MANIFEST_VERSION,
        kernel_version: spec.kernel.version.clone(),
        kernel_package: spec.kernel.package.clone(),
        module_packages: spec.kernel.module_packages.clone(),
        kernel: component("vmlinuz", &kernel),
        agent: agent_component,
        modules: components,
        initramfs: component("initramfs", &initramfs),
    };
    Ok(Built { initramfs, manifest })
}

fn read(path: &Path) -> Result<Vec<u8>, GuestImageError> {
    std::fs::read(path).map_err(GuestImageError::file("read", path))
}

fn component(name: &str, content: &[u8]) -> Component {
    Component { name: name.into(), size: content.len() as u64, digest: Digest::sha256(content) }
}

/// One thread: more would cut the data differently.
fn compress(archive: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(archive, COMPRESSION)
}

/// In the guest there is no interpreter and no library: a dynamic agent would be a kernel panic.
fn check_agent(path: &Path, content: &[u8]) -> Result<(), GuestImageError> {
    let wrong = |reason: &str| GuestImageError::Agent { path: path.into(), reason: reason.into() };
    let elf = ElfFile64::<object::LittleEndian>::parse(content)
        .map_err(|_| wrong("it is not a 64-bit ELF program"))?;
    let endian = elf.endian();
    if elf.elf_program_headers().iter().any(|header| header.p_type(endian) == object::elf::PT_INTERP) {
        return Err(wrong("it is linked dynamically; build it with -C target-feature=+crt-static"));
    }
    Ok(())
}
