//! What the guest itself takes of its memory, and what it leaves to the workload.

use std::path::Path;

use coffer_sys_mount::{Flags, bound_tmpfs};

use crate::boot::IMAGES;
use crate::refusal;
use crate::stop::Stop;

/// Memory in use, in KiB: all of it less what could be had without swapping.
pub(crate) fn used_kib() -> Option<u64> {
    used(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// What the guest keeps for itself while the workload runs: buffers of the channel and of connections.
const RESERVE: u64 = 48 << 20;

/// How much memory the workload may have, in bytes: what is to be had now, less the guest's reserve. The image's own
/// content is in memory already and is not counted again.
pub(crate) fn for_workload() -> Option<u64> {
    limit(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Bounds what the workload may write beside its volumes to half of the memory that it may have, so that a full disk is
/// what it meets, and not the end of all memory.
pub(crate) fn bound_writes() -> Result<(), Stop> {
    let Some(most) = for_workload() else { return Ok(()) };
    bound_tmpfs(Path::new(IMAGES), Flags::NO_DEVICES, most / 2)
        .map_err(|why| refusal("container.setup", why.to_string(), "Start the machine again."))
}

fn limit(meminfo: &str) -> Option<u64> {
    let available = value(meminfo, "MemAvailable:")?.checked_mul(1024)?;
    Some(available.saturating_sub(RESERVE).max(available / 2))
}

fn used(meminfo: &str) -> Option<u64> {
    value(meminfo, "MemTotal:")?.checked_sub(value(meminfo, "MemAvailable:")?)
}

fn value(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_left_what_is_available_less_the_reserve_and_at_least_half() {
        assert_eq!(limit("MemAvailable:     430000 kB\n"), Some((430_000 << 10) - RESERVE));
        assert_eq!(limit("MemAvailable:     40000 kB\n"), Some(20_000 << 10));
        assert_eq!(limit("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn used_memory_is_what_is_not_available() {
        let text = "MemTotal:         477796 kB\nMemFree:          400000 kB\nMemAvailable:     430000 kB\n";
        assert_eq!(used(text), Some(47796));
        assert_eq!(used("MemTotal: 1 kB\n"), None);
    }
}
