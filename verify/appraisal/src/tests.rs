//! One recorded boot, changed in one place at a time: each change is refused and named.

mod kinds;
mod owners;
mod platforms;

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::{
    Event, EventLog, EventType, command_line_bytes, command_line_note, init_data_event, replay,
};
use coffer_core_initdata::InitData;
use coffer_core_launch::ReferenceValues;
use coffer_verify_api::{Check, Claims, OBLIGATORY, Outcome, Status, Timestamp, Verdict, Verified};
use proptest::prelude::*;

use crate::{PlatformPolicy, Sent, Standards, appraise};

const BANK: Algorithm = Algorithm::Sha256;
const BOOT_LOG: &[u8] = include_bytes!("../../../core/launch/testdata/boot.log");
const REFERENCE: &str = include_str!("../../../core/launch/testdata/reference.json");
const INIT_DATA: &str = include_str!("../../../core/launch/testdata/init-data.toml");
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet coffer.channel=virtio initrd=initrd";
/// Within the reference value's lifetime.
const NOW: &str = "2026-12-01T00:00:00Z";

fn reference() -> ReferenceValues {
    ReferenceValues::from_json(REFERENCE.as_bytes()).unwrap()
}

/// A guest as its evidence shows it.
#[derive(Clone)]
struct Guest {
    /// What was extended, in truth. The registers follow from it.
    events: Vec<Event>,
    /// Whether the log is sent.
    log_sent: bool,
    sent: Option<InitData>,
    hardware: bool,
    /// Registers other than the events make them.
    forced: BTreeMap<String, Option<Digest>>,
}

impl Guest {
    fn new() -> Self {
        let init_data = InitData::parse(INIT_DATA.as_bytes()).unwrap();
        let mut events = EventLog::parse(BOOT_LOG).unwrap().into_events();
        events.push(init_data_event(&init_data.digest(), &[BANK]));
        events.push(command_line_note(COMMAND_LINE));
        Self { events, log_sent: true, sent: Some(init_data), hardware: false, forced: BTreeMap::new() }
    }

    /// The place of the `nth` extended event of a register.
    fn at(&self, register: u32, nth: usize) -> usize {
        let of_register = |event: &&(usize, &Event)| event.1.is_extended() && event.1.register == register;
        let events: Vec<_> = self.events.iter().enumerate().collect();
        events.iter().filter(of_register).nth(nth).unwrap().0
    }

    /// Other content in the `nth` event of a register.
    fn other(&mut self, register: u32, nth: usize) {
        let at = self.at(register, nth);
        self.events[at].digests = vec![Digest::sha256(b"other")];
    }

    fn command_line(&mut self, text: &str, note: Option<&str>) {
        let at = self.at(9, 0);
        self.events[at].digests = vec![Digest::sha256(&command_line_bytes(text))];
        self.events.pop();
        self.events.extend(note.map(command_line_note));
    }

    fn init_data(&mut self, measured: Option<&str>, sent: Option<&str>) {
        let parse = |text: &str| InitData::parse(text.as_bytes()).unwrap();
        let at = self.at(8, 0);
        match measured {
            Some(text) => self.events[at] = init_data_event(&parse(text).digest(), &[BANK]),
            None => drop(self.events.remove(at)),
        }
        self.sent = sent.map(parse);
    }

    fn registers(&self) -> BTreeMap<String, Digest> {
        let replayed = replay(&self.events, BANK, 0);
        let mut registers: BTreeMap<String, Digest> = (0..24)
            .map(|number| (format!("pcr{number}"), *replayed.get(&number).unwrap_or(&Digest::zero(BANK))))
            .collect();
        for (name, value) in &self.forced {
            match value {
                Some(value) => registers.insert(name.clone(), *value),
                None => registers.remove(name),
            };
        }
        registers
    }

    fn verified(&self) -> Verified<Claims> {
        let claims = Claims {
            tee: Tee::Tpm,
            hardware: self.hardware,
            registers: self.registers(),
            events: if self.log_sent { self.events.clone() } else { Vec::new() },
            posture: Default::default(),
            json: Default::default(),
        };
        let checks = OBLIGATORY.map(|name| Check::passed(format!("tpm.quote.{name}"), name)).to_vec();
        Verified::from_checks(claims, checks).unwrap()
    }

    fn appraise(&self, references: &[ReferenceValues], at: &str) -> Verdict {
        let standards = Standards { references, platform: &PlatformPolicy::default(), policy: None };
        let sent = Sent { init_data: self.sent.as_ref(), ..Sent::NOTHING };
        appraise(&self.verified(), &standards, &sent, at.parse::<Timestamp>().unwrap())
    }
}

fn codes(verdict: &Verdict) -> Vec<&str> {
    verdict.causes().into_iter().map(|check| check.code.as_str()).collect()
}

fn find<'a>(checks: &'a [Check], code: &str) -> Option<&'a Check> {
    checks.iter().find_map(|check| match check.code == code {
        true => Some(check),
        false => find(&check.children, code),
    })
}

/// Changes a guest, and wants exactly these causes and this text somewhere in the first one.
fn check(change: impl FnOnce(&mut Guest), causes: &[&str], text: &str) -> Verdict {
    let mut guest = Guest::new();
    change(&mut guest);
    let verdict = guest.appraise(&[reference()], NOW);
    let tree = serde_json::to_string_pretty(&verdict.checks).unwrap();
    assert_eq!(codes(&verdict), causes, "{tree}");
    assert_eq!(verdict.status, Status::Contraindicated);
    let first = verdict.causes()[0];
    let told = format!("{}\n{:?}\n{:?}", first.title, first.expected, first.found);
    assert!(told.contains(text), "{text:?} in {told}");
    assert!(!verdict.claims.contains_key("reference"));
    verdict
}

#[test]
fn a_guest_as_predicted_is_affirmed() {
    let verdict = Guest::new().appraise(&[reference()], NOW);
    assert_eq!((verdict.status, codes(&verdict)), (Status::Affirming, vec![]));
    for component in [
        "firmware",
        "firmware-settings",
        "secure-boot",
        "kernel",
        "command-line",
        "initrd",
        "boot-sequence",
        "init-data",
    ] {
        let check = find(&verdict.checks, &format!("measurement.{component}")).unwrap();
        assert_eq!(check.outcome, Outcome::Passed, "{component}");
    }
    assert_eq!(verdict.claims["reference"]["id"], reference().id());
}

#[test]
fn without_an_event_log_the_registers_alone_affirm() {
    let guest = Guest { log_sent: false, ..Guest::new() };
    assert_eq!(guest.appraise(&[reference()], NOW).status, Status::Affirming);
}

#[test]
fn a_changed_command_line_is_named_with_both_texts_and_the_first_word_that_differs() {
    let text = COMMAND_LINE.replace("quiet", "debug");
    let verdict = check(
        |guest| guest.command_line(&text, Some(&text)),
        &["measurement.command-line"],
        "`debug` instead of `quiet`",
    );
    let cause = find(&verdict.checks, "measurement.command-line").unwrap();
    assert_eq!(cause.expected.as_deref(), Some(COMMAND_LINE));
    assert_eq!(cause.found.as_deref(), Some(text.as_str()));
    assert_eq!(find(&verdict.checks, "measurement.initrd").unwrap().outcome, Outcome::Passed);
    let longer = format!("{COMMAND_LINE} init=/bin/sh");
    check(
        |g| g.command_line(&longer, Some(&longer)),
        &["measurement.command-line"],
        "`init=/bin/sh` was added",
    );
    let shorter = COMMAND_LINE.strip_suffix(" initrd=initrd").unwrap();
    check(
        |g| g.command_line(shorter, Some(shorter)),
        &["measurement.command-line"],
        "`initrd=initrd` is missing",
    );
}

#[test]
fn a_command_line_s_text_is_believed_only_if_it_hashes_to_the_measured_value() {
    let hash = Digest::sha256(&command_line_bytes("evil")).to_string();
    for note in [None, Some(COMMAND_LINE), Some("harmless")] {
        let verdict = check(|guest| guest.command_line("evil", note), &["measurement.command-line"], &hash);
        assert!(!serde_json::to_string(&verdict).unwrap().contains("harmless"));
    }
}

#[test]
fn a_command_line_that_the_event_itself_tells_is_shown_if_its_digest_covers_it() {
    let tell = |measured: &'static str, told: &'static str| {
        move |guest: &mut Guest| {
            guest.command_line(measured, None);
            let at = guest.at(9, 0);
            guest.events[at].data = command_line_bytes(told);
        }
    };
    check(tell("quiet evil", "quiet evil"), &["measurement.command-line"], "`quiet` instead of");
    let hash = Digest::sha256(&command_line_bytes("quiet evil")).to_string();
    check(tell("quiet evil", "quiet"), &["measurement.command-line"], &hash);
}

#[test]
fn each_changed_component_is_named() {
    check(|guest| guest.other(9, 1), &["measurement.initrd"], "initrd");
    check(|guest| guest.other(4, 0), &["measurement.kernel"], "The kernel is not the expected one");
    check(|guest| guest.other(0, 2), &["measurement.firmware"], "The firmware is not the expected one");
    check(|guest| guest.other(0, 1), &["measurement.firmware"], "640 MiB of memory, 2 processors");
    check(|guest| guest.other(7, 0), &["measurement.secure-boot"], "secure boot");
    check(|guest| guest.other(1, 1), &["measurement.firmware-settings"], "Boot0000");
    check(|guest| guest.other(5, 1), &["measurement.boot-sequence"], "Exit Boot Services");
    check(
        |guest| {
            guest.other(9, 0);
            guest.other(7, 1);
        },
        &["measurement.secure-boot", "measurement.command-line"],
        "PK",
    );
}

#[test]
fn added_left_out_and_reordered_events_are_named() {
    let added = |guest: &mut Guest| {
        let at = guest.at(4, 0);
        let event = guest.events[at].clone();
        guest.events.insert(at + 1, Event { digests: vec![Digest::sha256(b"shell")], ..event });
    };
    check(added, &["measurement.kernel"], "has an event that was not expected");
    let left_out = |guest: &mut Guest| {
        let at = guest.at(9, 1);
        guest.events.remove(at);
    };
    check(left_out, &["measurement.initrd"], "was not measured into register 9");
    let reordered = |guest: &mut Guest| {
        let (one, other) = (guest.at(9, 0), guest.at(9, 1));
        guest.events.swap(one, other);
    };
    check(reordered, &["measurement.boot-sequence"], "in another order");
}

/// QEMU writes the initrd's size into the kernel, so a changed initrd changes the kernel's hash.
#[test]
fn a_kernel_is_not_blamed_for_the_initrd_or_for_the_memory_size() {
    for (register, nth, cause) in [(9, 1, "measurement.initrd"), (0, 1, "measurement.firmware")] {
        let verdict = check(
            |guest| {
                guest.other(4, 0);
                guest.other(register, nth);
            },
            &[cause],
            "expected one",
        );
        let kernel = find(&verdict.checks, "measurement.kernel").unwrap();
        assert_eq!(kernel.outcome, Outcome::Unavailable);
        assert!(kernel.found.is_some(), "both hashes are shown");
    }
}

#[test]
fn any_changed_register_is_refused_with_and_without_a_log() {
    let expected = [
        "measurement.firmware",
        "measurement.firmware-settings",
        "measurement.boot-sequence",
        "measurement.boot-sequence",
        "measurement.kernel",
        "measurement.boot-sequence",
        "measurement.boot-sequence",
        "measurement.secure-boot",
        "measurement.init-data",
        // It measures two things, and without a log it cannot be told which one differs.
        "measurement.pcr9",
    ];
    for (register, code) in expected.into_iter().enumerate() {
        let name = format!("pcr{register}");
        for log_sent in [true, false] {
            let why = if log_sent { "log does not lead to its value" } else { "no event log was sent" };
            check(
                |guest| {
                    guest.log_sent = log_sent;
                    guest.forced.insert(name.clone(), Some(Digest::sha256(b"other")));
                },
                &[code],
                if register == 8 { "" } else { why },
            );
        }
    }
}

#[test]
fn a_register_that_was_not_quoted_is_refused() {
    for register in (0..=9).filter(|register| *register != 8) {
        let name = format!("pcr{register}");
        check(
            |guest| guest.forced.extend([(name.clone(), None)]),
            &[&format!("measurement.{name}")],
            "does not quote",
        );
    }
    check(
        |guest| guest.forced.extend([("pcr8".to_owned(), None)]),
        &["measurement.init-data"],
        "does not quote",
    );
}

#[test]
fn changed_init_data_is_named_down_to_the_entry() {
    let code = &["measurement.init-data"];
    let changed = INIT_DATA.replace("broker", "other");
    let verdict =
        check(|g| g.init_data(Some(&changed), Some(&changed)), code, "The entry coffer.toml differs");
    let group = find(&verdict.checks, "init-data").unwrap();
    let digest = InitData::parse(changed.as_bytes()).unwrap().digest().to_string();
    assert_eq!(group.children[0].found.as_deref(), Some(digest.as_str()));
    let added = format!("{INIT_DATA}\"extra.toml\" = \"x\"\n");
    check(|g| g.init_data(Some(&added), Some(&added)), code, "The entry extra.toml was not expected");
    let removed = INIT_DATA.replace("\"aa.toml\" = \"url\"\n", "");
    check(|g| g.init_data(Some(&removed), Some(&removed)), code, "The entry aa.toml is missing");
    let spaced = format!("{INIT_DATA}\n");
    check(|g| g.init_data(Some(&spaced), Some(&spaced)), code, "the text around them differs");
}

#[test]
fn init_data_is_bound_to_the_register_and_cannot_be_left_out() {
    let code = &["measurement.init-data"];
    let changed = INIT_DATA.replace("broker", "other");
    check(|g| g.init_data(Some(INIT_DATA), Some(&changed)), code, "is not what the guest measured");
    check(|g| g.init_data(Some(&changed), Some(INIT_DATA)), code, "is not what the guest measured");
    check(|g| g.init_data(None, Some(INIT_DATA)), code, "is not what the guest measured");
    check(|g| g.init_data(None, None), code, "was given no init-data");
    check(|g| g.init_data(Some(&changed), None), code, "that was not sent");
    // Only the register counts: the same init-data need not be sent again.
    let mut guest = Guest::new();
    guest.init_data(Some(INIT_DATA), None);
    assert_eq!(guest.appraise(&[reference()], NOW).status, Status::Affirming);
}

#[test]
fn without_a_reference_value_nothing_is_affirmed() {
    for references in [vec![], vec![sha384_reference()]] {
        let verdict = Guest::new().appraise(&references, NOW);
        assert_eq!((verdict.status, codes(&verdict)), (Status::Contraindicated, vec!["reference.none"]));
    }
}

/// A reference value for a bank that was not quoted.
fn sha384_reference() -> ReferenceValues {
    let digest = Digest::zero(Algorithm::Sha384);
    let mut json: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
    json["bank"] = "sha384".into();
    json["events"] = serde_json::json!([]);
    json["registers"] = serde_json::json!({ "pcr0": digest });
    let text = format!("tpm\nsha384\npcr0={digest}\n");
    json["id"] = format!("tpm-{}", &Digest::sha256(text.as_bytes()).hex()[..24]).into();
    ReferenceValues::from_json(json.to_string().as_bytes()).unwrap()
}

#[test]
fn a_reference_value_holds_only_in_its_lifetime() {
    let guest = Guest::new();
    let at = |reference: ReferenceValues, at: &str| {
        let verdict = guest.appraise(&[reference], at);
        assert_eq!(verdict.status == Status::Affirming, codes(&verdict).is_empty());
        codes(&verdict).join(" ")
    };
    assert_eq!(at(reference(), "2027-11-19T23:59:59Z"), "");
    assert_eq!(at(reference(), "2027-11-20T00:00:00Z"), "reference.expired");
    let mut later = reference();
    later.not_before = Some("2027-01-01T00:00:00Z".to_owned());
    assert_eq!(at(later.clone(), "2026-12-31T23:59:59Z"), "reference.not-yet-valid");
    assert_eq!(at(later, "2027-01-01T00:00:00Z"), "");
    let mut damaged = reference();
    damaged.expires = Some("never".to_owned());
    assert_eq!(at(damaged, NOW), "reference.unreadable-time");
    let eternal = reference().with_times(None, None);
    assert_eq!(at(eternal, "2099-01-01T00:00:00Z"), "");
}

/// The committed reference value without some registers.
fn without(registers: &[&str]) -> ReferenceValues {
    let mut json: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
    for name in registers {
        json["registers"].as_object_mut().unwrap().remove(*name).unwrap();
    }
    let kept: BTreeMap<String, Digest> = serde_json::from_value(json["registers"].clone()).unwrap();
    let text: String = kept.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let id = Digest::sha256(format!("tpm\nsha256\n{text}").as_bytes()).hex();
    json["id"] = format!("tpm-{}", &id[..24]).into();
    ReferenceValues::from_json(json.to_string().as_bytes()).unwrap()
}

#[test]
fn a_reference_value_that_leaves_a_register_to_the_host_affirms_nobody() {
    for register in 0..=9 {
        let name = format!("pcr{register}");
        let partial = without(&[&name]);
        let verdict = Guest::new().appraise(std::slice::from_ref(&partial), NOW);
        assert_eq!(verdict.status, Status::Contraindicated, "{name}");
        assert_eq!(codes(&verdict)[0], "reference.incomplete", "{name}");
        let cause = find(&verdict.checks, "reference.incomplete").unwrap();
        assert!(cause.expected.as_deref().unwrap().contains(&name));
        // Beside a complete one it does no harm.
        assert_eq!(Guest::new().appraise(&[partial, reference()], NOW).status, Status::Affirming);
    }
    // What it was for: any kernel, with the right init-data.
    let mut guest = Guest::new();
    guest.other(4, 0);
    let only_init_data: Vec<String> =
        (0..=9).filter(|number| *number != 8).map(|number| format!("pcr{number}")).collect();
    let only_init_data: Vec<&str> = only_init_data.iter().map(String::as_str).collect();
    assert_eq!(codes(&guest.appraise(&[without(&only_init_data)], NOW)), ["reference.incomplete"]);
}

#[test]
fn an_expired_match_says_more_than_a_valid_value_that_differs() {
    let expired = reference().with_times(None, Some("2026-11-30T00:00:00Z".to_owned()));
    let verdict = Guest::new().appraise(&[farther(), expired], NOW);
    assert_eq!(codes(&verdict), ["reference.expired"]);
}

#[test]
fn expired_values_that_differ_tell_both() {
    let mut guest = Guest::new();
    guest.other(9, 1);
    let verdict = guest.appraise(&[reference()], "2030-01-01T00:00:00Z");
    assert_eq!(codes(&verdict), ["reference.expired", "measurement.initrd"]);
}

/// A reference value that agrees in fewer registers.
fn farther() -> ReferenceValues {
    let mut json: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
    let mut events: Vec<serde_json::Value> = json["events"].as_array().unwrap().clone();
    for event in &mut events {
        event["digest"] = Digest::sha256(b"farther").to_string().into();
    }
    let mut registers: BTreeMap<u64, Digest> = (0..10).map(|n| (n, Digest::zero(BANK))).collect();
    for event in &events {
        let register = registers.get_mut(&event["register"].as_u64().unwrap()).unwrap();
        *register = register.extend(Digest::sha256(b"farther").as_bytes());
    }
    let text: String = registers.iter().map(|(number, value)| format!("pcr{number}={value}\n")).collect();
    let id = Digest::sha256(format!("tpm\nsha256\n{text}").as_bytes()).hex();
    json["id"] = format!("tpm-{}", &id[..24]).into();
    let named: BTreeMap<String, Digest> =
        registers.into_iter().map(|(number, value)| (format!("pcr{number}"), value)).collect();
    json["registers"] = serde_json::to_value(named).unwrap();
    json["events"] = events.into();
    json["origin"] = "farther".into();
    ReferenceValues::from_json(json.to_string().as_bytes()).unwrap()
}

#[test]
fn any_matching_reference_value_affirms_and_the_closest_explains() {
    for references in [[reference(), farther()], [farther(), reference()]] {
        assert_eq!(Guest::new().appraise(&references, NOW).status, Status::Affirming);
        let mut guest = Guest::new();
        guest.other(4, 0);
        let verdict = guest.appraise(&references, NOW);
        assert_eq!(codes(&verdict), ["measurement.kernel"]);
        assert!(verdict.causes()[0].source.as_deref().unwrap().contains("coffer measure"));
    }
}

#[test]
fn software_evidence_is_said_to_be_software() {
    let software = Guest::new().appraise(&[reference()], NOW);
    assert_eq!(find(&software.checks, "platform.software").unwrap().outcome, Outcome::Informational);
    assert!(find(&software.checks, "platform.hardware").is_none());
    let hardware = Guest { hardware: true, ..Guest::new() }.appraise(&[reference()], NOW);
    assert_eq!(find(&hardware.checks, "platform.hardware").unwrap().outcome, Outcome::Passed);
    assert!(hardware.hardware && !software.hardware);
}

#[test]
fn the_same_inputs_give_the_same_verdict_and_the_same_tree() {
    let mut guest = Guest::new();
    guest.other(9, 1);
    guest.other(4, 0);
    let tree = || serde_json::to_string(&guest.appraise(&[farther(), reference()], NOW)).unwrap();
    assert_eq!(tree(), tree());
}

fn hostile_event() -> impl Strategy<Value = Event> {
    let kinds =
        prop::sample::select(vec![0, 3, 4, 6, 0x8000_0001, 0x8000_0002, 0x8000_0003, 0x8000_0008, 77]);
    (0u32..12, kinds, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(register, kind, digest, data)| Event {
            register,
            kind: EventType(kind),
            digests: vec![Digest::sha256(&[digest])],
            data,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// The log only explains: whatever it says, other registers are never affirmed, and a cause is always given.
    #[test]
    fn no_log_talks_a_changed_register_into_acceptance(
        log in prop::collection::vec(hostile_event(), 0..30),
        keep in any::<bool>(),
        register in 0u32..10,
    ) {
        let mut guest = Guest::new();
        let truth = guest.registers();
        guest.events = if keep { [guest.events, log].concat() } else { log };
        for (name, value) in truth {
            guest.forced.insert(name, Some(value));
        }
        prop_assert_eq!(guest.appraise(&[reference()], NOW).status, Status::Affirming);
        guest.forced.insert(format!("pcr{register}"), Some(Digest::sha256(b"changed")));
        let verdict = guest.appraise(&[reference()], NOW);
        prop_assert_eq!(verdict.status, Status::Contraindicated);
        prop_assert!(!verdict.causes().is_empty());
    }
}
