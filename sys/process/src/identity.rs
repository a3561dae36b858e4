//! Who a process is and how much it may use.

use crate::ProcessError;
use nix::sys::resource::{Resource as Kind, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};

/// A limited resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The size of a core file.
    Core,
    /// Open descriptors.
    OpenFiles,
    /// Processes of the user.
    Processes,
    /// Locked memory.
    LockedMemory,
}

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What counts now.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// Sets a resource limit of this process.
///
/// # Errors
/// When the kernel refuses.
pub fn set_limit(resource: Resource, limit: Limit) -> Result<(), ProcessError> {
    setrlimit(kind(resource), limit.soft, limit.hard)
        .map_err(|e| ProcessError::new(format!("setting the limit {resource:?}"), e))
}

/// A resource limit of this process.
///
/// # Errors
/// When the kernel refuses.
pub fn limit(resource: Resource) -> Result<Limit, ProcessError> {
    getrlimit(kind(resource))
        .map(|(soft, hard)| Limit { soft, hard })
        .map_err(|e| ProcessError::new(format!("reading the limit {resource:?}"), e))
}

fn kind(resource: Resource) -> Kind {
    match resource {
        Resource::Core => Kind::RLIMIT_CORE,
        Resource::OpenFiles => Kind::RLIMIT_NOFILE,
        Resource::Processes => Kind::RLIMIT_NPROC,
        Resource::LockedMemory => Kind::RLIMIT_MEMLOCK,
    }
}

/// Takes on a user, a group and exactly these supplementary groups, for good.
///
/// A user other than root loses all effective, permitted and ambient capabilities by this.
///
/// # Errors
/// When the kernel refuses a step.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), ProcessError> {
    let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setgroups(&groups).map_err(|e| ProcessError::new("setting supplementary groups", e))?;
    nix::unistd::setresgid(group, group, group)
        .map_err(|e| ProcessError::new(format!("becoming group {gid}"), e))?;
    nix::unistd::setresuid(user, user, user).map_err(|e| ProcessError::new(format!("becoming user {uid}"), e))
}

/// Forbids this process and all it starts to gain privileges by executing a program.
///
/// # Errors
/// When the kernel refuses.
pub fn forbid_new_privileges() -> Result<(), ProcessError> {
    nix::sys::prctl::set_no_new_privs().map_err(|e| ProcessError::new("forbidding new privileges", e))
}

/// Sets the mask of permission bits that new files never get.
pub fn set_umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}
