//! The demands against the posture that a judge stated: one check for each, with what it wants and what it found.

use coffer_core_evidence::Tee;
use coffer_verify_api::{Check, Claims, Posture, Tcb, TcbStatus, Timestamp};

use super::{AcceptedAdvisory, Minimum, Moment, Names, PlatformPolicy, Ruling};

const POLICY: &str = "platform policy";

/// The checks. What a platform has no notion of is not checked, unless the policy names something that must be there.
pub(crate) fn check(claims: &Claims, policy: &PlatformPolicy, at: Timestamp) -> Vec<Check> {
    let Posture {
        debug,
        open_registers,
        migration,
        smt,
        vmpl,
        service_td,
        tcb,
        chip,
        generation,
        stale_collateral,
        ..
    } = &claims.posture;
    let silicon = silicon(claims.tee);
    let mut checks = vec![software(claims.hardware, policy.software)];
    checks.extend(debug.map(|found| bit(&DEBUG, found, policy.debug)));
    checks.extend(open_registers.map(|found| bit(&REGISTERS, found, policy.open_registers)));
    checks.extend(migration.map(|found| bit(&MIGRATION, found, policy.migration)));
    checks.extend(smt.map(|found| bit(&SMT, found, policy.smt)));
    checks.extend(service_td.map(|found| bit(&SERVICE_TD, found, policy.service_td)));
    checks.extend(vmpl.map(|found| level(found, policy.vmpl_max)));
    checks.extend(stale_collateral.map(|found| bit(&STALE, found, policy.stale_collateral)));
    if let Some(tcb) = tcb {
        checks.extend(status(tcb, policy));
        checks.extend(tcb.advisories.iter().map(|id| advisory(id, policy, at)));
    }
    let applies = |minimum: &&Minimum| {
        // A host that may hide the generation could hide the one that this is for.
        let own = |name: &str| generation.as_deref().is_none_or(|own| name.eq_ignore_ascii_case(own));
        minimum.tee == silicon && minimum.generation.as_deref().is_none_or(own)
    };
    for minimum in policy.minimum.iter().filter(applies) {
        checks.extend(least(tcb.as_ref().unwrap_or(&Tcb::default()), minimum));
    }
    if let Some(names) = policy.chips.get(&silicon) {
        checks.push(named(&CHIP, chip.as_deref(), names));
    }
    match policy.generations.get(&silicon) {
        Some(names) => checks.push(named(&GENERATION, generation.as_deref(), names)),
        None => checks.extend(generation.as_ref().map(|found| {
            Check::informational("platform.generation", "The platform's generation").found(found.clone())
        })),
    }
    checks
}

/// The silicon under a cloud's paravisor.
const fn silicon(tee: Tee) -> Tee {
    match tee {
        Tee::AzSnpVtpm => Tee::Snp,
        Tee::AzTdxVtpm => Tee::Tdx,
        other => other,
    }
}

fn software(hardware: bool, ruling: Ruling) -> Check {
    if hardware {
        return Check::passed("platform.hardware", "Hardware protects the guest from its host");
    }
    const TITLE: &str =
        "The evidence is from software: it shows what was started, and protects nothing from the host";
    ruled("platform.software", TITLE, ruling)
        .remedy("For secrets that the host must not see, use a policy that asks for hardware.")
}

/// A check of something that was found and is ruled on.
fn ruled(code: &str, title: &str, ruling: Ruling) -> Check {
    match ruling {
        Ruling::Refuse => Check::failed(code, title),
        Ruling::Warn => Check::warning(code, title),
        Ruling::Accept => Check::informational(code, title),
    }
}

/// One thing that a platform has or has not.
struct Bit {
    code: &'static str,
    /// Where it is there.
    there: &'static str,
    /// Where it is not.
    absent: &'static str,
    source: &'static str,
    remedy: &'static str,
}

const DEBUG: Bit = Bit {
    code: "platform.debug",
    there: "The host may debug the guest and read its memory",
    absent: "The host cannot debug the guest",
    source: "Intel TDX module base, TD attributes, DEBUG; AMD SNP ABI, guest policy, bit 19",
    remedy: "Start the guest without debugging: it is a choice of the host's launcher.",
};
const REGISTERS: Bit = Bit {
    code: "platform.open-registers",
    there: "The host may read and write the guest's registers whenever it interrupts it",
    absent: "The guest's registers are closed to the host",
    source: "Hygon CSV, guest policy, ES and CSV3",
    remedy: "Start the guest as CSV2 or CSV3; or accept it with `open-registers` in the platform policy.",
};
const MIGRATION: Bit = Bit {
    code: "platform.migration",
    there: "A migration agent may move the guest to another machine",
    absent: "The guest cannot be migrated",
    source: "Intel TDX module base, TD attributes, MIGRATABLE; AMD SNP ABI, guest policy, bit 18",
    remedy: "Start the guest as one that cannot be migrated, or accept it with `migration` in the platform policy.",
};
const SMT: Bit = Bit {
    code: "platform.smt",
    there: "Two threads share a core",
    absent: "No two threads share a core",
    source: "AMD SNP ABI, platform information, bit 0; Intel PCK certificate, configuration",
    remedy: "Turn SMT off in the host's firmware, or accept it with `smt` in the platform policy.",
};
const SERVICE_TD: Bit = Bit {
    code: "platform.service-td",
    there: "A service TD is bound to the guest",
    absent: "No service TD is bound to the guest",
    source: "Intel TDX module, TD report, MRSERVICETD",
    remedy: "Start the guest without a service TD, or accept it with `service-td` in the platform policy.",
};
const STALE: Bit = Bit {
    code: "platform.collateral",
    there: "The vendor's documents are past their time",
    absent: "The vendor's documents are current",
    source: "the judge's setting for stale collateral",
    remedy: "Fetch them again with `coffer collateral fetch`.",
};

fn bit(bit: &Bit, found: bool, ruling: Ruling) -> Check {
    match found {
        false => Check::passed(bit.code, bit.absent),
        true => ruled(bit.code, bit.there, ruling)
            .expected("off")
            .found("on")
            .source(bit.source)
            .remedy(bit.remedy),
    }
}

fn level(found: u8, most: u8) -> Check {
    let code = "platform.vmpl";
    match found <= most {
        true => {
            Check::passed(code, "The evidence was asked for from a privileged level").found(found.to_string())
        }
        false => Check::failed(code, "The evidence was asked for from a level that is not privileged enough")
            .expected(format!("VMPL {most} or less"))
            .found(format!("VMPL {found}"))
            .source("AMD SNP ABI, attestation report, VMPL")
            .remedy("If your guest runs under an SVSM, set `vmpl-max` in the platform policy."),
    }
}

fn status(tcb: &Tcb, policy: &PlatformPolicy) -> Option<Check> {
    let found = tcb.status?;
    let lists = &policy.tcb_status;
    let code = "platform.tcb.status";
    let text = match tcb.advisories.is_empty() {
        true => found.to_string(),
        false => format!("{found} ({})", tcb.advisories.join(", ")),
    };
    let check = match () {
        () if found == TcbStatus::Revoked => {
            Check::failed(code, "The vendor has revoked the platform's patch level")
        }
        () if lists.affirm.contains(&found) => Check::passed(code, "The platform is patched"),
        () if lists.warn.contains(&found) => {
            Check::warning(code, "The platform is patched, with something to mend")
        }
        () => Check::failed(code, "The platform is not patched well enough"),
    };
    let names: Vec<&str> = lists.affirm.iter().map(|status| status.name()).collect();
    Some(
        check
            .expected(names.join(" or "))
            .found(text)
            .source("Intel PCS API v4, TCB info, tcbStatus")
            .remedy(
                "Update the host's firmware and microcode; or accept this status in the platform policy \
                 (`tcb-status`).",
            ),
    )
}

fn advisory(id: &str, policy: &PlatformPolicy, at: Timestamp) -> Check {
    let code = "platform.tcb.advisory";
    let lists = &policy.advisories;
    let same = |name: &str| name.eq_ignore_ascii_case(id);
    let accepted: Option<&AcceptedAdvisory> = lists.accept.iter().find(|accepted| same(&accepted.id));
    let lapsed = accepted.and_then(|accepted| accepted.until).filter(|until| at >= until.0);
    let check = match (accepted, lapsed) {
        _ if lists.refuse.iter().any(|name| same(name)) => Check::failed(
            code,
            format!("The advisory {id} applies to the platform, and the policy refuses it"),
        )
        .expected("a platform that it does not apply to"),
        (Some(_), Some(until)) => Check::failed(
            code,
            format!("The advisory {id} applies to the platform; it was accepted until {until}"),
        )
        .expected(format!("a time before {until}")),
        (Some(accepted), None) => {
            let why = if accepted.reason.is_empty() { "" } else { ": " };
            let title =
                format!("The advisory {id} applies to the platform and is accepted{why}{}", accepted.reason);
            return Check::informational(code, title).found(id).source(POLICY);
        }
        (None, _) => ruled(code, &format!("The advisory {id} applies to the platform"), lists.others)
            .expected("no advisory, or one that the policy accepts by name"),
    };
    check.found(id).source("the vendor's advisory of this name").remedy(
        "Update the host; or read the advisory, and accept it by name and for a time in the platform policy \
         (`advisories.accept`).",
    )
}

fn least(tcb: &Tcb, minimum: &Minimum) -> Vec<Check> {
    let of = minimum.generation.clone().unwrap_or_else(|| minimum.tee.to_string());
    let update = "Update the host's firmware and microcode; or lower the minimum in the platform policy.";
    let told = |code: &str, good: bool, title: String, expected: String, found: Option<String>| {
        let check = if good { Check::passed(code, title) } else { Check::failed(code, title) };
        check
            .expected(format!("{expected} or later, for {of}"))
            .found(found.unwrap_or_else(|| "not stated".to_owned()))
            .source(POLICY)
            .remedy(update)
    };
    let mut checks: Vec<Check> = minimum
        .components
        .iter()
        .map(|(name, least)| {
            let found = tcb.components.get(name);
            let title = format!("The security version of {name}");
            told(
                "platform.tcb.component",
                found.is_some_and(|found| found >= least),
                title,
                format!("{name} {least}"),
                found.map(|found| format!("{name} {found}")),
            )
        })
        .collect();
    if let Some(least) = minimum.date {
        let date = tcb.date.as_deref();
        let good = date.and_then(|text| text.parse::<Moment>().ok()).is_some_and(|found| found >= least);
        let title = "The date of the platform's patch level".to_owned();
        checks.push(told("platform.tcb.date", good, title, least.to_string(), date.map(str::to_owned)));
    }
    if let Some(least) = minimum.evaluation {
        let good = tcb.evaluation.is_some_and(|found| found >= least);
        let title = "The vendor's evaluation by which the platform was judged".to_owned();
        let found = tcb.evaluation.map(|found| found.to_string());
        checks.push(told("platform.tcb.evaluation", good, title, least.to_string(), found));
    }
    checks
}

/// Something by which platforms are named.
struct Kind {
    code: &'static str,
    noun: &'static str,
    member: &'static str,
}

const CHIP: Kind = Kind { code: "platform.chip", noun: "chip", member: "chips" };
const GENERATION: Kind = Kind { code: "platform.generation", noun: "generation", member: "generations" };

fn named(kind: &Kind, found: Option<&str>, names: &Names) -> Check {
    let Kind { code, noun, member } = kind;
    let within = |list: &std::collections::BTreeSet<String>| {
        found.is_some_and(|found| list.iter().any(|name| name.eq_ignore_ascii_case(found)))
    };
    let check = match found {
        _ if names.allow.is_empty() && names.deny.is_empty() => {
            Check::informational(*code, format!("The platform's {noun}"))
        }
        // A host that may hide the name could hide one that is denied.
        None => Check::failed(format!("{code}.hidden"), format!("The evidence does not tell the {noun}"))
            .expected(format!("a {noun} that the policy's lists can be asked for")),
        Some(_) if within(&names.deny) => {
            Check::failed(format!("{code}.denied"), format!("The policy denies this {noun}"))
                .expected(format!("a {noun} that is not in `{member}.deny`"))
        }
        Some(_) if !names.allow.is_empty() && !within(&names.allow) => {
            Check::failed(format!("{code}.not-allowed"), format!("The policy does not allow this {noun}"))
                .expected(format!("a {noun} in `{member}.allow`"))
        }
        Some(_) => Check::passed(*code, format!("The policy allows this {noun}")),
    };
    check
        .found(found.unwrap_or("hidden"))
        .source(POLICY)
        .remedy(format!("Run the guest elsewhere; or change `{member}` in the platform policy."))
}
