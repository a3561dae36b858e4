//! The owner's demands of platforms: each refuses what it is for, by its own code, and nothing else.

use coffer_core_evidence::Tee;
use coffer_verify_api::{Claims, Outcome, Posture, Status, Tcb, TcbStatus, Verdict};

use super::kinds::{claims, verified};
use super::{NOW, codes, find};
use crate::{PlatformPolicy, Sent, Standards, appraise};

/// A device, which needs no reference value, with this posture; or another kind's claims alone.
fn posture(posture: Posture) -> Claims {
    Claims { posture, ..claims(Tee::Nvidia, &[]) }
}

fn judged(claims: &Claims, policy: &str) -> Verdict {
    let platform = PlatformPolicy::from_toml(policy).unwrap();
    let standards = Standards { references: &[], platform: &platform, policy: None };
    appraise(&verified(claims.clone()), &standards, &Sent::NOTHING, NOW.parse().unwrap())
}

fn status(claims: &Claims, policy: &str) -> (Status, Vec<String>) {
    let verdict = judged(claims, policy);
    (verdict.status, codes(&verdict).into_iter().map(str::to_owned).collect())
}

fn tcb(status: TcbStatus, advisories: &[&str]) -> Claims {
    let advisories = advisories.iter().map(|id| (*id).to_owned()).collect();
    let components = [("snp".to_owned(), 8), ("microcode".to_owned(), 115)].into();
    posture(Posture {
        tcb: Some(Tcb {
            status: Some(status),
            date: Some("2024-03-13T00:00:00Z".to_owned()),
            evaluation: Some(17),
            advisories,
            components,
        }),
        generation: Some("HOPPER".to_owned()),
        chip: Some("abcd".to_owned()),
        ..Posture::default()
    })
}

const AFFIRMED: (Status, Vec<String>) = (Status::Affirming, Vec::new());

fn refused(code: &str) -> (Status, Vec<String>) {
    (Status::Contraindicated, vec![code.to_owned()])
}

fn warned(code: &str) -> (Status, Vec<String>) {
    (Status::Warning, vec![code.to_owned()])
}

#[test]
fn what_is_dangerous_is_refused_unless_the_owner_says_otherwise() {
    type Set = fn(&mut Posture);
    let bits: [(&str, &str, Set, bool); 6] = [
        ("debug", "platform.debug", |posture| posture.debug = Some(true), false),
        ("open-registers", "platform.open-registers", |posture| posture.open_registers = Some(true), false),
        ("migration", "platform.migration", |posture| posture.migration = Some(true), false),
        ("service-td", "platform.service-td", |posture| posture.service_td = Some(true), false),
        ("smt", "platform.smt", |posture| posture.smt = Some(true), true),
        ("stale-collateral", "platform.collateral", |posture| posture.stale_collateral = Some(true), false),
    ];
    for (member, code, set, harmless) in bits {
        let mut own = Posture::default();
        set(&mut own);
        let guest = posture(own);
        let default = match member {
            "stale-collateral" => warned(code),
            _ if harmless => AFFIRMED,
            _ => refused(code),
        };
        assert_eq!(status(&guest, ""), default, "{member}");
        assert_eq!(status(&guest, &format!("{member} = \"refuse\"")), refused(code));
        assert_eq!(status(&guest, &format!("{member} = \"warn\"")), warned(code));
        assert_eq!(status(&guest, &format!("{member} = \"accept\"")), AFFIRMED);
        // Told in full: what, where specified, and what to do.
        let verdict = judged(&guest, &format!("{member} = \"refuse\""));
        let check = verdict.causes()[0];
        assert!(
            check.expected.is_some()
                && check.found.is_some()
                && check.source.is_some()
                && check.remedy.is_some()
        );
    }
    let off =
        Posture { debug: Some(false), migration: Some(false), service_td: Some(false), ..Posture::default() };
    assert_eq!(status(&posture(off), ""), AFFIRMED);
}

#[test]
fn debug_opens_the_memory_in_the_vector_too() {
    let debug = posture(Posture { debug: Some(true), ..Posture::default() });
    let trust = |policy| {
        let trust = judged(&debug, policy).trust;
        (trust.configuration, trust.runtime_opaque)
    };
    assert_eq!(trust(""), (96, 96));
    assert_eq!(trust("debug = \"warn\""), (32, 32));
    assert_eq!(trust("debug = \"accept\""), (2, 0));
    assert_eq!(judged(&posture(Posture::default()), "").trust.runtime_opaque, 2);
    let registers = posture(Posture { open_registers: Some(true), ..Posture::default() });
    let opaque = |policy| judged(&registers, policy).trust.runtime_opaque;
    assert_eq!((opaque(""), opaque("open-registers = \"accept\"")), (96, 0));
    let closed = posture(Posture { open_registers: Some(false), ..Posture::default() });
    assert_eq!(judged(&closed, "").trust.runtime_opaque, 2);
}

#[test]
fn the_level_that_asked_must_be_privileged() {
    let at = |vmpl| posture(Posture { vmpl: Some(vmpl), ..Posture::default() });
    assert_eq!(status(&at(0), ""), AFFIRMED);
    assert_eq!(status(&at(1), ""), refused("platform.vmpl"));
    assert_eq!(status(&at(2), "vmpl-max = 2"), AFFIRMED);
    assert_eq!(status(&at(3), "vmpl-max = 2"), refused("platform.vmpl"));
}

#[test]
fn a_tcb_status_affirms_warns_or_refuses_as_the_lists_say() {
    let code = "platform.tcb.status";
    assert_eq!(status(&tcb(TcbStatus::UpToDate, &[]), ""), AFFIRMED);
    for warns in [TcbStatus::SWHardeningNeeded, TcbStatus::ConfigurationNeeded, TcbStatus::TDRelaunchAdvised]
    {
        assert_eq!(status(&tcb(warns, &[]), ""), warned(code));
    }
    for refuses in [TcbStatus::OutOfDate, TcbStatus::OutOfDateConfigurationNeeded, TcbStatus::Revoked] {
        assert_eq!(status(&tcb(refuses, &[]), ""), refused(code));
    }
    let loose = "[tcb-status]\naffirm = [\"UpToDate\", \"OutOfDate\", \"Revoked\"]\nwarn = []";
    assert_eq!(status(&tcb(TcbStatus::OutOfDate, &[]), loose), AFFIRMED);
    assert_eq!(status(&tcb(TcbStatus::Revoked, &[]), loose), refused(code));
    assert_eq!(status(&tcb(TcbStatus::SWHardeningNeeded, &[]), loose), refused(code));
    let warning = judged(&tcb(TcbStatus::ConfigurationNeeded, &[]), "").trust.hardware;
    assert!((32..=95).contains(&warning));
}

#[test]
fn advisories_are_accepted_by_name_and_for_a_time() {
    let code = "platform.tcb.advisory";
    let guest = tcb(TcbStatus::UpToDate, &["INTEL-SA-00615"]);
    let with = |text: &str| format!("[advisories]\n{text}");
    assert_eq!(status(&guest, ""), warned(code));
    assert_eq!(status(&guest, &with("others = \"refuse\"")), refused(code));
    assert_eq!(status(&guest, &with("others = \"accept\"")), AFFIRMED);
    let accept =
        |until: &str| with(&format!("others = \"refuse\"\naccept = [{{ id = \"intel-sa-00615\"{until} }}]"));
    assert_eq!(status(&guest, &accept("")), AFFIRMED);
    assert_eq!(
        status(&guest, &accept(", until = \"2026-12-02\", reason = \"mended in the kernel\"")),
        AFFIRMED
    );
    assert_eq!(status(&guest, &accept(", until = \"2026-12-01\"")), refused(code));
    assert_eq!(status(&guest, &accept(", until = \"2026-12-01T00:00:01Z\"")), AFFIRMED);
    let both = with("accept = [{ id = \"INTEL-SA-00615\" }]\nrefuse = [\"INTEL-SA-00615\"]");
    assert_eq!(status(&guest, &both), refused(code));
    // Each one counts.
    let two = tcb(TcbStatus::UpToDate, &["INTEL-SA-00615", "INTEL-SA-00999"]);
    assert_eq!(status(&two, &accept("")), refused(code));
}

#[test]
fn least_patch_levels_are_demanded_by_component_date_and_evaluation() {
    let guest = tcb(TcbStatus::UpToDate, &[]);
    let with = |text: &str| format!("[[minimum]]\ntee = \"nvidia\"\n{text}");
    for good in [
        "components = { snp = 8, microcode = 115 }",
        "date = \"2024-03-13\"",
        "evaluation = 17",
        "generation = \"blackwell\"\ncomponents = { snp = 99 }",
    ] {
        assert_eq!(status(&guest, &with(good)), AFFIRMED, "{good}");
    }
    assert_eq!(status(&guest, "[[minimum]]\ntee = \"snp\"\ncomponents = { snp = 99 }"), AFFIRMED);
    for (bad, code) in [
        ("components = { snp = 9 }", "platform.tcb.component"),
        ("components = { fmc = 0 }", "platform.tcb.component"),
        ("generation = \"hopper\"\ncomponents = { snp = 9 }", "platform.tcb.component"),
        ("date = \"2024-03-14\"", "platform.tcb.date"),
        ("evaluation = 18", "platform.tcb.evaluation"),
    ] {
        assert_eq!(status(&guest, &with(bad)), refused(code), "{bad}");
    }
    // A minimum for a generation holds for evidence that hides which one it is.
    let mut hidden = guest.clone();
    hidden.posture.generation = None;
    let blackwell = with("generation = \"blackwell\"\ncomponents = { snp = 99 }");
    assert_eq!(status(&hidden, &blackwell), refused("platform.tcb.component"));
    // What is not stated is not enough.
    let silent = posture(Posture::default());
    assert_eq!(status(&silent, &with("date = \"2024-01-01\"")), refused("platform.tcb.date"));
    assert_eq!(status(&silent, &with("evaluation = 1")), refused("platform.tcb.evaluation"));
}

#[test]
fn chips_and_generations_are_allowed_and_denied_by_name() {
    let guest = tcb(TcbStatus::UpToDate, &[]);
    let hidden = posture(Posture::default());
    for (member, other, code) in
        [("chips", "abcd", "platform.chip"), ("generations", "hopper", "platform.generation")]
    {
        let with = |text: &str| format!("[{member}.nvidia]\n{text}");
        assert_eq!(status(&guest, &with("")), AFFIRMED);
        assert_eq!(status(&guest, &with(&format!("allow = [\"{other}\", \"x\"]"))), AFFIRMED);
        assert_eq!(status(&guest, &with("deny = [\"x\"]")), AFFIRMED);
        assert_eq!(
            status(&guest, &with(&format!("deny = [\"{}\"]", other.to_uppercase()))),
            refused(&format!("{code}.denied"))
        );
        assert_eq!(status(&guest, &with("allow = [\"x\"]")), refused(&format!("{code}.not-allowed")));
        let both = with(&format!("allow = [\"{other}\"]\ndeny = [\"{other}\"]"));
        assert_eq!(status(&guest, &both), refused(&format!("{code}.denied")));
        // A host that hides the name cannot hide a denied one.
        assert_eq!(status(&hidden, &with("deny = [\"x\"]")), refused(&format!("{code}.hidden")));
        assert_eq!(status(&hidden, &with("allow = [\"x\"]")), refused(&format!("{code}.hidden")));
        // Another kind of silicon's list says nothing of this one.
        assert_eq!(status(&guest, &with("allow = [\"x\"]").replace("nvidia", "snp")), AFFIRMED);
    }
    let trust = judged(&guest, "[chips.nvidia]\nallow = [\"x\"]").trust;
    assert_eq!((trust.instance_identity, trust.hardware), (97, 2));
    assert_eq!(judged(&guest, "[generations.nvidia]\nallow = [\"x\"]").trust.hardware, 97);
}

#[test]
fn silicon_is_judged_alike_under_a_paravisor() {
    let azure = Claims { tee: Tee::AzSnpVtpm, ..tcb(TcbStatus::UpToDate, &[]) };
    let found = judged(&azure, "[chips.snp]\ndeny = [\"ABCD\"]");
    assert!(codes(&found).contains(&"platform.chip.denied"));
    assert!(
        codes(&judged(&azure, "[[minimum]]\ntee = \"snp\"\ncomponents = { snp = 9 }"))
            .contains(&"platform.tcb.component")
    );
}

#[test]
fn software_is_told_and_refused_where_the_owner_says_so() {
    let software = Claims { hardware: false, ..claims(Tee::Nvidia, &[]) };
    let verdict = judged(&software, "");
    assert_eq!(find(&verdict.checks, "platform.software").unwrap().outcome, Outcome::Informational);
    assert_eq!((verdict.trust.hardware, verdict.trust.runtime_opaque), (0, 0));
    assert_eq!(status(&software, "software = \"refuse\""), refused("platform.software"));
    assert_eq!(status(&software, "software = \"warn\""), warned("platform.software"));
}

#[test]
fn a_policy_is_read_and_written_and_what_is_misspelled_is_refused() {
    let text = "debug = \"warn\"\nvmpl-max = 1\n[tcb-status]\naffirm = [\"UpToDate\"]\n[advisories]\n\
        accept = [{ id = \"X\", until = \"2027-01-01\" }]\n[[minimum]]\ntee = \"snp\"\ncomponents = { snp = 1 }\n\
        [chips.snp]\ndeny = [\"aa\"]\n[generations.tdx]\nallow = [\"b0c06f000000\"]\n";
    let policy = PlatformPolicy::from_toml(text).unwrap();
    assert_eq!(PlatformPolicy::from_toml(&policy.to_toml()).unwrap(), policy);
    let json = serde_json::to_vec(&policy).unwrap();
    assert_eq!(PlatformPolicy::from_json(&json).unwrap(), policy);
    assert_eq!(PlatformPolicy::from_toml("").unwrap(), PlatformPolicy::default());
    for wrong in [
        "debgu = \"refuse\"",
        "debug = true",
        "debug = \"maybe\"",
        "[tcb-status]\naffirm = [\"Good\"]",
        "[advisories]\naccept = [{ id = \"X\", until = \"tomorrow\" }]",
        "[[minimum]]\ncomponents = { snp = 1 }",
        "[chips.epyc]\ndeny = []",
    ] {
        PlatformPolicy::from_toml(wrong).expect_err(wrong);
    }
}
