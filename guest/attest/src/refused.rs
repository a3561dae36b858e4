//! From what the broker said to one refusal: the first cause decides the code, and none is left out.

use coffer_core_channel::Refusal;
use coffer_core_protocol::error::{Cause, ErrorBody};
use serde_json::Value;

/// More causes than a person reads.
const MAX_CAUSES: usize = 16;
/// Deeper than any honest verdict.
const MAX_DEPTH: usize = 8;

/// The refusal that an error body means.
pub(crate) fn from_body(message: &str, body: &ErrorBody, attempt: Option<String>) -> Refusal {
    let code = body.code.clone().unwrap_or_else(|| "broker.refused".into());
    let remedy = body.remedy.clone().unwrap_or_else(|| "Read the broker's log.".into());
    from_causes(&code, message, &remedy, &body.causes, body.attempt.clone().or(attempt))
}

/// The refusal that causes mean, or one with the given code where there are none.
pub(crate) fn from_causes(
    code: &str,
    message: &str,
    remedy: &str,
    causes: &[Cause],
    attempt: Option<String>,
) -> Refusal {
    let Some((first, more)) = causes.split_first() else {
        let (message, remedy) = (message.into(), Some(remedy.into()));
        return Refusal { code: code.into(), message, expected: None, found: None, remedy, attempt };
    };
    let mut text = format!("{message}: {}", first.title);
    for other in more.iter().take(MAX_CAUSES) {
        text.push_str(&format!("; also {} ({})", other.title, other.code));
    }
    Refusal {
        code: first.code.clone(),
        message: text,
        expected: first.expected.clone(),
        found: first.found.clone(),
        remedy: first.remedy.clone().or_else(|| Some(remedy.into())),
        attempt,
    }
}

/// The failed checks at the leaves of a verdict tree.
pub(crate) fn failed_checks(verdict: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    collect(verdict, MAX_DEPTH, &mut causes);
    causes
}

fn collect(value: &Value, depth: usize, causes: &mut Vec<Cause>) {
    if depth == 0 || causes.len() >= MAX_CAUSES {
        return;
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, depth - 1, causes)),
        Value::Object(members) => {
            let before = causes.len();
            for member in ["checks", "children", "root", "tree"] {
                if let Some(inner) = members.get(member) {
                    collect(inner, depth - 1, causes);
                }
            }
            let failed = members.get("outcome").and_then(Value::as_str) == Some("failed");
            if failed && causes.len() == before {
                causes.extend(serde_json::from_value::<Cause>(value.clone()));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cause(code: &str) -> Cause {
        Cause {
            code: code.into(),
            title: format!("{code} differs"),
            expected: Some("a".into()),
            found: Some("b".into()),
            remedy: None,
        }
    }

    #[test]
    fn the_first_cause_gives_the_code_and_no_cause_is_left_out() {
        let causes = [cause("measurement.command-line"), cause("measurement.initrd")];
        let refusal = from_causes("policy.denied", "refused", "look", &causes, Some("ab".into()));
        assert_eq!(refusal.code, "measurement.command-line");
        assert!(refusal.message.contains("measurement.initrd"), "{}", refusal.message);
        assert_eq!(refusal.remedy.as_deref(), Some("look"));
        assert_eq!(refusal.attempt.as_deref(), Some("ab"));
        assert_eq!(from_causes("policy.denied", "refused", "look", &[], None).code, "policy.denied");
    }

    #[test]
    fn failed_leaves_of_a_verdict_become_causes() {
        let verdict = json!({"checks": [
            {"code": "tpm", "title": "TPM", "outcome": "passed"},
            {"code": "measurement", "title": "Measurements", "outcome": "failed", "children": [
                {"code": "measurement.kernel", "title": "The kernel", "outcome": "passed"},
                {"code": "measurement.command-line", "title": "The command line", "outcome": "failed",
                 "expected": "quiet", "found": "debug"}]}]});
        let causes = failed_checks(&verdict);
        assert_eq!(causes.len(), 1);
        assert_eq!(causes.first().map(|cause| cause.code.as_str()), Some("measurement.command-line"));
    }

    #[test]
    fn an_upstream_body_without_code_still_has_one() {
        let body: ErrorBody =
            serde_json::from_value(json!({"type": "x/PolicyDeny", "detail": "no"})).expect("body");
        assert_eq!(from_body("m", &body, None).code, "broker.refused");
    }
}
