//! The verdict tree: the rules that decide are the rules that explain.
//!
//! A check holds its stable code, what was expected, what was found, where that is specified, and the remedy.
//! Left out: drawing it, which is for the programs that show it.

use coffer_core_evidence::Tee;
use coffer_core_evidence::ar4si::{Status, TrustVector};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As expected.
    Passed,
    /// Not the best, and accepted by a policy that says so.
    Warning,
    /// Not as expected.
    Failed,
    /// Could not be checked, because something outside the evidence is missing.
    Unavailable,
    /// Seen and shown, but nothing was expected of it.
    Informational,
}

/// One check, or a group of checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable, dotted, documented: `measurement.command-line`.
    pub code: String,
    /// One sentence for a person.
    pub title: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Document and section, or the origin of a reference value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The checks that this one is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Check>,
}

impl Check {
    fn new(code: impl Into<String>, title: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            code: code.into(),
            title: title.into(),
            outcome,
            expected: None,
            found: None,
            source: None,
            remedy: None,
            children: Vec::new(),
        }
    }

    /// A check that passed.
    pub fn passed(code: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(code, title, Outcome::Passed)
    }

    /// A check that failed.
    pub fn failed(code: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(code, title, Outcome::Failed)
    }

    /// A check that could not be made.
    pub fn unavailable(code: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(code, title, Outcome::Unavailable)
    }

    /// A check that found what is accepted, and should be mended.
    pub fn warning(code: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(code, title, Outcome::Warning)
    }

    /// Something seen of which nothing was expected.
    pub fn informational(code: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(code, title, Outcome::Informational)
    }

    /// Compares two texts; passed if they are equal.
    pub fn equal(code: impl Into<String>, title: impl Into<String>, expected: &str, found: &str) -> Self {
        let outcome = if expected == found { Outcome::Passed } else { Outcome::Failed };
        Self::new(code, title, outcome).expected(expected).found(found)
    }

    /// A group that failed if any of its children did.
    pub fn group(code: impl Into<String>, title: impl Into<String>, children: Vec<Check>) -> Self {
        let worst = |outcome| children.iter().any(|child| child.outcome == outcome);
        let outcome = match () {
            () if worst(Outcome::Failed) => Outcome::Failed,
            () if worst(Outcome::Unavailable) => Outcome::Unavailable,
            () if worst(Outcome::Warning) => Outcome::Warning,
            () if worst(Outcome::Passed) => Outcome::Passed,
            () => Outcome::Informational,
        };
        Self { children, ..Self::new(code, title, outcome) }
    }

    /// Says what was expected.
    #[must_use]
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    /// Says what was found.
    #[must_use]
    pub fn found(mut self, text: impl Into<String>) -> Self {
        self.found = Some(text.into());
        self
    }

    /// Says where this is specified.
    #[must_use]
    pub fn source(mut self, text: impl Into<String>) -> Self {
        self.source = Some(text.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(text.into());
        self
    }

    /// Whether this check or one under it failed.
    pub fn has_failed(&self) -> bool {
        self.outcome == Outcome::Failed || self.children.iter().any(Self::has_failed)
    }

    /// Whether a passed check with a code ending in this segment is here. One of what only came beside the evidence
    /// (as `snp.crl.signature`) proves nothing of the evidence.
    pub(crate) fn proves(&self, segment: &str) -> bool {
        const BESIDE: [&str; 5] = ["init-data", "collateral", "crl", "ocsp", "rim"];
        let mut segments = self.code.rsplit('.');
        let named = segments.next() == Some(segment)
            && !segments.any(|subject| BESIDE.contains(&subject))
            && self.outcome == Outcome::Passed;
        named || self.children.iter().any(|child| child.proves(segment))
    }

    /// The failed checks that have no failed check under them: the causes.
    pub fn causes(&self) -> Vec<&Check> {
        self.deepest(Outcome::Failed)
    }

    /// The checks with this outcome that have none with it under them.
    pub fn deepest(&self, outcome: Outcome) -> Vec<&Check> {
        let deeper: Vec<&Check> = self.children.iter().flat_map(|child| child.deepest(outcome)).collect();
        match deeper.is_empty() && self.outcome == outcome {
            true => vec![self],
            false => deeper,
        }
    }
}

/// What the appraisal says of one attester: the answer, with its reasons.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The TEE.
    pub tee: Tee,
    /// Whether hardware protects the guest from its host.
    pub hardware: bool,
    /// The answer.
    pub status: Status,
    /// The answer in detail (AR4SI, section 2.3).
    #[serde(default)]
    pub trust: TrustVector,
    /// The reasons.
    pub checks: Vec<Check>,
    /// The claims, for policies and tokens.
    pub claims: Map<String, Value>,
    /// What an appraisal policy says that the workload is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifiers: Option<Value>,
}

impl Verdict {
    /// Why the answer is not better: the failed checks that no deeper check explains; where none failed, those that
    /// could not be made, and those that warn.
    pub fn causes(&self) -> Vec<&Check> {
        let deepest = |outcome| self.checks.iter().flat_map(move |check| check.deepest(outcome));
        let failed: Vec<&Check> = deepest(Outcome::Failed).collect();
        match (failed.is_empty(), self.status) {
            (false, _) | (true, Status::Affirming) => failed,
            (true, _) => deepest(Outcome::Unavailable).chain(deepest(Outcome::Warning)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Check, Verified};

    fn obligatory() -> Vec<Check> {
        crate::OBLIGATORY.iter().map(|name| Check::passed(format!("tpm.{name}"), "ok")).collect()
    }

    #[test]
    fn proof_exists_only_with_every_obligatory_check() {
        assert!(Verified::from_checks((), obligatory()).is_ok());
        for missing in 0..obligatory().len() {
            let mut checks = obligatory();
            let name = checks.remove(missing).code;
            let reasons = Verified::from_checks((), checks).expect_err(&name);
            assert!(reasons.iter().any(|check| check.has_failed()), "{name}");
        }
    }

    #[test]
    fn what_came_beside_the_evidence_proves_nothing_of_it() {
        for (missing, beside) in [
            (0, "tdx.collateral.signature"),
            (0, "snp.crl.signature"),
            (0, "nvidia.rim.signature"),
            (1, "tdx.collateral.chain"),
            (3, "snp.init-data.binding"),
        ] {
            let mut checks = obligatory();
            checks[missing] = Check::passed(beside, "ok");
            let reasons = Verified::from_checks((), checks).expect_err(beside);
            let last = crate::OBLIGATORY[missing];
            assert!(reasons.iter().any(|check| check.code == format!("verify.{last}")), "{beside}");
        }
    }

    #[test]
    fn one_failed_check_deep_in_the_tree_is_enough_to_refuse() {
        let mut checks = obligatory();
        checks.push(Check::group("a", "a", vec![Check::group("b", "b", vec![Check::failed("c", "c")])]));
        let reasons = Verified::from_checks((), checks).expect_err("must be refused");
        let causes: Vec<_> =
            reasons.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
        assert_eq!(causes, ["c"]);
    }
}
