//! What image tools wrote opens; what we write opens again; each defect is refused with its reason.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_seal::ocicrypt::{self, BrokerKey, Locked};
use serde_json::{Value, json};

use super::provider::{KeyChoice, ProviderError, Request};
use super::*;

/// Made with skopeo of Debian 12.
fn recorded() -> Value {
    serde_json::from_str(include_str!("../testdata/skopeo.json")).unwrap()
}

fn holder(vector: &Value, key: &str) -> Holder {
    Holder::from_pem(vector[key].as_str().unwrap()).unwrap()
}

/// The layer's key by a holder's key.
fn open(annotations: &Value, holder: &Holder) -> Result<SecretBytes, KeywrapError> {
    let annotations = serde_json::from_value(annotations.clone()).unwrap();
    let locked = Locked::from_annotations(&annotations).unwrap();
    let (name, message) = locked.others().next().unwrap();
    let options = holder.unwrap(name, message).expect("a kind that is known")?;
    locked.unlock_with(&options).unwrap();
    Ok(options)
}

#[test]
fn what_skopeo_wrote_opens_with_each_recipient_s_key() {
    let vector = recorded();
    for (name, keys) in [("one", &["rsa"][..]), ("several", &["ec", "rsa"]), ("pkcs7", &["rsa"])] {
        for key in keys {
            let options = open(&vector[name], &holder(&vector, key)).unwrap();
            assert!(String::from_utf8_lossy(options.expose()).contains("symkey"), "{name} {key}");
        }
    }
    let wrong = open(&vector["one"], &holder(&vector, "ec"));
    assert!(matches!(wrong, Err(KeywrapError::Jwe(JweError::Algorithm { .. }))));
}

#[test]
fn a_layer_for_all_kinds_of_recipients_opens_for_each_and_for_no_stranger() {
    let vector = recorded();
    let certificates = CertificateHolders::from_pem([vector["certificate"].as_str().unwrap()]).unwrap();
    let keys = KeyHolders::from_pem([RSA_PUBLIC, EC_PUBLIC]).unwrap();
    let broker_key = SecretBytes::new(vec![7; 32]);
    let broker = BrokerKey::new("kbs:///default/key/a", &broker_key).unwrap();
    let mut cipher = Vec::new();
    let layer =
        ocicrypt::encrypt_for(&mut &b"layer"[..], &mut cipher, &[&broker, &certificates, &keys]).unwrap();
    let locked = Locked::from_annotations(&layer.annotations).unwrap();
    let mut opened = 0;
    for (name, message) in locked.others() {
        let pem = if name == PKCS7 { vector["rsa"].as_str().unwrap() } else { EC_PRIVATE };
        let options = Holder::from_pem(pem).unwrap().unwrap(name, message).unwrap().unwrap();
        let mut plain = Vec::new();
        locked.unlock_with(&options).unwrap().decrypt(&mut cipher.as_slice(), &mut plain).unwrap();
        assert_eq!(plain, b"layer");
        let stranger = Holder::from_pem(STRANGER).unwrap().unwrap(name, message).unwrap();
        assert!(stranger.is_err(), "{name}");
        opened += 1;
    }
    assert_eq!(opened, 2);
    assert!(locked.unlock("kbs:///default/key/a", &broker_key).is_ok());
}

#[test]
fn each_changed_byte_of_a_pkcs7_message_is_refused_or_names_nobody() {
    let vector = recorded();
    let annotations = &vector["pkcs7"][PKCS7];
    let message = STANDARD.decode(annotations.as_str().unwrap()).unwrap();
    let holder = holder(&vector, "rsa");
    let opened = |message: &[u8]| holder.unwrap(PKCS7, message).unwrap();
    let good = opened(&message).unwrap();
    let mut survived = Vec::new();
    for at in 0..message.len() {
        let mut twin = message.clone();
        twin[at] ^= 1;
        match opened(&twin) {
            // The recipient's name and the version say nothing about the content.
            Ok(same) => {
                assert!(same.equals(good.expose()), "byte {at}");
                survived.push(at);
            }
            Err(KeywrapError::Pkcs7(_)) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(survived.len() < 64, "{survived:?}");
    for cut in 0..message.len() {
        assert!(opened(&message[..cut]).is_err());
    }
}

#[test]
fn a_cipher_that_does_not_authenticate_is_refused_by_name() {
    let vector = recorded();
    let message = STANDARD.decode(vector["pkcs7"][PKCS7].as_str().unwrap()).unwrap();
    // aes128-GCM becomes aes128-CBC.
    let oid = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x06];
    let at = message.windows(oid.len()).position(|window| window == oid).unwrap();
    let mut twin = message;
    twin[at + oid.len() - 1] = 2;
    let refused = holder(&vector, "rsa").unwrap(PKCS7, &twin).unwrap();
    assert!(matches!(refused, Err(KeywrapError::Pkcs7(Pkcs7Error::Cipher(_)))));
}

#[test]
fn keys_and_certificates_of_other_kinds_are_refused_with_what_to_do() {
    let vector = recorded();
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let refused = |result: Result<(), KeywrapError>| result.unwrap_err().to_string();
    assert!(
        refused(KeyHolders::from_pem([text("certificate").as_str()]).map(drop))
            .contains("expected PUBLIC KEY")
    );
    assert!(refused(CertificateHolders::from_pem([EC_PUBLIC]).map(drop)).contains("expected CERTIFICATE"));
    let old = text("rsa").replace("PRIVATE KEY", "RSA PRIVATE KEY");
    assert!(refused(Holder::from_pem(&old).map(drop)).contains("openssl pkcs8"));
    assert!(refused(Holder::from_pem("no key").map(drop)).contains("PEM"));
    assert!(refused(Holder::from_pem(&"x".repeat(MAX_FILE + 1)).map(drop)).contains("more than"));
}

fn parameters(text: &str) -> Value {
    json!({"Parameters": {"attestation-agent": [STANDARD.encode(text)]}})
}

#[test]
fn a_provider_s_requests_are_read_and_refused_by_their_cause() {
    let wrap = |parameters: Value| {
        let request =
            json!({"op": "keywrap", "keywrapparams": {"ec": parameters, "optsdata": STANDARD.encode("o")}});
        Request::parse(request.to_string().as_bytes())
    };
    let choice = KeyChoice { file: "/k".into(), name: Some("kbs:///a/b/c".into()) };
    for spelling in ["kbs:///a/b/c", "/a/b/c", "a/b/c"] {
        let Ok(Request::Wrap { key, options }) =
            wrap(parameters(&format!("keypath=/k::keyid={spelling}::algorithm=A256GCM")))
        else {
            panic!("{spelling}");
        };
        assert!(options.equals(b"o"));
        assert_eq!(key, choice);
    }
    let unwrap =
        json!({"op": "keyunwrap", "keyunwrapparams": {"dc": parameters("keypath=/k"), "annotation": "AAAA"}});
    let Ok(Request::Unwrap { keys, packet }) = Request::parse(unwrap.to_string().as_bytes()) else {
        panic!()
    };
    assert_eq!((keys.len(), packet), (1, vec![0; 3]));
    for (text, expected) in [
        ("keypath=/k::algorithm=A256CTR", "authenticates"),
        ("keypath=/k::sample=true", "public"),
        ("keypath=/k::color=red", "expected keypath"),
        ("keyid=kbs:///a/b/c", "keypath=FILE"),
    ] {
        assert!(wrap(parameters(text)).map(drop).unwrap_err().to_string().contains(expected), "{text}");
    }
    assert!(matches!(wrap(json!(null)).map(drop), Err(ProviderError::Parameters { .. })));
    for garbage in
        ["", "{}", r#"{"op":"steal"}"#, r#"{"op":"keywrap"}"#, r#"{"op":"keyunwrap","keyunwrapparams":{}}"#]
    {
        assert!(Request::parse(garbage.as_bytes()).is_err(), "{garbage}");
    }
}

/// A key of these tests only.
const RSA_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA19SQG2Nvqcf9NsqaoVOb
+LNdx5kuOuUbSEcnCHYISQmDBfFgub5iEVvZTdOkUTppOPtXRX+61bhCYLXMPbWT
LGe9JZn6AnUh44+FgykKdcTynl3uEo7nL2PDoRXAq/bmRy8sdoyCi2/yFK85t1NG
1xXlqlG/kXF2chfJFvcrx2Hb8dTFwiDU7Ivs0d1RO4JXZx0CrT449/bEoMiJtYsd
A9F0ZoRom4/eCEuaMy/qd3jnOxNC/TQl2eOQTRDUC1oadcJCN8Y+nGcUm+WvzFoz
o8Zqkt7X6CTXx7l+SwbKVYoDHffHkCiANG8vI1ftavEA9b2ZHORN2f6vOYbOoM13
cwIDAQAB
-----END PUBLIC KEY-----
";

/// A key of these tests only.
const EC_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQA0FmAJWyFDTEeIaau/g+rptYnyHkf
6iqR0zI3nBAk+LV5t2dqQOEAZFNHZleK23Mj9ATSwnQBBf0T2SdsRfPRh0cALaX9
mXWYAgasq9BRnvUKmBXHnHMPQGi8sEoGGHcqFYeJTtyg/Nf1HSNlep6scfTg6WqG
A2xvyPd3w+3AVKCZQvs=
-----END PUBLIC KEY-----
";

/// A key of these tests only.
const EC_PRIVATE: &str = "\
-----BEGIN EC PRIVATE KEY-----
MIHcAgEBBEIBdedo/wWPsVqxRuGKyAd7iDKhJqB9Req20R0cyV8WLvGntrO2owoc
9yUAYHArut5OEq8z+y5bQKya/tI9rPgHHiWgBwYFK4EEACOhgYkDgYYABADQWYAl
bIUNMR4hpq7+D6um1ifIeR/qKpHTMjecECT4tXm3Z2pA4QBkU0dmV4rbcyP0BNLC
dAEF/RPZJ2xF89GHRwAtpf2ZdZgCBqyr0FGe9QqYFceccw9AaLywSgYYdyoVh4lO
3KD81/UdI2V6nqxx9ODpaoYDbG/I93fD7cBUoJlC+w==
-----END EC PRIVATE KEY-----
";

/// A key of these tests only.
const STRANGER: &str = "\
-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCtlbe2cs9z7bK6
tyU4snjTOi/okrK+Pw0hoDUi2L2idcn5ts+T7R3jEXJmHBQMn4KPgiHtHsXy1GL7
69LHPJgsdiTTHujWitlSIvPx6MOWQnP3OXeh5ql5HoxsUOjm1OvAzZOPZXKCFykq
HeVaB2v7tfRn2LA5mp0nktmkAphcsmM//lKvwsZssDJ/oZ+7KjZ0vbqMcaU0lkGo
SZTmrXujwzg3Btl096Ya+4UnBG+uz8f+obk3nFAgLhUK0qKvpEkHMFlAftgT06ya
lLPS5ho2e4tpkb6msLdWUfhePL6QAHK8GvtAqfDq3fZGuHDNu880+7rMFhztciJp
hXAJQagpAgMBAAECggEAGyKtfmsCPSgqaX/Z5LwZoUOWW7AbGxx2LAyEYfcp5eyt
70iBuKk3o9iFXqsDA1ooKdD5Br1pymUjOCiMYbL6QvERHqPVWDyKbomiQu3VLXcj
88DbD8ckNRfucbxQPE2KsTAx4hfEx8thFwFnaiSA3+94zocUPV0LNjWBql7xfIPw
XPV2njHcQcmqgfNQiHuOooFxcMJ7Bzjr4oPaRq4OTHLFt8jtjwpVxXRMIDhyFcwh
V5GqpvHGcaJIQie6A/gsuDoixWtGFLwzCn+oYJMrqXkG9CbKu1d2QQgKWeVw52MV
4Nvp4mndexCoUiO9mAdeCXzZHBe8fvFieiBBCExNFQKBgQDkHkWzD2AQqo/ODA7+
fBPCa44q0hWfyiltzMlSKwkbLTX0CVZ+ER7WiltlfqCq4lx0lYcLY7HtLkOmPvAE
4W2hGIIIVz1DWecpBd04rBF5/Uc3rlfw/hU9b0Vd+tAMmJrf5qGDuSRt6tn/AKKb
ChokQp+16cTLJUq0rfLa1ATVuwKBgQDCzR3o39FR10SkbgepH2ai3IfYPMw4v4KD
qSHWRcqVbLRxat4tED2KlDJwDjnIF0iX3BKnBA5vJ18agGwlHz6CimIto7bJRn+M
O/ez6wvLAvBMtI925cwwAFRbxUHLzt3oflJ+CwN6VL7j1pz5xwF+jAmLXq+PCPNL
KWz45T5JawKBgQCtbp6LLmtZAHPosZ5MuMTFEcS6pZKvM6IfyoxdHj8EHHFioh7S
Je4OKo6mMYmxofus32oWrKs/qebg5ATTkRgqXFmwQbNgG1/1/nFcfuWim3+jw7c0
j9hSJuDUPLYkfXlyNQQjA4XA08b9atw1h46sdsK6KYrm7+lGSOHUoVEztQKBgCBJ
/Y4vIzQMmY0jy9NFqC6QnVfDZBp36/tE2p34vYadGR+/lgokKf9BZ0bZpMw8x8Sc
Lt9ONdJI1WPAK6zPi/35UCK+gzrDm7qz6fABotfIqeoc97a+imTeeR0pCintJS03
WxcXXkE1sNp1JVnlmaLPNXnLfRAZbLJlsHFlFjj3AoGBAKJBnQz7YLo4N/DcyZ0R
hSaAWmWBtM+i6xP2GwJFSsf6PAHyDTZlPPgNlHbCuuM+zYmGb5W3qt/kGlCCsc1c
EnPNB2DD2iRHFuQqWFbUnA0uiaEfcsdqzVELP+XT1B1hybGaHSAtRxX/CjKHt/iI
wiO8m32n71hDFM9+sFuqKHx1
-----END PRIVATE KEY-----
";
