//! Init-data against the reference value and against the register that binds it.

use coffer_core_digest::Digest;
use coffer_core_evidence::eventlog::init_data_in_bank;
use coffer_core_initdata::InitData;
use coffer_core_launch::{ExpectedInitData, ReferenceValues};
use coffer_verify_api::{Check, Claims};

use crate::{PREDICT_AGAIN, source};

/// The register that the guest's agent extends by the init-data's digest.
pub(crate) const REGISTER: u32 = 8;
const CODE: &str = "measurement.init-data";

/// The group `init-data`.
pub(crate) fn check(claims: &Claims, reference: &ReferenceValues, sent: Option<&InitData>) -> Check {
    let name = format!("pcr{REGISTER}");
    let expected = reference.registers().get(&name);
    let check = match (claims.registers.get(&name), sent) {
        (None, _) => Check::failed(CODE, format!("The evidence does not quote register {REGISTER}"))
            .expected(expected.map(Digest::to_string).unwrap_or_default()),
        (Some(quoted), Some(sent)) if register_for(&sent.digest(), reference) != *quoted => {
            Check::failed(CODE, "The init-data that was sent is not what the guest measured")
                .expected(format!("register {REGISTER} as {}", register_for(&sent.digest(), reference)))
                .found(quoted.to_string())
                .remedy("The guest was given other init-data than it sends; look at what the host attached.")
        }
        (Some(quoted), _) if expected == Some(quoted) => as_expected(reference),
        (Some(quoted), _) => differs(reference, sent, quoted),
    };
    Check::group("init-data", "Init-data", vec![check])
}

/// The register after this digest alone was extended.
fn register_for(digest: &Digest, reference: &ReferenceValues) -> Digest {
    let bank = reference.bank();
    Digest::zero(bank).extend(init_data_in_bank(digest, bank).as_bytes())
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

fn differs(reference: &ReferenceValues, sent: Option<&InitData>, quoted: &Digest) -> Check {
    let nothing = *quoted == Digest::zero(reference.bank());
    let found = match sent {
        Some(sent) => sent.digest().to_string(),
        None if nothing => "none".to_owned(),
        None => format!("init-data that was not sent; register {REGISTER} is {quoted}"),
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
