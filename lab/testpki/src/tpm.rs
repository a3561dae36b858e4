//! Complete TPM evidence: a key, its certificate, a quote and its signature.

use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::tpm::{GENERATED, PcrSelection, Public, alg_id, pcr_digest};
use coffer_core_evidence::wire::{TpmEvidence, TpmQuote};

use crate::{Authority, Leaf};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
const RESTRICTED_SIGNING: u32 = 0x0005_0072;

/// What kind of attestation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256.
    EccP256,
    /// ECDSA on P-384 with SHA-384.
    EccP384,
    /// RSASSA with 2048 bits and SHA-256.
    RsaSsa,
    /// RSAPSS with 2048 bits and SHA-256.
    RsaPss,
}

enum Key {
    Ecc(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A TPM of a test's own: whoever holds it can sign what no TPM would.
pub struct TpmFixture {
    kind: KeyKind,
    key: Key,
    attributes: u32,
    root: Authority,
    certificates: Vec<Vec<u8>>,
}

impl Default for TpmFixture {
    fn default() -> Self {
        Self::new(KeyKind::EccP256)
    }
}

impl TpmFixture {
    /// A key with a certificate under a root of its own.
    pub fn new(kind: KeyKind) -> Self {
        let key = match kind {
            KeyKind::EccP256 => ecc(&sig::ECDSA_P256_SHA256_FIXED_SIGNING),
            KeyKind::EccP384 => ecc(&sig::ECDSA_P384_SHA384_FIXED_SIGNING),
            KeyKind::RsaSsa | KeyKind::RsaPss => {
                Key::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key")))
            }
        };
        let root = Authority::root("test TPM root");
        let mut fixture = Self { kind, key, attributes: RESTRICTED_SIGNING, root, certificates: Vec::new() };
        fixture.certificates = vec![fixture.root.certify(&fixture.spki_der())];
        fixture
    }

    /// Other object attributes in its public area.
    #[must_use]
    pub fn with_attributes(mut self, attributes: u32) -> Self {
        self.attributes = attributes;
        self
    }

    /// Another leaf certificate by its own root.
    #[must_use]
    pub fn with_leaf(mut self, leaf: &Leaf) -> Self {
        self.certificates = vec![self.root.certify_with(&self.spki_der(), leaf)];
        self
    }

    /// Other certificates altogether.
    #[must_use]
    pub fn with_certificates(mut self, leaf_first: Vec<Vec<u8>>) -> Self {
        self.certificates = leaf_first;
        self
    }

    /// The root certificate in DER.
    pub fn root_der(&self) -> Vec<u8> {
        self.root.der()
    }

    /// The certificates in DER, leaf first.
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// The key as `SubjectPublicKeyInfo`.
    pub fn spki_der(&self) -> Vec<u8> {
        let public = Public::parse(&self.tpmt_public()).expect("a TPMT_PUBLIC");
        public.to_spki_der().expect("a key")
    }

    /// The key as `TPMT_PUBLIC`.
    pub fn tpmt_public(&self) -> Vec<u8> {
        let mut bytes = match self.key {
            Key::Ecc(_) => vec![0, 0x23, 0, 0x0b],
            Key::Rsa(_) => vec![0, 0x01, 0, 0x0b],
        };
        bytes.extend(self.attributes.to_be_bytes());
        // No policy, no symmetric algorithm.
        bytes.extend([0, 0, 0, 0x10]);
        bytes.extend(self.scheme().to_be_bytes());
        bytes.extend(alg_id(self.hash()).to_be_bytes());
        match &self.key {
            Key::Ecc(key) => {
                let curve = if self.kind == KeyKind::EccP256 { 3 } else { 4 };
                bytes.extend([0, curve, 0, 0x10]);
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                bytes.extend(sized(x));
                bytes.extend(sized(y));
            }
            Key::Rsa(key) => {
                bytes.extend([0x08, 0, 0, 0, 0, 0]);
                bytes.extend(sized(crate::authority::modulus(key.public_key().as_ref())));
            }
        }
        bytes
    }

    /// Complete evidence over all 24 registers, in its KBS wire form. The registers' digests name the bank.
    pub fn evidence(
        &self,
        report_data: &[u8; 32],
        pcrs: [Digest; 24],
        event_log: &[u8],
    ) -> serde_json::Value {
        let message = Self::attest(report_data, &pcrs, self.hash());
        self.evidence_of(&message, &pcrs, event_log)
    }

    /// Evidence with any signed message.
    pub fn evidence_of(&self, message: &[u8], pcrs: &[Digest; 24], event_log: &[u8]) -> serde_json::Value {
        let evidence = TpmEvidence {
            ak_public: self.spki_der(),
            tpm_quote: TpmQuote {
                signature: self.sign(message),
                message: message.to_vec(),
                pcrs: pcrs.iter().map(Digest::hex).collect(),
            },
            pcr_bank: pcrs[0].algorithm(),
            ak_certificates: self.certificates.clone(),
            ak_tpmt_public: Some(self.tpmt_public()),
            event_log: (!event_log.is_empty()).then(|| event_log.to_vec()),
        };
        serde_json::to_value(evidence).expect("evidence as JSON")
    }

    /// A `TPMS_ATTEST` that quotes all 24 registers.
    pub fn attest(qualifying_data: &[u8], pcrs: &[Digest; 24], hash: Algorithm) -> Vec<u8> {
        let selection = PcrSelection { bank: pcrs[0].algorithm(), pcrs: (0..24).collect() };
        let values: BTreeMap<u8, Digest> = (0..).zip(pcrs.iter().copied()).collect();
        let digest = pcr_digest(hash, &selection, &values).expect("24 registers");
        let mut bytes = GENERATED.to_be_bytes().to_vec();
        bytes.extend(0x8018_u16.to_be_bytes());
        bytes.extend(sized(&[&[0, 0x0b][..], &[7; 32]].concat()));
        bytes.extend(sized(qualifying_data));
        bytes.extend(1_000_u64.to_be_bytes());
        bytes.extend(2_u32.to_be_bytes());
        bytes.extend(3_u32.to_be_bytes());
        bytes.push(1);
        bytes.extend(0x2019_1023_0016_3636_u64.to_be_bytes());
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend(selection.to_bytes());
        bytes.extend(sized(digest.as_bytes()));
        bytes
    }

    /// The key's hash algorithm.
    pub fn hash(&self) -> Algorithm {
        match self.kind {
            KeyKind::EccP384 => Algorithm::Sha384,
            _ => Algorithm::Sha256,
        }
    }

    /// A `TPMT_SIGNATURE` over a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let mut bytes = self.scheme().to_be_bytes().to_vec();
        bytes.extend(alg_id(self.hash()).to_be_bytes());
        match &self.key {
            Key::Ecc(key) => {
                let signature = key.sign(&random, message).expect("a signature");
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                bytes.extend(sized(r));
                bytes.extend(sized(s));
            }
            Key::Rsa(key) => {
                let padding: &dyn sig::RsaEncoding =
                    if self.kind == KeyKind::RsaPss { &sig::RSA_PSS_SHA256 } else { &sig::RSA_PKCS1_SHA256 };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).expect("a signature");
                bytes.extend(sized(&signature));
            }
        }
        bytes
    }

    fn scheme(&self) -> u16 {
        match self.kind {
            KeyKind::EccP256 | KeyKind::EccP384 => 0x0018,
            KeyKind::RsaSsa => 0x0014,
            KeyKind::RsaPss => 0x0016,
        }
    }
}

/// All 24 registers of a bank: those given, and zeros.
pub fn registers(bank: Algorithm, values: &BTreeMap<u32, Digest>) -> [Digest; 24] {
    let value = |register: usize| {
        let register = u32::try_from(register).expect("below 24");
        values.get(&register).copied().unwrap_or(Digest::zero(bank))
    };
    std::array::from_fn(value)
}

fn ecc(algorithm: &'static sig::EcdsaSigningAlgorithm) -> Key {
    Key::Ecc(EcdsaKeyPair::generate(algorithm).expect("an ECC key"))
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).expect("a TPM2B");
    [&size.to_be_bytes()[..], bytes].concat()
}
