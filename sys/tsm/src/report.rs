//! configfs-tsm: one folder for each request, in which the bytes go in and the report comes out.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::file::{read, read_text, write};
use crate::{REPORT_DATA, TsmError};

/// Where the kernel has it, once configfs is mounted.
pub const REPORTS: &str = "/sys/kernel/config/tsm/report";

/// Reports are a few kilobytes; the certificates of an SNP report and a CCA token with its chain are the longest.
const MAX_BLOB: usize = 1 << 20;
/// A folder of our own is written by nobody else, so that one more attempt is already odd.
const ATTEMPTS: u32 = 3;

/// The driver that answers, by the name that it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// `tdx_guest`.
    TdxGuest,
    /// `sev_guest`.
    SevGuest,
    /// `arm_cca_guest`.
    ArmCcaGuest,
    /// Another one.
    Other(String),
}

impl Provider {
    /// The driver of this name. A kernel module's name has no hyphens, but a driver may write its own with one.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name.replace('-', "_").as_str() {
            "tdx_guest" => Self::TdxGuest,
            "sev_guest" => Self::SevGuest,
            "arm_cca_guest" => Self::ArmCcaGuest,
            _ => Self::Other(name.chars().filter(|c| !c.is_control()).take(64).collect()),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TdxGuest => "tdx_guest",
            Self::SevGuest => "sev_guest",
            Self::ArmCcaGuest => "arm_cca_guest",
            Self::Other(name) => name,
        })
    }
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who made it.
    pub provider: Provider,
    /// The report or quote.
    pub outblob: Vec<u8>,
    /// What came with it, such as the certificates of an SNP report. Empty if nothing did.
    pub auxblob: Vec<u8>,
}

/// The interface.
#[derive(Clone, Debug)]
pub struct Tsm {
    root: PathBuf,
}

impl Tsm {
    /// The interface at its place, if this kernel has it and configfs is mounted.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::at(REPORTS)
    }

    /// The interface at another place.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Option<Self> {
        let root = root.into();
        root.is_dir().then_some(Self { root })
    }

    /// The driver that answers.
    pub fn provider(&self) -> Result<Provider, TsmError> {
        let request = Request::new(&self.root)?;
        read_text(&request.0.join("provider")).map(|name| Provider::named(&name))
    }

    /// A report over these bytes, at the guest's own privilege level where the TEE has such.
    pub fn report(&self, data: &[u8; REPORT_DATA]) -> Result<Report, TsmError> {
        let request = Request::new(&self.root)?;
        let level = request.level()?;
        for _ in 0..ATTEMPTS {
            if let Some(report) = request.answer(data, level.as_deref())? {
                return Ok(report);
            }
        }
        Err(TsmError::Raced { path: request.0.clone(), attempts: ATTEMPTS })
    }
}

/// A folder of our own, which goes when the request is done.
struct Request(PathBuf);

impl Request {
    fn new(root: &Path) -> Result<Self, TsmError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("coffer-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            // What the kernel says when nobody is registered.
            Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => {
                Err(TsmError::NoProvider { path: root.to_owned() })
            }
            Err(cause) => Err(TsmError::Io { step: "making", path, cause }),
        }
    }

    fn generation(&self) -> Result<u64, TsmError> {
        let path = self.0.join("generation");
        let text = read_text(&path)?;
        text.parse().map_err(|_| TsmError::Malformed {
            path,
            expected: "a number",
            found: text.chars().take(32).collect(),
        })
    }

    /// The lowest privilege level that a report may be asked for, where it is not the default: a guest under a
    /// paravisor or SVSM is not at level 0 (configfs-tsm, "privlevel_floor").
    fn level(&self) -> Result<Option<String>, TsmError> {
        let path = self.0.join("privlevel_floor");
        match path.exists() {
            true => read_text(&path).map(|floor| Some(floor).filter(|floor| floor != "0")),
            false => Ok(None),
        }
    }

    /// The report; none if another writer came between. Each write counts the generation up by one, so that as many
    /// as ours must lie between the first reading and the last (configfs-tsm, "generation").
    fn answer(&self, data: &[u8], level: Option<&str>) -> Result<Option<Report>, TsmError> {
        let before = self.generation()?;
        let mut writes = 1u64;
        write(&self.0.join("inblob"), data)?;
        if let Some(level) = level {
            write(&self.0.join("privlevel"), level.as_bytes())?;
            writes = 2;
        }
        let outblob = match read(&self.0.join("outblob"), MAX_BLOB) {
            // The kernel saw the other writer itself.
            Err(TsmError::Io { cause, .. }) if cause.raw_os_error() == Some(libc::EWOULDBLOCK) => {
                return Ok(None);
            }
            other => other?,
        };
        // Drivers without anything to add hide the file, or leave it empty.
        let aux = self.0.join("auxblob");
        let auxblob = match aux.exists() {
            true => match read(&aux, MAX_BLOB) {
                Err(TsmError::Io { cause, .. }) if cause.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
                other => other?,
            },
            false => Vec::new(),
        };
        let provider = Provider::named(&read_text(&self.0.join("provider"))?);
        if self.generation()? != before.saturating_add(writes) {
            return Ok(None);
        }
        if outblob.is_empty() {
            let path = self.0.join("outblob");
            return Err(TsmError::Malformed { path, expected: "a report", found: "no bytes".into() });
        }
        Ok(Some(Report { provider, outblob, auxblob }))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // What stays is a folder that the kernel removes with the machine.
        let _stays = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_absent_where_its_folder_is() {
        assert!(Tsm::at("/nowhere/tsm/report").is_none());
    }

    #[test]
    fn drivers_are_known_by_either_spelling() {
        assert_eq!(Provider::named("tdx_guest"), Provider::TdxGuest);
        assert_eq!(Provider::named("sev-guest"), Provider::SevGuest);
        assert_eq!(Provider::named("arm_cca_guest"), Provider::ArmCcaGuest);
        assert_eq!(Provider::named("x\u{1b}[2J").to_string(), "x[2J");
    }

    #[test]
    fn a_folder_that_is_no_configfs_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let tsm = Tsm::at(folder.path()).unwrap();
        let error = tsm.report(&[0; REPORT_DATA]).unwrap_err();
        assert!(error.to_string().contains("generation"), "{error}");
        assert!(error.is_absent());
        // The request's folder is gone again.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
