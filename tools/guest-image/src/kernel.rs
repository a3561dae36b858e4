//! The guest's kernel: a Debian package, downloaded and unpacked, never installed on the host.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::apt;
use crate::error::GuestImageError;

/// The package that always names Debian's newest kernel for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// Written into an unpacked package when it is whole.
const ORIGIN: &str = "origin.json";

/// An unpacked kernel package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel's version, as in `6.1.0-56-cloud-amd64`.
    pub version: String,
    /// The bzImage.
    pub image: PathBuf,
    /// The directory `lib/modules/VERSION`.
    pub modules: PathBuf,
    /// The package it came from, if it was downloaded.
    pub package: Option<Package>,
}

/// A Debian package and the digest by which the signed package lists name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of the package file.
    pub sha256: String,
}

impl Kernel {
    /// Debian's newest kernel for virtual machines, from `cache` or downloaded into it. Needs no root.
    pub fn download(cache: &Path) -> Result<Self, GuestImageError> {
        let meta = apt::show(META_PACKAGE)?;
        let name = meta.depends.iter().find(|name| name.starts_with("linux-image-")).ok_or_else(|| {
            GuestImageError::PackageField {
                package: META_PACKAGE.into(),
                field: "kernel among its dependencies",
            }
        })?;
        let record = apt::show(name)?;
        let unpacked = cache.join(format!("{}_{}", record.package, record.version.replace(':', "%3a")));
        if !unpacked.join(ORIGIN).exists() {
            fetch(&record, cache, &unpacked)?;
        }
        Self::open(&unpacked)
    }

    /// A kernel package that is unpacked in `directory`.
    pub fn open(directory: &Path) -> Result<Self, GuestImageError> {
        let not = |reason: String| GuestImageError::NotAKernel { path: directory.into(), reason };
        let image = find(&directory.join("boot"), "vmlinuz-")
            .ok_or_else(|| not("boot/vmlinuz-* is missing".into()))?;
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let version = name.trim_start_matches("vmlinuz-").to_owned();
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|parent| directory.join(parent).join(&version))
            .into_iter()
            .find(|modules| modules.is_dir())
            .ok_or_else(|| not(format!("lib/modules/{version} is missing")))?;
        let package = match fs::read(directory.join(ORIGIN)) {
            Ok(text) => {
                Some(serde_json::from_slice(&text).map_err(|error| not(format!("{ORIGIN}: {error}")))?)
            }
            Err(_) => None,
        };
        Ok(Self { version, image, modules, package })
    }
}

/// Downloads beside the place and moves there, so that a killed download leaves nothing that looks whole.
fn fetch(record: &apt::Record, cache: &Path, unpacked: &Path) -> Result<(), GuestImageError> {
    let partial = cache.join(format!("partial-{}", std::process::id()));
    let remove = |path: &Path| match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(GuestImageError::File { what: "remove", path: path.into(), source })
        }
        _ => Ok(()),
    };
    remove(&partial)?;
    let content = partial.join("content");
    fs::create_dir_all(&content).map_err(GuestImageError::file("make", &content))?;
    let file = apt::download(record, &partial)?;
    apt::unpack(&file, &content)?;
    let origin = Package {
        name: record.package.clone(),
        version: record.version.clone(),
        sha256: record.sha256.clone(),
    };
    let text = serde_json::to_vec(&origin).map_err(|error| GuestImageError::File {
        what: "write",
        path: ORIGIN.into(),
        source: error.into(),
    })?;
    let place = content.join(ORIGIN);
    fs::write(&place, text).map_err(GuestImageError::file("write", &place))?;
    remove(unpacked)?;
    fs::rename(&content, unpacked).map_err(GuestImageError::file("move into", unpacked))?;
    remove(&partial)
}

fn find(directory: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let found = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    found.map(|entry| entry.path()).max()
}
