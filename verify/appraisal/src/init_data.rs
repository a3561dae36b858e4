//! Init-data against the reference value and against the register that binds it.

use coffer_core_digest::Digest;
use coffer_core_initdata::InitData;
use coffer_core_launch::{ExpectedInitData, ReferenceValues, init_data_register, place_init_data};
use coffer_verify_api::{Check, Claims};

use crate::{PREDICT_AGAIN, registers, source};

const CODE: &str = "measurement.init-data";

/// Whether the init-data that was sent is what the guest was given: the check that holds whatever the owner's policy
/// says. None where none was sent.
pub(crate) fn bound(claims: &Claims, sent: Option<&InitData>) -> Option<Check> {
    let digest = sent?.digest();
    let Some(name) = init_data_register(claims.tee) else {
        let title = format!("Init-data was sent, and {} evidence binds none", claims.tee);
        return Some(Check::failed(CODE, title).expected("no init-data").found(digest.to_string()));
    };
    let Some(quoted) = claims.registers.get(name) else {
        let title = format!("The evidence does not quote {}", registers::label(name));
        return Some(Check::failed(CODE, title).found(digest.to_string()));
    };
    let placed = place_init_data(claims.tee, quoted.algorithm(), Some(&digest)).map(|(_, value)| value);
    Some(match placed == Some(*quoted) {
        true => Check::passed(CODE, "The init-data that was sent is what the guest was given")
            .found(digest.to_string()),
        false => {
            let expected = placed.as_ref().map(Digest::to_string).unwrap_or_default();
            Check::failed(CODE, "The init-data that was sent is not what the guest measured")
                .expected(format!("{} as {expected}", registers::label(name)))
                .found(quoted.to_string())
                .remedy("The guest was given other init-data than it sends; look at what the host attached.")
        }
    })
}

/// The group `init-data`. None where the platform binds none and none was sent.
pub(crate) fn check(claims: &Claims, reference: &ReferenceValues, sent: Option<&InitData>) -> Option<Check> {
    let bound = bound(claims, sent).filter(Check::has_failed);
    let check = match (init_data_register(reference.platform()), bound) {
        (_, Some(failed)) => failed,
        (None, None) => return None,
        (Some(name), None) => compared(claims, reference, name, sent)?,
    };
    Some(Check::group("init-data", "Init-data", vec![check]))
}

fn compared(
    claims: &Claims,
    reference: &ReferenceValues,
    name: &str,
    sent: Option<&InitData>,
) -> Option<Check> {
    let expected = reference.registers().get(name);
    let quoted = claims.registers.get(name);
    if let (None, Some(quoted)) = (expected, quoted)
        && *quoted != Digest::zero(quoted.algorithm())
        && !reference.missing_registers().iter().any(|missing| missing == name)
    {
        // A register that is there only with init-data (Nitro), and none was expected.
        return Some(differs(reference, name, sent, quoted));
    }
    // Not named: the value leaves it open, and is refused as incomplete where it may not.
    Some(match quoted {
        None => Check::failed(CODE, format!("The evidence does not quote {}", registers::label(name)))
            .expected(expected?.to_string()),
        Some(quoted) if expected? == quoted => as_expected(reference),
        Some(quoted) => differs(reference, name, sent, quoted),
    })
}

fn as_expected(reference: &ReferenceValues) -> Check {
    let check = match reference.init_data() {
        Some(expected) => {
            Check::passed(CODE, "The init-data is the expected one").found(expected.digest.to_string())
        }
        None => Check::passed(CODE, "The guest was given no init-data, as expected"),
    };
    check.source(source(reference))
}

fn differs(reference: &ReferenceValues, name: &str, sent: Option<&InitData>, quoted: &Digest) -> Check {
    let nothing = *quoted == Digest::zero(quoted.algorithm());
    let found = match sent {
        Some(sent) => sent.digest().to_string(),
        None if nothing => "none".to_owned(),
        None => format!("init-data that was not sent; {} is {quoted}", registers::label(name)),
    };
    let (title, expected) = match reference.init_data() {
        None => ("The guest was given init-data, and none was expected", "none".to_owned()),
        Some(expected) if nothing => ("The guest was given no init-data", expected.digest.to_string()),
        Some(expected) => ("The init-data is not the expected one", expected.digest.to_string()),
    };
    let children = match (reference.init_data(), sent) {
        (Some(expected), Some(sent)) => entries(expected, sent),
        _ => Vec::new(),
    };
    let check = Check::failed(CODE, title)
        .expected(expected)
        .found(found)
        .source(source(reference))
        .remedy(PREDICT_AGAIN);
    Check { children, ..check }
}

/// One check for each entry that differs. None where the reference does not say what the entries are.
fn entries(expected: &ExpectedInitData, sent: &InitData) -> Vec<Check> {
    if expected.entries.is_empty() {
        return Vec::new();
    }
    let found = sent.entry_digests();
    let missing =
        expected.entries.iter().filter(|(name, _)| !found.contains_key(*name)).map(|(name, digest)| {
            Check::failed(CODE, format!("The entry {name} is missing")).expected(digest.to_string())
        });
    let others = found.iter().filter_map(|(name, digest)| match expected.entries.get(name) {
        Some(own) if own == digest => None,
        Some(own) => Some(
            Check::failed(CODE, format!("The entry {name} differs"))
                .expected(own.to_string())
                .found(digest.to_string()),
        ),
        None => {
            Some(Check::failed(CODE, format!("The entry {name} was not expected")).found(digest.to_string()))
        }
    });
    let checks: Vec<Check> = missing.chain(others).collect();
    match checks.is_empty() {
        true => {
            vec![Check::failed(CODE, "The entries are the expected ones, but the text around them differs")]
        }
        false => checks,
    }
}
