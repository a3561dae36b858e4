//! Local keys.

use std::collections::HashMap;

use coffer_core_admin::Role;
use coffer_core_protocol::jws::SigningKey;
use serde_json::{Value, json};

use super::{NOW, RSA, Signer, roles, tenant, with};
use crate::error::{KeyError, SettingsError, Unauthenticated};
use crate::identity::{Identity, Via};
use crate::local::LocalKey;
use crate::scope::Scope;
use crate::verifier::{Asked, Verifier};

fn key(name: &str, signer: &Signer, role: Role) -> LocalKey {
    LocalKey::new(name, &signer.jwk("").to_string(), roles(&[role]), None).unwrap()
}

fn verifier(scope: &Scope, keys: Vec<LocalKey>) -> Verifier {
    Verifier::new(scope, keys, vec![], vec![]).unwrap()
}

fn verify_at(verifier: &Verifier, token: &str, target: &Scope) -> Result<Identity, Unauthenticated> {
    verifier.verify(token, &Asked { target, certificate: None, now: NOW }, &HashMap::new())
}

fn verify(verifier: &Verifier, token: &str) -> Result<Identity, Unauthenticated> {
    verify_at(verifier, token, verifier.scope())
}

fn claims() -> Value {
    json!({"iat": NOW, "exp": NOW + 120})
}

#[test]
fn tokens_as_our_client_makes_them_are_of_the_key_s_admin_in_its_scope() {
    for signing in [SigningKey::generate().unwrap(), SigningKey::generate_ed25519().unwrap()] {
        let jwk = serde_json::to_string(signing.verifying_key()).unwrap();
        let local = LocalKey::new("ann", &jwk, roles(&[Role::Publisher]), None).unwrap();
        assert_eq!(local.thumbprint(), signing.verifying_key().thumbprint());
        let verifier = verifier(&tenant("a"), vec![local]);
        let who = verify(&verifier, &signing.sign_jwt(&claims()).unwrap()).unwrap();
        assert_eq!((who.subject(), who.scope(), who.expires_at()), ("ann", &tenant("a"), NOW + 120));
        assert_eq!(who.roles(), roles(&[Role::Publisher]));
        assert_eq!(*who.via(), Via::LocalKey(signing.verifying_key().thumbprint()));
    }
}

#[test]
fn a_token_of_one_tenant_s_key_is_nobody_s_at_another_and_in_the_cluster() {
    let (ann, bob) = (Signer::ed25519(), Signer::ed25519());
    let a = verifier(&tenant("a"), vec![key("ann", &ann, Role::Owner)]);
    let b = verifier(&tenant("b"), vec![key("bob", &bob, Role::Owner)]);
    let cluster = verifier(&Scope::Cluster, vec![]);
    let token = ann.token(&json!({"alg": "EdDSA"}), &claims());
    assert!(verify(&a, &token).is_ok());
    for other in [&b, &cluster] {
        assert!(matches!(verify(other, &token), Err(Unauthenticated::UnknownSigner(_))));
    }
    // And what its own verifier says for another target.
    assert!(matches!(verify_at(&a, &token, &tenant("b")), Err(Unauthenticated::UnknownSigner(_))));
}

#[test]
fn the_audience_says_for_which_of_its_scopes_a_shared_key_signed() {
    let ann = Signer::ed25519();
    let a = verifier(&tenant("a"), vec![key("ann", &ann, Role::Owner)]);
    let b = verifier(&tenant("b"), vec![key("ann", &ann, Role::Owner)]);
    let cluster = verifier(&Scope::Cluster, vec![key("ann", &ann, Role::Operator)]);
    let good = |verifier: &Verifier, audience: Value| {
        let token = ann.token(&json!({"alg": "EdDSA"}), &with(claims(), "aud", audience));
        match verify(verifier, &token) {
            Ok(_) => true,
            Err(Unauthenticated::Audience(_)) => false,
            Err(other) => panic!("{other}"),
        }
    };
    for (audience, expected) in [
        (Value::Null, [true, true, true]),
        (json!("coffer-broker"), [true, true, true]),
        (json!("coffer-broker/t/a"), [true, false, false]),
        (json!(["x", "coffer-broker/t/b"]), [false, true, false]),
        (json!("coffer-broker/cluster"), [false, false, true]),
        (json!("coffer"), [false, false, false]),
        (json!([]), [false, false, false]),
    ] {
        let found = [&a, &b, &cluster].map(|verifier| good(verifier, audience.clone()));
        assert_eq!(found, expected, "{audience}");
    }
}

#[test]
fn each_defect_of_a_local_token_is_refused_with_its_reason() {
    let (ann, eve) = (Signer::p256(), Signer::p256());
    let own = verifier(&tenant("a"), vec![key("ann", &ann, Role::Owner)]);
    let head = json!({"alg": "ES256", "typ": "JWT"});
    let signed = |header: &Value, claims: &Value| verify(&own, &ann.token(header, claims));
    assert!(signed(&head, &claims()).is_ok());
    let unknown = |result| matches!(result, Err(Unauthenticated::UnknownSigner(_)));
    assert!(unknown(verify(&own, &eve.token(&head, &claims()))));
    // The attacker's own key in the header is a hint at best.
    let jwk = with(head.clone(), "jwk", eve.jwk(""));
    assert!(unknown(verify(&own, &eve.token(&jwk, &claims()))));
    let hinted = with(head.clone(), "jwk", ann.jwk(""));
    assert!(unknown(verify(&own, &eve.token(&hinted, &claims()))));
    for kid in ["../../etc/passwd", "bob", "'; DROP TABLE admins"] {
        assert!(unknown(signed(&with(head.clone(), "kid", kid.into()), &claims())), "{kid}");
    }
    assert!(signed(&with(head.clone(), "kid", "ann".into()), &claims()).is_ok());
    for algorithm in ["none", "HS256", "EdDSA", "ES384", "RS256", "es256", ""] {
        assert!(unknown(signed(&with(head.clone(), "alg", algorithm.into()), &claims())), "{algorithm}");
    }
    let changed = |member: &str, value: Value| signed(&head, &with(claims(), member, value));
    assert!(matches!(changed("exp", NOW.into()), Err(Unauthenticated::Expired { .. })));
    assert!(matches!(changed("exp", (NOW + 7201).into()), Err(Unauthenticated::Lifetime { .. })));
    assert!(changed("exp", (NOW + 7200).into()).is_ok());
    assert!(matches!(changed("iat", (NOW + 61).into()), Err(Unauthenticated::NotYet { .. })));
    assert!(matches!(changed("nbf", (NOW + 61).into()), Err(Unauthenticated::NotYet { .. })));
    assert!(matches!(changed("exp", Value::Null), Err(Unauthenticated::Missing(_))));
    assert!(matches!(changed("iat", Value::Null), Err(Unauthenticated::Missing(_))));
    assert!(matches!(changed("aud", json!({})), Err(Unauthenticated::ClaimType { .. })));
    let bound = json!({"x5t#S256": "x"});
    assert!(matches!(changed("cnf", bound), Err(Unauthenticated::Bound)));
    let critical = with(head.clone(), "crit", json!(["b64"]));
    assert!(matches!(signed(&critical, &claims()), Err(Unauthenticated::Critical)));
    let kind = with(head.clone(), "typ", "dpop+jwt".into());
    assert!(matches!(signed(&kind, &claims()), Err(Unauthenticated::Type(_))));
    let twice = format!(r#"{{"iat":{NOW},"exp":{},"exp":{}}}"#, NOW + 9, NOW + 10);
    let twice = ann.token_of_text(&head.to_string(), &twice);
    assert!(matches!(verify(&own, &twice), Err(Unauthenticated::Json { .. })));
    let long = with(claims(), "x", "y".repeat(crate::MAX_TOKEN).into());
    assert!(matches!(signed(&head, &long), Err(Unauthenticated::TooLong { .. })));
    for bad in ["", ".", "..", "a.b", "a.b.c.d", "%.%.%", "e30.e30.e30", "Bearer e30.e30."] {
        assert!(verify(&own, bad).is_err(), "{bad}");
    }
}

#[test]
fn a_key_ends_when_it_says_and_a_token_of_it_no_later() {
    let ann = Signer::ed25519();
    let ending = |at| {
        let local =
            LocalKey::new("ann", &ann.jwk("").to_string(), roles(&[Role::Auditor]), Some(at)).unwrap();
        verify(&verifier(&tenant("a"), vec![local]), &ann.token(&json!({"alg": "EdDSA"}), &claims()))
    };
    assert!(matches!(ending(NOW), Err(Unauthenticated::KeyExpired { .. })));
    assert_eq!(ending(NOW + 1).unwrap().expires_at(), NOW + 1);
}

#[test]
fn a_token_that_names_no_key_is_tried_on_few() {
    let signers: Vec<Signer> = (0..33).map(|_| Signer::ed25519()).collect();
    let keys = |count: usize| {
        let named = signers.iter().take(count).enumerate();
        verifier(&tenant("a"), named.map(|(at, one)| key(&at.to_string(), one, Role::Owner)).collect())
    };
    let token = signers[0].token(&json!({"alg": "EdDSA"}), &claims());
    assert!(verify(&keys(32), &token).is_ok());
    assert!(matches!(verify(&keys(33), &token), Err(Unauthenticated::KeyNotNamed(32))));
    let named = signers[32].token(&json!({"alg": "EdDSA", "kid": "32"}), &claims());
    assert_eq!(verify(&keys(33), &named).unwrap().subject(), "32");
}

#[test]
fn keys_that_cannot_be_an_admin_s_are_refused_when_they_are_set() {
    let ann = Signer::ed25519();
    let new = |name: &str, text: &str| LocalKey::new(name, text, roles(&[Role::Owner]), None);
    let jwk = ann.jwk("").to_string();
    assert!(matches!(new("", &jwk), Err(SettingsError::Field { .. })));
    assert!(matches!(new("a\nb", &jwk), Err(SettingsError::Field { .. })));
    let rsa = new("rsa", &RSA.jwk("").to_string());
    assert!(matches!(rsa, Err(SettingsError::Key { why: KeyError::Local(_), .. })));
    let scope = tenant("a");
    let with_role = |role| Verifier::new(&scope, vec![key("ann", &ann, role)], vec![], vec![]);
    assert!(matches!(with_role(Role::Operator), Err(SettingsError::Role { .. })));
    let keys = vec![key("ann", &ann, Role::Owner), key("bob", &ann, Role::Owner)];
    assert!(matches!(Verifier::new(&scope, keys, vec![], vec![]), Err(SettingsError::Twice(_))));
    let cluster = Verifier::new(&Scope::Cluster, vec![key("ann", &ann, Role::Owner)], vec![], vec![]);
    assert!(matches!(cluster, Err(SettingsError::Role { .. })));
    let stored = serde_json::to_string(&key("ann", &ann, Role::Owner)).unwrap();
    let read: LocalKey = serde_json::from_str(&stored).unwrap();
    assert_eq!((read.name(), read.roles()), ("ann", roles(&[Role::Owner])));
}
