//! One function for each parser of hostile bytes, for fuzzers and for plain tests.
//!
//! A target must not panic on any input, and asserts what must hold of an input that is accepted. Keys in here are
//! constants: what is fuzzed is what happens after and before cryptography, not cryptography.

#![allow(missing_docs, reason = "a target's name says what it feeds; the list below says the rest")]
#![allow(clippy::unwrap_used, reason = "lab code: seeds and keys are constants that are known to be valid")]

mod channel;
mod evidence;
mod images;
mod initdata;
pub mod mutate;
mod protocol;

pub use channel::channel_frames;
pub use evidence::{event_log, tpm_attest, tpm_evidence, tpm_public, tpm_signature};
pub use images::{
    cosign, image_config, oci_document, oci_reference, ocicrypt_annotations, sealed_annotations, sealed_blob,
};
pub use initdata::{guest_config, init_data_annotation, init_data_disk, init_data_toml};
pub use protocol::{
    jwe_open, jwk, jws_verify, kbs_attest, kbs_auth, kbs_cookie, kbs_reply, resource_uri, token,
};

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
    jwe_open: protocol::jwe_seeds,
    jws_verify: protocol::jws_seeds,
    token: protocol::jws_seeds,
    resource_uri: protocol::uri_seeds,
    sealed_annotations: images::sealed_seeds,
    sealed_blob: images::blob_seeds,
    ocicrypt_annotations: images::ocicrypt_seeds,
    oci_document: images::document_seeds,
    oci_reference: images::reference_seeds,
    image_config: images::config_seeds,
    cosign: images::cosign_seeds,
    channel_frames: channel::seeds,
}
