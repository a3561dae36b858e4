//! What a container is.

use coffer_core_channel::Winsize;
use coffer_sys_process::CapabilityList;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One container, complete: the runtime adds nothing that is not written here or in its documentation.
///
/// It has no `Debug`: the environment may hold the owner's secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The root directory, ready and writable (an overlay, say); what is mounted below it comes along.
    pub rootfs: PathBuf,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, `K=V`. Without `PATH` and `HOME`, the usual path and the user's home are added; with a
    /// terminal, `TERM=xterm`.
    pub env: Vec<String>,
    /// The working directory; made if the image has none of that name.
    pub cwd: String,
    /// `user`, `user:group`, by name or number; empty is root. Names are looked up in the image.
    pub user: String,
    /// The host name.
    pub host_name: String,
    /// A terminal of this size instead of pipes.
    pub terminal: Option<Winsize>,
    /// Whether the root directory can be written to.
    pub root: RootAccess,
    /// Capabilities by name: a root user holds exactly these, and no user can get others.
    pub capabilities: Vec<String>,
    /// The contents of `/etc/resolv.conf`, if not the image's.
    pub resolv_conf: Option<String>,
    /// The contents of `/etc/hosts`, if not the image's.
    pub hosts: Option<String>,
    /// Paths that read as empty. Those that do not exist are left out.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written to. Those that do not exist are left out.
    pub read_only_paths: Vec<String>,
    /// The control group, and what it limits.
    pub cgroup: Option<Cgroup>,
}

/// Whether the workload may change its root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootAccess {
    /// It may.
    Writable,
    /// It may not.
    ReadOnly,
}

/// A control group (version 2) of the container's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// The group's directory, made at the start and removed at the end.
    pub path: PathBuf,
    /// Most bytes of memory.
    pub memory_max: Option<u64>,
    /// Most processes and threads.
    pub pids_max: Option<u64>,
}

/// Kernel files that tell about, or reach, what is not the container's.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/security",
];

/// Kernel files that change what is not the container's.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl ContainerSpec {
    /// A container with the ecosystem's defaults: root user, fourteen capabilities, pipes, no limits.
    #[must_use]
    pub fn new(rootfs: impl Into<PathBuf>, args: Vec<String>) -> Self {
        let owned = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect();
        Self {
            rootfs: rootfs.into(),
            args,
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            host_name: "coffer".to_owned(),
            terminal: None,
            root: RootAccess::Writable,
            capabilities: CapabilityList::container_default().names(),
            resolv_conf: None,
            hosts: None,
            masked_paths: owned(&MASKED),
            read_only_paths: owned(&READ_ONLY),
            cgroup: None,
        }
    }
}
