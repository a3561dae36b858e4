//! Bounds of the builtins: none makes much out of little. The engine's time limit is looked at between calls and not
//! within one, so a builtin that multiplies its arguments would take all memory before it ends.
//!
//! Holds true: each builtin of the table is asked only after its arguments, and what it could make of them, were
//! measured; then the engine's own builtin answers, in an engine that knows nothing else.
//! Left out: operators and comprehensions, which the engine interprets within its time limit.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

use regorus::{Engine, Value as Rego};

use crate::text::{Part, without_comments};
use crate::{PolicyError, evaluation};

mod checks;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use checks::Check;

/// The longest text that a builtin makes.
pub(crate) const MAX_TEXT: usize = 1 << 20;
/// The most elements that a builtin makes.
pub(crate) const MAX_ITEMS: usize = 100_000;

/// Builtins with how many arguments they take and what is looked at before they are called.
const BOUNDED: &[(&str, u8, Check)] = &[
    ("array.concat", 2, checks::array_concat),
    ("base64.decode", 1, checks::plain),
    ("base64.encode", 1, checks::encode),
    ("base64url.decode", 1, checks::plain),
    ("base64url.encode", 1, checks::encode),
    ("base64url.encode_no_pad", 1, checks::encode),
    ("bits.lsh", 2, checks::shift),
    ("concat", 2, checks::concat),
    ("format_int", 2, checks::plain),
    ("glob.match", 3, checks::glob),
    ("glob.quote_meta", 1, checks::encode),
    ("hex.decode", 1, checks::plain),
    ("hex.encode", 1, checks::encode),
    ("indexof", 2, checks::product),
    ("indexof_n", 2, checks::product),
    ("intersection", 1, checks::plain),
    ("json.filter", 2, checks::plain),
    ("json.marshal", 1, checks::text_of),
    ("json.marshal_with_options", 2, checks::marshal),
    ("json.remove", 2, checks::plain),
    ("json.unmarshal", 1, checks::json_text),
    ("lower", 1, checks::plain),
    ("numbers.range", 2, checks::range),
    ("numbers.range_step", 3, checks::range),
    ("object.subset", 2, checks::subset),
    ("object.union", 2, checks::plain),
    ("object.union_n", 1, checks::plain),
    ("product", 1, checks::factors),
    ("regex.find_all_string_submatch_n", 3, checks::captures),
    ("regex.find_n", 3, checks::captures),
    ("regex.replace", 3, checks::regex_replace),
    ("regex.split", 2, checks::captures),
    ("regex.template_match", 4, checks::template),
    ("replace", 3, checks::replace),
    ("split", 2, checks::split),
    ("sprintf", 2, checks::sprintf),
    ("strings.any_prefix_match", 2, checks::product),
    ("strings.any_suffix_match", 2, checks::product),
    ("strings.replace_n", 2, checks::replace_n),
    ("strings.reverse", 1, checks::plain),
    ("sum", 1, checks::plain),
    ("to_number", 1, checks::number_text),
    ("trim", 2, checks::product),
    ("trim_left", 2, checks::product),
    ("trim_right", 2, checks::product),
    ("union", 1, checks::plain),
    ("units.parse", 1, checks::number_text),
    ("units.parse_bytes", 1, checks::number_text),
    ("upper", 1, checks::plain),
];

/// Puts a bounded function before each builtin of the table.
pub(crate) fn put(engine: &mut Engine) -> Result<(), PolicyError> {
    for &(name, arity, check) in BOUNDED {
        let bounded =
            move |arguments: Vec<Rego>| Ok(call(name, check, arguments).map_err(std::io::Error::other)?);
        engine.add_extension(name.to_owned(), arity, Box::new(bounded)).map_err(evaluation)?;
    }
    Ok(())
}

/// Refuses a policy with a number that is short and becomes long, such as `1e2000000000`, before the engine reads it.
pub(crate) fn refuse(rego: &str) -> Result<(), PolicyError> {
    let code = without_comments(rego, Part::Unquoted);
    checks::exponents(&code).map_err(|excess| evaluation(format!("a number of the policy {excess}")))
}

/// Runs `evaluation` with builtins that have no value where they would fail, as an engine does that is not strict.
/// What exceeds a bound fails even then.
pub(crate) fn lenient<T>(evaluation: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            LENIENT.set(self.0);
        }
    }
    let _restore = Restore(LENIENT.replace(true));
    evaluation()
}

thread_local! {
    static LENIENT: Cell<bool> = const { Cell::new(false) };
    /// An engine whose rules call the engine's own builtins with its input. One that failed is not used again.
    static ORIGINALS: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

fn call(name: &str, check: Check, arguments: Vec<Rego>) -> Result<Rego, String> {
    check(&arguments).map_err(|excess| format!("`{name}` {excess}"))?;
    let result = original(name, arguments).map_err(|error| format!("`{name}`: {error}"))?;
    checks::result(&result).map_err(|excess| format!("`{name}` {excess}"))?;
    Ok(result)
}

/// What the engine's own builtin answers.
fn original(name: &str, arguments: Vec<Rego>) -> Result<Rego, String> {
    let mut engine = match ORIGINALS.take() {
        Some(engine) => engine,
        None => originals()?,
    };
    engine.set_strict_builtin_errors(!LENIENT.get());
    engine.set_input(Rego::from(arguments));
    let rule = format!("data.originals.{}", rule_of(name));
    let answer = engine.eval_rule(rule).map_err(|error| without_place(&error.to_string()))?;
    engine.set_input(Rego::Undefined);
    ORIGINALS.set(Some(engine));
    Ok(answer)
}

fn originals() -> Result<Engine, String> {
    let mut rego = "package originals\n".to_owned();
    for (name, arity, _) in BOUNDED {
        let arguments: Vec<String> = (0..*arity).map(|index| format!("input[{index}]")).collect();
        // Writing into a string does not fail.
        let _ = writeln!(rego, "{} := {name}({})", rule_of(name), arguments.join(", "));
    }
    let mut engine = Engine::new();
    engine.add_policy("originals.rego".to_owned(), rego).map_err(|error| error.to_string())?;
    Ok(engine)
}

fn rule_of(name: &str) -> String {
    format!("of_{}", name.replace('.', "_"))
}

/// An error of the other engine without its place there, since the caller's engine tells the place in the policy.
fn without_place(error: &str) -> String {
    error.split_once("error: ").map_or(error, |(_, what)| what).trim().to_owned()
}
