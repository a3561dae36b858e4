//! Capabilities: exactly a given list, nothing else.

use crate::ProcessError;
use caps::{CapSet, Capability, CapsHashSet};
use std::io;

/// A name that is not a capability.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a Linux capability")]
pub struct CapabilityError(pub String);

/// A list of capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityList(CapsHashSet);

/// What the container ecosystem grants to a container that asks for nothing.
const CONTAINER_DEFAULT: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

impl CapabilityList {
    /// No capability.
    #[must_use]
    pub fn none() -> Self {
        Self(CapsHashSet::default())
    }

    /// The fourteen that a container gets unless it is told otherwise.
    #[must_use]
    pub fn container_default() -> Self {
        Self(CONTAINER_DEFAULT.into_iter().collect())
    }

    /// From names with or without the prefix `CAP_`.
    ///
    /// # Errors
    /// Names the first that is unknown.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self, CapabilityError> {
        names
            .iter()
            .map(|name| {
                let name = name.as_ref();
                let full = if name.starts_with("CAP_") { name.to_owned() } else { format!("CAP_{name}") };
                full.parse::<Capability>().map_err(|_| CapabilityError(name.to_owned()))
            })
            .collect::<Result<CapsHashSet, _>>()
            .map(Self)
    }

    /// The full names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Whether the list holds the capability of this full name.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        name.parse::<Capability>().is_ok_and(|c| self.0.contains(&c))
    }

    /// Removes everything else from the bounding set, for good. Needs `CAP_SETPCAP`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bound(&self) -> Result<(), ProcessError> {
        // The kernel may know capabilities that this program does not; they are numbered without gaps.
        for number in 0..64 {
            if self.0.iter().any(|c| u32::from(c.index()) == number) {
                continue;
            }
            // SAFETY: `prctl` with PR_CAPBSET_DROP takes integers and touches no memory.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
            if done == 0 {
                continue;
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(ProcessError::new(
                format!("dropping capability {number} from the bounding set"),
                error,
            ));
        }
        Ok(())
    }

    /// Holds exactly this list as effective and permitted, and nothing as inheritable or ambient.
    ///
    /// # Errors
    /// When a capability is not permitted to this process.
    pub fn hold(&self) -> Result<(), ProcessError> {
        let failed = |what: &str, e: caps::errors::CapsError| {
            ProcessError::new(format!("setting {what} capabilities"), io::Error::other(e.to_string()))
        };
        caps::clear(None, CapSet::Ambient).map_err(|e| failed("ambient", e))?;
        caps::set(None, CapSet::Inheritable, &CapsHashSet::default())
            .map_err(|e| failed("inheritable", e))?;
        // The effective set may never exceed the permitted one, so it shrinks first.
        caps::set(None, CapSet::Effective, &self.0).map_err(|e| failed("effective", e))?;
        caps::set(None, CapSet::Permitted, &self.0).map_err(|e| failed("permitted", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_list_has_the_fourteen() {
        let list = CapabilityList::container_default();
        assert_eq!(list.0.len(), 14);
        assert!(list.holds("CAP_CHOWN"));
        assert!(!list.holds("CAP_SYS_ADMIN"));
    }

    #[test]
    fn names_are_read_with_and_without_prefix() {
        let list = CapabilityList::from_names(&["CAP_KILL", "CHOWN"]).expect("two names");
        assert!(list.holds("CAP_KILL") && list.holds("CAP_CHOWN"));
    }

    #[test]
    fn unknown_capability_is_refused_by_name() {
        assert_eq!(
            CapabilityList::from_names(&["CAP_EVERYTHING"]),
            Err(CapabilityError("CAP_EVERYTHING".to_owned()))
        );
    }
}
