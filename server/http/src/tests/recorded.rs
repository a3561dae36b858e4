//! The broker answers the client side of the exchange recorded from Trustee, over its real listener.
//!
//! The judge for `sample` evidence exists only here: it checks that the evidence repeats the report data.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_evidence::Tee;
use coffer_core_protocol::jwe::Jwe;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_secret::Secret;
use coffer_verify_api::{Check, Claims, Fault, Judgement, Question, Verified, Verifier};
use reqwest::Method;
use serde_json::{Value, json};

use super::lab::{Lab, refusal};

struct SampleJudge;

impl Verifier for SampleJudge {
    fn tee(&self) -> Tee {
        Tee::Sample
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        let expected = STANDARD.encode(question.report_data.digest().as_bytes());
        let found = question.evidence["report_data"].as_str().unwrap_or_default();
        let mut checks =
            vec![Check::equal("sample.binding", "The evidence repeats the report data", &expected, found)];
        checks.extend(
            ["signature", "chain", "freshness"]
                .map(|name| Check::passed(format!("sample.{name}"), "Not there")),
        );
        let claims = Claims {
            tee: Tee::Sample,
            hardware: false,
            registers: Default::default(),
            events: Vec::new(),
            posture: Default::default(),
            json: json!({"svn": question.evidence["svn"]}).as_object().cloned().unwrap_or_default(),
        };
        Ok(match Verified::from_checks(claims, checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(reasons) => Judgement::Rejected(reasons),
        })
    }
}

fn transcript() -> Option<Value> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var_os("COFFER_VECTORS").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("kbs/rcar-transcript.json")) else {
        println!("skipped: no vectors");
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

async fn broker(transcript: &Value) -> Lab {
    let nonce = STANDARD.decode(transcript["challenge_nonce"].as_str().unwrap()).unwrap();
    let judges: crate::Judges = Arc::new(|_| {
        Ok(crate::JudgeSet {
            machines: vec![Arc::new(SampleJudge) as Arc<dyn Verifier>],
            devices: Vec::new(),
        })
    });
    let lab = Lab::bare(judges, Some(nonce.try_into().unwrap())).await;
    let secret = STANDARD.decode(transcript["plaintext_b64"].as_str().unwrap()).unwrap();
    lab.admin_ok(Method::POST, "/kbs/v0/resource/default/test/1", secret).await;
    // As the recorded server had it: upstream's policy that allows everything, in its older Rego; and with the rule
    // without which evidence from nowhere gets nothing here.
    let policy = "package policy\ndefault allow = true\ndefault insecure_software_evidence = true\n";
    let policy = STANDARD.encode(policy);
    lab.admin_ok(Method::POST, "/kbs/v0/resource-policy", json!({"policy": policy}).to_string()).await;
    lab
}

async fn auth(lab: &Lab, transcript: &Value) -> (String, Value) {
    let body = transcript["auth_request"].to_string();
    let response = lab.http.post(format!("{}/kbs/v0/auth", lab.url)).body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_string();
    (cookie, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_client_side_is_answered_and_the_reply_opens_with_the_recorded_key() {
    let Some(transcript) = transcript() else { return };
    let lab = broker(&transcript).await;
    let (cookie, challenge) = auth(&lab, &transcript).await;
    assert_eq!(challenge, json!({"nonce": transcript["challenge_nonce"], "extra-params": ""}));

    let response = lab.send(&cookie, transcript["attest_request"].to_string().into_bytes()).await;
    assert_eq!(response.status(), 200);
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let token = answer["token"].as_str().unwrap();
    let claims = claims(token);
    let recorded = self::claims(transcript["token"].as_str().unwrap());
    let evidence = |claims: &Value| claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"].clone();
    assert_eq!(evidence(&claims)["runtime_data_claims"], evidence(&recorded)["runtime_data_claims"]);
    for member in recorded.as_object().unwrap().keys() {
        assert!(claims.get(member).is_some(), "upstream's member {member} is missing");
    }
    for member in recorded["submods"]["cpu0"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| *name != "ear.trustee.identifiers")
    {
        assert!(claims["submods"]["cpu0"].get(member).is_some(), "upstream's member {member} is missing");
    }

    let scalar = hex::decode(transcript["tee_key_p256_scalar_hex"].as_str().unwrap()).unwrap();
    let key = TeeKey::from_p256_scalar(Secret::new(scalar.try_into().unwrap())).unwrap();
    // By cookie, as kbs-client asks, and by bearer token, as the data hub does.
    let url = format!("{}/kbs/v0/resource/default/test/1", lab.url);
    let by_cookie = lab.http.get(&url).header("cookie", &cookie).send().await.unwrap();
    let by_token = lab.http.get(&url).bearer_auth(token).send().await.unwrap();
    let expected = STANDARD.decode(transcript["plaintext_b64"].as_str().unwrap()).unwrap();
    for response in [by_cookie, by_token] {
        assert_eq!(response.status(), 200);
        let jwe = Jwe::from_json(&response.bytes().await.unwrap()).unwrap();
        assert!(key.open(&jwe).unwrap().equals(&expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_evidence_with_another_key_is_refused() {
    let Some(transcript) = transcript() else { return };
    let lab = broker(&transcript).await;
    let (cookie, _) = auth(&lab, &transcript).await;
    let mut request = transcript["attest_request"].clone();
    request["runtime-data"]["tee-pubkey"] =
        serde_json::to_value(TeeKey::generate().unwrap().public()).unwrap();
    let (status, code, _) = refusal(lab.send(&cookie, request.to_string().into_bytes()).await).await;
    assert_eq!((status, code.as_str()), (403, "sample.binding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_the_range_are_spoken_and_others_named() {
    let Some(transcript) = transcript() else { return };
    let lab = broker(&transcript).await;
    for version in ["0.1.0", "0.1.1", "0.2.0", "0.3.0", "0.4.0"] {
        let mut transcript = transcript.clone();
        transcript["auth_request"]["version"] = version.into();
        auth(&lab, &transcript).await;
    }
    let mut request = transcript["auth_request"].clone();
    request["version"] = "0.5.0".into();
    let response =
        lab.http.post(format!("{}/kbs/v0/auth", lab.url)).body(request.to_string()).send().await.unwrap();
    let (status, code, _) = refusal(response).await;
    assert_eq!((status, code.as_str()), (400, "protocol.version"));
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
