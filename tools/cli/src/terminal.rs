//! The terminal that `coffer run -t` lends to the workload: raw while it runs, as it was afterwards.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use coffer_core_channel::Winsize;
use nix::sys::termios::{self, SetArg, Termios};

/// What a workload's terminal has when there is none on this side.
const USUAL: Winsize = Winsize { rows: 24, cols: 80 };

/// The terminal in raw mode; restored when dropped, whatever ends the run.
pub(crate) struct Raw(Option<Termios>);

impl Raw {
    /// Sets standard input to raw mode if it is a terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing can be done for a terminal that went away.
            let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, before);
        }
    }
}

/// The terminal's size, or the usual one.
pub(crate) fn size() -> Winsize {
    match terminal_size::terminal_size() {
        Some((terminal_size::Width(cols), terminal_size::Height(rows))) => Winsize { rows, cols },
        None => USUAL,
    }
}
