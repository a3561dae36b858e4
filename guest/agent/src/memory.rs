//! What the guest itself takes of its memory.

/// Memory in use, in KiB: all of it less what could be had without swapping.
pub(crate) fn used_kib() -> Option<u64> {
    used(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn used(meminfo: &str) -> Option<u64> {
    let value = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    value("MemTotal:")?.checked_sub(value("MemAvailable:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_memory_is_what_is_not_available() {
        let text = "MemTotal:         477796 kB\nMemFree:          400000 kB\nMemAvailable:     430000 kB\n";
        assert_eq!(used(text), Some(47796));
        assert_eq!(used("MemTotal: 1 kB\n"), None);
    }
}
