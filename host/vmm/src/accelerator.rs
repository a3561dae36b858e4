//! Which accelerator really boots a guest on this machine.
//!
//! That `/dev/kvm` opens says little: there are hosts whose KVM runs a BIOS and a boot sector and then hangs at the
//! entry of an ordinary 64-bit kernel. So a real kernel is started once, and the answer is kept until the host is
//! restarted or its QEMU changes.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::MachineError;
use crate::lasting;
use crate::process::{Machine, Qemu};
use crate::spec::{Accelerator, Firmware, Kind, LinuxBoot, MachineSpec, Vendor};

/// A kernel that runs at all names itself within this time, also on a busy host.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// The first line of the kernel proper. What comes before it is real mode and decompression.
const NAME: &[u8] = b"Linux version ";
/// A kernel that runs comes to the end of its start within this time.
const WHOLE_START: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
const DEVICE: &str = "/dev/kvm";
const CACHE: &str = "accelerator.json";

/// What was found, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detected {
    /// The accelerator to use.
    pub accelerator: Accelerator,
    /// Why, for a person.
    pub reason: String,
    /// What to do to get a better one, if anything can be done.
    pub remedy: Option<String>,
}

/// What [`detect`] needs for its trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The guest kernel to start.
    pub kernel: PathBuf,
    /// Where the result is kept.
    pub cache_dir: PathBuf,
}

/// The last trial's result and what it holds for.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Kept {
    boot: String,
    qemu: String,
    kernel: PathBuf,
    boots: bool,
    reason: String,
}

/// The best accelerator that boots a guest here. Without a trial, KVM is not believed.
pub fn detect(qemu: &Qemu, trial: Option<&Trial>) -> Detected {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        return match error.kind() {
            io::ErrorKind::PermissionDenied => emulation(
                format!("this user may not open {DEVICE}"),
                Some("add the user to the group kvm, and log in again"),
            ),
            _ => emulation(
                format!("{DEVICE} cannot be opened: {error}"),
                Some("turn virtualization on in the firmware, or use a host that has it"),
            ),
        };
    }
    let Some(trial) = trial else {
        return emulation("no guest kernel is there to try KVM with".into(), Some("coffer guest build"));
    };
    let (boots, reason) = match tried(qemu, trial) {
        Ok(result) => result,
        Err(error) => (false, format!("KVM could not be tried: {error}")),
    };
    if boots {
        Detected { accelerator: Accelerator::Kvm, reason, remedy: None }
    } else {
        emulation(reason, Some("use a host with Intel VT-x or AMD-V; software emulation is slow and works"))
    }
}

fn emulation(reason: String, remedy: Option<&str>) -> Detected {
    Detected { accelerator: Accelerator::SoftwareEmulation, reason, remedy: remedy.map(str::to_owned) }
}

fn tried(qemu: &Qemu, trial: &Trial) -> Result<(bool, String), MachineError> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let version = qemu.version()?;
    let place = trial.cache_dir.join(CACHE);
    if let Some(kept) = fs::read(&place).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok())
        && kept.boot == boot
        && kept.qemu == version
        && kept.kernel == trial.kernel
    {
        return Ok((kept.boots, kept.reason));
    }
    let (boots, reason) = boot_once(qemu, &trial.kernel)?;
    let kept = Kept { boot, qemu: version, kernel: trial.kernel.clone(), boots, reason: reason.clone() };
    // Without a place to keep the answer, the next run asks again.
    let _ = fs::create_dir_all(&trial.cache_dir)
        .and_then(|()| fs::write(&place, serde_json::to_vec(&kept).unwrap_or_default()));
    Ok((boots, reason))
}

/// Starts the kernel with nothing to mount. It panics when it is done, and QEMU ends: that is success.
fn boot_once(qemu: &Qemu, kernel: &Path) -> Result<(bool, String), MachineError> {
    let console = tempfile::NamedTempFile::new()?;
    let spec = MachineSpec {
        kind: Kind::Plain,
        accelerator: Accelerator::Kvm,
        vendor: Vendor::of_this_machine(),
        cpus: 1,
        memory_mib: 256,
        firmware: Firmware::Bios,
        linux: Some(LinuxBoot {
            kernel: kernel.to_owned(),
            initrd: None,
            command_line: "console=ttyS0 earlyprintk=ttyS0 panic=-1".into(),
        }),
        tpm: None,
        disks: Vec::new(),
        hot_plug_slots: 0,
        network: None,
        channel: None,
        console_log: Some(console.path().to_owned()),
    };
    let qemu = qemu.clone();
    let mut machine = lasting(move || qemu.start(&spec))
        .unwrap_or_else(|| Err(io::Error::other("starting the trial machine panicked").into()))?;
    let began = Instant::now();
    loop {
        let spoke = fs::read(console.path())?.windows(NAME.len()).any(|window| window == NAME);
        if machine.try_wait()?.is_some() {
            let reason = if spoke {
                "KVM boots a guest kernel"
            } else {
                "under KVM the guest ended before it named itself"
            };
            return Ok((spoke, reason.into()));
        }
        if !spoke && began.elapsed() > FIRST_WORD {
            return Ok((
                false,
                format!(
                    "under KVM a guest kernel hangs before it names itself (waited {} s)",
                    FIRST_WORD.as_secs()
                ),
            ));
        }
        if began.elapsed() > WHOLE_START {
            return Ok((
                false,
                format!(
                    "under KVM a guest kernel does not finish its start (waited {} s)",
                    WHOLE_START.as_secs()
                ),
            ));
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_not_believed_without_a_trial() {
        assert_eq!(detect(&Qemu::default(), None).accelerator, Accelerator::SoftwareEmulation);
    }

    #[test]
    fn a_qemu_that_is_not_there_is_no_reason_to_fail() {
        let cache = tempfile::tempdir().unwrap();
        let trial = Trial { kernel: "/nonexistent".into(), cache_dir: cache.path().into() };
        let detected = detect(&Qemu::at("/nonexistent/qemu"), Some(&trial));
        assert_eq!(detected.accelerator, Accelerator::SoftwareEmulation);
    }
}
