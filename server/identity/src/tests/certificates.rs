//! Client certificates.

use coffer_core_admin::Role;
use coffer_core_digest::Digest;
use serde_json::json;

use super::{NOW, Signer, b64, roles, tenant};
use crate::authenticator::{Authenticator, Presented};
use crate::cache::{CacheTimes, KeyCache};
use crate::certificate::{CertificateRule, ClientCertificate, Names};
use crate::error::{SettingsError, Unauthenticated};
use crate::fetch::FetchSettings;
use crate::identity::Via;
use crate::local::LocalKey;
use crate::verifier::{Asked, Verifier};

const NAME: &str = "spiffe://example.org/admin";

pub(super) fn certificate(common_names: &[&str]) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(NAME.try_into().unwrap()));
    params.subject_alt_names.push(rcgen::SanType::Rfc822Name("ann@example.org".try_into().unwrap()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    for name in common_names {
        params.distinguished_name.push(rcgen::DnType::CommonName, *name);
    }
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2028, 1, 1);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn rule(names: Names) -> CertificateRule {
    CertificateRule { name: "ann".into(), certificate: names, roles: roles(&[Role::Auditor]) }
}

fn verifier(names: Names) -> Verifier {
    Verifier::new(&tenant("a"), vec![], vec![], vec![rule(names)]).unwrap()
}

#[test]
fn a_certificate_is_known_by_each_kind_of_name_to_the_letter() {
    let der = certificate(&["Ann"]);
    let read = ClientCertificate::from_verified_der(&der).unwrap();
    let digest = Digest::sha256(&der).hex();
    for names in [
        Names::Uri(NAME.into()),
        Names::Dns("admin.example".into()),
        Names::Email("ann@example.org".into()),
        Names::CommonName("Ann".into()),
        Names::Sha256(digest.clone()),
    ] {
        let who = verifier(names).identify(&read, NOW).unwrap();
        assert_eq!((who.subject(), who.scope(), who.roles()), ("ann", &tenant("a"), roles(&[Role::Auditor])));
        assert_eq!(*who.via(), Via::ClientCertificate(digest.clone()));
    }
    for names in [
        Names::Uri(format!("{NAME}/")),
        Names::Uri("admin.example".into()),
        Names::Dns(NAME.into()),
        Names::Dns("*.example".into()),
        Names::CommonName("ann".into()),
        Names::CommonName("admin.example".into()),
        Names::Sha256("0".repeat(64)),
    ] {
        let refused = verifier(names).identify(&read, NOW);
        assert!(matches!(refused, Err(Unauthenticated::UnknownCertificate(_))));
    }
}

#[test]
fn a_certificate_without_a_clear_name_or_out_of_its_time_is_nobody_s() {
    let own = verifier(Names::CommonName("Ann".into()));
    let read = |names: &[&str]| ClientCertificate::from_verified_der(&certificate(names)).unwrap();
    assert!(own.identify(&read(&[]), NOW).is_err());
    assert!(matches!(own.identify(&read(&["Ann"]), 1_900_000_000), Err(Unauthenticated::Expired { .. })));
    assert!(matches!(own.identify(&read(&["Ann"]), 1_700_000_000), Err(Unauthenticated::NotYet { .. })));
    let mut der = certificate(&["Ann"]);
    der.push(0);
    for bad in [&[][..], &der, &der[..der.len() / 2]] {
        assert!(matches!(ClientCertificate::from_verified_der(bad), Err(Unauthenticated::Certificate(_))));
    }
    let wrong = Verifier::new(&tenant("a"), vec![], vec![], vec![rule(Names::Sha256("00".into()))]);
    assert!(matches!(wrong, Err(SettingsError::Field { .. })));
}

#[tokio::test]
async fn a_token_goes_before_a_certificate_and_a_bound_one_needs_its_own() {
    let cache = KeyCache::new(&FetchSettings::default(), CacheTimes::default()).unwrap();
    let gate = Authenticator::new(cache);
    let bob = Signer::ed25519();
    let key = LocalKey::new("bob", &bob.jwk("").to_string(), roles(&[Role::Owner]), None).unwrap();
    let rules = vec![rule(Names::Uri(NAME.into()))];
    let verifier = Verifier::new(&tenant("a"), vec![key], vec![], rules).unwrap();
    let (der, other) = (certificate(&["Ann"]), certificate(&["Ann"]));
    let digest = b64(Digest::sha256(&der).as_bytes());
    let ask = async |token: Option<&str>, certificate: Option<&ClientCertificate>| {
        let asked = Asked { target: &tenant("a"), certificate, now: NOW };
        gate.authenticate(&[&verifier], Presented { token }, asked).await
    };
    let (read, other) = (parse(&der), parse(&other));
    assert_eq!(ask(None, None).await.unwrap_err(), Unauthenticated::Nothing);
    assert_eq!(ask(None, Some(&read)).await.unwrap().subject(), "ann");
    let plain = bob.token(&json!({"alg": "EdDSA"}), &json!({"iat": NOW, "exp": NOW + 60}));
    assert_eq!(ask(Some(&plain), Some(&read)).await.unwrap().subject(), "bob");
    assert!(ask(Some("x"), Some(&read)).await.is_err(), "a bad token is not made good by a certificate");
    let claims = json!({"iat": NOW, "exp": NOW + 60, "cnf": {"x5t#S256": digest}});
    let bound = bob.token(&json!({"alg": "EdDSA"}), &claims);
    assert!(ask(Some(&bound), Some(&read)).await.is_ok());
    assert_eq!(ask(Some(&bound), Some(&other)).await.unwrap_err(), Unauthenticated::Bound);
    assert_eq!(ask(Some(&bound), None).await.unwrap_err(), Unauthenticated::Bound);
}

fn parse(der: &[u8]) -> ClientCertificate {
    ClientCertificate::from_verified_der(der).unwrap()
}
