//! What a changed policy would newly accept or refuse of recorded attempts.
//!
//! Holds true: both sides see the same attempts at the same times, so every change is the policy's.
//! Left out: where attempts are recorded, and verifying them again, which is for who asks.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod result;

#[cfg(test)]
mod tests;

use coffer_core_evidence::ar4si::Status;
use coffer_core_policy::Policy;
use coffer_verify_api::{Check, Claims, Timestamp, Verdict, Verified};
use coffer_verify_appraisal::{Sent, Standards, annotated_evidence, appraise};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use result::result;

/// One recorded attempt whose evidence is genuine.
pub struct Attempt<'a> {
    /// Its name.
    pub id: String,
    /// What the evidence says.
    pub verified: &'a Verified<Claims>,
    /// What came beside it.
    pub sent: Sent<'a>,
    /// The time it is judged at, which is when it was made.
    pub at: Timestamp,
}

/// What attempts are judged by.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// What guests and platforms must be.
    pub standards: Standards<'a>,
    /// Who gets resources. Where there is none, an affirmed attempt is an accepted one.
    pub resources: Option<Resources<'a>>,
}

/// A resource policy and what is asked of it.
#[derive(Clone, Copy)]
pub struct Resources<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Paths, as in `default/key/1`.
    pub paths: &'a [String],
}

/// What was decided of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Whether it is accepted.
    pub accepted: bool,
    /// What the appraisal says.
    pub status: Status,
    /// The paths that are open to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The check's or the denial's code.
    pub code: String,
    /// One sentence for a person.
    pub title: String,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// An attempt of which the two sides say different things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The attempt.
    pub attempt: String,
    /// What the old rules decide.
    pub before: Decided,
    /// What the new rules decide.
    pub after: Decided,
}

/// What the new rules change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replay {
    /// Refused before.
    pub newly_accepted: Vec<Change>,
    /// Accepted before.
    pub newly_refused: Vec<Change>,
    /// The same answer, with other paths, another status or for other reasons.
    pub otherwise_changed: Vec<Change>,
    /// How many attempts both sides accept or refuse alike, and for the same reasons.
    pub unchanged: usize,
}

/// Judges every attempt by both sets of rules.
pub fn replay<'a>(
    old: &Rules<'_>,
    new: &Rules<'_>,
    attempts: impl IntoIterator<Item = &'a Attempt<'a>>,
) -> Replay {
    let mut replay = Replay::default();
    for attempt in attempts {
        let (before, after) = (decide(old, attempt), decide(new, attempt));
        if before == after {
            replay.unchanged = replay.unchanged.saturating_add(1);
            continue;
        }
        let list = match (before.accepted, after.accepted) {
            (false, true) => &mut replay.newly_accepted,
            (true, false) => &mut replay.newly_refused,
            _ => &mut replay.otherwise_changed,
        };
        list.push(Change { attempt: attempt.id.clone(), before, after });
    }
    replay
}

/// Judges one attempt.
pub fn decide(rules: &Rules<'_>, attempt: &Attempt<'_>) -> Decided {
    let verdict = appraise(attempt.verified, &rules.standards, &attempt.sent, attempt.at);
    let evidence = Value::Object(annotated_evidence(attempt.verified.get(), &attempt.sent));
    match &rules.resources {
        None => Decided {
            accepted: verdict.status == Status::Affirming,
            status: verdict.status,
            opens: Vec::new(),
            causes: verdict.causes().into_iter().map(Cause::from).collect(),
        },
        Some(resources) => by_resources(resources, &verdict, &result(&attempt.id, &verdict, evidence)),
    }
}

fn by_resources(resources: &Resources<'_>, verdict: &Verdict, token: &Value) -> Decided {
    let mut opens = Vec::new();
    let mut causes: Vec<Cause> = Vec::new();
    for path in resources.paths {
        let data = json!({ "plugin": "resource", "resource-path": path, "method": "GET" });
        let decision = resources.policy.decide(token, &data);
        // As the broker: what no hardware protects opens only what a policy that names it opens (I-6).
        match decision.map(|own| if verdict.hardware { own } else { own.of_software() }) {
            Ok(decision) if decision.is_allowed() => opens.push(path.clone()),
            Ok(decision) => causes.extend(decision.denials.into_iter().map(|denial| Cause {
                code: denial.code,
                title: denial.message,
                expected: denial.expected,
                found: denial.found,
            })),
            Err(error) => causes.push(Cause {
                code: "policy.no-answer".to_owned(),
                title: "The policy gave no answer, so nothing is allowed".to_owned(),
                expected: None,
                found: Some(error.to_string()),
            }),
        }
    }
    let mut once = Vec::new();
    for cause in causes {
        if !once.contains(&cause) {
            once.push(cause);
        }
    }
    Decided { accepted: !opens.is_empty(), status: verdict.status, opens, causes: once }
}

impl From<&Check> for Cause {
    fn from(check: &Check) -> Self {
        let Check { code, title, expected, found, .. } = check.clone();
        Self { code, title, expected, found }
    }
}
