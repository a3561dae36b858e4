//! What is measured before a builtin is called. Arguments of the wrong type pass: the builtin says what is wrong.

use regorus::Value as Rego;

use super::{MAX_ITEMS, MAX_TEXT};
use crate::text::{Part, without_comments};

/// Looks at the arguments of a call.
pub(super) type Check = fn(&[Rego]) -> Result<(), String>;

/// The most of all arguments together; evidence is no longer.
const MAX_ARGUMENTS: usize = crate::MAX_EVIDENCE;
/// The deepest value, as deep as JSON is read.
const MAX_DEPTH: usize = 128;
/// The most byte comparisons of one call.
const MAX_WORK: usize = 1 << 30;
/// The widest number that is made, in bits.
const MAX_BITS: usize = 1 << 16;
/// The longest glob pattern.
const MAX_GLOB: usize = 8 << 10;
/// The widest cell of `sprintf`: what the engine can format.
const MAX_WIDTH: usize = u16::MAX as usize;
/// The largest decimal exponent in the text of a number.
const MAX_EXPONENT: usize = 4096;

pub(super) fn plain(arguments: &[Rego]) -> Result<(), String> {
    all(arguments, MAX_ARGUMENTS).map(drop)
}

/// The result is measured too, since a check before may be generous.
pub(super) fn result(value: &Rego) -> Result<(), String> {
    match value {
        Rego::String(text) => at_most("a text", text.len(), MAX_TEXT),
        Rego::Array(items) => at_most("elements", items.len(), MAX_ITEMS),
        _ => Ok(()),
    }
}

pub(super) fn array_concat(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    at_most("elements", items(arguments, 0).saturating_add(items(arguments, 1)), MAX_ITEMS)
}

/// Texts that become about twice as long.
pub(super) fn encode(arguments: &[Rego]) -> Result<(), String> {
    at_most("arguments", all(arguments, MAX_ARGUMENTS)?, MAX_TEXT)
}

/// The text of a value is about as long as the value.
pub(super) fn text_of(arguments: &[Rego]) -> Result<(), String> {
    all(arguments, MAX_TEXT).map(drop)
}

pub(super) fn marshal(arguments: &[Rego]) -> Result<(), String> {
    let value = all(arguments.get(..1).unwrap_or_default(), MAX_TEXT)?;
    let options = all(arguments.get(1..).unwrap_or_default(), MAX_TEXT)?;
    // Each line may be indented as often as the value is deep.
    let indented = value.saturating_mul(options).saturating_mul(8);
    if options > 1024 { at_most("a text", indented, MAX_TEXT) } else { Ok(()) }
}

pub(super) fn shift(arguments: &[Rego]) -> Result<(), String> {
    all(arguments, MAX_BITS)?;
    let bits = arguments.get(1).and_then(|bits| bits.as_u64().ok());
    at_most("bits", bits.map_or(0, |bits| usize::try_from(bits).unwrap_or(usize::MAX)), MAX_BITS)
}

pub(super) fn factors(arguments: &[Rego]) -> Result<(), String> {
    all(arguments, MAX_BITS).map(drop)
}

/// Texts in which numbers are found: `1e2000000000` is short.
pub(super) fn number_text(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    text(arguments, 0).map_or(Ok(()), exponents)
}

/// As [`number_text`]; what stands in quotes is no number, a digest in hexadecimal for instance.
pub(super) fn json_text(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    text(arguments, 0).map_or(Ok(()), |text| exponents(&without_comments(text, Part::Unquoted)))
}

pub(super) fn exponents(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices(['e', 'E']) {
        // Only what follows a digit or a dot is an exponent; a word that looks so is no worse for the check.
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        if !before.is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'_')) {
            continue;
        }
        let rest = bytes.get(at.saturating_add(1)..).unwrap_or_default();
        let digits = rest.iter().skip_while(|byte| matches!(byte, b'+' | b'-' | b'_'));
        let exponent = digits
            .filter(|byte| **byte != b'_')
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0usize, |sum, byte| {
                sum.saturating_mul(10).saturating_add(usize::from(byte.wrapping_sub(b'0')))
            });
        at_most("a decimal exponent", exponent, MAX_EXPONENT)?;
    }
    Ok(())
}

pub(super) fn range(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    let (Some(Rego::Number(from)), Some(Rego::Number(to))) = (arguments.first(), arguments.get(1)) else {
        return Ok(());
    };
    let step = match arguments.get(2) {
        None => 1,
        Some(Rego::Number(step)) if step.is_integer() => match step.as_i64() {
            Some(step) if step > 0 => step.unsigned_abs().into(),
            _ => return Err("takes a step that is a positive integer".to_owned()),
        },
        Some(_) => return Ok(()),
    };
    if !from.is_integer() || !to.is_integer() {
        return Ok(());
    }
    let distance = from.as_i128().zip(to.as_i128()).map(|(from, to)| from.abs_diff(to));
    let found = distance.and_then(|distance| distance.checked_div(step)?.checked_add(1));
    let found = found.and_then(|found| usize::try_from(found).ok()).unwrap_or(usize::MAX);
    at_most("elements", found, MAX_ITEMS)
}

pub(super) fn concat(arguments: &[Rego]) -> Result<(), String> {
    let sum = all(arguments.get(1..).unwrap_or_default(), MAX_ARGUMENTS)?;
    let between = text(arguments, 0).map_or(0, str::len);
    at_most("a text", items(arguments, 1).saturating_mul(between).saturating_add(sum), MAX_TEXT)
}

pub(super) fn replace(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    let texts = (text(arguments, 0), text(arguments, 1), text(arguments, 2));
    let (Some(within), Some(old), Some(new)) = texts else { return Ok(()) };
    at_most("a text", replaced(within, old, new), MAX_TEXT)
}

fn replaced(within: &str, old: &str, new: &str) -> usize {
    let found = within.matches(old).count();
    within
        .len()
        .saturating_sub(found.saturating_mul(old.len()))
        .saturating_add(found.saturating_mul(new.len()))
}

/// One text after the other is replaced in what was made before, in the order of the texts.
pub(super) fn replace_n(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    let (Some(Rego::Object(pairs)), Some(within)) = (arguments.first(), text(arguments, 1)) else {
        return Ok(());
    };
    let (mut made, mut work) = (within.to_owned(), 0usize);
    for pair in pairs.iter_sorted() {
        let (Rego::String(old), Rego::String(new)) = pair else { return Ok(()) };
        at_most("a text", replaced(&made, old, new), MAX_TEXT)?;
        work = work.saturating_add(made.len());
        at_most("comparisons", work, MAX_WORK)?;
        made = made.replace(&**old, new);
    }
    Ok(())
}

pub(super) fn regex_replace(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    let (Some(within), Some(new)) = (text(arguments, 0), text(arguments, 2)) else { return Ok(()) };
    // A match at each place, and each group of the replacement holds all of the text.
    let groups = new.matches('$').count().saturating_add(1);
    let places = within.len().saturating_add(1);
    let most = places.saturating_mul(new.len()).saturating_add(groups.saturating_mul(within.len()));
    at_most("a text", most, MAX_TEXT.saturating_mul(16))
}

/// Matches of a pattern, each with its groups.
pub(super) fn captures(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    let (Some(pattern), Some(within)) = (text(arguments, 0), text(arguments, 1)) else { return Ok(()) };
    let groups = pattern.matches('(').count().saturating_add(1);
    at_most("arguments", groups.saturating_mul(within.len()), MAX_TEXT)
}

pub(super) fn split(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    let (Some(within), Some(by)) = (text(arguments, 0), text(arguments, 1)) else { return Ok(()) };
    at_most("elements", within.matches(by).count().saturating_add(1), MAX_ITEMS.saturating_add(1))
}

/// The engine's own panics where the value is shorter than the literal before a pattern.
pub(super) fn template(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    Err("is not offered: use `regex.match` with one pattern for all of the value".to_owned())
}

/// The engine's own panics where it looks for an empty array in another.
pub(super) fn subset(arguments: &[Rego]) -> Result<(), String> {
    fn has_empty(value: &Rego) -> bool {
        match value {
            Rego::Array(items) => items.is_empty(),
            Rego::Object(members) => members.iter().any(|(_, member)| has_empty(member)),
            _ => false,
        }
    }
    plain(arguments)?;
    if arguments.get(1).is_some_and(has_empty) {
        return Err(
            "takes no empty array as what is looked for: leave it out, it is part of every array".to_owned()
        );
    }
    Ok(())
}

pub(super) fn glob(arguments: &[Rego]) -> Result<(), String> {
    plain(arguments)?;
    at_most("a pattern", text(arguments, 0).map_or(0, str::len), MAX_GLOB)
}

/// Each byte of one may be compared with each byte of the other.
pub(super) fn product(arguments: &[Rego]) -> Result<(), String> {
    let one = all(arguments.get(..1).unwrap_or_default(), MAX_ARGUMENTS)?;
    let other = all(arguments.get(1..).unwrap_or_default(), MAX_ARGUMENTS)?;
    at_most("comparisons", one.saturating_mul(other), MAX_WORK)
}

/// Each argument is written once; a width says how long it becomes.
pub(super) fn sprintf(arguments: &[Rego]) -> Result<(), String> {
    let sum = all(arguments, MAX_TEXT)?;
    let Some(format) = text(arguments, 0) else { return Ok(()) };
    let (mut most, mut characters) = (sum, format.chars().peekable());
    while let Some(c) = characters.next() {
        if c != '%' {
            continue;
        }
        if characters.peek() == Some(&'%') {
            characters.next();
            continue;
        }
        let mut width = 0usize;
        while let Some(c) = characters.next_if(|c| *c == '.' || c.is_numeric()) {
            match c.to_digit(10) {
                Some(digit) => {
                    width =
                        width.saturating_mul(10).saturating_add(usize::try_from(digit).unwrap_or(usize::MAX));
                }
                None if c == '.' => {}
                None => return Err("takes widths of the digits 0 to 9".to_owned()),
            }
        }
        at_most("a width", width, MAX_WIDTH)?;
        most = most.saturating_add(width);
    }
    at_most("a text", most, MAX_TEXT)
}

fn at_most(what: &str, found: usize, most: usize) -> Result<(), String> {
    if found <= most {
        return Ok(());
    }
    let unit = match what {
        "elements" | "bits" | "comparisons" => what.to_owned(),
        "a width" | "a decimal exponent" => format!("as {what}"),
        _ => format!("bytes as {what}"),
    };
    Err(format!("would need {found} {unit}; at most {most} are allowed: give it less"))
}

fn text(arguments: &[Rego], index: usize) -> Option<&str> {
    match arguments.get(index) {
        Some(Rego::String(text)) => Some(text),
        _ => None,
    }
}

fn items(arguments: &[Rego], index: usize) -> usize {
    match arguments.get(index) {
        Some(Rego::Array(items)) => items.len(),
        Some(Rego::Set(items)) => items.len(),
        _ => 0,
    }
}

/// About the length of the arguments as text. A value that holds another twice counts it twice, as its text would,
/// so the count stops at what is allowed.
fn all(arguments: &[Rego], most: usize) -> Result<usize, String> {
    let mut left = most;
    for argument in arguments {
        weigh(argument, &mut left, MAX_DEPTH).ok_or_else(|| {
            format!("takes arguments of at most {most} bytes and {MAX_DEPTH} levels: give it less")
        })?;
    }
    Ok(most.saturating_sub(left))
}

/// Takes a value's length from what is left; nothing if that is not enough.
fn weigh(value: &Rego, left: &mut usize, depth: usize) -> Option<()> {
    /// The longest text of a small number.
    const NUMBER: usize = 24;
    /// The longest of any that is no whole number.
    const FLOAT: usize = 330;
    let depth = depth.checked_sub(1)?;
    let own = match value {
        Rego::String(text) => text.len().saturating_add(2),
        Rego::Number(number) if number.as_i64().is_some() => NUMBER,
        Rego::Number(number) => match number.as_big() {
            Some(number) => usize::try_from(number.bits()).ok()?,
            None if number.as_f64().is_some_and(|float| (1e-6..1e21).contains(&float.abs())) => NUMBER,
            None => FLOAT,
        },
        _ => 4,
    };
    *left = left.checked_sub(own)?;
    match value {
        Rego::Array(items) => items.iter().try_for_each(|item| weigh(item, left, depth)),
        Rego::Set(items) => items.iter().try_for_each(|item| weigh(item, left, depth)),
        Rego::Object(members) => members.iter().try_for_each(|(name, member)| {
            weigh(name, left, depth)?;
            weigh(member, left, depth)
        }),
        _ => Some(()),
    }
}
