//! Issuers' tokens.

use std::collections::HashMap;

use coffer_core_admin::Role;
use serde_json::{Value, json};

use super::{NOW, RSA, Signer, b64, roles, set, tenant, with};
use crate::error::{SettingsError, Unauthenticated};
use crate::identity::{Identity, Via};
use crate::issuer::{Issuer, IssuerSettings};
use crate::permission::Permission;
use crate::scope::Scope;
use crate::verifier::{Asked, Verifier};

const ISSUER: &str = "https://idp.example";

fn settings() -> Value {
    json!({
        "name": "corp", "issuer": ISSUER, "audiences": ["coffer"],
        "keys": {"url": "https://idp.example/keys"},
        "roles": [
            {"claim": "groups", "value": "kbs-admins", "roles": ["owner"]},
            {"claim": "realm_access.roles", "value": "read", "roles": ["auditor"]},
        ],
        "required": [{"claim": "email_verified", "value": true}],
    })
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "ann", "aud": "coffer", "iat": NOW, "exp": NOW + 600,
        "groups": ["staff", "kbs-admins"], "email_verified": true, "tenant": "a"})
}

fn verifier(owner: &Scope, settings: &Value) -> Verifier {
    let settings: IssuerSettings = serde_json::from_value(settings.clone()).unwrap();
    Verifier::new(owner, vec![], vec![settings], vec![]).unwrap()
}

struct Bench {
    verifier: Verifier,
    keys: Vec<Value>,
    target: Scope,
}

impl Bench {
    fn new(owner: &Scope, settings: &Value, keys: Vec<Value>) -> Self {
        Self { verifier: verifier(owner, settings), keys, target: tenant("a") }
    }

    fn at(&self, token: &str, target: &Scope) -> Result<Identity, Unauthenticated> {
        let keys: HashMap<_, _> =
            self.verifier.issuers().iter().map(|issuer| (issuer.slot().clone(), set(&self.keys))).collect();
        self.verifier.verify(token, &Asked { target, certificate: None, now: NOW }, &keys)
    }

    fn verify(&self, token: &str) -> Result<Identity, Unauthenticated> {
        self.at(token, &self.target)
    }
}

#[test]
fn tokens_of_each_algorithm_are_verified_and_their_claims_make_roles() {
    let (p256, p384, ed) = (Signer::p256(), Signer::p384(), Signer::ed25519());
    let keys = vec![p256.jwk("1"), p384.jwk("2"), RSA.jwk("3"), ed.jwk("4")];
    let bench = Bench::new(&tenant("a"), &settings(), keys);
    let cases = [
        ("ES256", &p256, "1"),
        ("ES384", &p384, "2"),
        ("RS256", &RSA, "3"),
        ("PS256", &RSA, "3"),
        ("EdDSA", &ed, "4"),
    ];
    for (algorithm, signer, kid) in cases {
        let token = signer.token(&json!({"alg": algorithm, "kid": kid, "typ": "at+jwt"}), &claims());
        let who = bench.verify(&token).unwrap();
        assert_eq!((who.subject(), who.scope()), ("ann", &tenant("a")), "{algorithm}");
        assert_eq!((who.roles(), who.via()), (roles(&[Role::Owner]), &Via::Oidc(ISSUER.into())));
        let unnamed = signer.token(&json!({"alg": algorithm}), &claims());
        assert!(bench.verify(&unnamed).is_ok(), "{algorithm}");
    }
}

#[test]
fn each_defect_of_a_signature_is_refused_with_its_reason() {
    let (good, other) = (Signer::p256(), Signer::p256());
    let mut only = settings();
    only["algorithms"] = json!(["ES256", "RS256"]);
    let bench = Bench::new(&tenant("a"), &only, vec![good.jwk("1"), RSA.jwk("rsa")]);
    let head = json!({"alg": "ES256", "kid": "1"});
    assert!(bench.verify(&good.token(&head, &claims())).is_ok());
    let forged = bench.verify(&other.token(&head, &claims()));
    assert!(matches!(forged, Err(Unauthenticated::Signature)));
    for algorithm in ["none", "None", "HS256", "EdDSA", "PS256", "RS512"] {
        let token = good.token(&with(head.clone(), "alg", algorithm.into()), &claims());
        assert!(matches!(bench.verify(&token), Err(Unauthenticated::Algorithm { .. })), "{algorithm}");
    }
    // The public RSA key as a shared secret: HMAC over the text with the modulus, which everybody has.
    let text = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"rsa"}"#), b64(claims().to_string()));
    let secret =
        aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, RSA.jwk("rsa").to_string().as_bytes());
    let token = format!("{text}.{}", b64(aws_lc_rs::hmac::sign(&secret, text.as_bytes())));
    assert!(matches!(bench.verify(&token), Err(Unauthenticated::Algorithm { .. })));
    // An algorithm of the issuer that is not of the key.
    let token = good.token(&json!({"alg": "RS256", "kid": "1"}), &claims());
    assert!(matches!(bench.verify(&token), Err(Unauthenticated::UnknownKey { .. })));
    for kid in ["2", "../1", "", "1\u{0}", "file:///etc/passwd"] {
        let token = good.token(&with(head.clone(), "kid", kid.into()), &claims());
        assert!(matches!(bench.verify(&token), Err(Unauthenticated::UnknownKey { .. })), "{kid}");
    }
    let token = good.token(&with(head.clone(), "kid", json!(["1"])), &claims());
    assert!(matches!(bench.verify(&token), Err(Unauthenticated::ClaimType { .. })));
    let signed = good.token(&head, &claims());
    let parts: Vec<&str> = signed.split('.').collect();
    let changed = b64(with(claims(), "sub", "eve".into()).to_string());
    let token = format!("{}.{changed}.{}", parts[0], parts[2]);
    assert!(matches!(bench.verify(&token), Err(Unauthenticated::Signature)));
    let token = format!("{}.{}.", parts[0], parts[1]);
    assert!(matches!(bench.verify(&token), Err(Unauthenticated::Signature)));
}

#[test]
fn each_defect_of_a_claim_is_refused_with_its_reason() {
    let signer = Signer::ed25519();
    let bench = Bench::new(&tenant("a"), &settings(), vec![signer.jwk("1")]);
    let head = json!({"alg": "EdDSA", "kid": "1"});
    let changed =
        |member: &str, value: Value| bench.verify(&signer.token(&head, &with(claims(), member, value)));
    assert!(changed("x", 1.into()).is_ok());
    let unknown = |result| matches!(result, Err(Unauthenticated::UnknownSigner(_)));
    for issuer in
        [json!("https://idp.example/"), json!("https://other.example"), json!([ISSUER]), Value::Null]
    {
        assert!(unknown(changed("iss", issuer)));
    }
    for audience in [json!("other"), json!(["Coffer"]), json!([])] {
        assert!(matches!(changed("aud", audience), Err(Unauthenticated::Audience(_))));
    }
    assert!(matches!(changed("aud", Value::Null), Err(Unauthenticated::Missing(_))));
    assert!(matches!(changed("exp", (NOW - 30).into()), Err(Unauthenticated::Expired { .. })));
    assert!(matches!(changed("exp", (NOW + 3601).into()), Err(Unauthenticated::Lifetime { .. })));
    assert!(matches!(changed("iat", (NOW + 31).into()), Err(Unauthenticated::NotYet { .. })));
    assert!(matches!(changed("nbf", (NOW + 31).into()), Err(Unauthenticated::NotYet { .. })));
    assert!(matches!(changed("exp", "1".into()), Err(Unauthenticated::ClaimType { .. })));
    for verified in [json!(false), json!("true"), json!(1), Value::Null] {
        assert!(matches!(changed("email_verified", verified), Err(Unauthenticated::Required(_))));
    }
    for groups in [json!({"kbs-admins": true}), json!(["kbs-admins", 1]), json!(7)] {
        assert!(matches!(changed("groups", groups), Err(Unauthenticated::ClaimType { .. })));
    }
    for subject in [json!(1), json!(""), json!("a\nb"), json!("x".repeat(257))] {
        assert!(matches!(changed("sub", subject), Err(Unauthenticated::ClaimType { .. })));
    }
    assert!(matches!(changed("sub", Value::Null), Err(Unauthenticated::Missing(_))));
    assert!(matches!(changed("cnf", json!({"jkt": "x"})), Err(Unauthenticated::Bound)));
    // Somebody without any role is known, and may nothing.
    for groups in [json!("staff"), json!([]), json!(["kbs-admins2"]), Value::Null] {
        let who = changed("groups", groups).unwrap();
        let refused = who.allows(Permission::ReadNames, &tenant("a")).unwrap_err();
        assert!(who.roles().is_empty() && refused.to_string().contains("no role"), "{refused}");
    }
    let who = changed("realm_access", json!({"roles": "read"})).unwrap();
    assert_eq!(who.roles(), roles(&[Role::Owner, Role::Auditor]));
    let many = with(claims(), "groups", (0..2000).map(|n| json!(n.to_string())).collect());
    assert!(bench.verify(&signer.token(&head, &many)).is_err());
}

#[test]
fn an_issuer_of_the_cluster_speaks_for_the_tenants_that_its_claim_names_and_no_other() {
    let signer = Signer::ed25519();
    let own = with(settings(), "speaks_for", json!({"tenant_claim": "tenant"}));
    let bench = Bench::new(&Scope::Cluster, &own, vec![signer.jwk("1")]);
    let token = |tenants: Value| {
        signer.token(&json!({"alg": "EdDSA", "kid": "1"}), &with(claims(), "tenant", tenants))
    };
    assert_eq!(bench.verify(&token("a".into())).unwrap().scope(), &tenant("a"));
    assert!(bench.verify(&token(json!(["b", "a"]))).is_ok());
    for other in [json!("b"), json!(["b", "c"]), json!("A"), json!("a/../b"), json!("a ")] {
        assert!(matches!(bench.verify(&token(other)), Err(Unauthenticated::OtherTenant(_))));
    }
    assert!(matches!(bench.verify(&token(Value::Null)), Err(Unauthenticated::Missing(_))));
    assert!(matches!(bench.verify(&token(json!({"a": 1}))), Err(Unauthenticated::ClaimType { .. })));
    let cluster = bench.at(&token("a".into()), &Scope::Cluster);
    assert!(matches!(cluster, Err(Unauthenticated::UnknownSigner(Scope::Cluster))));
}

#[test]
fn an_issuer_of_one_tenant_or_of_the_cluster_is_unknown_elsewhere() {
    let signer = Signer::ed25519();
    let token = signer.token(&json!({"alg": "EdDSA"}), &claims());
    let unknown = |result| matches!(result, Err(Unauthenticated::UnknownSigner(_)));
    let bench = Bench::new(&tenant("a"), &settings(), vec![signer.jwk("1")]);
    assert!(bench.at(&token, &tenant("a")).is_ok());
    assert!(unknown(bench.at(&token, &tenant("b"))) && unknown(bench.at(&token, &Scope::Cluster)));
    let one = with(settings(), "speaks_for", json!({"tenant": "b"}));
    let bench = Bench::new(&Scope::Cluster, &one, vec![signer.jwk("1")]);
    assert!(bench.at(&token, &tenant("b")).is_ok() && unknown(bench.at(&token, &tenant("a"))));
    let mut operators = settings();
    operators["roles"] = json!([{"claim": "groups", "value": "kbs-admins", "roles": ["operator"]}]);
    let bench = Bench::new(&Scope::Cluster, &operators, vec![signer.jwk("1")]);
    let who = bench.at(&token, &Scope::Cluster).unwrap();
    assert!(who.allows(Permission::Backup, &Scope::Cluster).is_ok());
    assert!(unknown(bench.at(&token, &tenant("a"))));
}

#[test]
fn without_the_issuer_s_keys_the_answer_is_that_it_cannot_be_told() {
    let signer = Signer::ed25519();
    let verifier = verifier(&tenant("a"), &settings());
    let asked = Asked { target: &tenant("a"), certificate: None, now: NOW };
    let refused =
        verifier.verify(&signer.token(&json!({"alg": "EdDSA"}), &claims()), &asked, &HashMap::new());
    let refused = refused.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (503, "admin.issuer-unavailable"));
}

#[test]
fn settings_that_would_open_a_hole_are_refused() {
    let refused = |owner: &Scope, settings: Value| {
        let settings = serde_json::from_value::<IssuerSettings>(settings).map_err(|error| error.to_string());
        settings
            .and_then(|settings| Issuer::new(settings, owner).map_err(|error| error.to_string()))
            .unwrap_err()
    };
    let (a, cluster) = (tenant("a"), Scope::Cluster);
    let at = |member: &str, value: Value| refused(&a, with(settings(), member, value));
    assert!(at("keys", json!({"file": "/etc/keys.json"})).contains("keys.file"));
    assert!(at("speaks_for", json!({"tenant": "b"})).contains("speaks_for"));
    assert!(at("speaks_for", json!("cluster")).contains("speaks_for"));
    assert!(at("speaks_for", json!({"tenant_claim": "t"})).contains("speaks_for"));
    for url in ["http://idp.example/keys", "ftp://idp.example", "https://a:b@idp.example", "x", "https://"] {
        assert!(at("keys", json!({"url": url})).contains("https address"), "{url}");
    }
    assert!(at("audiences", json!([])).contains("audiences"));
    assert!(at("roles", json!([])).contains("roles"));
    assert!(at("algorithms", json!([])).contains("algorithms"));
    assert!(at("algorithms", json!(["HS256"])).contains("HS256"));
    assert!(at("algorithms", json!(["none"])).contains("none"));
    assert!(at("max_lifetime_s", json!(86_401)).contains("max_lifetime_s"));
    assert!(at("leeway_s", json!(301)).contains("leeway_s"));
    assert!(at("keys", json!({"inline": "{\"keys\":[]}"})).contains("no key"));
    assert!(at("insecure", json!(true)).contains("unknown field"));
    let operator = json!([{"claim": "g", "value": "x", "roles": ["operator"]}]);
    assert!(at("roles", operator.clone()).contains("operator"));
    let claimed = with(with(settings(), "roles", operator), "speaks_for", json!({"tenant_claim": "t"}));
    assert!(refused(&cluster, claimed).contains("operator"));
    assert!(refused(&cluster, settings()).contains("owner"), "tenants' roles in the cluster");
    let relative =
        with(with(settings(), "keys", json!({"file": "keys.json"})), "speaks_for", json!({"tenant": "a"}));
    assert!(refused(&cluster, relative).contains("absolute"));
    let both: IssuerSettings = serde_json::from_value(settings()).unwrap();
    let twice = Verifier::new(&a, vec![], vec![both.clone(), both], vec![]);
    assert!(matches!(twice, Err(SettingsError::Twice(_))));
}
