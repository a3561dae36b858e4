//! What a proven quote says, by names that policies and tokens use.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::dcap::{EnclaveReport, Quote};
use coffer_verify_api::{Claims, Posture};
use coffer_verify_dcap::PlatformVerdict;
use serde_json::{Map, Value, json};

pub(crate) fn claims(quote: &Quote<'_>, report: &EnclaveReport, verdict: &PlatformVerdict) -> Claims {
    let versions =
        [("isvprodid", report.isv_prod_id), ("isvsvn", report.isv_svn), ("configsvn", report.config_svn)];
    let posture = Posture {
        debug: Some(report.is_debug()),
        smt: verdict.pck().smt_enabled,
        versions: versions.into_iter().map(|(name, number)| (name.to_owned(), number.into())).collect(),
        ..verdict.posture()
    };
    Claims {
        tee: Tee::Sgx,
        hardware: true,
        registers: registers(report),
        events: Vec::new(),
        posture,
        json: json(quote, report, verdict),
    }
}

fn registers(report: &EnclaveReport) -> BTreeMap<String, Digest> {
    let named = [
        ("mrenclave", Algorithm::Sha256, &report.mr_enclave[..]),
        ("mrsigner", Algorithm::Sha256, &report.mr_signer),
        ("configid", Algorithm::Sha512, &report.config_id),
    ];
    let digest = |algorithm, value: &[u8]| Digest::from_bytes(algorithm, value).ok();
    named
        .into_iter()
        .filter_map(|(name, algorithm, value)| Some((name.to_owned(), digest(algorithm, value)?)))
        .collect()
}

fn json(quote: &Quote<'_>, report: &EnclaveReport, verdict: &PlatformVerdict) -> Map<String, Value> {
    let mut claims = verdict.claims();
    let header = &quote.header;
    let (qe_svn, pce_svn) = header.reserved.split_at_checked(2).unwrap_or_default();
    let (flags, xfrm) = report.attributes.split_at_checked(8).unwrap_or_default();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say(
        "header",
        json!({
            "version": hex::encode(header.version.to_le_bytes()),
            "att_key_type": hex::encode(header.key_type.to_le_bytes()),
            "att_key_data_0": hex::encode(header.tee_type.to_le_bytes()),
            "qe_svn": hex::encode(qe_svn),
            "pce_svn": hex::encode(pce_svn),
            "vendor_id": hex::encode(header.vendor_id),
            "user_data": hex::encode(header.user_data),
        }),
    );
    say(
        "body",
        json!({
            "cpu_svn": hex::encode(report.cpu_svn),
            "misc_select": hex::encode(report.misc_select),
            "reserved1": hex::encode(report.reserved1),
            "isv_ext_prod_id": hex::encode(report.isv_ext_prod_id),
            "attributes.flags": hex::encode(flags),
            "attributes.xfrm": hex::encode(xfrm),
            "mr_enclave": hex::encode(report.mr_enclave),
            "reserved2": hex::encode(report.reserved2),
            "mr_signer": hex::encode(report.mr_signer),
            "reserved3": hex::encode(report.reserved3),
            "config_id": hex::encode(report.config_id),
            "isv_prod_id": hex::encode(report.isv_prod_id.to_le_bytes()),
            "isv_svn": hex::encode(report.isv_svn.to_le_bytes()),
            "config_svn": hex::encode(report.config_svn.to_le_bytes()),
            "reserved4": hex::encode(report.reserved4),
            "isv_family_id": hex::encode(report.isv_family_id),
            "report_data": hex::encode(report.report_data),
        }),
    );
    say("report_data", hex::encode(report.report_data).into());
    say("init_data", hex::encode(report.config_id).into());
    say("is_debug", report.is_debug().into());
    claims
}
