//! The system call filter of containers.
//!
//! An allow-list (`list.rs`): what it does not name fails with `EPERM`, and `clone3` with `ENOSYS`, so that C
//! libraries fall back to `clone`, whose flags a filter can read; calls newer than the list fail the same way. Calls of another architecture kill the process.
//! What holds: a filter stays for the life of the process and of all its children.

mod list;

use crate::{CapabilityList, ProcessError};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// The `CLONE_NEW*` flags: mount, cgroup, uts, ipc, user, pid, network.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// Sockets to the host (`AF_VSOCK`): the channel is the agent's alone.
const AF_VSOCK: u64 = 40;
/// Sockets into the kernel's cipher code (`AF_ALG`): a wide surface that no ordinary program needs.
const AF_ALG: u64 = 38;
/// Calls newer than the list: to answer EPERM where the kernel may not even have them would keep C libraries from
/// falling back to the older ones.
const NEWER: std::ops::RangeInclusive<i64> = 457..=511;
/// `personality(2)` values that change nothing dangerous: default, `PER_LINUX32`, `UNAME26`, both, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter {
    programs: Vec<BpfProgram>,
}

impl Filter {
    /// The default filter of a container that holds these capabilities.
    ///
    /// # Errors
    /// When this architecture is not supported.
    pub fn for_container(capabilities: &CapabilityList) -> Result<Self, ProcessError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
        let allowed = SeccompFilter::new(
            rules(capabilities).map_err(failed)?,
            SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            SeccompAction::Allow,
            arch,
        );
        let without = SeccompFilter::new(
            absent().map(|number| (number, Vec::new())).collect(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
            arch,
        );
        let compile =
            |filter: Result<SeccompFilter, _>| filter.and_then(BpfProgram::try_from).map_err(failed);
        Ok(Self { programs: vec![compile(without)?, compile(allowed)?] })
    }

    /// Puts the filter on the calling thread, for good. Also forbids new privileges.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(&self) -> Result<(), ProcessError> {
        self.programs.iter().try_for_each(|program| {
            seccompiler::apply_filter(program).map_err(|e| {
                ProcessError::new("loading the system call filter", io::Error::other(e.to_string()))
            })
        })
    }
}

/// The calls that are answered as if the kernel did not have them.
fn absent() -> impl Iterator<Item = i64> {
    let known = |number: &i64| list::ALLOWED.iter().any(|(_, allowed)| allowed == number);
    NEWER.filter(move |number| !known(number)).chain([libc::SYS_clone3])
}

fn failed(error: seccompiler::BackendError) -> ProcessError {
    ProcessError::new("compiling the system call filter", io::Error::other(error.to_string()))
}

fn rules(
    capabilities: &CapabilityList,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let argument = |index, length, op, value| SeccompCondition::new(index, length, op, value);
    let (dword, qword) = (SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword);

    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        list::ALLOWED.iter().map(|(_, number)| (*number, Vec::new())).collect();
    for (capability, calls) in list::WITH_CAPABILITY {
        if capabilities.holds(capability) {
            rules.extend(calls.iter().map(|(_, number)| (*number, Vec::new())));
        }
    }
    // Answered with ENOSYS by the other filter; of two verdicts the stricter counts.
    rules.extend(absent().map(|number| (number, Vec::new())));
    if capabilities.holds("CAP_SYS_ADMIN") {
        rules.insert(libc::SYS_clone, Vec::new());
    } else {
        let plain = argument(0, qword, MaskedEq(NAMESPACE_FLAGS), 0)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![plain])?]);
    }
    let personalities = PERSONALITIES
        .iter()
        .map(|value| SeccompRule::new(vec![argument(0, dword.clone(), Eq, *value)?]))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_personality, personalities);
    let families = vec![argument(0, dword.clone(), Ne, AF_VSOCK)?, argument(0, dword, Ne, AF_ALG)?];
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(families)?]);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_sorted_without_doubles() {
        assert!(list::ALLOWED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let numbers: std::collections::BTreeSet<i64> = list::ALLOWED.iter().map(|(_, n)| *n).collect();
        assert_eq!(numbers.len(), list::ALLOWED.len());
    }

    #[test]
    fn dangerous_calls_are_not_on_the_default_list() {
        let rules = rules(&CapabilityList::container_default()).expect("rules");
        for number in [
            libc::SYS_mount,
            libc::SYS_ptrace,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_reboot,
            libc::SYS_init_module,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
        ] {
            assert!(!rules.contains_key(&number), "system call {number} is allowed");
        }
        assert!(rules.contains_key(&libc::SYS_chroot), "the default capabilities include CAP_SYS_CHROOT");
    }

    #[test]
    fn capability_adds_its_calls_and_no_others() {
        let list = CapabilityList::from_names(&["SYS_PTRACE"]).expect("list");
        let rules = rules(&list).expect("rules");
        assert!(rules.contains_key(&libc::SYS_ptrace));
        assert!(!rules.contains_key(&libc::SYS_mount));
        assert!(!rules.contains_key(&libc::SYS_chroot));
    }

    /// Runs one system call under the filter in a thread of its own and gives its error number.
    fn under_filter(call: fn() -> i64) -> i32 {
        std::thread::spawn(move || {
            let filter = Filter::for_container(&CapabilityList::container_default()).expect("filter");
            filter.load().expect("loaded");
            if call() == -1 { io::Error::last_os_error().raw_os_error().expect("an error number") } else { 0 }
        })
        .join()
        .expect("thread")
    }

    #[test]
    fn filter_answers_as_written() {
        // SAFETY (all closures below): each call gets null pointers or plain integers, and the kernel rejects them
        // or does nothing before touching memory.
        assert_eq!(under_filter(|| unsafe { libc::syscall(libc::SYS_getppid) }), 0);
        assert_eq!(under_filter(|| unsafe { libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0) }), libc::EPERM);
        assert_eq!(under_filter(|| unsafe { libc::syscall(libc::SYS_clone3, 0, 0) }), libc::ENOSYS);
        assert_eq!(under_filter(|| unsafe { libc::syscall(511) }), libc::ENOSYS);
        assert_eq!(
            under_filter(|| unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0) }),
            libc::EPERM
        );
        assert_eq!(under_filter(|| unsafe { libc::syscall(libc::SYS_socket, 40, 1, 0) }), libc::EPERM);
        assert_eq!(under_filter(|| unsafe { libc::syscall(libc::SYS_socket, 38, 5, 0) }), libc::EPERM);
        assert_eq!(under_filter(|| unsafe { libc::syscall(libc::SYS_socket, 1, 1, 0) }), 0);
        assert_eq!(
            under_filter(|| unsafe { libc::syscall(libc::SYS_personality, 0x0400_0000) }),
            libc::EPERM
        );
        assert_eq!(under_filter(|| unsafe { libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0) }), libc::EPERM);
    }
}
