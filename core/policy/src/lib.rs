//! Owners' policies in Rego: who gets resources ([`Policy`]), and what evidence is worth ([`AppraisalPolicy`]).
//!
//! A policy is `package policy`. One for resources has `deny` (ours: the rules that decide are the rules that
//! explain), or `allow` (upstream's), or both; allowed means that the set of denials is empty. Every doubt is an
//! error, so that nothing is allowed by accident. Software evidence is accepted only by one that names it, with the
//! rule `insecure_software_evidence := true` (I-6): see [`Decision::of_software`].
//! Left out: where policies are kept and what their input is, which is for who asks.

mod appraisal;
mod bounds;
mod clock;
mod decision;
mod left_out;
pub mod lint;
mod text;
mod values;

use std::io;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value as Rego};
use serde_json::Value;

pub use appraisal::{AppraisalPolicy, MAX_EVIDENCE, WithValues};
pub use decision::{Decision, Denial};
pub use values::NamedValues;

/// The longest policy text.
pub const MAX_POLICY: usize = 256 << 10;
/// The longest input, and the longest data, as JSON text.
pub const MAX_INPUT: usize = 1 << 20;

const FILE: &str = "policy.rego";
const PACKAGE: &str = "data.policy";
/// The rule by which a resource policy names software evidence.
pub(crate) const SOFTWARE: &str = "insecure_software_evidence";
/// Ordinary policies take well under a millisecond. What one takes of memory until it is ended grows with this, too.
const TIME_LIMIT: Duration = Duration::from_millis(300);
const TIME_CHECK_INTERVAL: NonZeroU32 = match NonZeroU32::new(512) {
    Some(interval) => interval,
    None => NonZeroU32::MIN,
};

/// Why there is no policy, or no decision.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Too long to be a policy.
    #[error("the policy has {found} bytes; at most {MAX_POLICY} are read")]
    TooLong {
        /// The length found.
        found: usize,
    },
    /// Neither Rego v1 nor v0.
    #[error("the policy is not Rego: {v1} (as older Rego v0: {v0})")]
    Syntax {
        /// What the v1 parser says.
        v1: String,
        /// What the v0 parser says.
        v0: String,
    },
    /// Another package.
    #[error("the policy must be `package policy`, found {found}")]
    Package {
        /// The package found.
        found: String,
    },
    /// It reads the clock.
    #[error(
        "the policy reads the clock (`time.now_ns`, {FILE}:{line}), but the same evidence must get the same answer at any time; the time of the attestation is `input.iat` for resource policies, in seconds since 1970"
    )]
    Clock {
        /// The line that does.
        line: u32,
    },
    /// It decides nothing.
    #[error("the policy has neither a `deny` nor an `allow` rule, so it decides nothing; write one of them")]
    NoRule,
    /// It states no claim.
    #[error(
        "the policy has neither a `trust_claims` rule nor one for a claim such as `executables`, so it states nothing"
    )]
    NoClaims,
    /// A claim that means nothing.
    #[error("the claim {name:?} with the value {found} is not one of AR4SI's, from -128 to 127")]
    Claim {
        /// Which claim.
        name: String,
        /// The value found.
        found: String,
    },
    /// Evidence over the limit.
    #[error("the evidence to appraise has about {found} bytes; at most {MAX_EVIDENCE} are read")]
    EvidenceTooLong {
        /// The length found.
        found: usize,
    },
    /// Input or data over the limit.
    #[error("the policy's {what} is longer than {MAX_INPUT} bytes")]
    InputTooLong {
        /// `input` or `data`.
        what: &'static str,
    },
    /// It could not be evaluated, which allows nothing.
    #[error("the policy could not be evaluated, so nothing is allowed: {0}")]
    Evaluation(String),
    /// A rule has a value that means nothing.
    #[error("the rule `{rule}` must be {expected}, found {found}")]
    Type {
        /// Which rule.
        rule: &'static str,
        /// What it must be.
        expected: &'static str,
        /// The type found.
        found: &'static str,
    },
}

/// How many engines are kept that are prepared for some data.
const MAX_PREPARED: usize = 32;

/// A policy that was read and is ready to decide.
pub struct Policy {
    /// It has read the policy, and has seen no data and no input.
    blank: Mutex<Engine>,
    /// Engines by the data that they are prepared for, the last used last. One is taken out for each decision, and
    /// forgets the decision before at the next.
    prepared: Mutex<Vec<(Value, Engine)>>,
    has_deny: bool,
    has_allow: bool,
    has_software: bool,
    mentions: left_out::Mentions,
}

impl Policy {
    /// Reads a policy, as Rego v1 or else as v0.
    pub fn compile(rego: &str) -> Result<Self, PolicyError> {
        if rego.len() > MAX_POLICY {
            return Err(PolicyError::TooLong { found: rego.len() });
        }
        let engine = engine(rego, |_| Ok(()))?;
        let declares = |rule| engine.has_declared_rule_rooted_at(FILE, rule).map_err(evaluation);
        let (has_deny, has_allow) = (declares("deny")?, declares("allow")?);
        if !has_deny && !has_allow {
            return Err(PolicyError::NoRule);
        }
        let has_software = declares(SOFTWARE)?;
        let (blank, prepared) = (Mutex::new(engine), Mutex::default());
        let mentions = left_out::Mentions::of(rego);
        let policy = Self { blank, prepared, has_deny, has_allow, has_software, mentions };
        policy.rehearse()?;
        Ok(policy)
    }

    /// Decides on `input`, with `data` beside the policy.
    pub fn decide(&self, input: &Value, data: &Value) -> Result<Decision, PolicyError> {
        self.decide_text(&input.to_string(), data)
    }

    /// As [`Policy::decide`], on an input that is JSON text already.
    pub fn decide_text(&self, input: &str, data: &Value) -> Result<Decision, PolicyError> {
        if input.len() > MAX_INPUT {
            return Err(PolicyError::InputTooLong { what: "input" });
        }
        let input = Rego::from_json_str(input).map_err(evaluation)?;
        let mut engine = self.take_prepared(data)?;
        let left_out = self.mentions.denial(&input);
        engine.set_input(input);
        let mut decision = self.evaluate(&mut engine)?;
        decision.denials.extend(left_out);
        decision.denials.sort();
        // Not reached by an engine that failed: nobody knows what it remembers.
        engine.set_input(Rego::Undefined);
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if prepared.len() >= MAX_PREPARED {
            prepared.remove(0);
        }
        prepared.push((data.clone(), engine));
        Ok(decision)
    }

    fn evaluate(&self, engine: &mut Engine) -> Result<Decision, PolicyError> {
        let mut denials = Vec::new();
        if self.has_deny {
            denials = decision::denials(&engine.eval_rule(format!("{PACKAGE}.deny")).map_err(evaluation)?)?;
        }
        if self.has_allow {
            let allow = engine.eval_rule(format!("{PACKAGE}.allow")).map_err(evaluation)?;
            if !decision::allows(&allow, self.has_deny)? && denials.is_empty() {
                denials.push(Denial::not_allowed());
            }
        }
        let names_software = self.has_software
            && decision::names_software(
                &engine.eval_rule(format!("{PACKAGE}.{SOFTWARE}")).map_err(evaluation)?,
            );
        Ok(Decision { denials, names_software })
    }

    /// Errors that need no input (a rule that calls a function that does not exist) are told at once.
    /// A decision is not wanted here, and a builtin may rightly fail on an input that is empty.
    fn rehearse(&self) -> Result<(), PolicyError> {
        let mut engine = self.clone_blank();
        engine.set_strict_builtin_errors(false);
        engine.set_input(Rego::new_object());
        let rule = if self.has_deny { "deny" } else { "allow" };
        bounds::lenient(|| {
            engine.eval_rule(format!("{PACKAGE}.{rule}")).map_err(evaluation)?;
            if self.has_software {
                engine.eval_rule(format!("{PACKAGE}.{SOFTWARE}")).map_err(evaluation)?;
            }
            Ok(())
        })
    }

    /// An engine with this data and nothing else.
    fn take_prepared(&self, data: &Value) -> Result<Engine, PolicyError> {
        {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = prepared.iter().rposition(|(known, _)| known == data) {
                return Ok(prepared.remove(found).1);
            }
        }
        check_length("data", data)?;
        let mut engine = self.clone_blank();
        engine.add_data(Rego::from(data.clone())).map_err(evaluation)?;
        Ok(engine)
    }

    fn clone_blank(&self) -> Engine {
        self.blank.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An engine that has read a policy of the right package, as Rego v1 or else as v0.
fn engine(
    rego: &str,
    add_functions: impl FnOnce(&mut Engine) -> Result<(), PolicyError>,
) -> Result<Engine, PolicyError> {
    bounds::refuse(rego)?;
    let mut engine = match parse(rego, false) {
        Ok(engine) => engine,
        Err(v1) => parse(rego, true).map_err(|v0| PolicyError::Syntax { v1, v0 })?,
    };
    let packages = engine.get_packages().map_err(evaluation)?;
    if packages != [PACKAGE] {
        let found = packages.first().map_or("none", |name| name.trim_start_matches("data.")).to_string();
        return Err(PolicyError::Package { found });
    }
    clock::refuse(rego)?;
    clock::take_away(&mut engine)?;
    bounds::put(&mut engine)?;
    add_functions(&mut engine)?;
    Ok(engine)
}

fn parse(rego: &str, v0: bool) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(v0);
    // A deny rule whose builtin fails must not be silently absent.
    engine.set_strict_builtin_errors(true);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: TIME_LIMIT,
        check_interval: TIME_CHECK_INTERVAL,
    });
    engine.add_policy(FILE.to_string(), rego.to_string()).map_err(|error| error.to_string())?;
    Ok(engine)
}

fn evaluation(error: impl std::fmt::Display) -> PolicyError {
    PolicyError::Evaluation(error.to_string())
}

fn check_length(what: &'static str, value: &Value) -> Result<(), PolicyError> {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            if self.0 > MAX_INPUT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Counter(0), value).map_err(|_| PolicyError::InputTooLong { what })
}

#[cfg(test)]
mod tests;
