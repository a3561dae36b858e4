//! Processes by their ids: signals, children, time spent. Read from `/proc` (proc(5)).

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, User, sysconf};

/// The user that a server runs as where the test is root, because PostgreSQL refuses root.
pub(crate) fn unprivileged() -> Option<(u32, u32)> {
    let found = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    found.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

/// Sends a signal; a process that is gone needs none.
pub(crate) fn signal(id: u32, signal: Signal) {
    if let Ok(id) = i32::try_from(id) {
        let _ = kill(Pid::from_raw(id), signal);
    }
}

/// The processes that `parent` began and that live.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| field(*id, 1).is_some_and(|found| found == u64::from(parent))).collect()
}

/// Whether no process has this id, or one that has ended and waits to be counted.
pub(crate) fn is_gone(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| matches!(rest.trim_start().chars().next(), None | Some('Z' | 'X')))
}

/// The time a process has spent computing, in it and in the kernel.
pub(crate) fn cpu(id: u32) -> Duration {
    let ticks = field(id, 11).unwrap_or(0) + field(id, 12).unwrap_or(0);
    let rate = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|rate| u64::try_from(rate).ok());
    Duration::from_millis(ticks * 1000 / rate.unwrap_or(100))
}

/// A number of `/proc/{id}/stat`, counted from the state, which follows the name in parentheses.
fn field(id: u32, index: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(index)?.parse().ok()
}
