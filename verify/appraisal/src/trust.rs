//! From checks to the trustworthiness vector.
//!
//! SPEC: draft-ietf-rats-ar4si, section 2.3.4. The mapping, by claim:
//!
//! | claim | affirms | warns (32) | contradicts |
//! |---|---|---|---|
//! | instance identity | 2: the chain leads to this instance | — | 96 a denied chip, 97 one that is not allowed |
//! | hardware | 2: genuine, patched as asked; 0 for software | TCB status, advisory, stale collateral | 96 the same refused, 97 a generation that is not allowed |
//! | configuration | 2: as the reference value says | debug, open registers, migration, SMT, level, service TD, accepted with a warning | 96 the same refused; settings that differ |
//! | executables | 2: boot and, by the init-data's container policy, what runs after it; 3: boot alone | — | 96 code that differs, or no reference value |
//! | runtime opaque | 2: hardware without debug; 0 for software | debug or open registers, accepted with a warning | 96 the same, refused |
//!
//! Of software nobody, an owner's policy neither, affirms hardware or what only hardware hides.
//!
//! The file system, the storage and sourced data are not seen by an appraisal: 0.

use coffer_core_evidence::ar4si::{Status, TrustVector};
use coffer_verify_api::{Check, Claims, Outcome};

const GOOD: i16 = 2;
/// Only what was loaded during boot is known to be approved.
const BOOT: i16 = 3;
const DOUBTFUL: i16 = 32;
const BAD: i16 = 96;
const UNKNOWN: i16 = 97;

/// What a code is about.
#[derive(Clone, Copy)]
enum Aspect {
    Identity,
    Hardware,
    Configuration,
    Executables,
    /// Both of the last, where it is not known which.
    Guest,
    /// Debugging opens the memory, too, and so do open registers.
    Debug,
}

/// What the check of a code says something about, and the value if it failed.
fn aspect(code: &str) -> Option<(Aspect, i16)> {
    let (group, rest) = code.split_once('.')?;
    Some(match (group, rest) {
        ("platform", "debug" | "open-registers") => (Aspect::Debug, BAD),
        ("platform", "migration" | "smt" | "vmpl" | "service-td") => (Aspect::Configuration, BAD),
        ("platform", "chip.not-allowed") => (Aspect::Identity, UNKNOWN),
        ("platform", "chip.denied" | "chip.hidden") => (Aspect::Identity, BAD),
        ("platform", "generation.not-allowed") => (Aspect::Hardware, UNKNOWN),
        ("platform", _) => (Aspect::Hardware, BAD),
        (
            "measurement",
            "command-line" | "firmware-settings" | "secure-boot" | "init-data" | "vcpus" | "memory" | "cpu"
            | "guest-features" | "vmm" | "acpi-tables",
        ) => (Aspect::Configuration, BAD),
        (
            "measurement",
            "firmware" | "kernel" | "initrd" | "kernel-hashes" | "enclave" | "signer" | "isvprodid"
            | "isvsvn" | "guest-svn" | "boot-sequence",
        ) => (Aspect::Executables, BAD),
        ("measurement" | "reference", _) => (Aspect::Guest, BAD),
        _ => return None,
    })
}

/// The vector of genuine evidence. `workload` says whether the init-data, in which the policy for containers
/// travels, is the expected one.
pub(crate) fn vector(claims: &Claims, checks: &[Check], workload: bool) -> TrustVector {
    let hardware = if claims.hardware { GOOD } else { 0 };
    let open = [claims.posture.debug, claims.posture.open_registers].contains(&Some(true));
    let mut vector = TrustVector {
        instance_identity: GOOD,
        configuration: GOOD,
        executables: if workload { GOOD } else { BOOT },
        hardware,
        runtime_opaque: if open { 0 } else { hardware },
        ..TrustVector::default()
    };
    for check in checks {
        lower(&mut vector, check);
    }
    vector
}

/// Takes every failed or warning leaf into account.
fn lower(vector: &mut TrustVector, check: &Check) {
    check.children.iter().for_each(|child| lower(vector, child));
    let worse = |at: &mut i16, value: i16| *at = worst(*at, value);
    let Some((aspect, bad)) = aspect(&check.code) else { return };
    let value = match check.outcome {
        Outcome::Failed => bad,
        Outcome::Warning => DOUBTFUL,
        _ => return,
    };
    match aspect {
        Aspect::Identity => worse(&mut vector.instance_identity, value),
        Aspect::Hardware => worse(&mut vector.hardware, value),
        Aspect::Configuration => worse(&mut vector.configuration, value),
        Aspect::Executables => worse(&mut vector.executables, value),
        Aspect::Guest => {
            worse(&mut vector.configuration, value);
            worse(&mut vector.executables, value);
        }
        Aspect::Debug => {
            worse(&mut vector.configuration, value);
            worse(&mut vector.runtime_opaque, value);
        }
    }
}

/// Of two values the one of the worse tier; of the same tier the first.
fn worst(one: i16, other: i16) -> i16 {
    match Status::of_claim(other) > Status::of_claim(one) {
        true => other,
        false => one,
    }
}

/// What an owner's policy says of software, without the claims that only hardware can earn (I-6); with their names.
pub(crate) fn of_software(mut said: TrustVector) -> (TrustVector, Vec<&'static str>) {
    let mut unearned = Vec::new();
    for name in ["hardware", "runtime-opaque", "storage-opaque"] {
        if let Some(claim) = said.claim_mut(name)
            && Status::of_claim(*claim) == Status::Affirming
        {
            *claim = 0;
            unearned.push(name);
        }
    }
    (said, unearned)
}

/// What an owner's policy says, made worse where the platform's checks are worse than a warning tells.
pub(crate) fn tempered(mut said: TrustVector, seen: &TrustVector) -> TrustVector {
    for (name, value) in seen.claims() {
        if Status::of_claim(value) >= Status::Warning
            && let Some(claim) = said.claim_mut(name)
        {
            *claim = worst(*claim, value);
        }
    }
    said
}
