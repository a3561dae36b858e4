//! The clock, which policies do not have: what a policy says of an input it says at any time, so that a verdict can
//! be replayed.
//!
//! Holds true: a policy that calls the clock is refused when it is read; where the call is hidden from that, the call
//! fails, which allows nothing. Left out: a policy that names the time zone `Local`, which is the machine's.

use regorus::{Engine, Value as Rego};

use crate::text::{Part, without_comments};
use crate::{PolicyError, evaluation};

/// The builtin that would read the clock.
const NOW: &str = "time.now_ns";

/// Refuses a policy that calls the clock.
pub(crate) fn refuse(rego: &str) -> Result<(), PolicyError> {
    let code = without_comments(rego, Part::Unquoted);
    let calls =
        |line: &&str| line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).any(is_now);
    match code.lines().zip(1..).find(|(line, _)| calls(line)) {
        Some((_, line)) => Err(PolicyError::Clock { line }),
        None => Ok(()),
    }
}

fn is_now(word: &str) -> bool {
    word == NOW
}

/// Puts a function that fails before the builtin.
pub(crate) fn take_away(engine: &mut Engine) -> Result<(), PolicyError> {
    let none = |_: Vec<Rego>| {
        let error =
            "policies have no clock (time.now_ns): the same evidence must get the same answer at any time";
        Ok(Err(std::io::Error::other(error))?)
    };
    engine.add_extension(NOW.to_owned(), 0, Box::new(none)).map_err(evaluation)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use crate::{AppraisalPolicy, NamedValues, Policy, PolicyError};

    #[test]
    fn a_policy_that_reads_the_clock_is_refused_with_its_line() {
        let refused = "package policy\n# time.now_ns\nhardware := 2 if time.now_ns() > 0\n";
        assert!(matches!(AppraisalPolicy::compile(refused), Err(PolicyError::Clock { line: 3 })));
        let unreached = "package policy\nimport rego.v1\ndeny contains \"late\" if {\n input.never\n time.now_ns( ) > 0\n}";
        assert!(matches!(Policy::compile(unreached), Err(PolicyError::Clock { line: 5 })));
        let mocked = "package policy\nf() := 1\nallow if f() > 2 with f as time.now_ns";
        assert!(matches!(Policy::compile(mocked), Err(PolicyError::Clock { line: 3 })));
    }

    #[test]
    fn a_hidden_call_of_the_clock_fails_and_allows_nothing() {
        let hidden = "package policy\nallow if {\n input.yes\n time[\"now_ns\"]() > 0\n}";
        match Policy::compile(hidden) {
            Ok(policy) => assert!(policy.decide(&json!({"yes": true}), &json!({})).is_err()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let hidden = "package policy\nhardware := 2 if {\n input.yes\n time[\"now_ns\"]() > 0\n}";
        match AppraisalPolicy::compile(hidden) {
            Ok(policy) => {
                assert!(policy.appraise(&json!({"yes": true}), &NamedValues::default()).is_err());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn times_of_the_evidence_can_still_be_compared() {
        let rego = "package policy\n# never time.now_ns\nallow if {\n  print(\"time.now_ns\")\n  \
                    time.parse_rfc3339_ns(input.date) >= time.parse_rfc3339_ns(\"2026-01-01T00:00:00Z\")\n}";
        let policy = Policy::compile(rego).unwrap();
        let allowed = |date: &str| policy.decide(&json!({"date": date}), &json!({})).unwrap().is_allowed();
        assert!(allowed("2026-02-01T00:00:00Z"));
        assert!(!allowed("2025-02-01T00:00:00Z"));
    }
}
