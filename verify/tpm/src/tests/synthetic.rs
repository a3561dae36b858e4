//! Complete evidence made by this test, and its refusal twins: the same with one named defect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_lab_testpki::{Authority, EKU_SERVER, EventLogBuilder, KeyKind, Leaf, TpmFixture};
use coffer_verify_api::{NoCollateral, Verifier as _};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NONCE: [u8; 32] = [0x5a; 32];
/// `EV_IPL`.
const IPL: u32 = 0x0d;

struct Case {
    fixture: TpmFixture,
    pcrs: [Digest; 24],
    log: Vec<u8>,
}

fn case(kind: KeyKind, bank: Algorithm) -> Case {
    let (log, pcrs) = EventLogBuilder::new(bank)
        .event(4, IPL, b"a kernel")
        .event(9, IPL, b"a command line")
        .event(9, IPL, b"an initrd")
        .finish();
    Case { fixture: TpmFixture::new(kind), pcrs, log }
}

impl Case {
    fn evidence(&self) -> Value {
        self.fixture.evidence(&NONCE, self.pcrs, &self.log)
    }

    fn judge(&self) -> TpmJudge {
        software(self.fixture.root_der())
    }

    fn causes(&self, evidence: &Value) -> Vec<String> {
        causes(judge(&self.judge(), evidence, &NONCE))
    }
}

fn plain() -> Case {
    case(KeyKind::EccP256, Algorithm::Sha256)
}

fn change(evidence: &mut Value, member: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let member = evidence.pointer_mut(member).unwrap();
    let mut bytes = STANDARD.decode(member.as_str().unwrap()).unwrap();
    change(&mut bytes);
    *member = STANDARD.encode(bytes).into();
}

#[test]
fn keys_and_banks_of_every_supported_kind_are_accepted() {
    for kind in [KeyKind::EccP256, KeyKind::EccP384, KeyKind::RsaSsa, KeyKind::RsaPss] {
        for bank in [Algorithm::Sha256, Algorithm::Sha384] {
            let case = case(kind, bank);
            let verified = accepted(judge(&case.judge(), &case.evidence(), &NONCE));
            let claims = verified.get();
            assert!(!claims.hardware);
            assert_eq!(claims.registers.len(), 24);
            assert_eq!(claims.registers["pcr9"], case.pcrs[9]);
            assert_eq!(measured(claims).len(), 3);
            assert_eq!(claims.json["pcr09"], case.pcrs[9].hex());
            assert_eq!(claims.json["report_data"], hex::encode(NONCE));
            assert_eq!(claims.json["quote"]["bank"], bank.name());
        }
    }
}

#[test]
fn the_report_data_of_the_question_is_what_the_quote_must_hold() {
    let case = plain();
    let at = Timestamp::from_second(NOW).unwrap();
    let ask = |hash: Digest, qualifying_data: &[u8]| {
        let message = TpmFixture::attest(qualifying_data, &case.pcrs, case.fixture.hash());
        let evidence = case.fixture.evidence_of(&message, &case.pcrs, &case.log);
        let report_data = ReportData::from_runtime_hash(hash);
        let question = Question {
            evidence: &evidence,
            report_data: &report_data,
            init_data: None,
            collateral: &NoCollateral,
            at,
        };
        case.judge().verify(&question).unwrap()
    };
    let hash = Digest::of(Algorithm::Sha384, b"nonce and key");
    accepted(ask(hash, &hash.as_bytes()[..32]));
    accepted(ask(hash, &[hash.as_bytes(), &[0; 16]].concat()));
    assert_eq!(causes(ask(hash, hash.as_bytes())), ["tpm.quote.freshness"]);
    assert_eq!(causes(ask(hash, &[])), ["tpm.quote.freshness"]);
    let other = Digest::of(Algorithm::Sha384, b"nonce and another key");
    assert_eq!(causes(ask(other, &hash.as_bytes()[..32])), ["tpm.quote.freshness"]);
}

#[test]
fn hardware_is_said_by_the_anchor_that_matched() {
    let case = plain();
    let anchor = |hardware| TrustAnchor { certificate: case.fixture.root_der(), hardware };
    let other = TrustAnchor { certificate: Authority::root("another").der(), hardware: true };
    let of = |anchors| accepted(judge(&TpmJudge::new(anchors), &case.evidence(), &NONCE)).get().hardware;
    assert!(of(vec![anchor(true)]));
    assert!(!of(vec![other, anchor(false)]));
    assert!(!of(vec![anchor(true), anchor(false)]), "named twice and once as software");
}

#[test]
fn foreign_nonce_is_rejected() {
    let case = plain();
    let evidence = case.fixture.evidence(&[0x5b; 32], case.pcrs, &case.log);
    let Judgement::Rejected(reasons) = judge(&case.judge(), &evidence, &NONCE) else { panic!("accepted") };
    let stale = reasons.iter().find(|check| check.code == "tpm.quote.freshness").unwrap();
    assert_eq!(stale.expected.as_deref(), Some("5a".repeat(32).as_str()));
    assert_eq!(stale.found.as_deref(), Some("5b".repeat(32).as_str()));
    assert_eq!(case.causes(&evidence), ["tpm.quote.freshness"]);
}

#[test]
fn flipped_signature_is_rejected() {
    for kind in [KeyKind::EccP256, KeyKind::RsaSsa, KeyKind::RsaPss] {
        let case = case(kind, Algorithm::Sha256);
        let mut evidence = case.evidence();
        change(&mut evidence, "/tpm_quote/signature", |bytes| *bytes.last_mut().unwrap() ^= 1);
        assert_eq!(case.causes(&evidence), ["tpm.quote.signature"]);
    }
}

#[test]
fn signature_of_another_scheme_or_weak_hash_is_rejected() {
    let case = plain();
    for (at, to) in [(1, 0x14), (3, 0x04), (3, 0x0d)] {
        let mut evidence = case.evidence();
        change(&mut evidence, "/tpm_quote/signature", |bytes| bytes[at] = to);
        let found = case.causes(&evidence);
        assert!(found[0] == "tpm.quote.signature" || found[0] == "tpm.evidence.format", "{found:?}");
    }
}

#[test]
fn changed_quote_is_rejected() {
    let case = plain();
    let mut evidence = case.evidence();
    // A byte of the clock, which no other check looks at.
    change(&mut evidence, "/tpm_quote/message", |bytes| bytes[80] ^= 1);
    assert_eq!(case.causes(&evidence), ["tpm.quote.signature"]);
}

#[test]
fn statement_that_no_tpm_generated_is_rejected() {
    let case = plain();
    let mut message = TpmFixture::attest(&NONCE, &case.pcrs, Algorithm::Sha256);
    message[0] = 0;
    let evidence = case.fixture.evidence_of(&message, &case.pcrs, &case.log);
    assert_eq!(case.causes(&evidence), ["tpm.quote.magic"]);
}

#[test]
fn changed_register_is_rejected() {
    let case = plain();
    let mut evidence = case.evidence();
    evidence["tpm_quote"]["pcrs"][4] = "00".repeat(32).into();
    assert_eq!(case.causes(&evidence), ["tpm.pcrs.digest"]);
}

#[test]
fn changed_event_log_is_rejected_with_the_registers_named() {
    let case = plain();
    let (other, _) = EventLogBuilder::new(Algorithm::Sha256)
        .event(4, IPL, b"a kernel")
        .event(9, IPL, b"another command line")
        .event(9, IPL, b"an initrd")
        .finish();
    let evidence = case.fixture.evidence(&NONCE, case.pcrs, &other);
    assert_eq!(case.causes(&evidence), ["tpm.event-log.replay"]);
    let Judgement::Rejected(reasons) = judge(&case.judge(), &evidence, &NONCE) else { panic!("accepted") };
    let replay = reasons.iter().find(|check| check.code == "tpm.event-log.replay").unwrap();
    assert_eq!(replay.title, "The event log does not replay to the quoted PCR 9");
    assert_eq!(replay.children.len(), 2);

    let (sha384, _) = EventLogBuilder::new(Algorithm::Sha384).event(4, IPL, b"a kernel").finish();
    let evidence = case.fixture.evidence(&NONCE, case.pcrs, &sha384);
    assert_eq!(case.causes(&evidence), ["tpm.event-log.replay"], "a log of another bank proves nothing");

    let evidence = case.fixture.evidence(&NONCE, case.pcrs, &case.log[..case.log.len() - 1]);
    assert_eq!(case.causes(&evidence), ["tpm.event-log.format"]);
}

#[test]
fn a_note_that_was_never_extended_stays_beside_the_events_and_changes_no_register() {
    let (log, pcrs) = EventLogBuilder::new(Algorithm::Sha256)
        .event(9, IPL, b"a command line")
        .event(9, 3, b"a claim that nothing covers")
        .finish();
    let case = Case { log, pcrs, ..plain() };
    let verified = accepted(judge(&case.judge(), &case.evidence(), &NONCE));
    let claims = verified.get();
    assert_eq!(measured(claims).len(), 1);
    assert!(claims.events.iter().any(|event| event.data == b"a claim that nothing covers"));
    assert_eq!(claims.registers["pcr9"], case.pcrs[9]);
}

#[test]
fn the_log_of_a_quote_that_is_refused_anyway_is_not_read() {
    let case = plain();
    let broken = |fixture: &TpmFixture, nonce| fixture.evidence(nonce, case.pcrs, b"no event log");
    assert_eq!(case.causes(&broken(&case.fixture, &NONCE)), ["tpm.event-log.format"]);
    assert_eq!(case.causes(&broken(&TpmFixture::default(), &NONCE)), ["tpm.key.chain"]);
    assert_eq!(case.causes(&broken(&case.fixture, &[7; 32])), ["tpm.quote.freshness"]);
}

#[test]
fn events_of_registers_that_were_not_quoted_are_not_claimed() {
    let case = plain();
    let mut message = TpmFixture::attest(&NONCE, &case.pcrs, Algorithm::Sha256);
    // Only PCR 4 stays selected, and the digest is of that one.
    let at = message.len() - 2 - 32 - 3;
    message[at..at + 3].copy_from_slice(&[0x10, 0, 0]);
    let digest = Digest::sha256(case.pcrs[4].as_bytes());
    message[at + 5..].copy_from_slice(digest.as_bytes());
    let evidence = case.fixture.evidence_of(&message, &case.pcrs, &case.log);
    let verified = accepted(judge(&case.judge(), &evidence, &NONCE));
    assert_eq!(verified.get().registers.keys().collect::<Vec<_>>(), ["pcr4"]);
    assert_eq!(measured(verified.get()).iter().map(|event| event.register).collect::<Vec<_>>(), [4]);
}

#[test]
fn swapped_attestation_key_is_rejected() {
    let case = plain();
    let thief = TpmFixture::default();
    // The thief's quote with the victim's certificate.
    let evidence = thief.with_certificates(case.fixture.certificates().to_vec());
    let evidence = evidence.evidence(&NONCE, case.pcrs, &case.log);
    assert_eq!(case.causes(&evidence), ["tpm.key.chain"]);
    // The thief's public area beside the victim's key.
    let mut evidence = case.evidence();
    evidence["ak_tpmt_public"] = STANDARD.encode(TpmFixture::default().tpmt_public()).into();
    assert_eq!(case.causes(&evidence), ["tpm.key.restricted"]);
    // The thief's key under the victim's signature.
    let mut evidence = case.evidence();
    evidence["ak_public"] = STANDARD.encode(TpmFixture::default().spki_der()).into();
    assert_eq!(case.causes(&evidence), ["tpm.key.restricted", "tpm.key.chain", "tpm.quote.signature"]);
}

#[test]
fn key_that_could_sign_anything_is_rejected() {
    for attributes in [0x0004_0072, 0x0005_0070, 0x0007_0072] {
        let case = Case { fixture: TpmFixture::default().with_attributes(attributes), ..plain() };
        assert_eq!(case.causes(&case.evidence()), ["tpm.key.restricted"]);
    }
}

#[test]
fn certificates_that_do_not_vouch_are_rejected() {
    let check = |fixture: TpmFixture, anchors: Vec<TrustAnchor>| {
        let case = plain();
        let evidence = fixture.evidence(&NONCE, case.pcrs, &case.log);
        assert_eq!(causes(judge(&TpmJudge::new(anchors), &evidence, &NONCE)), ["tpm.key.chain"]);
    };
    let anchor = |fixture: &TpmFixture| vec![TrustAnchor { certificate: fixture.root_der(), hardware: true }];
    let expired = Leaf { until: 1_700_000_000, ..Leaf::default() };
    let early = Leaf { from: 1_900_000_000, ..Leaf::default() };
    let server = Leaf { purposes: vec![EKU_SERVER.to_vec()], ..Leaf::default() };
    let nothing = Leaf { purposes: Vec::new(), ..Leaf::default() };
    for leaf in [expired, early, server, nothing] {
        let fixture = TpmFixture::default().with_leaf(&leaf);
        let anchors = anchor(&fixture);
        check(fixture, anchors);
    }
    let wrong_root = TrustAnchor { certificate: Authority::root("test TPM root").der(), hardware: true };
    check(TpmFixture::default(), vec![wrong_root]);
    check(TpmFixture::default(), Vec::new());
    let without = TpmFixture::default();
    let anchors = anchor(&without);
    check(without.with_certificates(Vec::new()), anchors);
}

#[test]
fn endorsement_certificate_is_enough_only_for_a_key_that_shows_it_is_restricted() {
    let endorsement = Leaf { purposes: vec![vec![2, 23, 133, 8, 1]], ..Leaf::default() };
    let case = Case { fixture: TpmFixture::default().with_leaf(&endorsement), ..plain() };
    accepted(judge(&case.judge(), &case.evidence(), &NONCE));
    let mut evidence = case.evidence();
    evidence.as_object_mut().unwrap().remove("ak_tpmt_public");
    assert_eq!(case.causes(&evidence), ["tpm.key.chain"]);
    // With the purpose of an attestation key, the certificate alone vouches.
    let mut evidence = plain().evidence();
    evidence.as_object_mut().unwrap().remove("ak_tpmt_public");
    assert_eq!(plain().causes(&evidence), ["tpm.key.chain"], "another root");
    let case = plain();
    let mut evidence = case.evidence();
    evidence.as_object_mut().unwrap().remove("ak_tpmt_public");
    accepted(judge(&case.judge(), &evidence, &NONCE));
}

#[test]
fn weak_wrong_or_mixed_banks_are_rejected() {
    let weak = case(KeyKind::EccP256, Algorithm::Sha1);
    assert_eq!(weak.causes(&weak.evidence()), ["tpm.quote.bank"]);
    let case = case(KeyKind::EccP256, Algorithm::Sha384);
    let mut evidence = case.evidence();
    evidence["pcr_bank"] = "sha256".into();
    assert_eq!(case.causes(&evidence), ["tpm.quote.bank"]);
    let none = plain();
    let mut message = TpmFixture::attest(&NONCE, &none.pcrs, Algorithm::Sha256);
    let at = message.len() - 2 - 32 - 3;
    message[at..at + 3].fill(0);
    let evidence = none.fixture.evidence_of(&message, &none.pcrs, &[]);
    assert_eq!(none.causes(&evidence), ["tpm.quote.bank"]);
}

#[test]
fn init_data_must_be_what_register_8_holds() {
    let algorithms = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];
    let banks = [Algorithm::Sha256, Algorithm::Sha384];
    for (algorithm, bank) in algorithms.into_iter().flat_map(|one| banks.map(|bank| (one, bank))) {
        let digest = Digest::of(algorithm, b"init-data");
        let mut case = case(KeyKind::EccP256, bank);
        let mut event = digest.as_bytes().to_vec();
        event.resize(bank.len(), 0);
        case.pcrs[8] = Digest::zero(bank).extend(&event);
        let evidence = case.evidence();
        let verified = accepted(judge_with(&case.judge(), &evidence, &NONCE, Some(&digest)));
        assert_eq!(verified.get().json["init_data"], digest.hex());
        let other = Digest::of(algorithm, b"other init-data");
        let refused = judge_with(&case.judge(), &evidence, &NONCE, Some(&other));
        assert_eq!(causes(refused), ["tpm.init-data.binding"]);
    }
    let case = plain();
    let digest = Digest::sha256(b"init-data");
    let unbound = judge_with(&case.judge(), &case.evidence(), &NONCE, Some(&digest));
    assert_eq!(causes(unbound), ["tpm.init-data.binding"], "nothing was extended");
}

#[test]
fn malformed_evidence_is_rejected_as_such() {
    let case = plain();
    for broken in [Value::Null, json!({}), json!({"ak_public": "AA=="})] {
        assert_eq!(case.causes(&broken), ["tpm.evidence.format"]);
    }
    for member in ["/tpm_quote/message", "/tpm_quote/signature", "/ak_tpmt_public"] {
        for cut in [1, 5, 40] {
            let mut evidence = case.evidence();
            change(&mut evidence, member, |bytes| bytes.truncate(bytes.len() - cut));
            assert_eq!(case.causes(&evidence), ["tpm.evidence.format"], "{member} cut by {cut}");
        }
        let mut evidence = case.evidence();
        change(&mut evidence, member, |bytes| bytes.push(0));
        assert_eq!(case.causes(&evidence), ["tpm.evidence.format"], "{member} continued");
    }
}

proptest! {
    #[test]
    fn mutated_evidence_never_panics_and_never_verifies(
        member in 0..6usize,
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
        cut in any::<bool>(),
    ) {
        let case = plain();
        let mut evidence = case.evidence();
        let names = [
            "/ak_public", "/tpm_quote/signature", "/tpm_quote/message", "/ak_certificates/0", "/ak_tpmt_public",
            "/event_log",
        ];
        change(&mut evidence, names[member], |bytes| {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit };
        });
        let judgement = judge(&case.judge(), &evidence, &NONCE);
        let Judgement::Verified(verified) = judgement else { return Ok(()) };
        // Only what the quote does not cover may differ: the log's header and event data, a bare log without
        // events, and what the key's public area says beside its key and what the judge asks of it.
        prop_assert!(member >= 4, "verified with {} changed", names[member]);
        prop_assert_eq!(&verified.get().registers["pcr9"], &case.pcrs[9]);
        for event in measured(verified.get()) {
            prop_assert!(event.digest(Algorithm::Sha256).is_some());
        }
    }
}
