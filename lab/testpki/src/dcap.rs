//! A PKI like Intel's, platforms under it, quotes of either TEE, and the collateral that belongs to them.
//!
//! Everything is signed with real keys; what is changed before signing is genuine evidence of something else, what is
//! changed afterwards is a forgery. Formats: Intel's PCK Certificate and CRL Profile, PCS API 4, DCAP quotes.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use coffer_core_digest::Digest;
use coffer_verify_api::{CollateralKey, Document, PckCa, Shelf};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams,
    SerialNumber,
};
use serde_json::{Value, json};

/// Certificates are valid from 2020-01-01.
pub const FROM: u64 = 1_577_836_800;
/// Certificates are valid until 2120-01-01.
pub const UNTIL: u64 = 4_733_510_400;
/// When collateral was issued: 2026-11-01.
pub const ISSUED: u64 = 1_793_491_200;
/// When the next collateral is due: 2026-12-01.
pub const NEXT_UPDATE: u64 = 1_796_083_200;
/// Intel's quoting enclaves.
const VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

/// A time; the type is of a crate that only rcgen names.
macro_rules! date {
    ($seconds:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs($seconds)
    };
}

/// A certificate with its key.
pub struct Certified {
    key: KeyPair,
    params: CertificateParams,
    der: Vec<u8>,
}

impl Certified {
    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// The serial number.
    pub fn serial(&self) -> SerialNumber {
        self.params.serial_number.clone().expect("a serial number")
    }

    /// r and s over a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, self.key.serialized_der());
        let signature = key.expect("a P-256 key").sign(&SystemRandom::new(), message).expect("a signature");
        signature.as_ref().try_into().expect("64 bytes")
    }

    fn issuer(&self) -> Issuer<'static, &KeyPair> {
        Issuer::new(self.params.clone(), &self.key)
    }

    /// A revocation list of its own, in DER.
    pub fn crl(&self, revoked: &[SerialNumber], issued: u64, next_update: u64) -> Vec<u8> {
        let revoke = |serial: &SerialNumber| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: date!(issued),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date!(issued),
            next_update: date!(next_update),
            crl_number: SerialNumber::from(7_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(revoke).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).expect("a revocation list").der().to_vec()
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// What a certificate is made with.
pub struct Content<'a> {
    /// The subject's common name.
    pub name: &'a str,
    /// Whether it is an authority.
    pub is_ca: bool,
    /// Until when, in seconds since 1970.
    pub until: u64,
    /// The value of Intel's SGX extension.
    pub sgx: Option<Vec<u8>>,
}

fn certify(content: &Content<'_>, serial: u64, by: Option<&Certified>) -> Certified {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
    let mut params = CertificateParams::default();
    params.not_before = date!(FROM);
    params.not_after = date!(content.until);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, content.name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.is_ca = match content.is_ca {
        true => IsCa::Ca(BasicConstraints::Unconstrained),
        false => IsCa::ExplicitNoCa,
    };
    params.key_usages = match content.is_ca {
        true => vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
        false => vec![KeyUsagePurpose::DigitalSignature],
    };
    let sgx =
        |value: &Vec<u8>| CustomExtension::from_oid_content(&[1, 2, 840, 113_741, 1, 13, 1], value.clone());
    params.custom_extensions = content.sgx.iter().map(sgx).collect();
    let der = match by {
        Some(by) => params.signed_by(&key, &by.issuer()),
        None => params.self_signed(&key),
    };
    let der = der.expect("a certificate").der().to_vec();
    Certified { key, params, der }
}

/// What a platform's certificate says.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the profile's")]
pub struct PlatformContent {
    pub ppid: [u8; 16],
    pub components: [u8; 16],
    pub pce_svn: u16,
    pub pce_id: [u8; 2],
    pub fmspc: [u8; 6],
    pub instance: Option<[u8; 16]>,
    pub flags: Option<[bool; 3]>,
}

impl Default for PlatformContent {
    fn default() -> Self {
        Self {
            ppid: [0xaa; 16],
            components: [5, 5, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            pce_svn: 13,
            pce_id: [0, 0],
            fmspc: [0x90, 0xc0, 0x6f, 0, 0, 0],
            instance: Some([0xbb; 16]),
            flags: Some([true, false, true]),
        }
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..=0x7f => vec![short as u8],
        long @ 0x80..=0xff => vec![0x81, long as u8],
        long => [&[0x82][..], &(long as u16).to_be_bytes()].concat(),
    };
    [&[tag][..], &length, content].concat()
}

fn integer(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(7);
    let padded =
        if bytes[start] >= 0x80 { [&[0][..], &bytes[start..]].concat() } else { bytes[start..].to_vec() };
    tlv(2, &padded)
}

impl PlatformContent {
    /// The extension's value.
    pub fn extension(&self) -> Vec<u8> {
        const BASE: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1];
        let entry =
            |arcs: &[u8], value: Vec<u8>| tlv(0x30, &[tlv(6, &[&BASE[..], arcs].concat()), value].concat());
        let mut tcb: Vec<u8> = (1..=16)
            .zip(self.components)
            .flat_map(|(arc, svn)| entry(&[2, arc], integer(svn.into())))
            .collect();
        tcb.extend(entry(&[2, 17], integer(self.pce_svn.into())));
        tcb.extend(entry(&[2, 18], tlv(4, &self.components)));
        let mut all = entry(&[1], tlv(4, &self.ppid));
        all.extend(entry(&[2], tlv(0x30, &tcb)));
        all.extend(entry(&[3], tlv(4, &self.pce_id)));
        all.extend(entry(&[4], tlv(4, &self.fmspc)));
        all.extend(entry(&[5], tlv(0x0a, &[u8::from(self.instance.is_some())])));
        if let Some(instance) = self.instance {
            all.extend(entry(&[6], tlv(4, &instance)));
        }
        if let Some(flags) = self.flags {
            let bool = |flag: bool| tlv(1, &[if flag { 0xff } else { 0 }]);
            let flags: Vec<u8> =
                (1..).zip(flags).flat_map(|(arc, flag)| entry(&[7, arc], bool(flag))).collect();
            all.extend(entry(&[7], tlv(0x30, &flags)));
        }
        tlv(0x30, &all)
    }
}

/// The quoting enclave, as its report and its identity have it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Enclave {
    pub mr_enclave: [u8; 32],
    pub mr_signer: [u8; 32],
    pub attributes: [u8; 16],
    pub config_id: [u8; 64],
    pub isv_prod_id: u16,
    pub isv_svn: u16,
    pub report_data: [u8; 64],
}

impl Default for Enclave {
    fn default() -> Self {
        let mut attributes = [0; 16];
        attributes[0] = 0x11;
        attributes[8] = 0xe7;
        Self {
            mr_enclave: [0xe1; 32],
            mr_signer: [0xdc; 32],
            attributes,
            config_id: [0; 64],
            isv_prod_id: 2,
            isv_svn: 4,
            report_data: [0; 64],
        }
    }
}

impl Enclave {
    /// The report's bytes.
    pub fn report(&self) -> Vec<u8> {
        let report = [
            &[5; 16][..],
            &[0; 4],
            &[0; 28],
            &self.attributes,
            &self.mr_enclave,
            &[0; 32],
            &self.mr_signer,
            &[0; 32],
            &self.config_id,
            &self.isv_prod_id.to_le_bytes(),
            &self.isv_svn.to_le_bytes(),
            &[0; 2],
            &[0; 42],
            &[0; 16],
            &self.report_data,
        ]
        .concat();
        assert_eq!(report.len(), 384);
        report
    }
}

/// A trust domain, as its report has it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct TrustDomain {
    pub tee_tcb_svn: [u8; 16],
    pub mr_signer_seam: [u8; 48],
    pub seam_attributes: [u8; 8],
    pub attributes: u64,
    pub mr_td: [u8; 48],
    pub mr_config_id: [u8; 48],
    pub rtmrs: [[u8; 48]; 4],
    pub report_data: [u8; 64],
    pub tee_tcb_svn2: [u8; 16],
    pub mr_service_td: [u8; 48],
    pub cur_service_td: [u8; 48],
}

impl Default for TrustDomain {
    fn default() -> Self {
        let mut svn = [0; 16];
        (svn[0], svn[1], svn[2]) = (6, 1, 3);
        Self {
            tee_tcb_svn: svn,
            mr_signer_seam: [0; 48],
            seam_attributes: [0; 8],
            attributes: 1 << 28,
            mr_td: [0x7d; 48],
            mr_config_id: [0; 48],
            rtmrs: [[0; 48]; 4],
            report_data: [0; 64],
            tee_tcb_svn2: svn,
            mr_service_td: [0; 48],
            cur_service_td: [0; 48],
        }
    }
}

impl TrustDomain {
    /// The body's bytes; `kind` is that of quotes of version 5: 2, 3 or 4.
    pub fn body(&self, kind: u16) -> Vec<u8> {
        let mut body = [
            &self.tee_tcb_svn[..],
            &[0x5e; 48],
            &self.mr_signer_seam,
            &self.seam_attributes,
            &self.attributes.to_le_bytes(),
            &[0xe7, 0x02, 6, 0, 0, 0, 0, 0],
            &self.mr_td,
            &self.mr_config_id,
            &[0; 48],
            &[0; 48],
            &self.rtmrs.concat(),
            &self.report_data,
        ]
        .concat();
        if kind >= 3 {
            body.extend(self.tee_tcb_svn2);
            body.extend(self.mr_service_td);
        }
        if kind >= 4 {
            body.extend([0; 1 + 32 + 48 + 48 + 8 + 16 + 16 + 12]);
            body.extend(self.cur_service_td);
            body.extend([0; 8]);
        }
        assert_eq!(body.len(), [584, 648, 885][usize::from(kind - 2)]);
        body
    }
}

/// Where a quote names the platform's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// In it, in PEM.
    Chain,
    /// Not at all: a name of type 1.
    Name,
}

/// A PKI, one platform and its quoting enclave.
pub struct DcapFixture {
    /// The root.
    pub root: Certified,
    /// The CA of platforms.
    pub ca: Certified,
    /// The key that signs documents.
    pub signer: Certified,
    /// The platform's key.
    pub pck: Certified,
    /// What the platform's certificate says.
    pub platform: PlatformContent,
    /// The quoting enclave.
    pub enclave: Enclave,
    /// Whether for trust domains; otherwise for enclaves.
    pub is_tdx: bool,
    attestation_key: EcdsaKeyPair,
}

impl DcapFixture {
    /// For trust domains.
    pub fn tdx() -> Self {
        Self::new(true, PlatformContent::default(), UNTIL)
    }

    /// For enclaves.
    pub fn sgx() -> Self {
        Self::new(false, PlatformContent::default(), UNTIL)
    }

    /// With another platform, whose certificate ends at `until`.
    pub fn new(is_tdx: bool, platform: PlatformContent, until: u64) -> Self {
        let content = |name, is_ca| Content { name, is_ca, until: UNTIL, sgx: None };
        let root = certify(&content("Intel SGX Root CA", true), 1, None);
        let ca = certify(&content("Intel SGX PCK Platform CA", true), 2, Some(&root));
        let signer = certify(&content("Intel SGX TCB Signing", false), 3, Some(&root));
        let sgx = Some(platform.extension());
        let leaf = Content { name: "Intel SGX PCK Certificate", is_ca: false, until, sgx };
        let pck = certify(&leaf, 0x1234, Some(&ca));
        let mut enclave = Enclave::default();
        if !is_tdx {
            enclave.isv_prod_id = 1;
        }
        let attestation_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        Self { root, ca, signer, pck, platform, enclave, is_tdx, attestation_key }
    }

    /// A certificate under this PKI's root or CA, for what nobody should have had certified.
    pub fn certify(&self, content: &Content<'_>, serial: u64, under_root: bool) -> Certified {
        certify(content, serial, Some(if under_root { &self.root } else { &self.ca }))
    }

    /// The platform's chain in PEM, leaf first, as quoting enclaves write it.
    pub fn chain_pem(&self) -> String {
        [self.pck.pem(), self.ca.pem(), self.root.pem()].concat()
    }

    /// A quote of version 3 or 4 over a body.
    pub fn quote(&self, version: u16, body: &[u8]) -> Vec<u8> {
        self.quote_with(version, None, body, Carries::Chain)
    }

    /// A quote of version 5 over a body of this type.
    pub fn quote_v5(&self, kind: u16, body: &[u8]) -> Vec<u8> {
        self.quote_with(5, Some(kind), body, Carries::Chain)
    }

    /// A quote.
    pub fn quote_with(&self, version: u16, kind: Option<u16>, body: &[u8], carries: Carries) -> Vec<u8> {
        let tee: u32 = if self.is_tdx { 0x81 } else { 0 };
        let mut signed =
            [&version.to_le_bytes()[..], &[2, 0], &tee.to_le_bytes(), &[0; 4], &VENDOR, &[0x11; 16], &[0; 4]]
                .concat();
        if let Some(kind) = kind {
            signed.extend(kind.to_le_bytes());
            signed.extend((body.len() as u32).to_le_bytes());
        }
        signed.extend(body);
        self.authenticated(version, &signed, carries)
    }

    /// Header and body, whatever they are, with the signature data behind them.
    pub fn authenticated(&self, version: u16, signed: &[u8], carries: Carries) -> Vec<u8> {
        let sign = self.attestation_key.sign(&SystemRandom::new(), signed).expect("a signature");
        let key = &self.attestation_key.public_key().as_ref()[1..];
        let authentication = [0xa0; 32];
        let mut report = self.enclave.clone();
        let hash = Digest::sha256(&[key, &authentication].concat());
        report.report_data[..32].copy_from_slice(hash.as_bytes());
        let report = report.report();
        let mut inner = [&report[..], &self.pck.sign(&report), &[32, 0], &authentication].concat();
        let (kind, data): (u16, Vec<u8>) = match carries {
            Carries::Chain => (5, [self.chain_pem().as_bytes(), &[0]].concat()),
            Carries::Name => (1, self.name()),
        };
        inner.extend(kind.to_le_bytes());
        inner.extend((data.len() as u32).to_le_bytes());
        inner.extend(data);
        let mut outer = [sign.as_ref(), key].concat();
        if version > 3 {
            outer.extend([6, 0]);
            outer.extend((inner.len() as u32).to_le_bytes());
        }
        outer.extend(inner);
        [signed, &(outer.len() as u32).to_le_bytes(), &outer].concat()
    }

    /// What a quote that carries no certificate names the platform by.
    pub fn name(&self) -> Vec<u8> {
        let (ppid, svn) = (&self.platform.ppid, &self.platform.components);
        [&ppid[..], svn, &self.platform.pce_svn.to_le_bytes(), &self.platform.pce_id].concat()
    }

    /// A document that the signing key signed: `member` is `tcbInfo` or `enclaveIdentity`.
    pub fn document(&self, member: &str, content: &Value) -> Document {
        let content = content.to_string();
        let signature = hex::encode(self.signer.sign(content.as_bytes()));
        let body = format!("{{\"{member}\":{content},\"signature\":\"{signature}\"}}");
        let chain = [self.signer.pem(), self.root.pem()].concat();
        Document::new(body.into_bytes(), chain.into_bytes())
    }

    /// A TCB info of version 3 whose highest level is the platform's own.
    pub fn tcb_info(&self) -> Value {
        let components = |svns: &[u8]| svns.iter().map(|svn| json!({"svn": svn})).collect::<Vec<_>>();
        let own = components(&self.platform.components);
        let level = |sgx: &[Value], tdx: [u8; 16], pce: u16, date: &str, status: &str, advisories: Value| {
            let mut tcb = json!({"sgxtcbcomponents": sgx, "pcesvn": pce});
            if self.is_tdx {
                tcb["tdxtcbcomponents"] = components(&tdx).into();
            }
            json!({"tcb": tcb, "tcbDate": date, "tcbStatus": status, "advisoryIDs": advisories})
        };
        let (mut new, mut old) = ([0; 16], [0; 16]);
        (new[0], new[2]) = (5, 3);
        (old[0], old[2]) = (5, 2);
        let pce = self.platform.pce_svn;
        let advisories = json!(["INTEL-SA-00837", "INTEL-SA-01036"]);
        let mut info = json!({
            "id": if self.is_tdx { "TDX" } else { "SGX" },
            "version": 3,
            "issueDate": rfc3339(ISSUED),
            "nextUpdate": rfc3339(NEXT_UPDATE),
            "fmspc": hex::encode_upper(self.platform.fmspc),
            "pceId": hex::encode_upper(self.platform.pce_id),
            "tcbType": 0,
            "tcbEvaluationDataNumber": 20,
            "tcbLevels": [
                level(&own, new, pce, "2026-05-13T00:00:00Z", "UpToDate", json!([])),
                level(&own, old, pce, "2024-03-13T00:00:00Z", "OutOfDate", advisories.clone()),
                level(&own, old, pce - 6, "2018-01-04T00:00:00Z", "OutOfDate", advisories),
            ],
        });
        if self.is_tdx {
            let module = json!({"mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "FF".repeat(8)});
            let mut identity = module.clone();
            identity["id"] = "TDX_01".into();
            identity["tcbLevels"] = json!([
                {"tcb": {"isvsvn": 6}, "tcbDate": "2026-05-13T00:00:00Z", "tcbStatus": "UpToDate"},
                {"tcb": {"isvsvn": 4}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-01099"]},
            ]);
            info["tdxModule"] = module;
            info["tdxModuleIdentities"] = json!([identity]);
        }
        info
    }

    /// The quoting enclave's identity.
    pub fn identity(&self) -> Value {
        json!({
            "id": if self.is_tdx { "TD_QE" } else { "QE" },
            "version": 2,
            "issueDate": rfc3339(ISSUED),
            "nextUpdate": rfc3339(NEXT_UPDATE),
            "tcbEvaluationDataNumber": 19,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": hex::encode_upper(self.enclave.mr_signer),
            "isvprodid": self.enclave.isv_prod_id,
            "tcbLevels": [
                {"tcb": {"isvsvn": 4}, "tcbDate": "2026-05-13T00:00:00Z", "tcbStatus": "UpToDate"},
                {"tcb": {"isvsvn": 2}, "tcbDate": "2019-05-15T00:00:00Z", "tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00477"]},
            ],
        })
    }

    /// The key of the platform's TCB info.
    pub fn tcb_info_key(&self) -> CollateralKey {
        match self.is_tdx {
            true => CollateralKey::TdxTcbInfo(self.platform.fmspc),
            false => CollateralKey::SgxTcbInfo(self.platform.fmspc),
        }
    }

    /// The key of the quoting enclave's identity.
    pub fn identity_key(&self) -> CollateralKey {
        if self.is_tdx { CollateralKey::TdQeIdentity } else { CollateralKey::SgxQeIdentity }
    }

    /// All the collateral that belongs to the platform.
    pub fn shelf(&self) -> Shelf {
        let mut shelf = Shelf::default();
        let mut put = |key, document| shelf.put(key, Arc::new(document));
        put(self.tcb_info_key(), self.document("tcbInfo", &self.tcb_info()));
        put(self.identity_key(), self.document("enclaveIdentity", &self.identity()));
        put(CollateralKey::IntelRootCrl, list(self.root.crl(&[], ISSUED, NEXT_UPDATE)));
        put(CollateralKey::PckCrl(PckCa::Platform), list(self.ca.crl(&[], ISSUED, NEXT_UPDATE)));
        shelf
    }
}

/// A document without certificates beside it.
pub fn list(der: Vec<u8>) -> Document {
    Document::new(der, Vec::new())
}

/// A time as Intel's documents write it.
pub fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).expect("a time");
    coffer_verify_api::Timestamp::from_second(seconds).expect("a time").to_string()
}

/// The collateral in the one file that other verifiers' tools write (`tcb_info`, `tcb_info_issuer_chain`,
/// `tcb_info_signature`, …), for quotes of either TEE.
pub fn shelf_of(collateral: &Value) -> Shelf {
    let text = |member: &str| collateral[member].as_str().unwrap_or_default().to_owned();
    // Octets are told in hexadecimal, or as numbers.
    let octets = |member: &str| match &collateral[member] {
        Value::Array(numbers) => numbers.iter().map(|n| n.as_u64().unwrap_or(0) as u8).collect(),
        other => hex::decode(other.as_str().unwrap_or_default()).unwrap_or_default(),
    };
    let document = |name: &str, member: &str| {
        let (content, signature) = (text(name), hex::encode(octets(&format!("{name}_signature"))));
        let body = format!("{{\"{member}\":{content},\"signature\":\"{signature}\"}}");
        Arc::new(Document::new(body.into_bytes(), text(&format!("{name}_issuer_chain")).into_bytes()))
    };
    let info: Value = serde_json::from_str(&text("tcb_info")).unwrap_or_default();
    let fmspc = hex::decode(info["fmspc"].as_str().unwrap_or_default()).unwrap_or_default();
    let fmspc: [u8; 6] = fmspc.try_into().unwrap_or_default();
    let mut shelf = Shelf::default();
    let (info_key, identity_key) = match info["id"] == "TDX" {
        true => (CollateralKey::TdxTcbInfo(fmspc), CollateralKey::TdQeIdentity),
        false => (CollateralKey::SgxTcbInfo(fmspc), CollateralKey::SgxQeIdentity),
    };
    shelf.put(info_key, document("tcb_info", "tcbInfo"));
    shelf.put(identity_key, document("qe_identity", "enclaveIdentity"));
    shelf.put(CollateralKey::IntelRootCrl, Arc::new(list(octets("root_ca_crl"))));
    let ca = match text("pck_crl_issuer_chain").contains("Processor") || is_of_processor(&octets("pck_crl")) {
        true => PckCa::Processor,
        false => PckCa::Platform,
    };
    shelf.put(CollateralKey::PckCrl(ca), Arc::new(list(octets("pck_crl"))));
    shelf
}

fn is_of_processor(crl: &[u8]) -> bool {
    crl.windows(9).any(|window| window == b"Processor")
}
