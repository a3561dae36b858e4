//! What proven evidence says, by the names that policies and tokens use.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_evidence::snp::Report;
use coffer_verify_snp::Examination;
use serde_json::{Map, Value, json};

use crate::paravisor::Parts;
use crate::quote::Registers;

/// The register of the init-data.
const INIT_DATA: u8 = 8;

/// Quoted registers by name, as in `pcr4`.
pub(crate) fn registers(registers: &Registers) -> BTreeMap<String, Digest> {
    registers.iter().map(|(pcr, value)| (format!("pcr{pcr}"), *value)).collect()
}

/// For SNP. KBS peers write these claims as text, and the measurement in base64, other than in plain `snp` evidence;
/// under `snp` they stand as they do there.
pub(crate) fn snp(
    report: &Report,
    examined: &Examination,
    parts: &Parts,
    registers: &Registers,
) -> Map<String, Value> {
    const AS_TEXT: [&str; 6] = [
        "policy_abi_major",
        "policy_abi_minor",
        "policy_smt_allowed",
        "policy_migrate_ma",
        "policy_debug_allowed",
        "policy_single_socket",
    ];
    const ALSO: [&str; 2] = ["platform_tsme_enabled", "platform_smt_enabled"];
    let own = coffer_verify_snp::claims::json(report, examined);
    let is_text =
        |name: &str| AS_TEXT.contains(&name) || ALSO.contains(&name) || name.starts_with("reported_tcb_");
    let text = |(name, value): (&String, &Value)| (name.clone(), Value::from(value.to_string()));
    let mut claims: Map<String, Value> = own.iter().filter(|(name, _)| is_text(name)).map(text).collect();
    claims.insert("measurement".into(), STANDARD.encode(report.measurement()).into());
    claims.insert("snp".into(), own.into());
    paravisor(&mut claims, parts, registers);
    claims
}

/// For TDX: the TD quote's claims, and the TPM's beside them.
pub(crate) fn tdx(
    mut claims: Map<String, Value>,
    parts: &Parts,
    registers: &Registers,
) -> Map<String, Value> {
    paravisor(&mut claims, parts, registers);
    claims
}

fn paravisor(claims: &mut Map<String, Value>, parts: &Parts, registers: &Registers) {
    let pcr = |(pcr, value): (&u8, &Digest)| (format!("pcr{pcr:02}"), Value::from(value.hex()));
    claims.insert("tpm".into(), Value::Object(registers.iter().map(pcr).collect()));
    if let Some(value) = registers.get(&INIT_DATA) {
        claims.insert("init_data".into(), value.hex().into());
    }
    let attest = &parts.quote.attest;
    claims.insert("report_data".into(), hex::encode(&attest.extra_data).into());
    let vtpm = json!({
        "clock": attest.clock.clock,
        "reset_count": attest.clock.reset_count,
        "restart_count": attest.clock.restart_count,
        "safe": attest.clock.safe == 1,
        "firmware_version": format!("{:#x}", attest.firmware_version),
    });
    claims.insert("quote_info".into(), vtpm);
    let hcl = json!({
        "version": parts.hcl.version(),
        "evidence_version": parts.version,
        "vm_configuration": parts.runtime.configuration,
    });
    claims.insert("hcl".into(), hcl);
}
