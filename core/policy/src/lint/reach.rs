//! Rules that can never hold.
//!
//! Holds true: a body is called impossible only for one of the reasons in [`impossible`], each of which makes the
//! engine's answer undefined or false whatever the evidence is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::read::{Comparison, Condition, Module, Path, Root, Term, Test};
use super::schema::{Known, Schema, TEES, Type};
use super::{Kind, Report, Severity};

/// Tells of every body that can never hold.
pub(super) fn never(report: &mut Report, module: &Module, schema: &Schema, kind: Kind) {
    let mut dead: BTreeSet<String> = BTreeSet::new();
    let mut told: BTreeMap<(u32, usize), (String, u32, String)> = BTreeMap::new();
    loop {
        for rule in &module.rules {
            for (index, body) in rule.bodies.iter().enumerate() {
                if told.contains_key(&(rule.line, index)) {
                    continue;
                }
                if let Some((line, why)) = impossible(body, schema, kind, &dead) {
                    told.insert((rule.line, index), (rule.name.clone(), line, why));
                }
            }
        }
        // A rule is dead if no body of it can hold, wherever it is written. One with a default always has a value.
        let alive: BTreeSet<&str> = module
            .rules
            .iter()
            .filter(|rule| {
                let bodies = (0..rule.bodies.len()).any(|index| !told.contains_key(&(rule.line, index)));
                rule.is_default || rule.bodies.is_empty() || bodies
            })
            .map(|rule| rule.name.as_str())
            .collect();
        let now: BTreeSet<String> = module
            .rules
            .iter()
            .filter(|rule| !alive.contains(rule.name.as_str()))
            .map(|rule| rule.name.clone())
            .collect();
        if now == dead {
            break;
        }
        dead = now;
    }
    for (name, line, why) in told.into_values() {
        let message = format!("The rule `{name}` can never hold here: {why}.");
        report.add(
            "never-fires",
            Severity::Error,
            Some(line),
            message,
            Some("Mend the condition, or take the rule out."),
        );
    }
}

/// What is demanded of one claim.
#[derive(Default)]
struct Demands {
    equal: Option<Value>,
    unequal: Vec<Value>,
    least: Option<(f64, bool)>,
    most: Option<(f64, bool)>,
}

/// Why a body cannot hold, with the line that makes it so.
fn impossible(
    body: &[Condition],
    schema: &Schema,
    kind: Kind,
    dead: &BTreeSet<String>,
) -> Option<(u32, String)> {
    let mut demands: BTreeMap<String, Demands> = BTreeMap::new();
    let mut tee: Option<(String, String)> = None;
    for condition in body {
        let line = condition.line;
        if condition.negated {
            if matches!(&condition.test, Test::Is(Term::Constant(value)) if *value != Value::Bool(false)) {
                return Some((line, "it denies what always holds".to_owned()));
            }
            continue;
        }
        for term in terms(&condition.test) {
            match term {
                Term::Path(path) if path.root == Root::Input && !path.lenient => {
                    if let Known::Unknown { .. } = schema.look_up(&path.segments) {
                        return Some((line, format!("no evidence has `{}`", path.text())));
                    }
                    if let Some(found) = tee_of(path, kind) {
                        match &tee {
                            Some(own) if own.0 == found.0 && own.1 != found.1 => {
                                let (one, other) = (&own.1, &found.1);
                                return Some((line, format!("no evidence is of both `{one}` and `{other}`")));
                            }
                            _ => tee = Some(found),
                        }
                    }
                }
                Term::Rule(name) if dead.contains(name) => {
                    return Some((line, format!("the rule `{name}`, which it needs, can never hold")));
                }
                _ => {}
            }
        }
        if let Some(why) = refuted(&condition.test, schema, &mut demands) {
            return Some((line, why));
        }
    }
    None
}

fn terms(test: &Test) -> Vec<&Term> {
    match test {
        Test::Compare(_, one, other) | Test::In(one, other) => vec![one, other],
        Test::Is(term) => vec![term],
        Test::Other => Vec::new(),
    }
}

/// The TEE whose claims a path is among, and the submodule that it is said of.
fn tee_of(path: &Path, kind: Kind) -> Option<(String, String)> {
    let (submodule, name) = match (kind, path.segments.as_slice()) {
        (Kind::Appraisal, [Some(name), ..]) => (String::new(), name),
        (Kind::Resource, [_, Some(submodule), _, Some(name), ..]) => (submodule.clone(), name),
        _ => return None,
    };
    TEES.iter().any(|tee| tee.name == name).then(|| (submodule, name.clone()))
}

/// Whether a condition cannot hold, alone or beside those before it.
fn refuted(test: &Test, schema: &Schema, demands: &mut BTreeMap<String, Demands>) -> Option<String> {
    match test {
        Test::Is(Term::Constant(Value::Bool(false))) => Some("it asks for `false`".to_owned()),
        Test::Compare(op, Term::Constant(one), Term::Constant(other)) => {
            (holds(*op, one, other) == Some(false)).then(|| format!("{one} and {other} are never so"))
        }
        Test::Compare(op, Term::Path(path), Term::Constant(value)) => {
            compared(*op, path, value, schema, demands)
        }
        Test::Compare(op, Term::Constant(value), Term::Path(path)) => {
            compared(turned(*op), path, value, schema, demands)
        }
        Test::In(Term::Path(path), Term::List(values)) => {
            let text = path.text();
            let fits = |value: &&Value| compatible(path, value, schema);
            if !values.iter().any(|value| fits(&value)) {
                return Some(format!("`{text}` is never any of these"));
            }
            let own = demands.get(&text).and_then(|demands| demands.equal.as_ref())?;
            (fixed(path) && !values.contains(own))
                .then(|| format!("`{text}` was {own} before, which is none of these"))
        }
        _ => None,
    }
}

/// Whether it is one place, and not any element.
fn fixed(path: &Path) -> bool {
    path.segments.iter().all(Option::is_some)
}

fn compatible(path: &Path, value: &Value, schema: &Schema) -> bool {
    if path.root != Root::Input || path.lenient {
        return true;
    }
    match schema.look_up(&path.segments) {
        Known::Claim(Some(Type::String)) => value.is_string(),
        Known::Claim(Some(Type::Number)) => value.is_number(),
        Known::Claim(Some(Type::Bool)) => value.is_boolean(),
        _ => true,
    }
}

fn compared(
    op: Comparison,
    path: &Path,
    value: &Value,
    schema: &Schema,
    demands: &mut BTreeMap<String, Demands>,
) -> Option<String> {
    let text = path.text();
    if op == Comparison::Equal && !compatible(path, value, schema) {
        return Some(format!("`{text}` is never of the type of {value}"));
    }
    if !fixed(path) {
        return None;
    }
    let own = demands.entry(text.clone()).or_default();
    let number = value.as_f64();
    match op {
        Comparison::Equal => own.equal = own.equal.take().or_else(|| Some(value.clone())),
        Comparison::Unequal => own.unequal.push(value.clone()),
        Comparison::AtLeast => {
            own.least = tighter(own.least, number.map(|least| (least, true)), Ordering::Greater)
        }
        Comparison::More => {
            own.least = tighter(own.least, number.map(|least| (least, false)), Ordering::Greater)
        }
        Comparison::AtMost => own.most = tighter(own.most, number.map(|most| (most, true)), Ordering::Less),
        Comparison::Less => own.most = tighter(own.most, number.map(|most| (most, false)), Ordering::Less),
    }
    let contradicts = match &own.equal {
        Some(equal) if op == Comparison::Equal && equal != value => true,
        Some(equal) => {
            let number = equal.as_f64();
            own.unequal.contains(equal)
                || number
                    .zip(own.least)
                    .is_some_and(|(found, (least, or))| found < least || (found == least && !or))
                || number
                    .zip(own.most)
                    .is_some_and(|(found, (most, or))| found > most || (found == most && !or))
        }
        None => own
            .least
            .zip(own.most)
            .is_some_and(|((least, or), (most, too))| least > most || (least == most && !(or && too))),
    };
    contradicts.then(|| format!("what it asks of `{text}` contradicts itself"))
}

/// The bound that leaves less.
fn tighter(one: Option<(f64, bool)>, other: Option<(f64, bool)>, wanted: Ordering) -> Option<(f64, bool)> {
    match (one, other) {
        (Some(own), Some(new)) => match new.0.partial_cmp(&own.0) {
            Some(Ordering::Equal) => Some((own.0, own.1 && new.1)),
            Some(order) if order == wanted => Some(new),
            _ => Some(own),
        },
        (own, new) => own.or(new),
    }
}

const fn turned(op: Comparison) -> Comparison {
    match op {
        Comparison::Less => Comparison::More,
        Comparison::AtMost => Comparison::AtLeast,
        Comparison::AtLeast => Comparison::AtMost,
        Comparison::More => Comparison::Less,
        same => same,
    }
}

/// Whether a comparison of constants holds, where that is plain.
fn holds(op: Comparison, one: &Value, other: &Value) -> Option<bool> {
    let order = match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64()?.partial_cmp(&other.as_f64()?)?,
        (Value::String(one), Value::String(other)) => one.cmp(other),
        _ => {
            let same = one == other;
            return match op {
                Comparison::Equal => Some(same),
                Comparison::Unequal => Some(!same),
                _ => None,
            };
        }
    };
    Some(match op {
        Comparison::Less => order == Ordering::Less,
        Comparison::AtMost => order != Ordering::Greater,
        Comparison::Equal => order == Ordering::Equal,
        Comparison::AtLeast => order != Ordering::Less,
        Comparison::More => order == Ordering::Greater,
        Comparison::Unequal => order != Ordering::Equal,
    })
}
