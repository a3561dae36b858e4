//! Appraisal policies: what evidence is worth, in the words of AR4SI.
//!
//! The dialect is upstream's, so that its policies run unchanged: `package policy` with a rule `trust_claims` (an
//! object of claims), or one rule for each claim; reference values by `query_reference_value(name)`, or of older
//! policies by `data.reference`; names of the workload by the rule `extensions`.
//! Holds true: a claim of an unknown name, or out of range, is an error and never a claim.

use std::sync::{Mutex, PoisonError};

use coffer_core_evidence::ar4si::{Appraised, Appraiser, NotAppraised, TrustVector};
use regorus::{Engine, Value as Rego};
use serde::Deserialize as _;
use serde_json::Value;

use crate::values::{self, NamedValues};
use crate::{FILE, MAX_POLICY, PACKAGE, PolicyError, bounds, engine, evaluation};

/// The most evidence that is appraised, in bytes of texts and numbers.
pub const MAX_EVIDENCE: usize = 8 << 20;
/// How many engines are kept that were used.
const MAX_IDLE: usize = 32;
const CLAIMS: &str = "trust_claims";
const EXTENSIONS: &str = "extensions";
/// The name of the extension that is known here (kbs-protocol, "EAR token claims").
const IDENTIFIERS: &str = "ear.trustee.identifiers";

/// An appraisal policy that was read and is ready.
pub struct AppraisalPolicy {
    /// It has read the policy, and has seen no input.
    blank: Mutex<Engine>,
    /// Engines that were used, with the reference values that are in their data, if the policy reads them there.
    idle: Mutex<Vec<(Option<NamedValues>, Engine)>>,
    form: Form,
    has_extensions: bool,
    /// Whether it reads `data.reference`.
    reads_data: bool,
}

/// How a policy states its claims.
enum Form {
    /// One object.
    Object,
    /// A rule for each of these claims.
    Rules(Vec<&'static str>),
}

impl AppraisalPolicy {
    /// Reads a policy, as Rego v1 or else as v0.
    pub fn compile(rego: &str) -> Result<Self, PolicyError> {
        if rego.len() > MAX_POLICY {
            return Err(PolicyError::TooLong { found: rego.len() });
        }
        let engine = engine(rego, add_functions)?;
        let declares = |rule: &str| engine.has_declared_rule_rooted_at(FILE, rule).map_err(evaluation);
        let form = match declares(CLAIMS)? {
            true => Form::Object,
            false => {
                let mut rules = Vec::new();
                for name in TrustVector::NAMES {
                    if declares(&name.replace('-', "_"))? {
                        rules.push(name);
                    }
                }
                Form::Rules(rules)
            }
        };
        if matches!(&form, Form::Rules(rules) if rules.is_empty()) {
            return Err(PolicyError::NoClaims);
        }
        let has_extensions = declares(EXTENSIONS)?;
        let reads_data = rego.contains("data.reference") || rego.contains("data[\"reference\"]");
        let policy =
            Self { blank: Mutex::new(engine), idle: Mutex::default(), form, has_extensions, reads_data };
        policy.rehearse()?;
        Ok(policy)
    }

    /// The policy with reference values, ready to judge.
    pub fn with<'a>(&'a self, values: &'a NamedValues) -> WithValues<'a> {
        WithValues { policy: self, values }
    }

    /// Judges annotated evidence.
    pub fn appraise(&self, evidence: &Value, values: &NamedValues) -> Result<Appraised, PolicyError> {
        let found = size(evidence);
        if found > MAX_EVIDENCE {
            return Err(PolicyError::EvidenceTooLong { found });
        }
        // Without a text between, which would cost as much as the appraisal.
        let input = Rego::deserialize(evidence).map_err(evaluation)?;
        let (seen, mut engine) = self.take(values)?;
        engine.set_input(input);
        let appraised = values.answering(|| self.evaluate(&mut engine))?;
        // Not reached by an engine that failed: nobody knows what it remembers.
        engine.set_input(Rego::Undefined);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push((seen, engine));
        Ok(appraised)
    }

    fn evaluate(&self, engine: &mut Engine) -> Result<Appraised, PolicyError> {
        let mut trust = TrustVector::default();
        match &self.form {
            Form::Object => match rule(engine, CLAIMS)? {
                // As upstream: nothing is claimed.
                Rego::Undefined => {}
                Rego::Object(claims) => {
                    for (name, value) in claims.iter() {
                        state(&mut trust, name.as_string().map_err(evaluation)?, value)?;
                    }
                }
                other => {
                    let found = crate::decision::kind(&other);
                    return Err(PolicyError::Type { rule: CLAIMS, expected: "an object of numbers", found });
                }
            },
            Form::Rules(names) => {
                for name in names {
                    match rule(engine, &name.replace('-', "_"))? {
                        Rego::Undefined => {}
                        value => state(&mut trust, name, &value)?,
                    }
                }
            }
        }
        let identifiers = match self.has_extensions {
            true => identifiers(&rule(engine, EXTENSIONS)?)?,
            false => None,
        };
        Ok(Appraised { trust, identifiers })
    }

    /// Errors that need no input are told at once. What the claims are of no evidence does not matter.
    fn rehearse(&self) -> Result<(), PolicyError> {
        let mut engine = self.blank.lock().unwrap_or_else(PoisonError::into_inner).clone();
        engine.set_strict_builtin_errors(false);
        engine.set_input(Rego::new_object());
        bounds::lenient(|| NamedValues::default().answering(|| self.evaluate(&mut engine))).map(drop)
    }

    fn take(&self, values: &NamedValues) -> Result<(Option<NamedValues>, Engine), PolicyError> {
        let wanted = self.reads_data.then_some(values);
        let fits = |(seen, _): &(Option<NamedValues>, Engine)| match (seen, wanted) {
            (Some(seen), Some(wanted)) => seen.is_same(wanted),
            (None, None) => true,
            _ => false,
        };
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = idle.iter().rposition(fits) {
                return Ok(idle.remove(found));
            }
        }
        let mut engine = self.blank.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(values) = wanted {
            engine.add_data(values.as_data()).map_err(evaluation)?;
        }
        Ok((wanted.cloned(), engine))
    }
}

/// A policy with the reference values that it asks for.
pub struct WithValues<'a> {
    policy: &'a AppraisalPolicy,
    values: &'a NamedValues,
}

impl Appraiser for WithValues<'_> {
    fn appraise(&self, evidence: &Value) -> Result<Appraised, NotAppraised> {
        self.policy.appraise(evidence, self.values).map_err(|error| NotAppraised(error.to_string()))
    }
}

/// Adds what appraisal policies may call beside the builtins.
pub(crate) fn add_functions(engine: &mut Engine) -> Result<(), PolicyError> {
    // The engine's error type is not named here; any standard error becomes one.
    let function = |parameters: Vec<Rego>| Ok(values::answer(&parameters).map_err(std::io::Error::other)?);
    engine.add_extension("query_reference_value".to_owned(), 1, Box::new(function)).map_err(evaluation)
}

/// About the length of the JSON text.
fn size(value: &Value) -> usize {
    const OTHER: usize = 8;
    match value {
        Value::String(text) => text.len().saturating_add(OTHER),
        Value::Array(items) => items.iter().fold(OTHER, |sum, item| sum.saturating_add(size(item))),
        Value::Object(members) => members
            .iter()
            .fold(OTHER, |sum, (name, member)| sum.saturating_add(name.len()).saturating_add(size(member))),
        _ => OTHER,
    }
}

fn rule(engine: &mut Engine, name: &str) -> Result<Rego, PolicyError> {
    engine.eval_rule(format!("{PACKAGE}.{name}")).map_err(evaluation)
}

/// Takes one claim. Upstream keeps claims in a signed byte.
fn state(trust: &mut TrustVector, name: &str, value: &Rego) -> Result<(), PolicyError> {
    let wrong = || PolicyError::Claim { name: name.chars().take(64).collect(), found: value.to_string() };
    let number = value.as_i64().ok().and_then(|number| i8::try_from(number).ok()).ok_or_else(wrong)?;
    *trust.claim_mut(&name.replace('_', "-")).ok_or_else(wrong)? = i16::from(number);
    Ok(())
}

/// The value of the extension that is known, of `[{name, key, value}]`.
fn identifiers(extensions: &Rego) -> Result<Option<Value>, PolicyError> {
    let Rego::Array(extensions) = extensions else { return Ok(None) };
    let named = |extension: &&Rego| extension["name"] == Rego::from(IDENTIFIERS);
    let Some(found) = extensions.iter().find(named) else { return Ok(None) };
    let text = found["value"].to_json_str().map_err(evaluation)?;
    serde_json::from_str(&text).map(Some).map_err(evaluation)
}

#[cfg(test)]
mod tests;
