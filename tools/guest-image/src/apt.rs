//! Debian's package tools, run without root: what a package is, its file, its content.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use coffer_core_digest::Digest;

use crate::error::GuestImageError;

/// What the package lists say of one version of a package. The lists are signed, and apt has checked them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) depends: Vec<String>,
    pub(crate) sha256: String,
}

/// The record of the version that apt would install.
pub(crate) fn show(package: &str) -> Result<Record, GuestImageError> {
    let output = run("apt-cache", &["show", "--no-all-versions", package], None);
    match output {
        Ok(text) if !text.trim().is_empty() => parse_record(package, &text),
        Ok(_) | Err(GuestImageError::Program { .. }) => {
            Err(GuestImageError::UnknownPackage { package: package.into() })
        }
        Err(error) => Err(error),
    }
}

/// Downloads the package's file into `directory` and checks it against the package lists.
pub(crate) fn download(record: &Record, directory: &Path) -> Result<PathBuf, GuestImageError> {
    let wanted = format!("{}={}", record.package, record.version);
    // Downloading to a directory of root's own warns that apt's own user cannot write there; it downloads all the same.
    run("apt-get", &["download", "-q", &wanted], Some(directory))?;
    // In file names apt writes the colon of an epoch as %3a.
    let start = format!("{}_{}_", record.package, record.version.replace(':', "%3a"));
    let entries = std::fs::read_dir(directory).map_err(GuestImageError::file("list", directory))?;
    let file = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&start) && name.ends_with(".deb")
        })
        .ok_or(GuestImageError::PackageField { package: wanted, field: "downloaded file" })?;
    let content = std::fs::read(&file).map_err(GuestImageError::file("read", &file))?;
    let found = Digest::sha256(&content).hex();
    if found != record.sha256 {
        return Err(GuestImageError::PackageDigest { path: file, expected: record.sha256.clone(), found });
    }
    Ok(file)
}

/// Unpacks a package's files into `directory`.
pub(crate) fn unpack(file: &Path, directory: &Path) -> Result<(), GuestImageError> {
    run("dpkg-deb", &[OsStr::new("--extract"), file.as_os_str(), directory.as_os_str()], None).map(drop)
}

fn run(
    program: &'static str,
    arguments: &[impl AsRef<OsStr>],
    directory: Option<&Path>,
) -> Result<String, GuestImageError> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C.UTF-8");
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let output = command.output().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => GuestImageError::NoProgram { program },
        _ => GuestImageError::File { what: "run", path: program.into(), source },
    })?;
    if !output.status.success() {
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        return Err(GuestImageError::Program {
            command: format!("{program} {}", words.join(" ")),
            status: output.status.to_string(),
            errors: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn parse_record(package: &str, text: &str) -> Result<Record, GuestImageError> {
    let field = |name: &'static str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let missing = || GuestImageError::PackageField { package: package.into(), field: name };
        value.map(|value| value.trim().to_owned()).ok_or_else(missing)
    };
    let depends = field("Depends").unwrap_or_default();
    let names = depends.split(',').filter_map(|one| one.split_whitespace().next());
    Ok(Record {
        package: field("Package")?,
        version: field("Version")?,
        depends: names.map(str::to_owned).collect(),
        sha256: field("SHA256")?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\n\
        Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\nSHA256: 00be21\n";

    #[test]
    fn a_record_is_read() {
        let record = parse_record("linux-image-cloud-amd64", TEXT).unwrap();
        assert_eq!(record.depends, ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(record.version, "6.1.192-2");
    }

    /// What apt-cache said on an Ubuntu 18.04, shortened.
    const UBUNTU: &str = "Package: linux-image-5.4.0-144-generic\nArchitecture: amd64\n\
        Version: 5.4.0-144.161~18.04.1\nBuilt-Using: linux-hwe-5.4 (= 5.4.0-144.161~18.04.1)\n\
        Provides: aufs-dkms, fuse-module, linux-hwe-5.4-image\n\
        Depends: kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-5.4.0-144-generic\n\
        Recommends: grub-pc | grub-efi-amd64 | lilo, initramfs-tools | linux-initramfs-tool\n\
        Filename: pool/main/l/linux-signed-hwe-5.4/linux-image-5.4.0-144-generic_5.4.0-144.161~18.04.1_amd64.deb\n\
        Size: 10571604\nMD5sum: abfdf663aea2decf5546d39a2c4ea1d4\n\
        SHA1: c6c7ebf305648dad08edb37cb3b2f9e539170104\n\
        SHA256: 5b9cb86065c95649934f3d84165a5a167d6c6ee9de0840a3527f5e15ec36ecdb\n\
        Description-en: Signed kernel image generic\n A kernel image for generic.\n";

    #[test]
    fn a_record_of_ubuntu_s_names_the_package_of_modules() {
        let record = parse_record("linux-image-5.4.0-144-generic", UBUNTU).unwrap();
        assert_eq!(record.depends, ["kmod", "linux-base", "linux-modules-5.4.0-144-generic"]);
        assert_eq!(record.version, "5.4.0-144.161~18.04.1");
        assert_eq!(record.sha256, "5b9cb86065c95649934f3d84165a5a167d6c6ee9de0840a3527f5e15ec36ecdb");
    }

    #[test]
    fn a_record_without_a_digest_is_refused_by_that_name() {
        let text = TEXT.replace("SHA256", "MD5sum");
        let error = parse_record("p", &text).unwrap_err();
        assert!(matches!(error, GuestImageError::PackageField { field: "SHA256", .. }));
    }
}
