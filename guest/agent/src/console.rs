//! The console: lines that everybody may read.

use std::io::Write;

use coffer_core_channel::Refusal;
use coffer_sys_process::uptime_us;

/// Prints one line with the time since the kernel started.
pub(crate) fn line(text: &str) {
    let at = uptime_us();
    let (seconds, millis) = (at / 1_000_000, at / 1000 % 1000);
    // A console that is gone is nobody's loss.
    let _unwritten = writeln!(std::io::stderr(), "coffer-agent [{seconds:>3}.{millis:03}] {text}");
}

/// Prints a refusal's code and sentence.
pub(crate) fn refused(refusal: &Refusal) {
    line(&format!("refused: {}: {}", refusal.code, refusal.message));
}

/// A guest that has lost its mind goes off. Where it happened is printed, and not what it held.
pub(crate) fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        line(&format!("fault at {place}; powering off"));
        if std::process::id() == 1 {
            let _refused = coffer_sys_process::power_off();
        }
    }));
}
