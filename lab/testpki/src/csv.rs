//! Complete Hygon CSV evidence: a root, its keys, a report and its signature, all made at run time.
//!
//! The bytes are written field by field from the published layouts, so that a reader's mistake is not repeated here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use serde_json::{Value, json};
use sm2::SecretKey;
use sm2::dsa::signature::Signer as _;
use sm2::dsa::{Signature, SigningKey};

/// Keys of a chip's chain.
#[derive(Clone)]
struct Key {
    signing: SigningKey,
    name: &'static str,
    usage: u32,
    id: [u8; 16],
}

impl Key {
    fn new(name: &'static str, usage: u32) -> Self {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).expect("randomness");
        // Below the order of the curve, whatever was drawn.
        secret[0] &= 0x7f;
        let secret = SecretKey::from_slice(&secret).expect("a secret key");
        let signing = SigningKey::new(name, &secret).expect("a signing key");
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).expect("randomness");
        Self { signing, name, usage, id }
    }

    fn point(&self) -> ([u8; 72], [u8; 72]) {
        let sec1 = self.signing.verifying_key().to_sec1_bytes();
        // Compressed or not: ask for the affine coordinates through the uncompressed form.
        let key = sm2::PublicKey::from_sec1_bytes(&sec1).expect("its own point");
        let point = sm2::elliptic_curve::sec1::ToEncodedPoint::to_encoded_point(&key, false);
        (little(point.x().expect("x")), little(point.y().expect("y")))
    }

    fn sign(&self, message: &[u8]) -> ([u8; 72], [u8; 72]) {
        let signature: Signature = self.signing.sign(message);
        (little(&signature.r_bytes()), little(&signature.s_bytes()))
    }

    fn user_id(&self) -> Vec<u8> {
        let mut bytes = u16::try_from(self.name.len()).expect("a short name").to_le_bytes().to_vec();
        bytes.extend(self.name.as_bytes());
        bytes.resize(256, 0);
        bytes
    }

    fn public(&self) -> Vec<u8> {
        let (x, y) = self.point();
        [&3_u32.to_le_bytes()[..], &x, &y].concat()
    }
}

fn little(big: &[u8]) -> [u8; 72] {
    let mut field = [0; 72];
    for (to, from) in field.iter_mut().zip(big.iter().rev()) {
        *to = *from;
    }
    field
}

/// What a report says.
#[derive(Clone, Debug)]
pub struct CsvReport {
    /// Whether it has registers.
    pub extended: bool,
    /// What it is bound to.
    pub report_data: [u8; 64],
    /// The measurement at launch.
    pub measure: [u8; 32],
    /// The owner's policy.
    pub policy: u32,
    /// The word that masks the first layout.
    pub anonce: u32,
    /// Usage and algorithm that it names.
    pub signed_by: (u32, u32),
    /// The registers of the second layout.
    pub rtmr: [[u8; 32]; 5],
}

impl Default for CsvReport {
    fn default() -> Self {
        let measure = *Digest::of(Algorithm::Sm3, b"a guest").as_bytes().first_chunk().expect("32 bytes");
        let mut rtmr = [[0; 32]; 5];
        rtmr[0] = measure;
        // nodbg, es, nosend, csv3.
        Self {
            extended: false,
            report_data: [0; 64],
            measure,
            policy: 0x4d,
            anonce: 0x5dc7_d726,
            signed_by: (0x1002, 4),
            rtmr,
        }
    }
}

/// A platform of a test's own, under a root of its own.
#[derive(Clone)]
pub struct CsvFixture {
    hrk: Key,
    hsk: Key,
    cek: Key,
    pek: Key,
}

impl Default for CsvFixture {
    fn default() -> Self {
        Self {
            hrk: Key::new("TEST-HRK", 0),
            hsk: Key::new("TEST-HSK", 0x13),
            cek: Key::new("TEST-CEK", 0x1004),
            pek: Key::new("TEST-PEK", 0x1002),
        }
    }
}

/// The serial number of the test's chip.
pub const CSV_SERIAL: &str = "TEST0001";

impl CsvFixture {
    /// The root's certificate, 832 bytes.
    pub fn root(&self) -> Vec<u8> {
        Self::authority(&self.hrk, &self.hrk)
    }

    /// HSK's certificate.
    pub fn hsk(&self) -> Vec<u8> {
        Self::authority(&self.hsk, &self.hrk)
    }

    /// CEK's certificate.
    pub fn cek(&self) -> Vec<u8> {
        Self::chip(&self.cek, &self.hsk, self.hsk.usage)
    }

    /// PEK's certificate.
    pub fn pek(&self) -> Vec<u8> {
        Self::chip(&self.pek, &self.cek, self.cek.usage)
    }

    /// PEK's certificate with a signature that names another role.
    pub fn pek_signed_as(&self, usage: u32) -> Vec<u8> {
        Self::chip(&self.pek, &self.cek, usage)
    }

    fn authority(subject: &Key, issuer: &Key) -> Vec<u8> {
        let mut body = 1_u32.to_le_bytes().to_vec();
        body.extend(subject.id);
        body.extend(issuer.id);
        body.extend(subject.usage.to_le_bytes());
        body.extend([0; 24]);
        body.extend(subject.public());
        body.extend(subject.user_id());
        body.extend([0; 108]);
        let (r, s) = issuer.sign(&body);
        [&body[..], &r, &s, &[0; 112]].concat()
    }

    fn chip(subject: &Key, issuer: &Key, role: u32) -> Vec<u8> {
        let mut body = 1_u32.to_le_bytes().to_vec();
        body.extend([1, 4, 0, 0]);
        body.extend(subject.usage.to_le_bytes());
        body.extend(4_u32.to_le_bytes());
        body.extend(subject.public());
        body.extend(subject.user_id());
        body.extend([0; 16]);
        body.extend([0; 608]);
        let (r, s) = issuer.sign(&body);
        let slot = [&role.to_le_bytes()[..], &4_u32.to_le_bytes(), &r, &s, &[0; 368]].concat();
        // The second slot is the owner's, unused here.
        let unused = [&0x1000_u32.to_le_bytes()[..], &0_u32.to_le_bytes(), &[0; 512]].concat();
        [body, slot, unused].concat()
    }

    /// The 4096 bytes that the device would give.
    pub fn report(&self, report: &CsvReport) -> Vec<u8> {
        let mut plain = [7; 32].to_vec();
        plain.extend([1; 16]);
        plain.extend([2; 16]);
        plain.extend(report.report_data);
        plain.extend([3; 16]);
        plain.extend(report.measure);
        plain.extend(report.policy.to_le_bytes());
        plain.extend(report.signed_by.0.to_le_bytes());
        plain.extend(report.signed_by.1.to_le_bytes());
        let mut bytes = match report.extended {
            false => {
                let mask = report.anonce.to_le_bytes().into_iter().cycle();
                let mut masked: Vec<u8> = plain.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
                let (r, s) = self.pek.sign(&masked[..180]);
                masked.extend(report.anonce.to_le_bytes());
                masked.extend(r);
                masked.extend(s);
                masked
            }
            true => {
                plain.extend(2_065_u32.to_le_bytes());
                plain.extend(1_u16.to_le_bytes());
                plain.extend([0; 14]);
                report.rtmr.iter().for_each(|register| plain.extend(register));
                plain.extend([0; 656]);
                let (r, s) = self.pek.sign(&plain);
                plain.extend(r);
                plain.extend(s);
                plain
            }
        };
        bytes.extend(self.pek());
        let mut serial = CSV_SERIAL.as_bytes().to_vec();
        serial.resize(64, 0);
        bytes.extend(serial);
        bytes.resize(4096, 0);
        bytes
    }

    /// Complete evidence in its wire form, with HSK and CEK inside.
    pub fn evidence(&self, report: &CsvReport, event_log: Option<&[u8]>) -> Value {
        let magic: [u8; 16] = if report.extended { *b"ATTESTATION_EXT\0" } else { [0; 16] };
        let mut serial = CSV_SERIAL.as_bytes().to_vec();
        serial.resize(64, 0);
        json!({
            "attestation_report": {"data": self.report(report), "flags": u32::from(report.extended), "magic": magic},
            "cert_chain": {
                "hsk_cek": {"hsk": ca_json(&self.hsk()), "cek": chip_json(&self.cek())},
                "pek": chip_json(&self.pek()),
            },
            "serial_number": serial,
            "cc_eventlog": event_log.map(|log| STANDARD.encode(log)),
        })
    }
}

/// A certificate of HRK or HSK in the members that upstream writes.
pub fn ca_json(bytes: &[u8]) -> Value {
    json!({
        "body": {
            "preamble": {
                "ver": word(bytes, 0),
                "data": {"kid": bytes[4..20], "sid": bytes[20..36], "usage": word(bytes, 36), "reserved": bytes[40..64]},
            },
            "pubkey": {"g": word(bytes, 64), "x": bytes[68..140], "y": bytes[140..212]},
            "uid_size": half(bytes, 212),
            "user_id": bytes[214..468],
            "reserved": bytes[468..576],
        },
        "signature": {"r": bytes[576..648], "s": bytes[648..720]},
        "_reserved": bytes[720..832],
    })
}

/// A certificate of CEK or PEK in the members that upstream writes.
pub fn chip_json(bytes: &[u8]) -> Value {
    let slot = |at: usize| {
        json!({
            "usage": word(bytes, at),
            "algo": word(bytes, at + 4),
            "signature": {"r": bytes[at + 8..at + 80], "s": bytes[at + 80..at + 152]},
            "_reserved": bytes[at + 152..at + 520],
        })
    };
    json!({
        "body": {
            "ver": word(bytes, 0),
            "data": {
                "firmware": {"major": bytes[4], "minor": bytes[5]},
                "reserved1": half(bytes, 6),
                "pubkey": {
                    "usage": word(bytes, 8),
                    "algo": word(bytes, 12),
                    "key": {"g": word(bytes, 16), "x": bytes[20..92], "y": bytes[92..164]},
                },
                "uid_size": half(bytes, 164),
                "user_id": bytes[166..420],
                "sid": bytes[420..436],
                "reserved2": bytes[436..1044],
            },
        },
        "sigs": [slot(1044), slot(1564)],
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a word"))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("half a word"))
}
