//! Certification authorities of one test.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm,
};

/// The validity of what is made without saying otherwise: 2020-01-01 to 2120-01-01.
const FROM: u64 = 1_577_836_800;
const UNTIL: u64 = 4_733_510_400;

/// A certification authority, root or intermediate.
pub struct Authority {
    key: KeyPair,
    name: String,
    certificate: Vec<u8>,
}

/// What is said in a leaf certificate.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Valid from, in seconds since 1970.
    pub from: u64,
    /// Valid until, in seconds since 1970.
    pub until: u64,
    /// Extended key usages.
    pub purposes: Vec<Vec<u64>>,
    /// Whether it says that it is a certification authority.
    pub is_ca: IsCa,
}

impl Default for Leaf {
    fn default() -> Self {
        let purposes = vec![crate::EKU_ATTESTATION_KEY.to_vec()];
        Self { from: FROM, until: UNTIL, purposes, is_ca: IsCa::ExplicitNoCa }
    }
}

impl Authority {
    /// A root.
    pub fn root(name: &str) -> Self {
        Self::root_until(name, UNTIL)
    }

    /// A root with an end.
    pub fn root_until(name: &str, until: u64) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
        let certificate = params(name, FROM, until, ca()).self_signed(&key).expect("a root certificate");
        Self { key, name: name.into(), certificate: certificate.der().to_vec() }
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_until(name, UNTIL)
    }

    /// An authority below this one, with an end.
    pub fn intermediate_until(&self, name: &str, until: u64) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a P-384 key");
        let certificate =
            params(name, FROM, until, ca()).signed_by(&key, &self.issuer()).expect("a certificate");
        Self { key, name: name.into(), certificate: certificate.der().to_vec() }
    }

    /// The certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        self.certificate.clone()
    }

    /// An attestation key's certificate for a key given as `SubjectPublicKeyInfo`.
    pub fn certify(&self, spki_der: &[u8]) -> Vec<u8> {
        self.certify_with(spki_der, &Leaf::default())
    }

    /// The same with other content.
    pub fn certify_with(&self, spki_der: &[u8], leaf: &Leaf) -> Vec<u8> {
        let mut params = params("test attestation key", leaf.from, leaf.until, leaf.is_ca);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            leaf.purposes.iter().cloned().map(ExtendedKeyUsagePurpose::Other).collect();
        let certificate = params.signed_by(&spki_of(spki_der), &self.issuer()).expect("a leaf certificate");
        certificate.der().to_vec()
    }

    fn issuer(&self) -> Issuer<'static, &KeyPair> {
        Issuer::new(params(&self.name, FROM, UNTIL, ca()), &self.key)
    }
}

fn ca() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}

fn params(name: &str, from: u64, until: u64, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if matches!(is_ca, IsCa::Ca(_)) {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
    params.is_ca = is_ca;
    params
}

/// A public key that somebody else made.
pub struct ForeignKey {
    bits: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

/// Reads a `SubjectPublicKeyInfo` of an RSA, P-256 or P-384 key.
pub fn spki_of(der: &[u8]) -> ForeignKey {
    let (info, _) = element(der);
    let (_, rest) = element(info);
    let (bits, _) = element(rest);
    // The first octet counts unused bits.
    let bits = bits[1..].to_vec();
    let algorithm = match bits.len() {
        65 => &PKCS_ECDSA_P256_SHA256,
        97 => &PKCS_ECDSA_P384_SHA384,
        _ => &PKCS_RSA_SHA256,
    };
    ForeignKey { bits, algorithm }
}

/// The modulus in an `RSAPublicKey`, without the zero that makes it positive.
pub(crate) fn modulus(der: &[u8]) -> &[u8] {
    let (numbers, _) = element(der);
    let (modulus, _) = element(numbers);
    modulus.strip_prefix(&[0]).unwrap_or(modulus)
}

/// The content of the first DER element, and what follows it.
pub(crate) fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
    };
    (&der[header..header + length], &der[header + length..])
}

impl PublicKeyData for ForeignKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}
