//! What this machine can and cannot do, each with its remedy.
//!
//! Facts only; what to make of them is the caller's choice. Nothing is changed on the machine, but the one trial of
//! KVM ([`crate::accelerator`]).

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::accelerator::{Trial, detect};
use crate::process::Qemu;
use crate::spec::Accelerator;

/// Firmware that is known to measure what it starts: code, and the template of its variables.
pub const FIRMWARE: (&str, &str) = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
/// What one guest under software emulation takes, in MiB.
const MEMORY_MIB: u64 = 1024;
/// What a built guest, a few images and a run take, in MiB.
const DISK_MIB: u64 = 1024;
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// Whether nothing runs without it.
    pub required: bool,
    /// What was found.
    pub detail: String,
    /// What to do, if something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There, and it works.
    Ok,
    /// Not there or not whole, and something else takes its place.
    Degraded,
    /// Not there.
    Missing,
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Examination {
    /// QEMU.
    pub qemu: Qemu,
    /// The built guest's kernel.
    pub kernel: PathBuf,
    /// The built guest's initial file system.
    pub initramfs: PathBuf,
    /// Where results are kept.
    pub cache_dir: PathBuf,
    /// Where runs put their files.
    pub run_root: PathBuf,
    /// A registry to reach, as `host:port`.
    pub registry: Option<String>,
}

/// Looks at everything.
pub fn examine(what: &Examination) -> Vec<Finding> {
    let mut findings = vec![
        qemu(&what.qemu),
        firmware(),
        swtpm(),
        guest(&what.kernel, &what.initramfs),
        kvm(what),
        vhost_vsock(),
        tee("tdx", "/sys/module/kvm_intel/parameters/tdx", &what.qemu, "tdx-guest"),
        tee("snp", "/sys/module/kvm_amd/parameters/sev_snp", &what.qemu, "sev-snp-guest"),
        tpm(),
        amount("memory", available_memory_mib(), MEMORY_MIB, "free some memory"),
        amount("disk", available_disk_mib(existing(&what.run_root)), DISK_MIB, "free some space there"),
    ];
    findings.extend(what.registry.as_deref().map(registry));
    findings
}

/// Memory that can be had without swapping, in MiB.
pub fn available_memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Free space of the file system that holds `path`, in MiB.
pub fn available_disk_mib(path: &Path) -> Option<u64> {
    let data = nix::sys::statvfs::statvfs(path).ok()?;
    data.blocks_available().checked_mul(data.fragment_size()).map(|bytes| bytes >> 20)
}

fn required(finding: Finding) -> Finding {
    Finding { required: true, ..finding }
}

fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding { name, state: State::Ok, required: false, detail: detail.into(), remedy: None }
}

fn lacking(name: &'static str, state: State, detail: impl Into<String>, remedy: &str) -> Finding {
    Finding { name, state, required: false, detail: detail.into(), remedy: Some(remedy.into()) }
}

fn qemu(qemu: &Qemu) -> Finding {
    const REMEDY: &str = "apt-get install qemu-system-x86";
    let version = match qemu.version() {
        Ok(version) => version,
        Err(error) => return required(lacking("qemu", State::Missing, error.to_string(), REMEDY)),
    };
    let devices = help(qemu, "-device");
    let wanted = ["tpm-crb", "virtio-blk-pci", "virtio-net-pci", "virtio-serial-pci"];
    let absent: Vec<&str> =
        wanted.into_iter().filter(|device| !devices.contains(&format!("\"{device}\""))).collect();
    required(if absent.is_empty() {
        ok("qemu", version)
    } else {
        lacking("qemu", State::Missing, format!("{version}, without {}", absent.join(", ")), REMEDY)
    })
}

fn help(qemu: &Qemu, option: &str) -> String {
    let output = Command::new(qemu.program()).args([option, "help"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn firmware() -> Finding {
    let (code, variables) = FIRMWARE;
    let absent: Vec<&str> = [code, variables].into_iter().filter(|path| !Path::new(path).is_file()).collect();
    required(if absent.is_empty() {
        ok("ovmf", code)
    } else {
        let detail = format!("{} is not there", absent.join(" and "));
        lacking("ovmf", State::Missing, detail, "apt-get install ovmf")
    })
}

fn swtpm() -> Finding {
    const REMEDY: &str = "apt-get install swtpm";
    let output = Command::new("swtpm").arg("--version").output();
    required(match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ok("swtpm", text.lines().next().unwrap_or("installed").trim())
        }
        Ok(output) => lacking("swtpm", State::Missing, format!("swtpm ends with {}", output.status), REMEDY),
        Err(error) => lacking("swtpm", State::Missing, format!("swtpm does not start: {error}"), REMEDY),
    })
}

fn guest(kernel: &Path, initramfs: &Path) -> Finding {
    let absent: Vec<String> = [kernel, initramfs]
        .into_iter()
        .filter(|path| !path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    required(if absent.is_empty() {
        ok("guest", initramfs.display().to_string())
    } else {
        let detail = format!("{} is not there", absent.join(" and "));
        lacking("guest", State::Missing, detail, "coffer guest build")
    })
}

fn kvm(what: &Examination) -> Finding {
    let trial = Trial { kernel: what.kernel.clone(), cache_dir: what.cache_dir.clone() };
    let detected = detect(&what.qemu, what.kernel.is_file().then_some(&trial));
    match detected.accelerator {
        Accelerator::Kvm => ok("kvm", detected.reason),
        Accelerator::SoftwareEmulation => {
            lacking("kvm", State::Degraded, detected.reason, &detected.remedy.unwrap_or_default())
        }
    }
}

fn vhost_vsock() -> Finding {
    const NAME: &str = "vhost-vsock";
    match OpenOptions::new().read(true).write(true).open("/dev/vhost-vsock") {
        Ok(_) => ok(NAME, "/dev/vhost-vsock"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => lacking(
            NAME,
            State::Degraded,
            "this user may not open /dev/vhost-vsock; a virtio-serial port takes its place",
            "add the user to the group kvm, and log in again",
        ),
        Err(_) => lacking(
            NAME,
            State::Degraded,
            "/dev/vhost-vsock is not there; a virtio-serial port takes its place",
            "modprobe vhost_vsock",
        ),
    }
}

fn tee(name: &'static str, parameter: &str, qemu: &Qemu, object: &str) -> Finding {
    let enabled = matches!(fs::read_to_string(parameter).as_deref().map(str::trim), Ok("Y" | "1"));
    let known = help(qemu, "-object").lines().any(|line| line.trim() == object);
    let state = |there| if there { "yes" } else { "no" };
    let detail = format!("host kernel: {}; QEMU object {object}: {}", state(enabled), state(known));
    if enabled && known {
        ok(name, detail)
    } else if enabled {
        lacking(name, State::Missing, detail, "install a newer QEMU (SNP: 9.1, TDX: 10.1)")
    } else {
        lacking(
            name,
            State::Missing,
            detail,
            "needs a processor, a firmware and a host kernel that have it turned on",
        )
    }
}

fn tpm() -> Finding {
    match ["/dev/tpmrm0", "/dev/tpm0"].into_iter().find(|path| Path::new(path).exists()) {
        Some(path) => ok("tpm", format!("{path} (guests have software TPMs of their own)")),
        None => lacking(
            "tpm",
            State::Degraded,
            "the host has no TPM; guests have software TPMs of their own",
            "nothing, unless the broker on this host shall seal its master key",
        ),
    }
}

fn amount(name: &'static str, available: Option<u64>, wanted: u64, remedy: &str) -> Finding {
    match available {
        Some(mib) if mib >= wanted => ok(name, format!("{mib} MiB free")),
        Some(mib) => {
            let detail = format!("{mib} MiB free, {wanted} MiB are comfortable");
            lacking(name, State::Degraded, detail, remedy)
        }
        None => lacking(name, State::Degraded, "cannot be found out", "look by hand"),
    }
}

/// The nearest ancestor that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

fn registry(address: &str) -> Finding {
    const REMEDY: &str = "start the registry, or correct its address";
    let reach = || {
        let addresses = address.to_socket_addrs()?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for one in addresses {
            match TcpStream::connect_timeout(&one, REGISTRY_PATIENCE) {
                Ok(_) => return Ok(one),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match reach() {
        Ok(found) => ok("registry", format!("{address} accepts connections at {found}")),
        Err(error) => lacking("registry", State::Missing, format!("{address}: {error}"), REMEDY),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_a_remedy() {
        let nowhere = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let findings = examine(&Examination {
            qemu: Qemu::at("/nonexistent/qemu"),
            kernel: nowhere.path().join("vmlinuz"),
            initramfs: nowhere.path().join("initramfs"),
            cache_dir: nowhere.path().into(),
            run_root: nowhere.path().join("run"),
            registry: Some(address),
        });
        for finding in &findings {
            assert!(finding.state == State::Ok || finding.remedy.as_ref().is_some_and(|r| !r.is_empty()));
        }
        let state = |name| findings.iter().find(|f| f.name == name).map(|f| (f.state, f.required));
        assert_eq!(state("qemu"), Some((State::Missing, true)));
        assert_eq!(state("guest"), Some((State::Missing, true)));
        assert_eq!(state("registry"), Some((State::Missing, false)));
    }

    #[test]
    fn memory_and_disk_are_found() {
        assert!(available_memory_mib().unwrap() > 0);
        assert!(available_disk_mib(Path::new("/")).is_some());
    }
}
