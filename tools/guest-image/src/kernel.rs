//! The guest's kernel: a package of Debian's or Ubuntu's, downloaded and unpacked, never installed on the host.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::apt;
use crate::error::GuestImageError;

/// The packages that always name the newest kernel for virtual machines: Debian's, and Ubuntu's.
const META_PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
/// Ubuntu has modules in packages of their own, named after the kernel's version ...
const MODULES: &str = "linux-modules-";
/// ... and, up to 24.04, erofs and others in a second one, on which no kernel depends.
const MORE_MODULES: &str = "linux-modules-extra-";
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
    /// The packages that its modules came from, where they are not in the kernel's own.
    pub module_packages: Vec<Package>,
}

/// A package and the digest by which the signed package lists name it.
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
    /// The newest kernel for virtual machines of this Debian or Ubuntu, from `cache` or downloaded into it. Needs no
    /// root.
    pub fn download(cache: &Path) -> Result<Self, GuestImageError> {
        let records = newest(apt::show)?;
        let unpacked =
            cache.join(records.kernel.package.clone() + "_" + &records.kernel.version.replace(':', "%3a"));
        if !unpacked.join(ORIGIN).exists() {
            fetch(&records, cache, &unpacked)?;
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
        let (package, module_packages) = match fs::read(directory.join(ORIGIN)) {
            Ok(text) => {
                let origin: Origin =
                    serde_json::from_slice(&text).map_err(|error| not(format!("{ORIGIN}: {error}")))?;
                (Some(origin.kernel), origin.modules)
            }
            Err(_) => (None, Vec::new()),
        };
        Ok(Self { version, image, modules, package, module_packages })
    }
}

/// What [`ORIGIN`] says.
#[derive(Serialize, Deserialize)]
struct Origin {
    #[serde(flatten)]
    kernel: Package,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    modules: Vec<Package>,
}

impl From<&apt::Record> for Package {
    fn from(record: &apt::Record) -> Self {
        let apt::Record { package, version, sha256, .. } = record.clone();
        Self { name: package, version, sha256 }
    }
}

/// What is downloaded.
#[derive(Debug)]
struct Records {
    kernel: apt::Record,
    modules: Vec<apt::Record>,
}

/// The newest kernel, as the package lists have it.
fn newest(show: impl Fn(&str) -> Result<apt::Record, GuestImageError>) -> Result<Records, GuestImageError> {
    let known = |name: &str| match show(name) {
        Err(GuestImageError::UnknownPackage { .. }) => Ok(None),
        result => result.map(Some),
    };
    let [debian, ubuntu] = META_PACKAGES;
    let meta = match known(debian)? {
        Some(meta) => meta,
        None => known(ubuntu)?
            .ok_or_else(|| GuestImageError::UnknownPackage { package: META_PACKAGES.join(" or ") })?,
    };
    let name = meta.depends.iter().find(|name| name.starts_with("linux-image-")).ok_or_else(|| {
        GuestImageError::PackageField {
            package: meta.package.clone(),
            field: "kernel among its dependencies",
        }
    })?;
    let kernel = show(name)?;
    let mut modules = Vec::new();
    if let Some(name) = kernel.depends.iter().find(|name| name.starts_with(MODULES)) {
        modules.push(show(name)?);
        modules.extend(known(&name.replacen(MODULES, MORE_MODULES, 1))?);
    }
    Ok(Records { kernel, modules })
}

/// Downloads beside the place and moves there, so that a killed download leaves nothing that looks whole.
fn fetch(records: &Records, cache: &Path, unpacked: &Path) -> Result<(), GuestImageError> {
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
    for record in records.modules.iter().chain([&records.kernel]) {
        let file = apt::download(record, &partial)?;
        apt::unpack(&file, &content)?;
    }
    let modules = records.modules.iter().map(Package::from).collect();
    let origin = Origin { kernel: (&records.kernel).into(), modules };
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A package list of these packages, each with what it depends on.
    fn list(packages: &'static [(&str, &str)]) -> impl Fn(&str) -> Result<apt::Record, GuestImageError> {
        |name| match packages.iter().find(|(package, _)| *package == name) {
            Some((_, depends)) => {
                let text = format!("Package: {name}\nVersion: 1\nDepends: {depends}\nSHA256: 00\n");
                apt::parse_record(name, &text)
            }
            None => Err(GuestImageError::UnknownPackage { package: name.into() }),
        }
    }

    fn names(records: &Records) -> Vec<&str> {
        [&records.kernel].into_iter().chain(&records.modules).map(|record| record.package.as_str()).collect()
    }

    #[test]
    fn debian_has_its_modules_in_the_kernel_s_package() {
        let debian = list(&[
            ("linux-image-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)"),
            ("linux-image-6.1.0-56-cloud-amd64", "kmod, linux-base (>= 4.3~), initramfs-tools | dracut"),
        ]);
        assert_eq!(names(&newest(debian).unwrap()), ["linux-image-6.1.0-56-cloud-amd64"]);
    }

    #[test]
    fn ubuntu_s_modules_are_taken_from_both_their_packages() {
        let ubuntu = list(&[
            ("linux-image-virtual", "linux-image-6.8.0-31-generic"),
            ("linux-image-6.8.0-31-generic", "kmod, linux-base (>= 4.5), linux-modules-6.8.0-31-generic"),
            ("linux-modules-6.8.0-31-generic", "wireless-regdb"),
            ("linux-modules-extra-6.8.0-31-generic", "linux-image-6.8.0-31-generic"),
        ]);
        let expected = [
            "linux-image-6.8.0-31-generic",
            "linux-modules-6.8.0-31-generic",
            "linux-modules-extra-6.8.0-31-generic",
        ];
        assert_eq!(names(&newest(ubuntu).unwrap()), expected);
    }

    #[test]
    fn an_ubuntu_without_a_second_package_of_modules_has_all_in_the_first() {
        let ubuntu = list(&[
            ("linux-image-virtual", "linux-image-6.17.0-5-generic"),
            ("linux-image-6.17.0-5-generic", "kmod, linux-modules-6.17.0-5-generic"),
            ("linux-modules-6.17.0-5-generic", ""),
        ]);
        assert_eq!(
            names(&newest(ubuntu).unwrap()),
            ["linux-image-6.17.0-5-generic", "linux-modules-6.17.0-5-generic"]
        );
    }

    #[test]
    fn modules_that_the_lists_do_not_name_are_an_error() {
        let ubuntu = list(&[
            ("linux-image-virtual", "linux-image-6.8.0-31-generic"),
            ("linux-image-6.8.0-31-generic", "kmod, linux-modules-6.8.0-31-generic"),
        ]);
        let error = newest(ubuntu).unwrap_err();
        assert!(matches!(
            error,
            GuestImageError::UnknownPackage { package } if package == "linux-modules-6.8.0-31-generic"
        ));
    }

    #[test]
    fn where_no_kernel_is_known_both_names_are_said() {
        let error = newest(list(&[])).unwrap_err().to_string();
        assert!(error.contains("linux-image-cloud-amd64 or linux-image-virtual"), "{error}");
    }
}
