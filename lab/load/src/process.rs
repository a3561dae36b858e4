//! What processes cost: CPU time and memory from `/proc` (proc(5)), and the unit that CPU is compared in.

use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// A process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now, in KiB.
    pub resident_kib: u64,
    /// Resident at most so far, in KiB.
    pub peak_kib: u64,
}

/// CPU time that a process has used, in user and kernel mode together.
pub fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name in brackets may hold anything; the members after it are numbers, the state is the first.
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("{path} has no name"))?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64> {
        Ok(fields.get(index).with_context(|| format!("{path} is too short"))?.parse()?)
    };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    let ticks = ticks(11)?.saturating_add(ticks(12)?);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// A process's memory.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
    };
    let resident_kib = kib("VmRSS").with_context(|| format!("{path} names no memory"))?;
    Ok(Memory { resident_kib, peak_kib: kib("VmHWM").unwrap_or(resident_kib) })
}

/// The CPU time of one ECDSA P-256 signature on this machine now: the unit in which figures of machines are compared.
pub fn signature_time() -> Result<Duration> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().context("no key")?;
    let thread = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let (mut count, begun) = (0_u32, thread()?);
    loop {
        for _ in 0..64 {
            key.sign(&random, b"a message of some length").ok().context("no signature")?;
        }
        count += 64;
        let spent = thread()?.saturating_sub(begun);
        if spent >= Duration::from_millis(100) {
            return Ok(spent / count);
        }
    }
}

/// Raises the limit of open files to what the system lets this process have, and gives it.
pub fn raise_descriptors() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_memory_and_uses_time() {
        let own = std::process::id();
        assert!(memory(own).unwrap().resident_kib > 500);
        let before = cpu(own).unwrap();
        let unit = signature_time().unwrap();
        assert!(unit > Duration::ZERO && unit < Duration::from_millis(5), "{unit:?}");
        assert!(cpu(own).unwrap() - before >= Duration::from_millis(50));
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_and_not_a_zero() {
        assert!(cpu(u32::MAX).is_err());
        assert!(memory(u32::MAX).is_err());
    }
}
