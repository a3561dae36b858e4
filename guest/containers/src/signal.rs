//! Signals by name, as images name the one that stops them.

/// The first realtime signal that the C library leaves to programs.
const REALTIME_FIRST: i32 = 34;
const LAST: i32 = 64;

/// The number of a signal given as `SIGTERM`, `TERM`, `SIGRTMIN+3` or `15`.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let realtime = |base: i32, offset: Option<i32>| {
        offset.and_then(|offset| base.checked_add(offset)).filter(|n| (REALTIME_FIRST..=LAST).contains(n))
    };
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return realtime(REALTIME_FIRST, if rest.is_empty() { Some(0) } else { rest.parse().ok() });
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        return realtime(LAST, if rest.is_empty() { Some(0) } else { rest.parse().ok() });
    }
    format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (name, number) in
            [("SIGTERM", 15), ("TERM", 15), ("9", 9), ("SIGRTMIN+3", 37), ("SIGRTMAX-1", 63), ("RTMIN", 34)]
        {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
    }

    #[test]
    fn what_is_no_signal_has_no_number() {
        for name in ["", "0", "65", "-9", "SIGNOTHING", "SIGRTMIN+99", "SIGRTMAX+1"] {
            assert_eq!(signal_number(name), None, "{name}");
        }
    }
}
