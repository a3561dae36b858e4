//! What this machine can and cannot do, each with its remedy.

use std::path::Path;

/// Memory that can be had without swapping, in MiB.
pub fn available_memory_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Free space of the file system that holds `path`, in MiB.
pub fn available_disk_mib(path: &Path) -> Option<u64> {
    let data = nix::sys::statvfs::statvfs(path).ok()?;
    data.blocks_available().checked_mul(data.fragment_size()).map(|bytes| bytes >> 20)
}
