//! Tokens of ours read back; tokens with one defect are refused with its reason.

use serde_json::json;

use super::*;

const NOW: u64 = 1_800_000_000;

fn ear() -> Ear {
    let key = crate::tee_key::TeeKey::generate().unwrap().public();
    let mut evidence = Map::new();
    evidence.insert("tpm".into(), json!({"pcr4": "00"}));
    evidence.insert("runtime_data_claims".into(), json!({"tee-pubkey": key, "nonce": "bm9uY2U="}));
    let cpu = Submodule {
        status: Status::Affirming,
        trust: TrustVector { executables: 2, ..TrustVector::default() },
        policy: "default".into(),
        evidence,
        identifiers: None,
    };
    Ear {
        profile: PROFILE.into(),
        iat: NOW,
        verifier: VerifierId { developer: "coffer".into(), build: "0".into() },
        submods: BTreeMap::from([(CPU.into(), cpu)]),
        exp: NOW + LIFETIME_S,
        nbf: None,
        iss: "coffer".into(),
    }
}

#[test]
fn a_token_reads_back_as_it_was_signed() {
    let (key, old) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let ear = ear();
    let token = ear.sign(&key).unwrap();
    let pinned = [old.verifying_key().clone(), key.verifying_key().clone()];
    let read = Ear::verify(&token, &pinned, NOW + 10).unwrap();
    assert_eq!(read, ear);
    assert!(read.tee_pubkey().is_ok());
    assert_eq!(read.tee_claims(Tee::Tpm), Some(&json!({"pcr4": "00"})));
    assert_eq!(read.attempt().unwrap(), crate::handshake::attempt_id("bm9uY2U="));
}

#[test]
fn claims_have_the_profile_s_names() {
    let value = serde_json::to_value(ear()).unwrap();
    assert_eq!(value["eat_profile"], PROFILE);
    let cpu = &value["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "affirming");
    assert_eq!(cpu["ear.trustworthiness-vector"]["executables"], 2);
    assert_eq!(cpu["ear.trustworthiness-vector"]["instance-identity"], 0);
    assert_eq!(cpu["ear.appraisal-policy-id"], "default");
    assert!(cpu["ear.veraison.annotated-evidence"]["runtime_data_claims"]["tee-pubkey"].is_object());
}

#[test]
fn each_defect_of_a_token_is_refused_with_its_reason() {
    let key = SigningKey::generate().unwrap();
    let pinned = [key.verifying_key().clone()];
    let refusal = |change: &dyn Fn(&mut Ear), now| {
        let mut ear = ear();
        change(&mut ear);
        Ear::verify(&ear.sign(&key).unwrap(), &pinned, now).unwrap_err()
    };
    assert!(matches!(refusal(&|_| (), NOW + LIFETIME_S), EarError::Expired { ago_s: 0 }));
    assert!(matches!(refusal(&|_| (), NOW - 61), EarError::NotYetValid { ahead_s: 61 }));
    assert!(matches!(refusal(&|ear| ear.nbf = Some(NOW + 100), NOW), EarError::NotYetValid { ahead_s: 100 }));
    assert!(matches!(refusal(&|ear| ear.profile.clear(), NOW), EarError::Profile { .. }));
    let token = ear().sign(&key).unwrap();
    let other = [SigningKey::generate().unwrap().verifying_key().clone()];
    assert!(matches!(
        Ear::verify(&token, &other, NOW),
        Err(EarError::Signature(JwsError::UnknownKey { .. }))
    ));
    assert!(matches!(Ear::verify(&token, &[], NOW), Err(EarError::Signature(_))));
    let empty = key.sign_jwt(&json!({})).unwrap();
    assert!(matches!(Ear::verify(&empty, &pinned, NOW), Err(EarError::Claims(_))));
    assert_eq!(refusal(&|_| (), NOW + 1000).code(), Code::TokenExpired);
    let mut bare = ear();
    bare.submods.clear();
    assert!(matches!(bare.tee_pubkey(), Err(EarError::Missing(_))));
}

#[test]
fn the_worst_claim_makes_the_status() {
    let with =
        |executables, hardware| TrustVector { executables, hardware, ..TrustVector::default() }.status();
    assert_eq!(with(0, 0), Status::None);
    assert_eq!(with(2, 0), Status::Affirming);
    assert_eq!(with(2, 32), Status::Warning);
    assert_eq!(with(33, 97), Status::Contraindicated);
    assert_eq!(with(-97, 2), Status::Contraindicated);
}
