//! Claims about the paravisor's report and the forms of evidence.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn hcl(kind: u32, hash: u32, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    let mut bytes = [b"HCLA".to_vec(), words(&[1, 0, 2, 0, 0, 0, 0]), vec![0xaa; 1184]].concat();
    bytes.extend(words(&[length + 20, 1, kind, hash, length]));
    bytes.extend(data);
    bytes.extend([0; 64]);
    bytes
}

fn runtime() -> Value {
    let key = |kid: &str| json!({"kid": kid, "kty": "RSA", "e": "AQAB", "n": "AAECAw", "key_ops": ["sign"]});
    json!({"keys": [key("HCLAkPub"), key("HCLEkPub")], "user-data": "0A0b", "vm-configuration": {"a": 1}})
}

#[test]
fn the_paravisors_report_is_read_for_both_platforms() {
    let data = runtime().to_string().into_bytes();
    for (kind, platform, length) in [(2, Platform::Snp, 1184), (4, Platform::Tdx, 1024)] {
        for (hash, bytes) in [(1, 32), (2, 48), (3, 64)] {
            let report = HclReport::parse(&hcl(kind, hash, &data)).unwrap();
            assert_eq!((report.platform(), report.version()), (platform, 1));
            assert_eq!(report.platform_report(), vec![0xaa; length]);
            assert_eq!(report.runtime_data(), data);
            assert_eq!(report.runtime_hash().as_bytes().len(), bytes);
            let claims = report.runtime_claims().unwrap();
            assert_eq!(claims.attestation_key, RsaKey { modulus: vec![1, 2, 3], exponent: vec![1, 0, 1] });
            assert_eq!(claims.user_data.unwrap(), [0x0a, 0x0b]);
            assert_eq!(claims.configuration.unwrap(), json!({"a": 1}));
        }
    }
}

#[test]
fn a_report_that_is_none_is_refused_by_name() {
    let good = hcl(2, 1, &runtime().to_string().into_bytes());
    let refused = |at: usize, word: u32| {
        let mut changed = good.clone();
        changed[at..at + 4].copy_from_slice(&word.to_le_bytes());
        HclReport::parse(&changed).unwrap_err().to_string()
    };
    assert!(refused(0, 0).contains("the signature"));
    assert!(refused(4, 0).contains("the version"));
    assert!(refused(4, 3).contains("the version"));
    assert!(refused(16, 1).contains("the status"));
    assert!(refused(1220, 2).contains("the version of the runtime data"));
    assert!(refused(1224, 1).contains("the report's type"));
    assert!(refused(1228, 0).contains("the hash"));
    assert!(refused(1228, 4).contains("the hash"));
    assert!(refused(1232, 1).contains("the size"));
    assert!(refused(1232, u32::MAX).contains("the size"));
    let mut huge = good.clone();
    huge[1216..1220].copy_from_slice(&u32::MAX.to_le_bytes());
    huge[1232..1236].copy_from_slice(&(u32::MAX - 20).to_le_bytes());
    assert!(HclReport::parse(&huge).unwrap_err().to_string().contains("the runtime data ends at"));
    let end = good.len() - 64;
    for length in [0, 31, 32, 1215, 1216, 1235, 1236, end - 1] {
        assert!(matches!(HclReport::parse(&good[..length]), Err(HclError::Length { .. })), "{length}");
    }
    assert!(HclReport::parse(&good[..end]).is_ok());
    assert!(HclReport::parse(&[good, vec![0; 16 << 10]].concat()).is_err());
}

#[test]
fn runtime_data_without_its_one_key_is_refused() {
    let refused = |change: fn(&mut Value)| {
        let mut changed = runtime();
        change(&mut changed);
        RuntimeClaims::parse(changed.to_string().as_bytes()).unwrap_err().to_string()
    };
    assert!(refused(|data| data["keys"][0]["kid"] = "other".into()).contains("found 0"));
    assert!(refused(|data| data["keys"][1]["kid"] = "HCLAkPub".into()).contains("found 2"));
    assert!(refused(|data| data["keys"][0]["kty"] = "EC".into()).contains("expected RSA"));
    assert!(refused(|data| data["keys"][0]["n"] = "*".into()).contains("HCLAkPub.n"));
    assert!(refused(|data| data["keys"] = vec![data["keys"][1].clone(); 17].into()).contains("at most 16"));
    assert!(refused(|data| data["user-data"] = "0".into()).contains("user-data"));
    assert!(RuntimeClaims::parse(b"{").is_err());
}

fn evidence(proof: PlatformProof) -> AzureEvidence {
    AzureEvidence {
        version: 2,
        quote: AzureQuote { signature: vec![1; 256], message: vec![2; 129], pcrs: vec![vec![3; 32]; 24] },
        hcl_report: vec![0xfb; 2600],
        proof,
    }
}

#[test]
fn what_is_written_is_read_and_older_forms_say_the_same() {
    let snp = evidence(PlatformProof::Snp(Some(vec![0xff, 0xfe, 4])));
    let written = snp.to_value();
    assert_eq!(AzureEvidence::parse_snp(&written).unwrap(), snp);
    let tdx = evidence(PlatformProof::Tdx(vec![0xff; 5000]));
    assert_eq!(AzureEvidence::parse_tdx(&tdx.to_value()).unwrap(), tdx);
    let none = evidence(PlatformProof::Snp(None));
    assert_eq!(AzureEvidence::parse_snp(&none.to_value()).unwrap(), none);

    let quote = json!({"signature": vec![1; 256], "message": vec![2; 129], "pcrs": vec![vec![3; 32]; 24]});
    let pem = "-----BEGIN CERTIFICATE-----\n//4E\n-----END CERTIFICATE-----\n";
    let v0 = json!({"quote": quote, "report": vec![0xfb; 2600], "vcek": pem});
    assert_eq!(AzureEvidence::parse_snp(&v0).unwrap(), AzureEvidence { version: 0, ..snp.clone() });
    let v0 = json!({"tpm_quote": quote, "hcl_report": vec![0xfb; 2600], "td_quote": vec![0xff; 5000]});
    assert_eq!(AzureEvidence::parse_tdx(&v0).unwrap(), AzureEvidence { version: 0, ..tdx });
    let mut v1 = written;
    v1["version"] = 1.into();
    assert_eq!(AzureEvidence::parse_snp(&v1).unwrap(), AzureEvidence { version: 1, ..snp });
}

#[test]
fn what_is_out_of_bounds_is_refused_by_name() {
    let good = evidence(PlatformProof::Tdx(vec![1])).to_value();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        AzureEvidence::parse_tdx(&changed).unwrap_err().to_string()
    };
    assert!(refused(&|e| e["version"] = 3.into()).contains("version 3"));
    assert!(refused(&|e| e["version"] = 0.into()).contains("version 0"));
    assert!(refused(&|e| e["td_quote"] = Value::Null).contains("td_quote: it is missing"));
    assert!(refused(&|e| e["td_quote"] = "*".into()).contains("td_quote"));
    assert!(refused(&|e| e["td_quote"] = "A".repeat(1 << 18).into()).contains("td_quote is too long"));
    assert!(refused(&|e| e["hcl_report"] = vec![1; 20_000].into()).contains("hcl_report is too long"));
    assert!(refused(&|e| e["tpm_quote"]["message"] = "0g".into()).contains("tpm_quote.message"));
    assert!(refused(&|e| e["tpm_quote"]["pcrs"] = vec!["00"; 25].into()).contains("tpm_quote.pcrs"));
    assert!(refused(&|e| e["tpm_quote"] = 7.into()).contains("form"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), at in 0_usize..1300, by: u8) {
        let _ = HclReport::parse(&bytes);
        let _ = RuntimeClaims::parse(&bytes);
        let mut changed = hcl(2, 1, &runtime().to_string().into_bytes());
        changed[at] ^= by;
        if let Ok(report) = HclReport::parse(&changed) {
            let _ = report.runtime_claims();
        }
    }
}
