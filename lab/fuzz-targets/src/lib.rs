//! One function for each parser of hostile bytes, for fuzzers and for plain tests.
//!
//! A target must not panic on any input, and asserts what must hold of an input that is accepted. Keys in here are
//! constants: what is fuzzed is what happens after and before cryptography, not cryptography.

#![allow(missing_docs, reason = "a target's name says what it feeds; the list below says the rest")]
#![allow(clippy::unwrap_used, reason = "lab code: seeds and keys are constants that are known to be valid")]

mod admins;
mod amd;
mod appraisal;
mod channel;
mod collateral;
mod csv;
mod dcap;
mod evidence;
mod forwarded;
mod images;
mod initdata;
mod kserve;
mod launch;
mod machine;
pub mod mutate;
mod nbd;
mod nvidia;
mod objects;
mod protocol;
mod services;
mod signed_cbor;
mod sigstore;
mod store;
mod streams;
mod volumes;
mod wrapping;

pub use admins::{admin_key, admin_token, client_certificate, issuer_keys};
pub use amd::{azure_evidence, snp_certificate, snp_evidence, snp_report};
pub use appraisal::{appraised_log, platform_policy};
pub use channel::channel_frames;
pub use collateral::{collateral_document, collateral_import};
pub use csv::{csv_certificate, csv_evidence};
pub use dcap::{dcap_document, dcap_quote, event_log_claims, x509_document};
pub use evidence::{event_log, tpm_attest, tpm_evidence, tpm_public, tpm_signature};
pub use forwarded::forwarded_for;
pub use images::{
    bearer_challenge, cosign, erofs_image, image_config, key_provider, keywrap_message, layer_tar,
    oci_document, oci_reference, ocicrypt_annotations, sealed_annotations, sealed_blob,
};
pub use initdata::{guest_config, init_data_annotation, init_data_disk, init_data_toml};
pub use kserve::kserve_jwe;
pub use launch::{launch_enclave, launch_firmware, launch_igvm, launch_reference};
pub use machine::{nsm_response, runtime_event};
pub use nbd::nbd;
pub use nvidia::{nvidia_evidence, nvidia_ocsp, nvidia_report, nvidia_rim};
pub use objects::{object_call, object_chunks, object_documents, sealed_name, sealed_object};
pub use protocol::{
    jwe_open, jwk, jwks, jws_verify, kbs_attest, kbs_auth, kbs_cookie, kbs_reply, passport, resource_uri,
    sealed_secret, token,
};
pub use services::{grpc_message, reference_registration, rest_body};
pub use signed_cbor::{cbor, cca_token, corim, nitro_document};
pub use sigstore::{sigstore_bundle, sigstore_trust_root};
pub use store::store_backup;
pub use streams::{sealed_stream, stream_envelope, stream_manifest};
pub use volumes::{luks2_header, volume_superblocks};
pub use wrapping::{hadoop_kms_call, transit_call, wrapping_record};

/// A target with inputs to begin from.
pub struct Target {
    /// The function's name, and the program's in `lab/fuzz`.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident: $seeds:path,)*) => {
        /// Every target.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name, seeds: $seeds }),*];
    };
}

targets! {
    csv_certificate: csv::certificate_seeds,
    csv_evidence: csv::evidence_seeds,
    nvidia_evidence: nvidia::evidence_seeds,
    nvidia_ocsp: nvidia::ocsp_seeds,
    nvidia_report: nvidia::report_seeds,
    nvidia_rim: nvidia::rim_seeds,
    tpm_attest: evidence::attest_seeds,
    tpm_public: evidence::public_seeds,
    tpm_signature: evidence::signature_seeds,
    tpm_evidence: evidence::evidence_seeds,
    event_log: evidence::event_log_seeds,
    init_data_toml: initdata::toml_seeds,
    init_data_disk: initdata::disk_seeds,
    init_data_annotation: initdata::annotation_seeds,
    guest_config: initdata::config_seeds,
    kbs_auth: protocol::auth_seeds,
    kbs_attest: protocol::attest_seeds,
    kbs_cookie: protocol::cookie_seeds,
    kbs_reply: protocol::reply_seeds,
    jwk: protocol::jwk_seeds,
    jwks: protocol::jwks_seeds,
    jwe_open: protocol::jwe_seeds,
    jws_verify: protocol::jws_seeds,
    token: protocol::jws_seeds,
    passport: protocol::passport_seeds,
    sealed_secret: protocol::sealed_secret_seeds,
    resource_uri: protocol::uri_seeds,
    sealed_annotations: images::sealed_seeds,
    sealed_blob: images::blob_seeds,
    ocicrypt_annotations: images::ocicrypt_seeds,
    erofs_image: images::erofs_seeds,
    keywrap_message: images::keywrap_seeds,
    key_provider: images::key_provider_seeds,
    layer_tar: images::tar_seeds,
    oci_document: images::document_seeds,
    oci_reference: images::reference_seeds,
    image_config: images::config_seeds,
    cosign: images::cosign_seeds,
    channel_frames: channel::seeds,
    nbd: nbd::seeds,
    bearer_challenge: images::challenge_seeds,
    dcap_quote: dcap::quote_seeds,
    dcap_document: dcap::document_seeds,
    x509_document: dcap::x509_seeds,
    event_log_claims: dcap::log_seeds,
    collateral_document: collateral::document_seeds,
    collateral_import: collateral::import_seeds,
    platform_policy: appraisal::policy_seeds,
    appraised_log: appraisal::log_seeds,
    launch_firmware: launch::firmware_seeds,
    launch_igvm: launch::igvm_seeds,
    launch_enclave: launch::enclave_seeds,
    launch_reference: launch::reference_seeds,
    runtime_event: machine::event_seeds,
    nsm_response: machine::response_seeds,
    cbor: signed_cbor::cbor_seeds,
    nitro_document: signed_cbor::nitro_seeds,
    cca_token: signed_cbor::cca_seeds,
    corim: signed_cbor::corim_seeds,
    sigstore_bundle: sigstore::bundle_seeds,
    sigstore_trust_root: sigstore::trust_root_seeds,
    snp_report: amd::report_seeds,
    snp_evidence: amd::report_json_seeds,
    snp_certificate: amd::certificate_seeds,
    azure_evidence: amd::azure_seeds,
    admin_token: admins::token_seeds,
    issuer_keys: admins::set_seeds,
    admin_key: admins::key_seeds,
    client_certificate: admins::certificate_seeds,
    grpc_message: services::message_seeds,
    rest_body: services::body_seeds,
    reference_registration: services::registration_seeds,
    store_backup: store::backup_seeds,
    forwarded_for: forwarded::forwarded_seeds,
    hadoop_kms_call: wrapping::hadoop_seeds,
    transit_call: wrapping::transit_seeds,
    wrapping_record: wrapping::record_seeds,
    kserve_jwe: kserve::seeds,
    sealed_stream: streams::stream_seeds,
    stream_envelope: streams::envelope_seeds,
    stream_manifest: streams::manifest_seeds,
    luks2_header: volumes::header_seeds,
    object_call: objects::call_seeds,
    object_chunks: objects::chunk_seeds,
    object_documents: objects::document_seeds,
    sealed_name: objects::name_seeds,
    sealed_object: objects::object_seeds,
    volume_superblocks: volumes::superblock_seeds,
}
