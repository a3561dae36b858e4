//! Complete evidence of NVIDIA devices: chains, reports, manifests and answers about certificates.
//!
//! Manifests are written in canonical form, byte by byte, so that a reader's canonicaliser is not tested by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, OtherNameValue, PKCS_ECDSA_P384_SHA384, SanType, SerialNumber,
};
use serde_json::{Value, json};

/// 2020-01-01 to 2120-01-01.
const FROM: u64 = 1_577_836_800;
const UNTIL: u64 = 4_733_510_400;
const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const TCG: &str =
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";
const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const OPAQUE: &str = "https://docs.nvidia.com/attestation/specs/latest/opaque-data.html";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const C14N: &str = "http://www.w3.org/2006/12/xml-c14n11";

/// A certificate with its key.
pub struct NvidiaKey {
    key: KeyPair,
    params: CertificateParams,
    der: Vec<u8>,
}

/// What is said in a certificate.
#[derive(Clone, Debug)]
pub struct NvidiaCertificate {
    /// Its common name.
    pub name: String,
    /// Valid from, in seconds since 1970.
    pub from: u64,
    /// Valid until, in seconds since 1970.
    pub until: u64,
    /// Whether it may issue others.
    pub authority: bool,
    /// How many authorities may be below it.
    pub path_length: Option<u8>,
    /// The firmware's digest, and whether its extension is critical and of the newer form.
    pub fwid: Option<([u8; 48], bool)>,
    /// The chip and the device's serial number.
    pub device: Option<(String, String)>,
    /// A critical extension that nobody knows.
    pub stray: bool,
    /// Whether it may answer about other certificates.
    pub answers: bool,
}

impl NvidiaCertificate {
    /// A certificate of this name.
    pub fn new(name: &str, authority: bool) -> Self {
        Self {
            name: name.into(),
            from: FROM,
            until: UNTIL,
            authority,
            path_length: None,
            fwid: None,
            device: None,
            stray: false,
            answers: false,
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(self.from);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(self.until);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial).expect("randomness");
        serial[0] &= 0x7f;
        serial[0] |= 1;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        if self.authority {
            params.is_ca = IsCa::Ca(match self.path_length {
                None => BasicConstraints::Unconstrained,
                Some(length) => BasicConstraints::Constrained(length),
            });
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        } else {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        if self.answers {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        }
        if let Some((fwid, newer)) = &self.fwid {
            params.custom_extensions.push(fwid_extension(fwid, *newer));
        }
        if let Some((product, serial)) = &self.device {
            let text = format!("NVIDIA:{product}:{serial}");
            let kind = vec![1, 3, 6, 1, 4, 1, 412, 274, 1];
            params.subject_alt_names = vec![SanType::OtherName((kind, OtherNameValue::Utf8String(text)))];
        }
        if self.stray {
            let mut stray = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            stray.set_criticality(true);
            params.custom_extensions.push(stray);
        }
        params
    }
}

/// The older form names version, key and digest; the newer is `DiceTcbInfo`, critical here.
fn fwid_extension(fwid: &[u8; 48], newer: bool) -> CustomExtension {
    let digest = der(0x30, &[der(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2]), der(4, fwid)].concat());
    match newer {
        true => {
            let info = der(0x30, &[der(0x80, b"NVIDIA"), der(0xa6, &digest), der(0x87, &[0, 0])].concat());
            let mut extension = CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1, 1], info);
            extension.set_criticality(true);
            extension
        }
        false => {
            let key =
                der(0x30, &[der(0x30, &der(6, &[0x2b, 0x81, 4, 0, 0x22])), der(3, &[0, 4, 1, 2])].concat());
            let identity = der(0x30, &[der(2, &[1]), key, digest].concat());
            CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], identity)
        }
    }
}

impl NvidiaKey {
    /// A root.
    pub fn root(about: &NvidiaCertificate) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a P-384 key");
        let params = about.params();
        let der = params.clone().self_signed(&key).expect("a root certificate").der().to_vec();
        Self { key, params, der }
    }

    /// A certificate below this one, with a key of its own.
    pub fn issue(&self, about: &NvidiaCertificate) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a P-384 key");
        let params = about.params();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.clone().signed_by(&key, &issuer).expect("a certificate").der().to_vec();
        Self { key, params, der }
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A signature of two numbers one behind the other.
    fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.key.serialize_der())
            .expect("the key");
        key.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
    }

    fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &self.key.serialize_der())
            .expect("the key");
        key.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
    }
}

/// Certificates in PEM, as they are sent.
pub fn nvidia_pem(chain: &[&NvidiaKey]) -> Vec<u8> {
    let one = |key: &&NvidiaKey| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&key.der))
    };
    chain.iter().map(one).collect::<String>().into_bytes()
}

/// What a report says.
#[derive(Clone, Debug)]
pub struct NvidiaReport {
    /// The nonce of who asked.
    pub nonce: [u8; 32],
    /// Values by index, from 1.
    pub measurements: BTreeMap<u8, Vec<u8>>,
    /// Fields by number. With the newer header, value types beside them.
    pub opaque: Vec<(u16, u16, Vec<u8>)>,
    /// Whether the opaque data has the newer header.
    pub header: bool,
}

impl NvidiaReport {
    /// What a Hopper GPU says.
    pub fn hopper(nonce: [u8; 32], fwid: &[u8; 48]) -> Self {
        let value = |index: u8| Digest::of(Algorithm::Sha384, &[index]).as_bytes().to_vec();
        let opaque = [
            (6, vec![0, 0x9f, 0, 0x96, 0x0a, 0, 0, 0]),
            (14, vec![1, 2, 3, 4]),
            (15, b"882\0\0".to_vec()),
            (17, b"1010\0".to_vec()),
            (18, b"0200\0".to_vec()),
            (3, b"550.90.07\0".to_vec()),
            (12, [[0; 4], [7, 0, 0, 0]].concat()),
            (11, vec![0xaa]),
            (20, fwid.to_vec()),
        ];
        Self {
            nonce,
            measurements: (1..=64).map(|index| (index, value(index))).collect(),
            opaque: opaque.into_iter().map(|(number, bytes)| (number, 0, bytes)).collect(),
            header: false,
        }
    }

    /// What a switch says.
    pub fn switch(nonce: [u8; 32]) -> Self {
        let mut report = Self::hopper(nonce, &[0; 48]);
        report.measurements = report.measurements.into_iter().take(31).collect();
        report.opaque = vec![(6, 0, b"96.10.55.00.0a".to_vec()), (22, 0, vec![8; 8]), (26, 0, vec![9; 16])];
        report
    }

    /// Sets a field, whatever it was.
    #[must_use]
    pub fn field(mut self, number: u16, bytes: &[u8]) -> Self {
        self.opaque.retain(|(other, _, _)| *other != number);
        self.opaque.push((number, 0, bytes.to_vec()));
        self
    }

    /// Request, response and signature.
    pub fn sign(&self, leaf: &NvidiaKey) -> Vec<u8> {
        let mut bytes = self.unsigned();
        let signature = leaf.sign_fixed(&bytes);
        bytes.extend(signature);
        bytes
    }

    /// Request and response.
    pub fn unsigned(&self) -> Vec<u8> {
        let mut bytes = vec![0x11, 0xe0, 1, 0xff];
        bytes.extend(self.nonce);
        bytes.push(0);
        let mut record = Vec::new();
        for (index, value) in &self.measurements {
            let size = u16::try_from(value.len()).expect("a short value");
            record.extend([*index, 1]);
            record.extend((size + 3).to_le_bytes());
            record.push(1);
            record.extend(size.to_le_bytes());
            record.extend(value);
        }
        bytes.extend([0x11, 0x60, 0, 0]);
        bytes.push(u8::try_from(self.measurements.len()).expect("few measurements"));
        bytes.extend(&u32::try_from(record.len()).expect("a short record").to_le_bytes()[..3]);
        bytes.extend(record);
        bytes.extend([0x5a; 32]);
        let mut opaque = if self.header { b"NVDAOD\0\0\x01\0\0\0".to_vec() } else { Vec::new() };
        for (number, kind, value) in &self.opaque {
            opaque.extend(number.to_le_bytes());
            if self.header {
                opaque.extend(kind.to_le_bytes());
            }
            opaque.extend(u16::try_from(value.len()).expect("a short field").to_le_bytes());
            opaque.extend(value);
        }
        bytes.extend(u16::try_from(opaque.len()).expect("short data").to_le_bytes());
        bytes.extend(opaque);
        bytes
    }
}

/// A manifest's content.
#[derive(Clone, Debug)]
pub struct NvidiaRim {
    /// The chip.
    pub product: String,
    /// The version.
    pub version: String,
    /// Index, active, alternatives in hexadecimal.
    pub measurements: Vec<(u32, bool, Vec<String>)>,
    /// Field and least value.
    pub minimum_svn: Vec<(u16, u64)>,
}

impl NvidiaRim {
    /// A manifest for the measurements of these indexes, as a report has them.
    pub fn of(product: &str, version: &str, report: &NvidiaReport, indexes: &[u32]) -> Self {
        let one = |index: &u32| {
            let value = &report.measurements[&u8::try_from(index + 1).expect("an index")];
            (*index, true, vec!["ab".repeat(48), hex(value)])
        };
        Self {
            product: product.into(),
            version: version.into(),
            measurements: indexes.iter().map(one).collect(),
            minimum_svn: Vec::new(),
        }
    }

    /// The document without its signature, in canonical form: before and behind the place of the signature.
    fn text(&self) -> (String, String) {
        let mut text = format!(
            "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{SHA384}\" xmlns:ns3=\"{OPAQUE}\" \
             name=\"{0}\" tagId=\"tag\" version=\"1.0\">\n    <ns0:Entity name=\"A &amp; B\"></ns0:Entity>\n    \
             <ns0:Meta xmlns:ns1=\"{TCG}\" colloquialVersion=\"{1}\" product=\"{0}\" \
             ns1:FirmwareManufacturerId=\"5703\"></ns0:Meta>\n    <ns0:Payload>\n",
            self.product, self.version
        );
        for (index, active, values) in &self.measurements {
            let active = if *active { "True" } else { "False" };
            let count = values.len();
            text.push_str(&format!(
                "<ns0:Resource active=\"{active}\" alternatives=\"{count}\" index=\"{index}\" name=\"M_{index}\" size=\"48\" \
                 type=\"Measurement\""
            ));
            for (number, value) in values.iter().enumerate() {
                text.push_str(&format!(" ns2:Hash{number}=\"{value}\""));
            }
            text.push_str("></ns0:Resource>\n");
        }
        for (field, least) in &self.minimum_svn {
            text.push_str(&format!(
                "<ns0:Resource active=\"True\" index=\"{}\" name=\"SVN_{field}\" type=\"Measurement\" \
                 ns3:minSvn=\"{least}\"></ns0:Resource>\n",
                0x1000 + u32::from(*field)
            ));
        }
        text.push_str("</ns0:Payload>\n");
        (text, "</SoftwareIdentity>".to_owned())
    }

    /// The signed document. The signer's certificate is the first of the chain.
    pub fn sign(&self, chain: &[&NvidiaKey]) -> Vec<u8> {
        let (before, behind) = self.text();
        let digest = Digest::of(Algorithm::Sha384, format!("{before}{behind}").as_bytes());
        let content = format!(
            "<ds:CanonicalizationMethod Algorithm=\"{C14N}\"></ds:CanonicalizationMethod>\
             <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"></ds:SignatureMethod>\
             <ds:Reference URI=\"\"><ds:Transforms><ds:Transform Algorithm=\"{DSIG}enveloped-signature\"></ds:Transform>\
             <ds:Transform Algorithm=\"{C14N}\"></ds:Transform></ds:Transforms>\
             <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"></ds:DigestMethod>\
             <ds:DigestValue>{}</ds:DigestValue></ds:Reference>",
            STANDARD.encode(digest.as_bytes())
        );
        // What is signed shows every namespace that is in scope.
        let signed = format!(
            "<ds:SignedInfo xmlns=\"{SWID}\" xmlns:ds=\"{DSIG}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{SHA384}\" \
             xmlns:ns3=\"{OPAQUE}\">{content}</ds:SignedInfo>"
        );
        let value = STANDARD.encode(chain[0].sign_fixed(signed.as_bytes()));
        let certificates: String = chain
            .iter()
            .map(|key| format!("<ds:X509Certificate>{}\n</ds:X509Certificate>", STANDARD.encode(&key.der)))
            .collect();
        format!(
            "{before}<ds:Signature xmlns:ds=\"{DSIG}\"><ds:SignedInfo>{content}</ds:SignedInfo>\
             <ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data>\
             </ds:KeyInfo></ds:Signature>{behind}"
        )
        .into_bytes()
    }
}

/// What an answer says of a certificate.
#[derive(Clone, Copy, Debug)]
pub enum NvidiaState {
    /// Not revoked.
    Good,
    /// Revoked, with the reason's number.
    Revoked(u8),
    /// Not known.
    Unknown,
}

/// An answer about a certificate (RFC 6960), by `by`, whose certificate is put in if it is not the issuer.
pub fn nvidia_answer(
    about: &NvidiaKey,
    issuer: &NvidiaKey,
    by: &NvidiaKey,
    state: NvidiaState,
    from: u64,
    until: Option<u64>,
) -> Vec<u8> {
    let hash = |bytes: &[u8]| der(4, Digest::of(Algorithm::Sha256, bytes).as_bytes());
    let name = subject(&issuer.der);
    let key = public_key(&issuer.der);
    let serial = about.params.serial_number.as_ref().expect("a serial number").to_bytes();
    let sha256 = der(0x30, &[der(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]), vec![5, 0]].concat());
    let id = der(0x30, &[sha256, hash(&name), hash(&key), der(2, &serial)].concat());
    let status = match state {
        NvidiaState::Good => vec![0x80, 0],
        NvidiaState::Revoked(reason) => der(0xa1, &[time(from), der(0xa0, &der(10, &[reason]))].concat()),
        NvidiaState::Unknown => vec![0x82, 0],
    };
    let mut single = [id, status, time(from)].concat();
    if let Some(until) = until {
        single.extend(der(0xa0, &time(until)));
    }
    let responder = der(0xa2, &der(4, Digest::of(Algorithm::Sha1, &public_key(&by.der)).as_bytes()));
    let data = der(0x30, &[responder, time(from), der(0x30, &der(0x30, &single))].concat());
    let algorithm = der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]));
    let signature = der(3, &[vec![0], by.sign_der(&data)].concat());
    let certificates = if by.der == issuer.der { Vec::new() } else { der(0xa0, &der(0x30, &by.der)) };
    let basic = der(0x30, &[data, algorithm, signature, certificates].concat());
    let kind = der(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
    let bytes = der(0xa0, &der(0x30, &[kind, der(4, &basic)].concat()));
    der(0x30, &[der(10, &[0]), bytes].concat())
}

fn time(seconds: u64) -> Vec<u8> {
    let date = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        date.hour(),
        date.minute(),
        date.second()
    );
    der(0x18, text.as_bytes())
}

/// One element of DER.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut encoded = vec![tag];
    match length {
        0..=0x7f => encoded.push(u8::try_from(length).expect("short")),
        0x80..=0xff => encoded.extend([0x81, u8::try_from(length).expect("short")]),
        _ => {
            encoded.push(0x82);
            encoded.extend(u16::try_from(length).expect("below 64 KiB").to_be_bytes());
        }
    }
    encoded.extend_from_slice(content);
    encoded
}

/// Fields of a certificate that rcgen wrote: version, serial, algorithm, issuer, validity, subject, key.
fn fields(certificate: &[u8]) -> Vec<Vec<u8>> {
    let (content, _) = element(certificate);
    let (mut rest, _) = element(content);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (_, after) = element(rest);
        found.push(rest[..rest.len() - after.len()].to_vec());
        rest = after;
    }
    found
}

fn subject(certificate: &[u8]) -> Vec<u8> {
    fields(certificate)[5].clone()
}

fn public_key(certificate: &[u8]) -> Vec<u8> {
    let spki = &fields(certificate)[6];
    let (info, _) = element(spki);
    let (_, bits) = element(info);
    let (bits, _) = element(bits);
    bits[1..].to_vec()
}

fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
    };
    (&der[header..header + length], &der[header + length..])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A device with its chain, under a root of its own.
pub struct NvidiaDevice {
    /// Leaf, device, authority, root.
    pub chain: Vec<Arc<NvidiaKey>>,
    /// What its leaf is issued to.
    pub fwid: [u8; 48],
}

impl NvidiaDevice {
    /// A device of a chip under `root`.
    pub fn new(root: &Arc<NvidiaKey>, chip: &str, serial: &str) -> Self {
        let fwid = [0x77; 48];
        let about = NvidiaCertificate {
            fwid: Some((fwid, chip.starts_with("GB"))),
            device: Some((chip.into(), serial.into())),
            ..NvidiaCertificate::new(&format!("{chip} A01 GSP FMC LF"), false)
        };
        Self::with_leaf(root, chip, fwid, &about)
    }

    /// The same with another leaf.
    pub fn with_leaf(root: &Arc<NvidiaKey>, chip: &str, fwid: [u8; 48], leaf: &NvidiaCertificate) -> Self {
        let authority = root.issue(&NvidiaCertificate::new(&format!("TEST {chip} Identity"), true));
        let device = authority.issue(&NvidiaCertificate::new(&format!("{chip} A01 GSP BROM"), true));
        let leaf = device.issue(leaf);
        Self { chain: vec![Arc::new(leaf), Arc::new(device), Arc::new(authority), Arc::clone(root)], fwid }
    }

    /// The root's certificate in DER.
    pub fn root(&self) -> Vec<u8> {
        self.chain.last().expect("a root").der.clone()
    }

    /// One entry of the wire form.
    pub fn entry(&self, arch: &str, report: &NvidiaReport) -> Value {
        let chain: Vec<&NvidiaKey> = self.chain.iter().map(AsRef::as_ref).collect();
        json!({
            "arch": arch,
            "uuid": "GPU-test",
            "evidence": STANDARD.encode(report.sign(&self.chain[0])),
            "certificate": STANDARD.encode(nvidia_pem(&chain)),
        })
    }
}
