//! The gate under changed requests and changed images.

use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_channel::ImageSource;
use coffer_core_initdata::{Attestation, SignatureRule};
use coffer_core_oci::simple_signing::Payload;
use proptest::prelude::*;

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("key"))
    }

    fn pem(&self) -> String {
        // RFC 5480: SubjectPublicKeyInfo of an uncompressed point on P-256.
        let header = hex_bytes("3059301306072a8648ce3d020106082a8648ce3d030107034200");
        let der = [header.as_slice(), self.0.public_key().as_ref()].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    fn sign(&self, manifest: Digest, name: &str) -> FoundSignature {
        let payload = Payload::new(manifest, name).to_bytes().expect("payload");
        let signature = self.0.sign(&SystemRandom::new(), &payload).expect("signature");
        FoundSignature { payload, signature: STANDARD.encode(signature) }
    }
}

fn hex_bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

const IMAGE: &str = "registry.example/web:1";

fn entry(signers: Vec<String>, digest: Option<Digest>) -> AllowedContainer {
    AllowedContainer {
        image: IMAGE.into(),
        signature: if signers.is_empty() { SignatureRule::DigestOnly } else { SignatureRule::Required },
        digest,
        signers,
        args: Some(vec!["serve".into(), "--port=80".into()]),
        env: vec!["A=1".into(), "B=2".into()],
        resources: Vec::new(),
        secrets: vec![],
        evidence: Permission::Denied,
        stdin: Permission::Denied,
        terminal: Permission::Denied,
    }
}

fn gate(containers: Vec<AllowedContainer>) -> Gate {
    Gate::new(&GuestConfig {
        attestation: Attestation::InsecureNone,
        broker: None,
        containers,
        volumes: vec![],
        scratch: Default::default(),
    })
}

fn request() -> RunRequest {
    RunRequest {
        image: IMAGE.into(),
        source: ImageSource::Registry { reference: IMAGE.into(), plain_http: false },
        args: vec!["serve".into(), "--port=80".into()],
        env: vec!["A=1".into(), "B=2".into()],
        input: Input::Empty,
        terminal: None,
        network: None,
    }
}

fn image() -> Digest {
    Digest::sha256(b"manifest")
}

fn found(signatures: Vec<FoundSignature>) -> Candidate {
    Candidate { manifest: image(), signatures }
}

fn refused(gate: &Gate, request: &RunRequest, candidate: &Candidate) -> &'static str {
    let error = gate.authorize(request, candidate).expect_err("must be refused");
    let refusal = error.refusal();
    assert_eq!(refusal.code, error.code());
    assert!(refusal.remedy.is_some());
    error.code()
}

#[test]
fn the_signed_image_may_run_and_its_digest_is_the_one_authorized() {
    let key = Signer::new();
    let gate = gate(vec![entry(vec![key.pem()], None)]);
    let candidate = found(vec![Signer::new().sign(image(), "x"), key.sign(image(), "registry.example/web")]);
    let authorized = gate.authorize(&request(), &candidate).expect("allowed");
    assert_eq!(authorized.get().manifest, image());
    assert!(matches!(authorized.get().pin, Pin::Signature(_)));
}

#[test]
fn the_pinned_digest_may_run_without_a_signature_where_the_owner_says_so() {
    let gate = gate(vec![entry(Vec::new(), Some(image()))]);
    let authorized = gate.authorize(&request(), &found(Vec::new())).expect("allowed");
    assert_eq!(authorized.get().pin, Pin::Digest);
    let other = Candidate { manifest: Digest::sha256(b"other"), signatures: Vec::new() };
    assert_eq!(refused(&gate, &request(), &other), "image.digest");
}

#[test]
fn each_defect_of_a_signature_has_its_own_code() {
    let (key, stranger) = (Signer::new(), Signer::new());
    let named = "registry.example/web";
    let gate_of = |digest| gate(vec![entry(vec![key.pem()], digest)]);
    let free = gate_of(None);
    assert_eq!(refused(&free, &request(), &found(vec![])), "image.signature.missing");
    let foreign = found(vec![stranger.sign(image(), named)]);
    assert_eq!(refused(&free, &request(), &foreign), "image.signature.untrusted-key");
    let other = found(vec![key.sign(Digest::sha256(b"other"), named)]);
    assert_eq!(refused(&free, &request(), &other), "image.signature.digest");
    let renamed = found(vec![key.sign(image(), "registry.example/db")]);
    assert_eq!(refused(&free, &request(), &renamed), "image.signature.name");
    assert_eq!(refused(&free, &request(), &found(vec![key.sign(image(), "")])), "image.signature.name");
    let mut cut = key.sign(image(), named);
    cut.signature.truncate(10);
    assert_eq!(refused(&free, &request(), &found(vec![cut])), "image.signature.malformed");
    // A pinned digest says which image; the name in the signature then says nothing more.
    let pinned = gate_of(Some(image()));
    assert!(pinned.authorize(&request(), &found(vec![key.sign(image(), "")])).is_ok());
    let elsewhere = gate_of(Some(Digest::sha256(b"other")));
    assert_eq!(refused(&elsewhere, &request(), &found(vec![key.sign(image(), named)])), "image.digest");
}

#[test]
fn nothing_runs_where_nothing_is_named() {
    assert_eq!(refused(&gate(Vec::new()), &request(), &found(Vec::new())), "gate.none");
}

#[test]
fn without_args_in_the_policy_only_the_image_s_own_command_runs() {
    let mut entry = entry(Vec::new(), Some(image()));
    entry.args = None;
    let gate = gate(vec![entry]);
    assert_eq!(refused(&gate, &request(), &found(Vec::new())), "gate.args");
    let own = RunRequest { args: Vec::new(), ..request() };
    assert!(gate.authorize(&own, &found(Vec::new())).is_ok());
}

#[test]
fn a_refused_environment_is_named_without_its_values() {
    let gate = gate(vec![entry(Vec::new(), Some(image()))]);
    let mut changed = request();
    changed.env = vec!["A=hunter2".into(), "B=2".into()];
    let refusal = gate.authorize(&changed, &found(Vec::new())).expect_err("refused").refusal();
    assert_eq!(refusal.code, "gate.env");
    assert!(refusal.message.contains("A has another value"), "{}", refusal.message);
    assert!(!format!("{refusal:?}").contains("hunter2"));
}

#[test]
fn one_of_two_entries_for_the_same_image_is_enough() {
    let mut other = entry(Vec::new(), Some(Digest::sha256(b"other")));
    other.args = None;
    let gate = gate(vec![other, entry(Vec::new(), Some(image()))]);
    assert!(gate.authorize(&request(), &found(Vec::new())).is_ok());
}

#[test]
fn input_and_a_terminal_are_had_only_where_init_data_allows_them() {
    let asked =
        RunRequest { input: Input::Sent, terminal: Some(Winsize { rows: 24, cols: 80 }), ..request() };
    let pinned = || entry(Vec::new(), Some(image()));
    let run = |entry: AllowedContainer, request: &RunRequest| {
        gate(vec![entry]).authorize(request, &found(Vec::new()))
    };
    let code = |entry, request: &RunRequest| run(entry, request).expect_err("refused").code();
    let (stdin, terminal) = (Permission::Allowed, Permission::Allowed);
    assert_eq!(code(AllowedContainer { stdin, ..pinned() }, &asked), "gate.terminal");
    assert_eq!(code(AllowedContainer { terminal, ..pinned() }, &asked), "gate.stdin");
    let both = run(AllowedContainer { stdin, terminal, ..pinned() }, &asked).expect("allowed");
    assert_eq!((both.get().input, both.get().terminal), (Input::Sent, asked.terminal));
    // What is allowed need not be asked for.
    let neither = run(AllowedContainer { stdin, terminal, ..pinned() }, &request()).expect("allowed");
    assert_eq!((neither.get().input, neither.get().terminal), (Input::Empty, None));
}

#[test]
fn the_workload_s_resources_are_exactly_those_of_the_entry() {
    let pinned = || entry(Vec::new(), Some(image()));
    let plain = gate(vec![pinned()]).authorize(&request(), &found(Vec::new())).expect("allowed");
    assert!(plain.get().resources.is_empty());
    assert_eq!(plain.get().evidence, Permission::Denied);
    let named = AllowedContainer {
        resources: vec!["kbs:///lab/config/greeting".into()],
        evidence: Permission::Allowed,
        ..pinned()
    };
    let named = gate(vec![named]).authorize(&request(), &found(Vec::new())).expect("allowed");
    let paths: Vec<String> = named.get().resources.iter().map(ToString::to_string).collect();
    assert_eq!((paths, named.get().evidence), (vec!["lab/config/greeting".to_owned()], Permission::Allowed));
    let wrong = AllowedContainer { resources: vec!["kbs:///lab/../greeting".into()], ..pinned() };
    assert_eq!(refused(&gate(vec![wrong]), &request(), &found(Vec::new())), "gate.policy");
}

/// A change to one field, always a change.
fn change(field: u8, at: usize, text: &str) -> (RunRequest, Candidate) {
    let (mut request, mut candidate) = (request(), found(Vec::new()));
    let text = format!("{text}~");
    match field {
        0 => request.image.push_str(&text),
        1 => request.image.insert_str(at % request.image.len(), &text),
        2 => request.args.push(text),
        3 => request.args[at % 2].push_str(&text),
        4 => drop(request.args.remove(at % 2)),
        5 => request.args.swap(0, 1),
        6 => request.env.push(text),
        7 => request.env[at % 2].push_str(&text),
        8 => drop(request.env.remove(at % 2)),
        9 => request.env.swap(0, 1),
        10 => request.args.clear(),
        11 => request.env.clear(),
        12 => request.input = Input::Sent,
        13 => request.terminal = Some(Winsize { rows: 24, cols: 80 }),
        _ => candidate.manifest = Digest::sha256(text.as_bytes()),
    }
    (request, candidate)
}

proptest! {
    #[test]
    fn a_request_changed_in_any_one_field_is_refused(field in 0u8..15, at in 0usize..64, text in "[ -~]{0,12}") {
        let gate = gate(vec![entry(Vec::new(), Some(image()))]);
        prop_assert!(gate.authorize(&request(), &found(Vec::new())).is_ok());
        let (request, candidate) = change(field, at, &text);
        let code = refused(&gate, &request, &candidate);
        let expected = match field { 0 | 1 => "gate.image", 2..=5 | 10 => "gate.args", 6..=9 | 11 => "gate.env", 12 => "gate.stdin", 13 => "gate.terminal", _ => "image.digest" };
        prop_assert_eq!(code, expected);
    }
}
