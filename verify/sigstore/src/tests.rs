//! What is accepted, and for each check a twin of it with one defect that is refused for that reason.

mod certificates;
mod contents;
mod forms;
mod logs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_lab_testpki::sigstore::{SIGSTORE_TIME, SigstoreCertificate, SigstoreFixture, SigstoreSigner};
use serde_json::{Value, json};

use crate::{Bundle, Expected, Identity, Signed, SigstoreError, TrustRoot};

const ARTIFACT: &[u8] = b"an artifact";
const ISSUER: &str = "https://issuer.test";
const WORKFLOW: &str = "https://forge.test/team/app/.ci/release.yml@refs/tags/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A bundle in JSON that is accepted, with what made it, to change one thing and ask again.
struct Case {
    fixture: SigstoreFixture,
    signer: SigstoreCertificate,
    member: Value,
    bundle: Value,
    root: Value,
    identity: Identity,
    artifact: Digest,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Message,
    Envelope,
}

fn statement() -> Value {
    let other = json!({"name": "other", "digest": {"sha256": Digest::sha256(b"other").hex()}});
    let subject = json!({"name": "app", "digest": {"sha256": Digest::sha256(ARTIFACT).hex()}});
    json!({
        "_type": "https://in-toto.io/Statement/v1", "subject": [other, subject],
        "predicateType": "https://slsa.dev/provenance/v1", "predicate": {},
    })
}

fn member(fixture: &SigstoreFixture, signer: &SigstoreCertificate, of: Of) -> Value {
    match of {
        Of::Message => fixture.message(signer, ARTIFACT),
        Of::Envelope => fixture.envelope(signer, IN_TOTO, statement().to_string().as_bytes()),
    }
}

impl Case {
    fn of(of: Of) -> Self {
        Self::with(SigstoreFixture::new(), &SigstoreSigner::new(WORKFLOW, ISSUER), of)
    }

    fn with(fixture: SigstoreFixture, signer: &SigstoreSigner, of: Of) -> Self {
        let identity = Identity { issuer: ISSUER.to_owned(), subject: signer.subjects[0].clone() };
        let signer = fixture.certify(signer);
        let member = member(&fixture, &signer, of);
        let bundle = fixture.logged(&signer, &member);
        let root = fixture.trust_root();
        Self { fixture, signer, member, bundle, root, identity, artifact: Digest::sha256(ARTIFACT) }
    }

    fn verify(&self) -> Result<Signed, SigstoreError> {
        let bundle = Bundle::parse(self.bundle.to_string().as_bytes())?;
        let root = TrustRoot::parse(self.root.to_string().as_bytes())?;
        bundle.verify(&root, &Expected { artifact: &self.artifact, identity: &self.identity })
    }

    /// The code of the refusal.
    fn code(&self) -> &'static str {
        self.verify().expect_err("a refusal").code()
    }

    fn entry(&mut self) -> &mut Value {
        &mut self.bundle["verificationMaterial"]["tlogEntries"][0]
    }

    fn proof(&mut self) -> &mut Value {
        &mut self.entry()["inclusionProof"]
    }

    /// Has the log take another body, so that only the body is wrong.
    fn log_body(&mut self, body: &Value) {
        *self.entry() = self.fixture.entry(body, 2, 7);
    }

    /// Logs another member, so that only what is signed is wrong.
    fn log_member(&mut self, member: Value) {
        self.bundle = self.fixture.logged(&self.signer, &member);
        self.member = member;
    }
}

/// Changes one bit of a value in base64.
fn flip(value: &mut Value) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    *value = json!(STANDARD.encode(bytes));
}

#[test]
fn a_signed_artifact_is_accepted_with_who_and_when() {
    let case = Case::of(Of::Message);
    let signed = case.verify().unwrap();
    assert_eq!(signed.artifact(), &Digest::sha256(ARTIFACT));
    assert_eq!(signed.identity(), &case.identity);
    assert_eq!(signed.integrated_time(), i64::try_from(SIGSTORE_TIME).unwrap());
    assert_eq!(signed.log_index(), 1002);
    assert_eq!(signed.statement(), None);
}

#[test]
fn a_signed_statement_is_accepted_and_handed_on() {
    let signed = Case::of(Of::Envelope).verify().unwrap();
    let found = signed.statement().unwrap();
    assert_eq!(found.predicate_type(), "https://slsa.dev/provenance/v1");
    assert_eq!(found.payload(), statement().to_string().as_bytes());
}

#[test]
fn every_leaf_of_trees_of_every_shape_is_accepted() {
    let mut case = Case::of(Of::Message);
    let body = case.fixture.body(&case.signer, &case.member);
    for size in 1..10 {
        for index in 0..size {
            *case.entry() = case.fixture.entry(&body, index, size);
            case.verify().unwrap_or_else(|cause| panic!("{index} of {size}: {cause}"));
        }
    }
}

#[test]
fn several_entries_are_accepted_if_each_holds() {
    let mut case = Case::of(Of::Envelope);
    let body = case.fixture.body(&case.signer, &case.member);
    let entries: Vec<Value> = (0..4).map(|index| case.fixture.entry(&body, index, 5)).collect();
    case.bundle = case.fixture.bundle(&case.signer, &case.member, &entries);
    assert_eq!(case.verify().unwrap().log_index(), 1000);
    flip(
        &mut case.bundle["verificationMaterial"]["tlogEntries"][3]["inclusionPromise"]["signedEntryTimestamp"],
    );
    assert_eq!(case.code(), "sigstore.promise.signature");
}
