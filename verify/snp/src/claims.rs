//! What genuine reports say, by the names that policies, tokens and appraisals use.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::snp::{Report, SigningKey, Tcb as Levels, Version};
use coffer_verify_api::{Posture, Tcb};
use serde_json::{Map, Value, json};

use crate::Examination;

/// The measurement and what the launch bound beside it.
pub fn registers(report: &Report) -> BTreeMap<String, Digest> {
    let sha384 =
        |name: &str, bytes: &[u8; 48]| (name.to_owned(), Digest::from_bytes(Algorithm::Sha384, bytes));
    let host_data = Digest::from_bytes(Algorithm::Sha256, report.host_data());
    let fields = [
        sha384("measurement", report.measurement()),
        ("host-data".to_owned(), host_data),
        sha384("id-key-digest", report.id_key_digest()),
        sha384("author-key-digest", report.author_key_digest()),
    ];
    // Each field has its algorithm's length.
    fields.into_iter().filter_map(|(name, digest)| Some((name, digest.ok()?))).collect()
}

/// What owners decide on, of a report that was examined.
pub fn posture(report: &Report, examined: &Examination) -> Posture {
    let components = report.reported_tcb().components().map(|(name, level)| (name.to_owned(), level.into()));
    Posture {
        debug: Some(report.debug_allowed()),
        migration: Some(report.migration_allowed()),
        smt: Some(report.smt_enabled()),
        vmpl: u8::try_from(report.vmpl()).ok(),
        versions: BTreeMap::from([("guest-svn".to_owned(), report.guest_svn().into())]),
        tcb: Some(Tcb { components: components.collect(), ..Tcb::default() }),
        chip: report.chip().map(hex::encode),
        generation: examined.product.clone(),
        stale_collateral: examined.stale_collateral,
        ..Posture::default()
    }
}

/// Claims under the names of KBS peers, and more beside them.
pub fn json(report: &Report, examined: &Examination) -> Map<String, Value> {
    let tcb = |levels: Levels| -> Value {
        let level = |(name, level): (&str, u8)| (name.to_owned(), Value::from(level));
        Value::Object(levels.components().map(level).collect())
    };
    let firmware = |Version { major, minor, build }: Version| format!("{major}.{minor}.{build}");
    let hex = |bytes: &[u8]| Value::from(hex::encode(bytes));
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);

    say("measurement", hex(report.measurement()));
    say("report_data", hex(report.report_data()));
    say("init_data", hex(report.host_data()));
    say("chip_id", hex(report.chip_id()));
    say("policy_abi_major", report.policy_abi_major().into());
    say("policy_abi_minor", report.policy_abi_minor().into());
    say("policy_smt_allowed", report.smt_allowed().into());
    say("policy_migrate_ma", report.migration_allowed().into());
    say("policy_debug_allowed", report.debug_allowed().into());
    say("policy_single_socket", report.single_socket().into());
    for (name, level) in report.reported_tcb().components() {
        say(&format!("reported_tcb_{name}"), level.into());
    }
    say("platform_smt_enabled", report.smt_enabled().into());
    say("platform_tsme_enabled", report.tsme_enabled().into());

    say("version", report.version().into());
    say("guest_svn", report.guest_svn().into());
    say("vmpl", report.vmpl().into());
    say("family_id", hex(report.family_id()));
    say("image_id", hex(report.image_id()));
    say("report_id", hex(report.report_id()));
    say("report_id_ma", hex(report.report_id_ma()));
    say("id_key_digest", hex(report.id_key_digest()));
    say("author_key_digest", hex(report.author_key_digest()));
    say("author_key_enabled", report.author_key_enabled().into());
    say("policy_cxl_allowed", report.cxl_allowed().into());
    say("policy_mem_aes_256_xts", report.aes_256_xts_required().into());
    say("policy_rapl_disabled", report.rapl_disable_required().into());
    say("policy_ciphertext_hiding", report.ciphertext_hiding_required().into());
    say("policy_page_swap_disabled", report.page_swap_disabled().into());
    say("platform_ecc_enabled", report.ecc_enabled().into());
    say("platform_rapl_disabled", report.rapl_disabled().into());
    say("platform_ciphertext_hiding_enabled", report.ciphertext_hiding_enabled().into());
    say("platform_alias_check_complete", report.alias_check_complete().into());
    say("platform_tio_enabled", report.tio_enabled().into());
    say("current_tcb", tcb(report.current_tcb()));
    say("committed_tcb", tcb(report.committed_tcb()));
    say("launch_tcb", tcb(report.launch_tcb()));
    say("current_version", firmware(report.current_version()).into());
    say("committed_version", firmware(report.committed_version()).into());
    if let (Some(launch), Some(current)) = (report.launch_mitigations(), report.current_mitigations()) {
        say("launch_mit_vector", launch.into());
        say("current_mit_vector", current.into());
    }
    if let Some(cpuid) = report.cpuid() {
        say("cpuid", json!({"family": cpuid.family, "model": cpuid.model, "stepping": cpuid.stepping}));
    }
    let signed_with = match report.signing_key() {
        SigningKey::Vcek => "vcek",
        SigningKey::Vlek => "vlek",
        SigningKey::None | SigningKey::Reserved(_) => "none",
    };
    say("signing_key", signed_with.into());
    if let Some(product) = &examined.product {
        say("product", product.as_str().into());
    }
    if let Some(provider) = &examined.provider {
        say("csp_id", provider.as_str().into());
    }
    claims
}
