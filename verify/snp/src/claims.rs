//! What genuine reports say, by the names that policies, tokens and appraisals use.
//!
//! KBS peers have two dialects: flat names, and the report as it stands under `evidence`. Claims speak both, so that
//! policies in either run unchanged.

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

/// Claims under the names of KBS peers in both dialects, and more beside them.
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
        say("generation", product.to_ascii_lowercase().into());
    }
    if let Some(provider) = &examined.provider {
        say("csp_id", provider.as_str().into());
    }
    say("evidence", evidence(report));
    claims
}

/// The report by the names of its fields, as newer KBS peers have it. What a report of this version or product does
/// not have is null.
fn evidence(report: &Report) -> Value {
    let tcb = |levels: Levels| {
        json!({
            "fmc": levels.fmc,
            "bootloader": levels.bootloader,
            "tee": levels.tee,
            "snp": levels.snp,
            "microcode": levels.microcode,
        })
    };
    let firmware = |Version { major, minor, build }: Version| {
        json!({
            "major": major,
            "minor": minor,
            "build": build,
        })
    };
    let cpuid = report.cpuid();
    json!({
        "version": report.version(),
        "guest_svn": report.guest_svn(),
        "policy": {
            "abi_major": report.policy_abi_major(),
            "abi_minor": report.policy_abi_minor(),
            "smt_allowed": report.smt_allowed(),
            "migrate_ma_allowed": report.migration_allowed(),
            "debug_allowed": report.debug_allowed(),
            "single_socket_required": report.single_socket(),
            "cxl_allowed": report.cxl_allowed(),
            "mem_aes_256_xts": report.aes_256_xts_required(),
            "rapl_dis": report.rapl_disable_required(),
            "ciphertext_hiding": report.ciphertext_hiding_required(),
            "page_swap_disabled": report.page_swap_disabled(),
        },
        "plat_info": {
            "smt_enabled": report.smt_enabled(),
            "tsme_enabled": report.tsme_enabled(),
            "ecc_enabled": report.ecc_enabled(),
            "rapl_disabled": report.rapl_disabled(),
            "ciphertext_hiding_enabled": report.ciphertext_hiding_enabled(),
            "alias_check_complete": report.alias_check_complete(),
            "tio_enabled": report.tio_enabled(),
        },
        "key_info": {
            "author_key_en": report.author_key_enabled(),
            "mask_chip_key": report.mask_chip_key(),
            "signing_key": report.key_info() >> 2 & 7,
        },
        "current_tcb": tcb(report.current_tcb()),
        "reported_tcb": tcb(report.reported_tcb()),
        "committed_tcb": tcb(report.committed_tcb()),
        "launch_tcb": tcb(report.launch_tcb()),
        "current": firmware(report.current_version()),
        "committed": firmware(report.committed_version()),
        "family_id": hex::encode(report.family_id()),
        "image_id": hex::encode(report.image_id()),
        "vmpl": report.vmpl(),
        "sig_algo": report.signature_algorithm(),
        "measurement": hex::encode(report.measurement()),
        "report_data": hex::encode(report.report_data()),
        "host_data": hex::encode(report.host_data()),
        "id_key_digest": hex::encode(report.id_key_digest()),
        "author_key_digest": hex::encode(report.author_key_digest()),
        "report_id": hex::encode(report.report_id()),
        "report_id_ma": hex::encode(report.report_id_ma()),
        "chip_id": hex::encode(report.chip_id()),
        "cpu_id_fam_id": cpuid.map(|cpuid| cpuid.family),
        "cpu_id_mod_id": cpuid.map(|cpuid| cpuid.model),
        "cpu_id_step": cpuid.map(|cpuid| cpuid.stepping),
        "launch_mit_vector": report.launch_mitigations(),
        "current_mit_vector": report.current_mitigations(),
    })
}
