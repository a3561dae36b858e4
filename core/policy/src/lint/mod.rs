//! What is wrong with a policy before it decides anything: syntax, claims that do not exist, rules that can never
//! hold, and what it would allow that few owners want.
//!
//! A finding is advice: the engine decides what a policy means, and nothing here is asked when it decides. So a
//! doubt is no finding, and a policy without findings is not proven good.

mod probe;
mod reach;
mod read;
pub(crate) mod schema;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{AppraisalPolicy, MAX_POLICY, Policy, PolicyError};
use schema::{Known, Schema, nearest};

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Who gets resources: `deny` and `allow` over an attestation result.
    Resource,
    /// What evidence is worth: `trust_claims` over annotated evidence.
    Appraisal,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The policy does not do what it says.
    Error,
    /// It probably does not do what was meant.
    Warning,
    /// To know.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable and dotted: `lint.unknown-claim`.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// The line of the policy, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// One sentence for a person.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What was found, in the order of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
    /// The reference values that the policy asks for by name.
    pub asks_for: BTreeSet<String>,
}

impl Report {
    /// Whether no finding is an error.
    pub fn is_usable(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }

    fn add(
        &mut self,
        code: &str,
        severity: Severity,
        line: Option<u32>,
        message: String,
        remedy: Option<&str>,
    ) {
        let code = format!("lint.{code}");
        let finding = Finding { code, severity, line, message, remedy: remedy.map(str::to_owned) };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Looks a policy through.
pub fn check(kind: Kind, rego: &str) -> Report {
    let mut report = Report::default();
    let compiled = match kind {
        Kind::Resource => Policy::compile(rego).map(|policy| Compiled::Resource(Box::new(policy))),
        Kind::Appraisal => AppraisalPolicy::compile(rego).map(|policy| Compiled::Appraisal(Box::new(policy))),
    };
    let compiled = compiled.map_err(|error| unusable(&mut report, &error)).ok();
    if rego.len() <= MAX_POLICY
        && let Some(module) = read::module(rego)
    {
        let schema = Schema::of(kind);
        report.asks_for = module.asks_for.clone();
        unknown_claims(&mut report, &module, &schema);
        reach::never(&mut report, &module, &schema, kind);
        unknown_bounds(&mut report, &module);
        unused(&mut report, &module, kind);
        if let Some(compiled) = &compiled {
            probe::run(&mut report, &module, &schema, compiled, rego);
        }
    }
    report.findings.sort_by_key(|finding| (finding.line, finding.severity, finding.code.clone()));
    report
}

/// A policy that was read.
pub(crate) enum Compiled {
    Resource(Box<Policy>),
    Appraisal(Box<AppraisalPolicy>),
}

/// Says why a policy cannot be used, with the line that the engine blames.
fn unusable(report: &mut Report, error: &PolicyError) {
    let (code, text) = match error {
        PolicyError::Syntax { v1, .. } => ("syntax", v1.clone()),
        PolicyError::Package { .. } => ("package", error.to_string()),
        PolicyError::NoRule | PolicyError::NoClaims => ("no-rule", error.to_string()),
        PolicyError::Clock { .. } => ("clock", error.to_string()),
        PolicyError::TooLong { .. } => ("too-long", error.to_string()),
        PolicyError::Claim { .. } => ("trust-claim", error.to_string()),
        _ => ("evaluation", error.to_string()),
    };
    let line = blamed(&text);
    // The engine draws the place below its first lines; what it says stands behind `error:`.
    let said = text.rsplit("error:").next().unwrap_or(&text).trim().to_owned();
    report.add(code, Severity::Error, line, said, None);
}

/// The line in `policy.rego:3:5`.
fn blamed(text: &str) -> Option<u32> {
    let (_, place) = text.split_once(crate::FILE)?;
    place.trim_start_matches(':').split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn unknown_claims(report: &mut Report, module: &read::Module, schema: &Schema) {
    for seen in &module.seen {
        if seen.path.root != read::Root::Input {
            continue;
        }
        if let Known::Unknown { at, nearest } = schema.look_up(&seen.path.segments) {
            let text = seen.path.text();
            let name = seen.path.segments.get(at).cloned().flatten().unwrap_or_else(|| "*".to_owned());
            let message = format!("No evidence has the claim `{text}`: `{name}` is not known there.");
            let remedy = nearest.map(|nearest| format!("Did you mean `{nearest}`?"));
            report.add("unknown-claim", Severity::Warning, Some(seen.line), message, remedy.as_deref());
        }
    }
    for (name, line) in &module.undefined {
        let message = format!("There is no rule or variable `{name}`.");
        let close = nearest(name, module.rules.iter().map(|rule| rule.name.as_str()));
        let remedy = close.map(|close| format!("Did you mean `{close}`?"));
        report.add("undefined-rule", Severity::Error, Some(*line), message, remedy.as_deref());
    }
}

/// A reference value that nobody put is null, and in Rego every number is more than null.
fn unknown_bounds(report: &mut Report, module: &read::Module) {
    use read::{Comparison, Term, Test};
    for condition in module.rules.iter().flat_map(|rule| rule.bodies.iter().flatten()) {
        let name = match &condition.test {
            Test::Compare(Comparison::AtLeast | Comparison::More, _, Term::Asked(name))
            | Test::Compare(Comparison::AtMost | Comparison::Less, Term::Asked(name), _) => name,
            _ => continue,
        };
        let message = format!("This holds for every number where there is no reference value `{name}`.");
        let remedy = format!("Ask for is_number(query_reference_value({name:?})), too.");
        report.add("missing-reference", Severity::Warning, Some(condition.line), message, Some(&remedy));
    }
}

/// Rules that nobody asks for: neither the engine's caller nor another rule.
fn unused(report: &mut Report, module: &read::Module, kind: Kind) {
    let asked = |name: &str| match kind {
        Kind::Resource => matches!(name, "deny" | "allow" | crate::SOFTWARE),
        Kind::Appraisal => {
            let object = module.rules.iter().any(|rule| rule.name == "trust_claims");
            let own = coffer_core_evidence::ar4si::TrustVector::NAMES
                .iter()
                .any(|own| own.replace('-', "_") == name);
            matches!(name, "trust_claims" | "extensions") || (own && !object)
        }
    };
    for rule in &module.rules {
        if !asked(&rule.name) && !module.mentioned.contains(&rule.name) {
            let message = format!("Nothing asks for the rule `{}`, so it decides nothing.", rule.name);
            report.add("unused-rule", Severity::Note, Some(rule.line), message, None);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
