//! What agent and monitor say to each other over their socket: the specification first, framed by its length, then
//! one JSON object in a line each way.

use crate::Failure;
use serde::{Deserialize, Serialize};

/// The largest specification, in bytes.
pub(crate) const MAX_SPEC: u32 = 4 << 20;

/// Agent to monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Send the workload this signal.
    Signal(i32),
}

/// Monitor to agent.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The workload runs.
    Started,
    /// It will not run.
    Failed(Failure),
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

/// One message as a line.
pub(crate) fn line<T: Serialize>(message: &T) -> Vec<u8> {
    // These types have no map keys and no fallible serializers.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_read_back() {
        let report = Report::Failed(Failure::not_found("no `a\nb`"));
        let bytes = line(&report);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Report>(&bytes).unwrap(), report);
    }
}
