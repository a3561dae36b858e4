//! What a policy would allow: it is evaluated over evidence that is made to please it, and then made worse.
//!
//! The evidence is made from the policy's own comparisons. Where it does not please, nothing is said: there may be
//! evidence that does.

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_evidence::ar4si::Status;
use serde_json::{Map, Value, json};

use super::read::{Comparison, Module, Path, Root, Term, Test};
use super::schema::{EVIDENCE, Known, Schema, TEES, Tee, Type};
use super::{Compiled, Report, Severity};
use crate::NamedValues;

/// Resource paths that are tried, of those that the policy's texts suggest.
const MAX_PATHS: usize = 24;
/// The bits of an attestation result that are tried.
const CPU: &str = "cpu0";
/// Where a result says whether hardware protects the machine.
const HARDWARE: &str = "/submods/cpu0/ear.veraison.annotated-evidence/coffer/hardware";

pub(super) fn run(report: &mut Report, module: &Module, schema: &Schema, compiled: &Compiled, rego: &str) {
    match compiled {
        Compiled::Appraisal(policy) => {
            let affirms = |evidence: &Value, values: &NamedValues| {
                policy.appraise(evidence, values).is_ok_and(|said| said.trust.status() == Status::Affirming)
            };
            appraisal(report, module, schema, &affirms);
        }
        Compiled::Resource(policy) => {
            let paths = paths(module);
            // As the broker decides: of software evidence, more than the policy's own denials counts.
            let allows = |token: &Value| {
                let hardware = token.pointer(HARDWARE) == Some(&Value::Bool(true));
                paths.iter().any(|path| {
                    let data = json!({ "plugin": "resource", "resource-path": path, "method": "GET" });
                    let decision = policy.decide(token, &data);
                    let decision = decision.map(|own| if hardware { own } else { own.of_software() });
                    decision.is_ok_and(|decision| decision.is_allowed())
                })
            };
            resource(report, module, schema, &allows, rego);
        }
    }
}

/// Whether some evidence that the host may look into is affirmed.
fn appraisal(
    report: &mut Report,
    module: &Module,
    schema: &Schema,
    affirms: &dyn Fn(&Value, &NamedValues) -> bool,
) {
    if affirms(&json!({}), &NamedValues::default()) {
        let message = "Evidence without a single claim is affirmed.".to_owned();
        report.add(
            "allows-anyone",
            Severity::Error,
            None,
            message,
            Some("Give the claims defaults that do not affirm."),
        );
    }
    let named: BTreeSet<&str> = module
        .seen
        .iter()
        .filter(|seen| seen.path.root == Root::Input)
        .filter_map(|seen| seen.path.segments.first()?.as_deref())
        .collect();
    for tee in TEES.iter().filter(|tee| !tee.debug.is_empty() && named.contains(tee.name)) {
        for backwards in [false, true] {
            let mut made = Made::new(module, schema, backwards, tee);
            made.set_debug(&[Some(tee.name.to_owned())], tee);
            if affirms(&made.input, &made.values()) {
                let message =
                    format!("{} evidence of a guest that its host may debug is affirmed.", tee.name);
                let (path, off, _) = tee.debug.first().copied().unwrap_or_default();
                let remedy = format!(
                    "Ask for input[{:?}].{} == {off}. The platform policy refuses such guests too, unless it accepts \
                     `debug`.",
                    tee.name,
                    path.replace('/', ".")
                );
                report.add("allows-debug", Severity::Warning, None, message, Some(&remedy));
                break;
            }
        }
    }
}

/// Whether results that no owner means to accept open anything.
fn resource(
    report: &mut Report,
    module: &Module,
    schema: &Schema,
    allows: &dyn Fn(&Value) -> bool,
    rego: &str,
) {
    let mut nothing = Made::empty();
    nothing.force(&["submods", CPU, "ear.veraison.annotated-evidence", "coffer", "hardware"], true.into());
    if allows(&json!({})) || allows(&nothing.input) {
        let message = "Anybody with any token gets resources, whatever its claims are.".to_owned();
        report.add(
            "allows-anyone",
            Severity::Warning,
            None,
            message,
            Some("Ask at least for the status `affirming`."),
        );
        return;
    }
    let mut told = BTreeSet::new();
    for tee in TEES.iter().filter(|tee| rego.contains(tee.name) || tee.name == "tdx") {
        let mut good = token(module, schema, tee);
        if !allows(&good.input) {
            continue;
        }
        let mut tell = |code: &'static str, severity, message: &str, remedy: &str| {
            if told.insert(code) {
                report.add(code, severity, None, message.to_owned(), Some(remedy));
            }
        };
        let ask = "Ask for input.submods.cpu0[\"ear.status\"] == \"affirming\".";
        let status = |made: &mut Made, status: &str, value: i16| {
            made.force(&["submods", CPU, "ear.status"], status.into());
            made.force(&["submods", CPU, "ear.trustworthiness-vector", "configuration"], value.into());
        };
        let mut software = good.clone();
        software
            .force(&["submods", CPU, "ear.veraison.annotated-evidence", "coffer", "hardware"], false.into());
        if allows(&software.input) {
            tell(
                "allows-software",
                Severity::Note,
                "A guest that no hardware protects from its host gets resources.",
                "Take the rule `insecure_software_evidence` out; in a laboratory this is what you want.",
            );
        }
        let mut warned = good.clone();
        status(&mut warned, "warning", 32);
        if allows(&warned.input) {
            tell("allows-warning", Severity::Note, "A guest with warnings gets resources.", ask);
        }
        status(&mut good, "contraindicated", 96);
        let refused = json!([{ "code": "measurement.kernel", "title": "Another kernel" }]);
        good.force(&["submods", CPU, "ear.veraison.annotated-evidence", "coffer", "causes"], refused);
        if allows(&good.input) {
            tell(
                "allows-refused",
                Severity::Warning,
                "A guest that the appraisal refuses gets resources.",
                ask,
            );
        }
        let debug = json!([{ "code": "platform.debug", "title": "The host may debug the guest" }]);
        good.force(&["submods", CPU, "ear.veraison.annotated-evidence", "coffer", "causes"], debug);
        let evidence: Vec<Option<String>> = evidence_of(tee.name);
        good.set_debug(&evidence, tee);
        if allows(&good.input) {
            tell("allows-debug", Severity::Warning, "A guest that its host may debug gets resources.", ask);
        }
    }
}

fn evidence_of(tee: &str) -> Vec<Option<String>> {
    EVIDENCE
        .split('/')
        .map(|name| if name == "*" { CPU } else { name })
        .chain([tee])
        .map(|name| Some(name.to_owned()))
        .collect()
}

/// An attestation result of a guest on hardware that everybody affirms, as far as the policy does not ask for more.
fn token(module: &Module, schema: &Schema, tee: &Tee) -> Made {
    let below: Vec<String> = evidence_of(tee.name).into_iter().flatten().collect();
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    let mut made = Made::empty();
    made.force(&["submods", CPU, "ear.status"], "affirming".into());
    let names = coffer_core_evidence::ar4si::TrustVector::NAMES;
    let vector: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!(2))).collect();
    made.force(&["submods", CPU, "ear.trustworthiness-vector"], vector.into());
    made.force(
        &["submods", CPU, "ear.veraison.annotated-evidence", "coffer"],
        json!({ "attempt": "a", "hardware": true, "causes": [] }),
    );
    made.fill(&below, tee);
    made.please(module, false, &|path| is_known(schema, path));
    made
}

/// A claim that no evidence has cannot be made to please.
fn is_known(schema: &Schema, path: &Path) -> bool {
    matches!(schema.look_up(&path.segments), Known::Claim(_))
}

/// Resource paths that the policy may have in mind.
fn paths(module: &Module) -> Vec<String> {
    let mut paths = vec!["default/key/1".to_owned()];
    for text in &module.texts {
        let begin = text.trim_start_matches('^').trim_matches('/');
        let is_path = |text: &str| {
            text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) && !text.is_empty()
        };
        if is_path(begin) {
            let parts = begin.split('/').count();
            paths.push(
                ["key", "1"]
                    .iter()
                    .skip(parts.saturating_sub(1))
                    .fold(begin.to_owned(), |path, part| format!("{path}/{part}")),
            );
        }
    }
    paths.truncate(MAX_PATHS);
    paths
}

/// Evidence that is being made.
#[derive(Clone)]
struct Made {
    input: Value,
    values: BTreeMap<String, Value>,
    /// Places that are settled.
    settled: BTreeSet<String>,
}

impl Made {
    fn empty() -> Self {
        Self { input: json!({}), values: BTreeMap::new(), settled: BTreeSet::new() }
    }

    /// Evidence of a TEE, to please an appraisal policy.
    fn new(module: &Module, schema: &Schema, backwards: bool, tee: &Tee) -> Self {
        let mut made = Self::empty();
        made.force(&["init_data"], "x".into());
        made.force(&["report_data"], "x".into());
        made.fill(&[tee.name], tee);
        // Claims of other TEEs would be evidence that nobody has.
        made.please(module, backwards, &|path| {
            let first = path.segments.first().and_then(Option::as_deref);
            let own = first == Some(tee.name) || !TEES.iter().any(|other| Some(other.name) == first);
            own && is_known(schema, path)
        });
        made
    }

    fn values(&self) -> NamedValues {
        self.values.clone().into()
    }

    /// Every claim that has one place, with some value.
    fn fill(&mut self, below: &[&str], tee: &Tee) {
        for (path, kind) in tee.claims() {
            if path.contains(['*', '#']) {
                continue;
            }
            let value = match kind {
                Type::String => json!("x"),
                Type::Number => json!(1),
                Type::Bool => json!(false),
                Type::Any => continue,
            };
            let path: Vec<&str> = below.iter().copied().chain(path.split('/')).collect();
            self.force(&path, value);
        }
    }

    fn set_debug(&mut self, below: &[Option<String>], tee: &Tee) {
        for (path, _, on) in tee.debug {
            let value = serde_json::from_str(on).unwrap_or(Value::Null);
            let path: Vec<Option<String>> =
                below.iter().cloned().chain(path.split('/').map(|name| Some(name.to_owned()))).collect();
            put(&mut self.input, &path, value);
        }
    }

    fn force(&mut self, path: &[&str], value: Value) {
        let path: Vec<Option<String>> = path.iter().map(|name| Some((*name).to_owned())).collect();
        put(&mut self.input, &path, value);
    }

    /// Makes every comparison true, the first that speaks of a place first.
    fn please(&mut self, module: &Module, backwards: bool, about: &dyn Fn(&Path) -> bool) {
        let mut conditions: Vec<_> =
            module.rules.iter().flat_map(|rule| rule.bodies.iter().flatten()).collect();
        if backwards {
            conditions.reverse();
        }
        for condition in conditions.into_iter().filter(|condition| !condition.negated) {
            match &condition.test {
                Test::Compare(op, Term::Path(path), other) | Test::Compare(op, other, Term::Path(path))
                    if mine(path, about) =>
                {
                    self.compare(*op, path, other);
                }
                Test::In(Term::Path(path), Term::List(values)) if mine(path, about) => {
                    if let Some(first) = values.first() {
                        self.settle(path, first.clone());
                    }
                }
                Test::In(Term::Path(path), Term::Asked(name)) if mine(path, about) => {
                    let found = self.found(path);
                    self.values.insert(name.clone(), json!([found]));
                }
                Test::In(Term::Constant(value), Term::Path(path)) if mine(path, about) => {
                    self.settle(path, json!([value]));
                }
                Test::Is(Term::Path(path))
                    if mine(path, about) && get(&self.input, &path.segments) == Some(&Value::Bool(false)) =>
                {
                    self.settle(path, true.into());
                }
                _ => {}
            }
        }
    }

    fn compare(&mut self, op: Comparison, path: &Path, other: &Term) {
        match other {
            Term::Constant(value) => {
                let near = |by: i64| value.as_i64().map(|number| json!(number.saturating_add(by)));
                let value = match op {
                    Comparison::Equal | Comparison::AtLeast | Comparison::AtMost => Some(value.clone()),
                    Comparison::More => near(1),
                    Comparison::Less => near(-1),
                    Comparison::Unequal => None,
                };
                if let Some(value) = value {
                    self.settle(path, value);
                }
            }
            Term::Asked(name) => {
                let found = self.found(path);
                self.values.insert(name.clone(), found);
            }
            _ => {}
        }
    }

    /// What stands at a place; something is put there if nothing does.
    fn found(&mut self, path: &Path) -> Value {
        if get(&self.input, &path.segments).is_none() {
            put(&mut self.input, &path.segments, "x".into());
        }
        get(&self.input, &path.segments).cloned().unwrap_or(Value::Null)
    }

    fn settle(&mut self, path: &Path, value: Value) {
        if self.settled.insert(path.text()) {
            put(&mut self.input, &path.segments, value);
        }
    }
}

fn mine(path: &Path, about: &dyn Fn(&Path) -> bool) -> bool {
    path.root == Root::Input && !path.segments.is_empty() && about(path)
}

fn get<'a>(value: &'a Value, path: &[Option<String>]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Some(name) => value.get(name),
        None => value.get(0),
    })
}

/// Puts a value at a place; an element of a list is its first.
fn put(at: &mut Value, path: &[Option<String>], value: Value) {
    let Some((segment, rest)) = path.split_first() else {
        *at = value;
        return;
    };
    match segment {
        Some(name) => {
            if !at.is_object() {
                *at = json!({});
            }
            if let Some(object) = at.as_object_mut() {
                put(object.entry(name.clone()).or_insert(Value::Null), rest, value);
            }
        }
        None => {
            if !at.is_array() {
                *at = json!([null]);
            }
            if let Some(first) = at.as_array_mut().and_then(|array| array.first_mut()) {
                put(first, rest, value);
            }
        }
    }
}
