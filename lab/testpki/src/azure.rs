//! Azure's paravisor of a test: a virtual TPM's key, runtime data that names it, and reports around a platform's.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::azure::AzureQuote;
use serde_json::json;

use crate::TpmFixture;

/// A virtual machine's paravisor.
pub struct AzureFixture {
    key: RsaKeyPair,
}

impl Default for AzureFixture {
    fn default() -> Self {
        Self { key: RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key") }
    }
}

impl AzureFixture {
    /// The runtime data, with what the guest asked to be put into it.
    pub fn runtime_data(&self, user_data: &[u8; 64]) -> Vec<u8> {
        let modulus = URL_SAFE_NO_PAD.encode(crate::authority::modulus(self.key.public_key().as_ref()));
        let key = |kid: &str, operation: &str| json!({"kid": kid, "key_ops": [operation], "kty": "RSA", "e": "AQAB", "n": modulus});
        let digits: String = user_data.iter().map(|byte| format!("{byte:02X}")).collect();
        let data = json!({
            "keys": [key("HCLAkPub", "sign"), key("HCLEkPub", "encrypt")],
            "vm-configuration": {"secure-boot": true, "tpm-enabled": true, "vmUniqueId": "test"},
            "user-data": digits,
        });
        serde_json::to_vec(&data).expect("JSON")
    }

    /// The report data that a platform must sign for runtime data.
    pub fn report_data(runtime_data: &[u8]) -> [u8; 64] {
        let mut field = [0; 64];
        field[..32].copy_from_slice(Digest::sha256(runtime_data).as_bytes());
        field
    }

    /// The paravisor's report: version 1 for SNP, 2 for TDX, in the 2600 bytes of the TPM's index.
    pub fn hcl_report(is_tdx: bool, platform_report: &[u8], runtime_data: &[u8]) -> Vec<u8> {
        let length = runtime_data.len() as u32;
        let (version, kind) = if is_tdx { (2_u32, 4_u32) } else { (1, 2) };
        let mut bytes = b"HCLA".to_vec();
        for word in [version, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(platform_report);
        bytes.resize(32 + 1184, 0);
        for word in [20 + length, 1, kind, 1, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(runtime_data);
        bytes.resize(bytes.len().max(2600), 0);
        bytes
    }

    /// A quote over all 24 registers.
    pub fn quote(&self, qualifying_data: &[u8], pcrs: &[Digest; 24]) -> AzureQuote {
        let message = TpmFixture::attest(qualifying_data, pcrs, Algorithm::Sha256);
        self.quote_of(message, pcrs)
    }

    /// A quote with any signed message.
    pub fn quote_of(&self, message: Vec<u8>, pcrs: &[Digest; 24]) -> AzureQuote {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature)
            .expect("a signature");
        AzureQuote { signature, message, pcrs: pcrs.iter().map(|pcr| pcr.as_bytes().to_vec()).collect() }
    }
}
