//! Why a guest cannot be built, with what to do.

use std::io;
use std::path::PathBuf;

/// Why a guest cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GuestImageError {
    /// A program of Debian's is not there.
    #[error(
        "{program} is not there. A guest kernel is taken from Debian or Ubuntu: build on Debian or Ubuntu, or give an unpacked kernel package"
    )]
    NoProgram {
        /// The program.
        program: &'static str,
    },
    /// A program of Debian's failed.
    #[error("{command} failed ({status}): {errors}")]
    Program {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// Its last errors.
        errors: String,
    },
    /// The package lists do not have the kernel.
    #[error("the package lists do not name {package}. Refresh them: apt-get update")]
    UnknownPackage {
        /// The package.
        package: String,
    },
    /// The package lists say something unexpected.
    #[error("the package lists give no {field} for {package}. Refresh them: apt-get update")]
    PackageField {
        /// The package.
        package: String,
        /// What is missing.
        field: &'static str,
    },
    /// What was downloaded is not what the signed package lists promise.
    #[error("{path} has SHA-256 {found}, and the package lists promise {expected}. Remove it and try again")]
    PackageDigest {
        /// The file.
        path: PathBuf,
        /// The digest in the lists.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// A directory is not an unpacked kernel package.
    #[error("{path} is not an unpacked kernel package: {reason}")]
    NotAKernel {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The agent is not a program that can be PID 1.
    #[error("{path} cannot be the guest's first process: {reason}")]
    Agent {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel has no such module, neither as a file nor built in.
    #[error("kernel {kernel} has no module {module}{}", needed_by.as_ref().map(|by| format!(", which {by} needs")).unwrap_or_default())]
    NoModule {
        /// The kernel's version.
        kernel: String,
        /// The module.
        module: String,
        /// The module that needs it.
        needed_by: Option<String>,
    },
    /// A module is compressed in a way that the builder does not read.
    #[error(
        "module {path} is compressed. Modules are read plain, as .ko.zst or as .ko.xz, as Debian and Ubuntu have them; use their kernel"
    )]
    CompressedModule {
        /// The file.
        path: PathBuf,
    },
    /// A module file is damaged.
    #[error("module {path} is not a kernel module: {reason}")]
    DamagedModule {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Modules need each other in a circle.
    #[error("the modules {} need each other in a circle", .0.join(", "))]
    Circle(Vec<String>),
    /// A file is too large for the archive.
    #[error("{name} has {size} bytes, over the archive's limit of 4 GiB")]
    TooLarge {
        /// The name in the archive.
        name: String,
        /// Its size.
        size: usize,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Compressing failed.
    #[error("cannot compress the initramfs: {0}")]
    Compress(io::Error),
}

impl GuestImageError {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
