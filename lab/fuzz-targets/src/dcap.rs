//! Intel's quotes, the documents that belong to them, certificates, and event logs as claims.

use coffer_core_digest::Algorithm;
use coffer_core_evidence::dcap::{LocalTdReport, Quote, SgxEvidence, TdxEvidence, wire_of_raw};
use coffer_core_evidence::eventlog::EventLog;
use coffer_verify_dcap::{PckExtension, document_dates};
use coffer_verify_x509::{Certificate, Crl, pem_certificates};

/// Reads a quote, in bytes and in its wire form.
pub fn dcap_quote(data: &[u8]) {
    if let Ok(quote) = Quote::parse(data) {
        assert!(data.starts_with(quote.signed()));
        assert!(wire_of_raw(data).is_some_and(|(tee, _)| tee == quote.tee()));
    }
    let _ = wire_of_raw(data);
    let _ = LocalTdReport::parse(data);
    if let Ok(value) = serde_json::from_slice(data) {
        if let Ok(evidence) = TdxEvidence::parse(&value) {
            assert_eq!(TdxEvidence::parse(&evidence.to_wire()).unwrap(), evidence);
        }
        let _ = SgxEvidence::parse(&value);
    }
}

/// Reads TCB info, an enclave's identity, and what a platform's certificate says.
pub fn dcap_document(data: &[u8]) {
    let _ = document_dates(data);
    let _ = PckExtension::parse(data);
}

/// Reads a certificate, certificates in PEM, and a revocation list.
pub fn x509_document(data: &[u8]) {
    if let Ok(read) = Certificate::parse(data) {
        assert_eq!(read.der(), data);
        let _ = (
            read.subject_cn(),
            read.issuer_cn(),
            read.is_ca(),
            read.public_key(),
            read.extension("2.5.29.15"),
        );
        let _ = read.verify_signed_by(&read);
    }
    if let Ok(list) = Crl::parse(data) {
        assert!(!list.revokes(&[]) || list.revoked_count() > 0);
    }
    let _ = pem_certificates(data);
}

/// Tells an event log as claims.
pub fn event_log_claims(data: &[u8]) {
    let Ok(log) = EventLog::parse(data) else { return };
    let told = coffer_verify_tdx::uefi_event_log(log.events(), Algorithm::Sha384);
    assert!(told.len() <= log.events().len());
}

macro_rules! corpus {
    ($($file:literal),*) => {
        vec![$(include_bytes!(concat!("../../fuzz/corpus/", $file)).to_vec()),*]
    };
}

pub(crate) fn quote_seeds() -> Vec<Vec<u8>> {
    corpus!["dcap_quote/v3", "dcap_quote/v4", "dcap_quote/v5-td15", "dcap_quote/wire.json"]
}

pub(crate) fn document_seeds() -> Vec<Vec<u8>> {
    corpus!["dcap_document/tcb-info.json", "dcap_document/qe-identity.json", "dcap_document/sgx-extension"]
}

pub(crate) fn x509_seeds() -> Vec<Vec<u8>> {
    corpus!["x509_document/pck.der", "x509_document/chain.pem", "x509_document/pck.crl"]
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    corpus!["event_log_claims/ccel"]
}
