//! Every kind of platform against its reference values: what matches is affirmed, and what differs is named.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::{
    Event, EventType, LINUX_INITRD_TAG, LINUX_LOAD_OPTIONS_TAG, command_line_bytes, command_line_note, replay,
};
use coffer_core_initdata::InitData;
use coffer_core_launch::{Bound, ExpectedInitData, ReferenceError, ReferenceValues, place_init_data};
use coffer_verify_api::{Check, Claims, OBLIGATORY, Outcome, Posture, Status, Verdict, Verified};
use serde_json::{Value, json};

use super::{INIT_DATA, NOW, codes, find};
use crate::{PlatformPolicy, Sent, Standards, appraise};

const OPTIONS: &str = "console=hvc0 quiet";

/// Reference values of a JSON document without its identifier, which is computed.
pub(super) fn reference(mut document: Value) -> ReferenceValues {
    for (name, value) in [("version", json!(2)), ("id", json!("x")), ("origin", json!("test"))] {
        document.as_object_mut().unwrap().insert(name.to_owned(), value);
    }
    match ReferenceValues::from_json(document.to_string().as_bytes()) {
        Err(ReferenceError::Id { expected, .. }) => {
            document["id"] = expected.into();
            ReferenceValues::from_json(document.to_string().as_bytes()).unwrap()
        }
        other => other.unwrap(),
    }
}

pub(super) fn digest(algorithm: Algorithm, text: &str) -> Digest {
    Digest::of(algorithm, text.as_bytes())
}

pub(super) fn sha384(text: &str) -> Digest {
    digest(Algorithm::Sha384, text)
}

/// Genuine claims of some kind.
pub(super) fn claims(tee: Tee, registers: &[(&str, Digest)]) -> Claims {
    Claims {
        tee,
        hardware: tee != Tee::Tpm,
        registers: registers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        events: Vec::new(),
        posture: Posture::default(),
        json: serde_json::Map::new(),
    }
}

pub(super) fn verified(claims: Claims) -> Verified<Claims> {
    let checks = OBLIGATORY.map(|name| Check::passed(format!("{}.{name}", claims.tee), name)).to_vec();
    Verified::from_checks(claims, checks).unwrap()
}

pub(super) fn judged(claims: &Claims, references: &[ReferenceValues], sent: Option<&InitData>) -> Verdict {
    let standards = Standards { references, platform: &PlatformPolicy::default(), policy: None };
    let sent = Sent { init_data: sent, ..Sent::NOTHING };
    appraise(&verified(claims.clone()), &standards, &sent, NOW.parse().unwrap())
}

/// A TD that was started from these events: index, type, component, what is told of it.
fn td_events(vcpus: u32, options: &str) -> Vec<(Event, &'static str, String)> {
    let event = |register, kind, digest, data: Vec<u8>| Event { register, kind, digests: vec![digest], data };
    let tagged = |tag: u32| [tag.to_le_bytes().as_slice(), &[0; 4]].concat();
    let hob = format!("TD HOB for {vcpus} vCPUs");
    let options_digest = Digest::of(Algorithm::Sha384, &command_line_bytes(options));
    vec![
        (event(1, EventType::EFI_HANDOFF_TABLES2, sha384(&hob), vec![]), "vcpus", hob),
        (
            event(1, EventType::EFI_PLATFORM_FIRMWARE_BLOB2, sha384("CFV"), vec![]),
            "firmware-settings",
            "CFV".into(),
        ),
        (event(1, EventType::PLATFORM_CONFIG_FLAGS, sha384("acpi"), vec![]), "acpi-tables", "ACPI".into()),
        (
            event(2, EventType::EFI_BOOT_SERVICES_APPLICATION, sha384("kernel"), vec![]),
            "kernel",
            "kernel".into(),
        ),
        (event(2, EventType::EFI_ACTION, sha384("exit"), b"exit".to_vec()), "boot-sequence", "exit".into()),
        (
            event(3, EventType::EVENT_TAG, options_digest, tagged(LINUX_LOAD_OPTIONS_TAG)),
            "command-line",
            options.to_owned(),
        ),
        (
            event(3, EventType::EVENT_TAG, sha384("initrd"), tagged(LINUX_INITRD_TAG)),
            "initrd",
            "initrd".into(),
        ),
    ]
}

fn rtmrs(events: &[Event]) -> BTreeMap<String, Digest> {
    let replayed = replay(events, Algorithm::Sha384, 0);
    (0..4_u32)
        .map(|number| {
            (
                format!("rtmr{number}"),
                *replayed.get(&(number + 1)).unwrap_or(&Digest::zero(Algorithm::Sha384)),
            )
        })
        .collect()
}

fn plain(events: Vec<(Event, &'static str, String)>) -> Vec<Event> {
    events.into_iter().map(|(event, _, _)| event).collect()
}

fn td_reference(init_data: Option<&InitData>) -> ReferenceValues {
    let events = td_events(4, OPTIONS);
    let mut registers = rtmrs(&plain(events.clone()));
    registers.remove("rtmr3");
    registers.insert("mrtd".into(), sha384("firmware"));
    let own = init_data.map(InitData::digest);
    registers
        .insert("mrconfigid".into(), place_init_data(Tee::Tdx, Algorithm::Sha384, own.as_ref()).unwrap().1);
    let predicted: Vec<Value> = events
        .iter()
        .map(|(event, component, detail)| {
            json!({ "register": event.register, "kind": event.kind.name().unwrap(), "component": component,
                "digest": event.digests[0], "detail": detail })
        })
        .collect();
    let two = rtmrs(&plain(td_events(2, OPTIONS)))["rtmr0"];
    let mut document = json!({
        "platform": "tdx", "bank": "sha384", "registers": registers, "events": predicted,
        "artifacts": { "vcpus": 4, "memory_mib": 2048 },
        "variations": [
            { "component": "vcpus", "detail": "2 vCPUs instead of 4", "registers": { "rtmr0": two } },
            { "component": "memory", "detail": "4096 MiB of memory instead of 2048", "registers": { "rtmr0": sha384("memory") } },
        ],
    });
    if let Some(digest) = own {
        document["init_data"] = json!({ "digest": digest });
    }
    reference(document)
}

/// A TD with these events.
fn td(events: Vec<Event>) -> Claims {
    let zero = Digest::zero(Algorithm::Sha384);
    let mut td = claims(Tee::Tdx, &[("mrtd", sha384("firmware")), ("mrconfigid", zero), ("mrowner", zero)]);
    td.registers.extend(rtmrs(&events));
    td.events = events;
    td
}

fn first(verdict: &Verdict) -> String {
    let cause = verdict.causes()[0];
    format!("{}\n{:?}\n{:?}", cause.title, cause.expected, cause.found)
}

#[test]
fn a_td_as_predicted_is_affirmed_whatever_it_extends_at_run_time() {
    let references = [td_reference(None)];
    let mut guest = td(plain(td_events(4, OPTIONS)));
    let verdict = judged(&guest, &references, None);
    assert_eq!((verdict.status, codes(&verdict)), (Status::Affirming, vec![]));
    for component in ["firmware", "vcpus", "acpi-tables", "kernel", "command-line", "initrd", "init-data"] {
        let check = find(&verdict.checks, &format!("measurement.{component}")).unwrap();
        assert_eq!(check.outcome, Outcome::Passed, "{component}");
    }
    guest.registers.insert("rtmr3".into(), sha384("run time"));
    assert_eq!(judged(&guest, &references, None).status, Status::Affirming);
    guest.events.clear();
    assert_eq!(judged(&guest, &references, None).status, Status::Affirming);
}

#[test]
fn another_number_of_processors_is_told_by_its_variation_with_and_without_a_log() {
    let mut guest = td(plain(td_events(2, OPTIONS)));
    for _ in 0..2 {
        let verdict = judged(&guest, &[td_reference(None)], None);
        assert_eq!(codes(&verdict), ["measurement.vcpus"]);
        assert!(
            first(&verdict).contains("register RTMR0 is what you get with 2 vCPUs instead of 4"),
            "{}",
            first(&verdict)
        );
        // What the register measures beside is proven to be as predicted.
        assert_eq!(find(&verdict.checks, "measurement.acpi-tables").unwrap().outcome, Outcome::Passed);
        assert_eq!(
            (verdict.trust.configuration, verdict.trust.executables, verdict.trust.hardware),
            (96, 3, 2)
        );
        guest.events.clear();
    }
}

#[test]
fn changed_events_of_a_td_are_named_by_component() {
    let check = |change: &dyn Fn(&mut Vec<Event>), code: &str, text: &str| {
        let mut events = plain(td_events(4, OPTIONS));
        change(&mut events);
        let verdict = judged(&td(events), &[td_reference(None)], None);
        assert_eq!(codes(&verdict), [code]);
        assert!(first(&verdict).contains(text), "{text:?} in {}", first(&verdict));
    };
    check(&|events| events[0].digests = vec![sha384("other")], "measurement.vcpus", "TD HOB for 4 vCPUs");
    check(&|events| events[1].digests = vec![sha384("other")], "measurement.firmware-settings", "CFV");
    check(&|events| events[2].digests = vec![sha384("other")], "measurement.acpi-tables", "ACPI");
    check(&|events| events[3].digests = vec![sha384("other")], "measurement.kernel", "kernel");
    check(&|events| events[6].digests = vec![sha384("other")], "measurement.initrd", "initrd");
    check(&|events| drop(events.remove(6)), "measurement.initrd", "was not measured into register RTMR2");
    check(
        &|events| events.swap(5, 6),
        "measurement.boot-sequence",
        "register RTMR2 are the expected ones in another order",
    );
    let debug = OPTIONS.replace("quiet", "debug");
    let told = |events: &mut Vec<Event>| {
        *events = plain(td_events(4, &debug));
        events.push(command_line_note(&debug));
    };
    check(&told, "measurement.command-line", "`debug` instead of `quiet`");
}

#[test]
fn a_register_without_a_log_or_a_variation_tells_what_it_measures() {
    let mut guest = td(Vec::new());
    guest.registers = td(plain(td_events(4, OPTIONS))).registers;
    guest.registers.insert("rtmr2".into(), sha384("other"));
    let verdict = judged(&guest, &[td_reference(None)], None);
    assert_eq!(codes(&verdict), ["measurement.rtmr2"]);
    assert!(
        first(&verdict).contains("cannot be told which of these does: the kernel's command line, the initrd")
    );
    guest.registers.insert("mrtd".into(), sha384("other"));
    assert_eq!(codes(&judged(&guest, &[td_reference(None)], None))[0], "measurement.firmware");
}

#[test]
fn init_data_is_compared_with_the_register_that_the_platform_binds_it_in() {
    let sent = InitData::parse(INIT_DATA.as_bytes()).unwrap();
    let other = InitData::parse(INIT_DATA.replace("broker", "other").as_bytes()).unwrap();
    let bind = |init_data: &InitData| {
        place_init_data(Tee::Tdx, Algorithm::Sha384, Some(&init_data.digest())).unwrap().1
    };
    let references = [td_reference(Some(&sent))];
    let mut guest = td(plain(td_events(4, OPTIONS)));
    guest.registers.insert("mrconfigid".into(), bind(&sent));
    let verdict = judged(&guest, &references, Some(&sent));
    assert_eq!((verdict.status, verdict.trust.executables), (Status::Affirming, 2));
    for (sent, text) in [(Some(&other), "is not what the guest measured"), (None, "")] {
        let verdict = judged(&guest, &references, sent);
        assert_eq!(verdict.status == Status::Affirming, text.is_empty());
        assert!(text.is_empty() || first(&verdict).contains(text));
    }
    guest.registers.insert("mrconfigid".into(), bind(&other));
    assert!(first(&judged(&guest, &references, Some(&other))).contains("is not the expected one"));
    assert!(first(&judged(&guest, &references, Some(&sent))).contains("is not what the guest measured"));
    assert_eq!(codes(&judged(&guest, &[td_reference(None)], None)), ["measurement.init-data"]);
}

#[test]
fn an_snp_launch_digest_is_explained_by_the_variation_that_gives_it() {
    let zero = Digest::zero(Algorithm::Sha256);
    let mut guest = claims(Tee::Snp, &[("measurement", sha384("launch")), ("host-data", zero)]);
    let references = [reference(json!({
        "platform": "snp", "bank": "sha384",
        "registers": { "measurement": sha384("launch"), "host-data": zero },
        "artifacts": { "vcpus": 4, "cpu": "EPYC-Milan" },
        "variations": [
            { "component": "vcpus", "detail": "2 vCPUs instead of 4", "registers": { "measurement": sha384("two") } },
            { "component": "cpu", "detail": "EPYC-Genoa instead of EPYC-Milan", "registers": { "measurement": sha384("genoa") } },
        ],
    }))];
    let verdict = judged(&guest, &references, None);
    assert_eq!(verdict.status, Status::Affirming);
    assert_eq!(find(&verdict.checks, "measurement.vcpus").unwrap().found.as_deref(), Some("4"));
    for (found, code) in
        [("two", "measurement.vcpus"), ("genoa", "measurement.cpu"), ("else", "measurement.launch-digest")]
    {
        guest.registers.insert("measurement".into(), sha384(found));
        assert_eq!(codes(&judged(&guest, &references, None)), [code]);
    }
    assert!(
        first(&judged(&guest, &references, None)).contains("none of the values that a known variation gives")
    );
    guest.registers.remove("measurement");
    guest.registers.insert("id-key-digest".into(), sha384("id"));
    assert_eq!(codes(&judged(&guest, &references, None))[0], "measurement.launch-digest");
}

#[test]
fn an_enclave_is_pinned_by_its_pages_or_by_its_signer_with_a_least_version() {
    let id = Digest::zero(Algorithm::Sha512);
    let sha256 = |text: &str| digest(Algorithm::Sha256, text);
    let signed = |least| {
        let registers = BTreeMap::from([("mrsigner".to_owned(), sha256("signer"))]);
        let versions = BTreeMap::from([
            ("isvprodid".to_owned(), Bound::Exactly(1)),
            ("isvsvn".to_owned(), Bound::AtLeast(least)),
        ]);
        ReferenceValues::from_registers(Tee::Sgx, Algorithm::Sha256, registers, versions, None).unwrap()
    };
    let mut guest =
        claims(Tee::Sgx, &[("mrenclave", sha256("pages")), ("mrsigner", sha256("signer")), ("configid", id)]);
    assert_eq!(codes(&judged(&guest, &[signed(3)], None)), ["measurement.isvprodid", "measurement.isvsvn"]);
    guest.posture.versions = BTreeMap::from([("isvprodid".to_owned(), 1), ("isvsvn".to_owned(), 3)]);
    assert_eq!(judged(&guest, &[signed(3)], None).status, Status::Affirming);
    let verdict = judged(&guest, &[signed(4)], None);
    assert_eq!(codes(&verdict), ["measurement.isvsvn"]);
    assert!(first(&verdict).contains("4 or more"));
    guest.registers.insert("mrsigner".into(), sha256("other"));
    assert_eq!(codes(&judged(&guest, &[signed(3)], None)), ["measurement.signer"]);
}

#[test]
fn the_other_platforms_are_compared_by_their_registers() {
    let sha512 = |text: &str| digest(Algorithm::Sha512, text);
    type Kind<'a> = (Tee, Algorithm, &'a [(&'a str, Digest)], &'a str, &'a str);
    let kinds: [Kind<'_>; 6] = [
        (
            Tee::Nitro,
            Algorithm::Sha384,
            &[("pcr0", sha384("0")), ("pcr1", sha384("1")), ("pcr2", sha384("2"))],
            "pcr1",
            "measurement.kernel",
        ),
        (
            Tee::Nitro,
            Algorithm::Sha384,
            &[("pcr0", sha384("0")), ("pcr1", sha384("1")), ("pcr2", sha384("2"))],
            "pcr0",
            "measurement.pcr0",
        ),
        (
            Tee::Cca,
            Algorithm::Sha512,
            &[
                ("rim", sha512("rim")),
                ("rpv", Digest::zero(Algorithm::Sha512)),
                ("platform", digest(Algorithm::Sha256, "monitor")),
            ],
            "rim",
            "measurement.rim",
        ),
        (
            Tee::Cca,
            Algorithm::Sha512,
            &[
                ("rim", sha512("rim")),
                ("rpv", Digest::zero(Algorithm::Sha512)),
                ("platform", digest(Algorithm::Sha256, "monitor")),
            ],
            "platform",
            "measurement.firmware",
        ),
        (
            Tee::Csv,
            Algorithm::Sha256,
            &[("measure", digest(Algorithm::Sha256, "csv"))],
            "measure",
            "measurement.launch-digest",
        ),
        (
            Tee::AzSnpVtpm,
            Algorithm::Sha256,
            &[
                ("measurement", sha384("paravisor")),
                ("pcr4", digest(Algorithm::Sha256, "4")),
                ("pcr7", digest(Algorithm::Sha256, "7")),
                ("pcr8", Digest::zero(Algorithm::Sha256)),
                ("pcr9", digest(Algorithm::Sha256, "9")),
                ("pcr11", digest(Algorithm::Sha256, "11")),
                ("pcr12", digest(Algorithm::Sha256, "12")),
            ],
            "measurement",
            "measurement.firmware",
        ),
    ];
    for (tee, bank, registers, changed, code) in kinds {
        let named: BTreeMap<String, Digest> =
            registers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let reference = ReferenceValues::from_registers(tee, bank, named, BTreeMap::new(), None).unwrap();
        let mut guest = claims(tee, registers);
        let verdict = judged(&guest, std::slice::from_ref(&reference), None);
        assert_eq!((verdict.status, codes(&verdict)), (Status::Affirming, vec![]), "{tee}");
        let value = guest.registers[changed];
        guest.registers.insert(changed.to_owned(), value.extend(b"changed"));
        let verdict = judged(&guest, std::slice::from_ref(&reference), None);
        assert_eq!((verdict.status, codes(&verdict)), (Status::Contraindicated, vec![code]), "{tee}");
    }
}

#[test]
fn init_data_that_a_platform_cannot_bind_is_refused() {
    let registers = [("measure", digest(Algorithm::Sha256, "csv"))];
    let named = registers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let reference =
        ReferenceValues::from_registers(Tee::Csv, Algorithm::Sha256, named, BTreeMap::new(), None).unwrap();
    let sent = InitData::parse(INIT_DATA.as_bytes()).unwrap();
    let verdict = judged(&claims(Tee::Csv, &registers), &[reference], Some(&sent));
    assert_eq!(codes(&verdict), ["measurement.init-data"]);
    assert!(first(&verdict).contains("binds none"));
}

#[test]
fn an_enclave_of_nitro_is_affirmed_with_the_init_data_that_it_locked_and_refused_with_any_other() {
    let sent = InitData::parse(INIT_DATA.as_bytes()).unwrap();
    let other = InitData::parse(INIT_DATA.replace("broker", "other").as_bytes()).unwrap();
    let registers = [("pcr0", sha384("0")), ("pcr1", sha384("1")), ("pcr2", sha384("2"))];
    let reference = |init_data: Option<&InitData>| {
        let named = registers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let expected = init_data.map(|init_data| ExpectedInitData {
            digest: init_data.digest(),
            entries: init_data.entry_digests(),
        });
        ReferenceValues::from_registers(Tee::Nitro, Algorithm::Sha384, named, BTreeMap::new(), expected)
            .unwrap()
    };
    // SPEC: AWS Nitro Secure Module, ExtendPCR.
    let extended =
        |init_data: &InitData| Digest::zero(Algorithm::Sha384).extend(init_data.digest().as_bytes());
    let plain = claims(Tee::Nitro, &registers);
    let given = |init_data: &InitData| {
        let mut guest = plain.clone();
        guest.registers.insert("pcr16".to_owned(), extended(init_data));
        guest
    };
    let (with, without) = (reference(Some(&sent)), reference(None));
    let verdict = judged(&given(&sent), std::slice::from_ref(&with), Some(&sent));
    assert_eq!((verdict.status, verdict.trust.executables, codes(&verdict)), (Status::Affirming, 2, vec![]));
    assert_eq!(judged(&plain, std::slice::from_ref(&without), None).status, Status::Affirming);
    for (guest, reference, sent) in [
        (&given(&other), &with, Some(&other)),
        (&given(&other), &with, Some(&sent)),
        (&plain, &with, Some(&sent)),
        (&plain, &with, None),
        // Nobody expected any: then it is the host who chose it.
        (&given(&sent), &without, Some(&sent)),
        (&given(&sent), &without, None),
        (&plain, &without, Some(&sent)),
    ] {
        let verdict = judged(guest, std::slice::from_ref(reference), sent);
        assert_eq!(
            (verdict.status, codes(&verdict)),
            (Status::Contraindicated, vec!["measurement.init-data"])
        );
    }
}

#[test]
fn a_realm_whose_reference_leaves_the_platforms_software_open_is_not_affirmed() {
    let sha512 = |text: &str| digest(Algorithm::Sha512, text);
    let named = BTreeMap::from([("rim".to_owned(), sha512("rim"))]);
    let reference =
        ReferenceValues::from_registers(Tee::Cca, Algorithm::Sha512, named, BTreeMap::new(), None).unwrap();
    let guest = claims(
        Tee::Cca,
        &[
            ("rim", sha512("rim")),
            ("rpv", Digest::zero(Algorithm::Sha512)),
            ("platform", digest(Algorithm::Sha256, "the host's own monitor")),
        ],
    );
    let verdict = judged(&guest, &[reference], None);
    assert_eq!((verdict.status, codes(&verdict)), (Status::Contraindicated, vec!["reference.incomplete"]));
}

#[test]
fn a_device_needs_no_reference_value_of_the_owner() {
    let sent = InitData::parse(INIT_DATA.as_bytes()).unwrap();
    assert_eq!(judged(&claims(Tee::Nvidia, &[]), &[], Some(&sent)).status, Status::Affirming);
    let verdict = judged(&claims(Tee::Nvidia, &[]), &[], None);
    assert_eq!(verdict.status, Status::Affirming);
    assert_eq!(find(&verdict.checks, "reference.vendor").unwrap().outcome, Outcome::Informational);
}
