//! What an owner demands of platforms, and event logs that are compared with a reference value.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::EventLog;
use coffer_core_launch::ReferenceValues;
use coffer_verify_api::{Check, Claims, OBLIGATORY, Posture, Status, Verified};
use coffer_verify_appraisal::{PlatformPolicy, Sent, Standards, appraise};

const BANK: Algorithm = Algorithm::Sha256;
const BOOT_LOG: &[u8] = include_bytes!("../../../core/launch/testdata/boot.log");
const REFERENCE: &str = include_str!("../../../core/launch/testdata/reference.json");

/// Reads a platform policy.
pub fn platform_policy(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(policy) = PlatformPolicy::from_toml(text)
    {
        assert_eq!(PlatformPolicy::from_toml(&policy.to_toml()).unwrap(), policy);
    }
}

/// Appraises a guest whose registers are what the log leads to.
pub fn appraised_log(data: &[u8]) {
    let Ok(log) = EventLog::parse(data) else { return };
    let replayed = log.replay(BANK);
    let registers: BTreeMap<String, Digest> = (0..24)
        .map(|number| (format!("pcr{number}"), *replayed.get(&number).unwrap_or(&Digest::zero(BANK))))
        .collect();
    let references = [ReferenceValues::from_json(REFERENCE.as_bytes()).unwrap()];
    let same =
        references.iter().flat_map(ReferenceValues::registers).all(|(name, value)| registers[name] == *value);
    let claims = Claims {
        tee: Tee::Tpm,
        hardware: false,
        registers,
        events: log.into_events(),
        posture: Posture::default(),
        json: serde_json::Map::new(),
    };
    let checks = OBLIGATORY.map(|name| Check::passed(name, name)).to_vec();
    let verified = Verified::from_checks(claims, checks).unwrap();
    let platform = PlatformPolicy::default();
    let standards = Standards { references: &references, platform: &platform, policy: None };
    let at = "2026-12-01T00:00:00Z".parse().unwrap();
    let verdict = appraise(&verified, &standards, &Sent::NOTHING, at);
    assert_eq!(verdict.status == Status::Affirming, same);
    assert_eq!(verdict.causes().is_empty(), same);
}

pub(crate) fn policy_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "debug = \"warn\"\nvmpl-max = 2\n[tcb-status]\naffirm = [\"UpToDate\"]\nwarn = [\"OutOfDate\"]\n",
        "[advisories]\nothers = \"refuse\"\naccept = [{ id = \"INTEL-SA-1\", until = \"2027-01-01\" }]\n",
        "[[minimum]]\ntee = \"snp\"\ngeneration = \"Milan\"\ncomponents = { snp = 14 }\ndate = \"2026-01-01T00:00:00Z\"\n",
        "[chips.snp]\ndeny = [\"aa\"]\n[generations.tdx]\nallow = [\"b0c06f000000\"]\n",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    vec![BOOT_LOG.to_vec()]
}
