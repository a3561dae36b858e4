//! The bounded builtins answer as the engine's own do, and end where those would not.

use std::time::{Duration, Instant};

use regorus::{Engine, Value as Rego};
use serde_json::json;

use super::{BOUNDED, put};
use crate::{Policy, PolicyError};

/// One or more ordinary calls of each builtin of the table, some of them wrong.
const CALLS: &[&str] = &[
    "array.concat([1, 2], [\"a\"])",
    "array.concat([1], 2)",
    "base64.encode(\"ab\")",
    "base64.decode(\"YWI=\")",
    "base64.decode(\"!\")",
    "base64url.encode(\"a?\")",
    "base64url.encode_no_pad(\"a?\")",
    "base64url.decode(\"YT8=\")",
    "bits.lsh(1, 70)",
    "bits.lsh(1, -1)",
    "concat(\"/\", [\"a\", \"b\"])",
    "concat(\",\", {\"y\", \"x\"})",
    "concat(\",\", [1])",
    "concat(\",\", [])",
    "format_int(255, 16)",
    "format_int(1, 3)",
    "glob.match(\"*.com\", [\".\"], \"a.com\")",
    "glob.match(\"*\", null, \"a.b\")",
    "glob.quote_meta(\"a*\")",
    "hex.encode(\"ab\")",
    "hex.decode(\"6162\")",
    "hex.decode(\"6\")",
    "indexof(\"abc\", \"c\")",
    "indexof(\"abc\", \"x\")",
    "indexof_n(\"aba\", \"a\")",
    "intersection({{1, 2}, {2}})",
    "json.filter({\"a\": {\"b\": 1, \"c\": 2}}, [\"a/b\"])",
    "json.marshal({\"a\": [1, 2.5, null, \"x\"]})",
    "json.marshal_with_options([1, [2]], {\"pretty\": true, \"indent\": \"  \"})",
    "json.remove({\"a\": 1, \"b\": 2}, [\"a\"])",
    "json.unmarshal(\"{\\\"a\\\": 1e3}\")",
    "json.unmarshal(\"{\")",
    "lower(\"AB\")",
    "lower(5)",
    "numbers.range(1, 4)",
    "numbers.range(3, -2)",
    "numbers.range(1.5, 2)",
    "numbers.range(2, 2)",
    "numbers.range_step(1, 10, 3)",
    "numbers.range_step(10, 1, 4)",
    "numbers.range_step(1, 5, \"x\")",
    "object.subset({\"a\": 1, \"b\": 2}, {\"a\": 1})",
    "object.union({\"a\": {\"b\": 1}}, {\"a\": {\"c\": 2}})",
    "object.union_n([{\"a\": 1}, {\"a\": 2}])",
    "product([2, 3])",
    "product({2, 5})",
    "regex.find_all_string_submatch_n(\"a(.)\", \"abac\", -1)",
    "regex.find_n(\"a.\", \"abac\", 1)",
    "regex.replace(\"abac\", \"a(.)\", \"$1-\")",
    "regex.replace(\"a\", \"(\", \"b\")",
    "regex.split(\"b+\", \"abbc\")",
    "replace(\"aXbX\", \"X\", \"yy\")",
    "replace(\"ab\", \"\", \"-\")",
    "replace(1, \"a\", \"b\")",
    "split(\"a/b/c\", \"/\")",
    "split(\"abc\", \"\")",
    "sprintf(\"%s is %d of %v, %5d|%05d|%.2f|%x|%q%%\", [\"a\", 3, {\"k\": [1]}, 4, 5, 1.5, 255, \"q\"])",
    "sprintf(\"%s\", [])",
    "sprintf(\"%\", [1])",
    "strings.any_prefix_match(\"abc\", [\"x\", \"ab\"])",
    "strings.any_suffix_match([\"abc\"], \"bc\")",
    "strings.replace_n({\"a\": \"b\", \"b\": \"c\"}, \"aab\")",
    "strings.reverse(\"abc\")",
    "sum([1, 2.5])",
    "sum([\"a\"])",
    "to_number(\"1e3\")",
    "to_number(\"x\")",
    "trim(\"xaxx\", \"x\")",
    "trim_left(\"xax\", \"x\")",
    "trim_right(\"xax\", \"x\")",
    "union({{1}, {2}})",
    "units.parse(\"2K\")",
    "units.parse_bytes(\"2KiB\")",
    "upper(\"ab\")",
    "upper(input.none)",
];

fn answer(call: &str, strict: bool, bounded: bool) -> Result<Rego, String> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(strict);
    engine.add_policy("a.rego".to_owned(), format!("package a\nr := {call}")).unwrap();
    engine.set_input(Rego::new_object());
    if bounded {
        put(&mut engine).unwrap();
    }
    let mut ask = || engine.eval_rule("data.a.r".to_owned()).map_err(|error| error.to_string());
    if bounded && !strict { super::lenient(ask) } else { ask() }
}

#[test]
fn bounded_builtins_answer_as_the_engines_own() {
    for call in CALLS {
        for strict in [true, false] {
            let (expected, found) = (answer(call, strict, false), answer(call, strict, true));
            match (expected, found) {
                (Ok(expected), Ok(found)) => assert_eq!(expected, found, "{call}"),
                (Err(expected), Err(found)) => {
                    let reason = super::without_place(&expected);
                    assert!(found.contains(&reason), "{call}: {found:?} lacks {reason:?}");
                }
                (expected, found) => panic!("{call}, strict {strict}: {expected:?}, but bounded {found:?}"),
            }
        }
    }
}

#[test]
fn each_bounded_builtin_is_compared_with_the_engines_own() {
    for (name, _, _) in BOUNDED.iter().filter(|(name, _, _)| *name != "regex.template_match") {
        assert!(CALLS.iter().any(|call| call.starts_with(&format!("{name}("))), "{name} is not compared");
    }
}

#[test]
fn what_would_grow_without_bound_is_an_error_soon() {
    let nested = "a0 := [\"x\", \"x\"]\n".to_owned()
        + &(1..40).map(|n| format!("a{n} := [a{0}, a{0}]\n", n - 1)).collect::<String>();
    let objects = "o0 := {\"a\": 1, \"b\": 1}\n".to_owned()
        + &(1..40).map(|n| format!("o{n} := {{\"a\": o{0}, \"b\": o{0}}}\n", n - 1)).collect::<String>();
    let hex = "h0 := input.a\n".to_owned()
        + &(1..30).map(|n| format!("h{n} := hex.encode(h{})\n", n - 1)).collect::<String>();
    let calls = [
        "count(numbers.range(1, 1000000000))",
        "count(numbers.range(0, 1e30))",
        "count(numbers.range(1267650600228229401496703205376, 1267650600228229401496803205376))",
        "count(numbers.range_step(1, 1000000000, 2))",
        "count(numbers.range_step(1, 5, 0))",
        "replace(input.a, \"x\", input.a)",
        "replace(input.a, \"\", input.a)",
        "concat(input.a, split(input.a, \"y\"))",
        "concat(input.a, [\"\" | some i in numbers.range(1, 9000)])",
        "sprintf(\"%4000000000d\", [1])",
        "sprintf(\"%.4000000000f\", [1.5])",
        "sprintf(\"%½d\", [1])",
        "strings.replace_n({\"x\": \"yyyyyyyyyyyyyyyy\", \"y\": input.a}, input.a)",
        "regex.replace(input.a, \"x\", input.a)",
        "regex.replace(input.a, \"(x*)\", concat(\"\", [\"$1\" | some i in numbers.range(1, 99)]))",
        "regex.find_all_string_submatch_n(\"((((x))))\", input.a, -1)",
        "split(input.a, \"\")",
        "trim(input.a, input.a)",
        "indexof(input.a, input.a)",
        "bits.lsh(1, 4000000000)",
        "to_number(\"1e2000000000\")",
        "to_number(\"1_e_2000000000\")",
        "json.unmarshal(\"[1E+2000000000]\")",
        "json.marshal(a39)",
        "sprintf(\"%v\", [a39])",
        "lower(a39)",
        "object.union(o39, o39)",
        "h29",
        "array.concat(numbers.range(1, 60000), numbers.range(1, 60000))",
        "product(numbers.range(1, 100000))",
        "1e2000000000",
        "regex.template_match(\"urn:{.*}\", \"u\", \"{\", \"}\")",
        "object.subset({\"a\": [1]}, {\"a\": []})",
    ];
    let input = json!({"a": "x".repeat(1_000_000)});
    for call in calls {
        let used: String = [(&nested, "a39"), (&objects, "o39"), (&hex, "h29")]
            .into_iter()
            .filter_map(|(rules, name)| call.contains(name).then_some(rules.as_str()))
            .collect();
        let rego = format!(
            "package policy\nimport rego.v1\n{used}deny contains \"x\" if {{\n  x := {call}\n  x == 0\n}}"
        );
        let begun = Instant::now();
        let refused = Policy::compile(&rego).and_then(|policy| policy.decide(&input, &json!({})));
        assert!(matches!(&refused, Err(PolicyError::Evaluation(_))), "{call}: {refused:?}");
        let reason = refused.err().map(|error| error.to_string()).unwrap_or_default();
        let bounded = ["would need", "takes ", "is not offered"].iter().any(|words| reason.contains(words));
        assert!(bounded, "{call}: {reason}");
        assert!(reason.len() < 10_000, "{call}: the reason has {} bytes", reason.len());
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{call} took {took:?}");
    }
}

#[test]
fn texts_that_look_like_numbers_are_left_alone() {
    let rego = "package policy\nimport rego.v1\ndeny contains \"x\" if {\n  # 1e999999\n  \
                json.unmarshal(input.text).digest != \"3e999999\"\n}";
    let policy = Policy::compile(rego).unwrap();
    assert!(policy.decide(&json!({"text": "{\"digest\": \"3e999999\"}"}), &json!({})).unwrap().is_allowed());
    assert!(policy.decide_text("{\"x\": 1e2000000000}", &json!({})).is_err());
}
