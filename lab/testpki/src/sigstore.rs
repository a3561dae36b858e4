//! A sigstore of one test: a certification authority with an intermediate, a CT log, a transparency log, and what they
//! say of a signature.
//!
//! Values are JSON that a test may change before it has the log say it again. The tree is computed by its definition
//! (RFC 6962, section 2.1), not as a verifier computes it. Left out: time, which each maker is given.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SigningKey, date_time_ymd,
};
use serde_json::{Value, json};
use std::time::Duration;

pub use rcgen::ExtendedKeyUsagePurpose as Purpose;
pub use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};

/// The time of everything that is made without saying otherwise, in seconds since 1970: 2026-01-01.
pub const SIGSTORE_TIME: u64 = 1_767_225_600;
const CERTIFICATE_SECONDS: u64 = 600;
const TIMESTAMPS: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
const ISSUER_RAW: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];

/// What the certificate's list of timestamps says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigstoreTimestamp {
    /// The CT log signed it.
    Embedded,
    /// There is none.
    Absent,
    /// Its signature is over another time.
    Changed,
    /// It is of a CT log that nobody knows.
    Foreign,
    /// First one of a CT log that nobody knows, then the CT log's.
    Second,
    /// The list, with its length, is of these octets.
    Raw(Vec<u8>),
}

/// What is said in a signer's certificate.
#[derive(Clone, Debug)]
pub struct SigstoreSigner {
    /// An email address, or a URI if it has `://`.
    pub subjects: Vec<String>,
    /// The issuer (V2), in DER.
    pub issuer: Option<String>,
    /// The issuer as bare text.
    pub issuer_raw: Option<String>,
    /// Extended key usages.
    pub purposes: Vec<Purpose>,
    /// From when it is valid, in seconds since 1970.
    pub from: u64,
    /// Timestamps of the CT log.
    pub timestamp: SigstoreTimestamp,
    /// The key's kind.
    pub key: &'static SignatureAlgorithm,
}

impl SigstoreSigner {
    /// A signer with everything that is needed.
    pub fn new(subject: &str, issuer: &str) -> Self {
        Self {
            subjects: vec![subject.to_owned()],
            issuer: Some(issuer.to_owned()),
            issuer_raw: Some(issuer.to_owned()),
            purposes: vec![Purpose::CodeSigning],
            from: SIGSTORE_TIME - 60,
            timestamp: SigstoreTimestamp::Embedded,
            key: &PKCS_ECDSA_P256_SHA256,
        }
    }
}

/// A signer's certificate with its key.
pub struct SigstoreCertificate {
    /// The certificate in DER.
    pub der: Vec<u8>,
    key: KeyPair,
}

impl SigstoreCertificate {
    /// Signs a message, as the key's kind does.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).expect("a signature")
    }

    fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64")).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }
}

/// A certification authority, a CT log and a transparency log.
pub struct SigstoreFixture {
    root: Vec<u8>,
    intermediate: (CertificateParams, KeyPair, Vec<u8>),
    ct_log: KeyPair,
    log: KeyPair,
    /// The name under which the log signs checkpoints.
    pub log_name: String,
}

impl SigstoreFixture {
    /// With a log whose key is on P-256.
    pub fn new() -> Self {
        Self::with_log(&PKCS_ECDSA_P256_SHA256, vec![Purpose::CodeSigning])
    }

    /// With a log's key of a kind, and an intermediate certificate for purposes.
    pub fn with_log(log: &'static SignatureAlgorithm, purposes: Vec<Purpose>) -> Self {
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
        let root_params = authority("test sigstore");
        let root = root_params.self_signed(&root_key).expect("a root certificate");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
        let mut params = authority("test sigstore intermediate");
        params.extended_key_usages = purposes;
        let above = Issuer::new(root_params, &root_key);
        let intermediate = params.signed_by(&key, &above).expect("an intermediate certificate");
        let p256 = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        Self {
            root: root.der().to_vec(),
            intermediate: (params, key, intermediate.der().to_vec()),
            ct_log: p256(),
            log: KeyPair::generate_for(log).expect("a key"),
            log_name: "log.sigstore.test".to_owned(),
        }
    }

    /// A trust root of all of it, without ends.
    pub fn trust_root(&self) -> Value {
        let window = json!({"start": "2025-01-01T00:00:00Z"});
        let log = |key: &KeyPair, url: &str| {
            let details = match key.is_compatible(&PKCS_ED25519) {
                true => "PKIX_ED25519",
                false => "PKIX_ECDSA_P256_SHA_256",
            };
            json!({
                "baseUrl": url, "hashAlgorithm": "SHA2_256", "logId": {"keyId": STANDARD.encode(id(key))},
                "publicKey": {
                    "rawBytes": STANDARD.encode(key.subject_public_key_info()), "keyDetails": details,
                    "validFor": window.clone(),
                },
            })
        };
        let chain = [&self.intermediate.2, &self.root].map(|der| json!({"rawBytes": STANDARD.encode(der)}));
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.log, "https://log.sigstore.test")],
            "certificateAuthorities": [{
                "uri": "https://ca.sigstore.test", "certChain": {"certificates": chain},
                "validFor": window.clone(),
            }],
            "ctlogs": [log(&self.ct_log, "https://ct.sigstore.test")],
            "timestampAuthorities": [],
        })
    }

    /// A signer's certificate, made twice: as the CT log sees it, and with what the CT log says.
    pub fn certify(&self, signer: &SigstoreSigner) -> SigstoreCertificate {
        let key = KeyPair::generate_for(signer.key).expect("a key");
        let issuer = Issuer::new(self.intermediate.0.clone(), &self.intermediate.1);
        let make = |timestamps: Option<Vec<u8>>| {
            let params = leaf(signer, timestamps);
            params.signed_by(&key, &issuer).expect("a leaf certificate").der().to_vec()
        };
        let before = make(None);
        let (certificate, _) = crate::authority::element(&before);
        let (tbs, _) = crate::authority::element(certificate);
        // The TBSCertificate with its tag and length, which are four octets for all that is made here.
        let tbs = &certificate[..4 + tbs.len()];
        let at = (signer.from * 1000).to_be_bytes();
        let other = (signer.from * 1000 + 1).to_be_bytes();
        let ours = |signed| self.timestamp(&self.ct_log, tbs, at, signed);
        let foreign = || {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
            self.timestamp(&key, tbs, at, at)
        };
        let list = match &signer.timestamp {
            SigstoreTimestamp::Embedded => Some(vector(&ours(at))),
            SigstoreTimestamp::Absent => None,
            SigstoreTimestamp::Changed => Some(vector(&ours(other))),
            SigstoreTimestamp::Foreign => Some(vector(&foreign())),
            SigstoreTimestamp::Second => Some(vector(&[foreign(), ours(at)].concat())),
            SigstoreTimestamp::Raw(list) => Some(list.clone()),
        };
        SigstoreCertificate { der: make(list), key }
    }

    /// One element of the list of timestamps, whose signature is over the time `signed` (RFC 6962, section 3.2).
    fn timestamp(&self, key: &KeyPair, tbs: &[u8], at: [u8; 8], signed: [u8; 8]) -> Vec<u8> {
        let issuer = sha256(&self.intermediate.1.subject_public_key_info());
        let length = (tbs.len() as u32).to_be_bytes();
        let message = [&[0, 0], &signed[..], &[0, 1], &issuer, &length[1..], tbs, &[0, 0]].concat();
        let signature = key.sign(&message).expect("a signature");
        vector(&[&[0], &id(key)[..], &at, &[0, 0], &[4, 3], &vector(&signature)].concat())
    }

    /// The member of a bundle for a signature over the artifact.
    pub fn message(&self, signer: &SigstoreCertificate, artifact: &[u8]) -> Value {
        json!({"messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(sha256(artifact))},
            "signature": STANDARD.encode(signer.sign(artifact)),
        }})
    }

    /// The member of a bundle for a signed envelope.
    pub fn envelope(&self, signer: &SigstoreCertificate, payload_type: &str, payload: &[u8]) -> Value {
        let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
        let signature = signer.sign(&[head.as_bytes(), payload].concat());
        json!({"dsseEnvelope": {
            "payload": STANDARD.encode(payload), "payloadType": payload_type,
            "signatures": [{"sig": STANDARD.encode(signature)}],
        }})
    }

    /// The body of the log's entry for a bundle's member.
    pub fn body(&self, signer: &SigstoreCertificate, member: &Value) -> Value {
        let verifier = STANDARD.encode(signer.pem());
        if let Some(message) = member.get("messageSignature") {
            return json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hex_of(&message["messageDigest"]["digest"])}},
                "signature": {"content": message["signature"], "publicKey": {"content": verifier}},
            }});
        }
        let envelope = &member["dsseEnvelope"];
        let payload = STANDARD.decode(envelope["payload"].as_str().expect("a payload")).expect("base64");
        json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": hex::encode(sha256(envelope.to_string().as_bytes()))},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(sha256(&payload))},
            "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": verifier}],
        }})
    }

    /// The entry for a body, as the leaf with the index in a tree of some size, with proof, checkpoint and promise.
    pub fn entry(&self, body: &Value, index: usize, size: usize) -> Value {
        let bytes = serde_json::to_vec(body).expect("a body");
        let mut leaves: Vec<Vec<u8>> = (0..size).map(|n| format!("entry {n}").into_bytes()).collect();
        leaves[index].clone_from(&bytes);
        let hashes: Vec<String> = path(index, &leaves).iter().map(|hash| STANDARD.encode(hash)).collect();
        let root = head(&leaves);
        let mut entry = json!({
            // A log of several shards counts over all of them.
            "logIndex": (1000 + index).to_string(),
            "logId": {"keyId": STANDARD.encode(id(&self.log))},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "integratedTime": SIGSTORE_TIME.to_string(),
            "inclusionProof": {
                "logIndex": index.to_string(), "rootHash": STANDARD.encode(root), "treeSize": size.to_string(),
                "hashes": hashes, "checkpoint": {"envelope": self.checkpoint(&self.origin(), size, &root)},
            },
            "canonicalizedBody": STANDARD.encode(&bytes),
        });
        self.promise(&mut entry);
        entry
    }

    /// The origin of the log's checkpoints: its name, and the number of a tree.
    pub fn origin(&self) -> String {
        format!("{} - 1193050959916656506", self.log_name)
    }

    /// A checkpoint that the log signs under its name.
    pub fn checkpoint(&self, origin: &str, size: usize, root: &[u8]) -> String {
        let text = format!("{origin}\n{size}\n{}\n", STANDARD.encode(root));
        let signature = self.log.sign(text.as_bytes()).expect("a signature");
        let info = self.log.subject_public_key_info();
        let hint = match self.log.is_compatible(&PKCS_ED25519) {
            true => sha256(&[self.log_name.as_bytes(), b"\n\x01", &info[info.len() - 32..]].concat()),
            false => sha256(&info),
        };
        let line = STANDARD.encode([&hint[..4], &signature].concat());
        format!("{text}\n\u{2014} {} {line}\n", self.log_name)
    }

    /// Has the log promise an entry as it stands.
    pub fn promise(&self, entry: &mut Value) {
        let number =
            |member: &str| entry[member].as_str().expect("a number").parse::<u64>().expect("a number");
        // Members in the order of RFC 8785, without space.
        let message = format!(
            r#"{{"body":{},"integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            entry["canonicalizedBody"],
            number("integratedTime"),
            hex_of(&entry["logId"]["keyId"]),
            number("logIndex"),
        );
        let signature = self.log.sign(message.as_bytes()).expect("a signature");
        entry["inclusionPromise"] = json!({"signedEntryTimestamp": STANDARD.encode(signature)});
    }

    /// A bundle of its parts.
    pub fn bundle(&self, signer: &SigstoreCertificate, member: &Value, entries: &[Value]) -> Value {
        let mut bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": STANDARD.encode(&signer.der)}, "tlogEntries": entries,
            },
        });
        let members = bundle.as_object_mut().expect("an object");
        members.extend(member.as_object().expect("an object").clone());
        bundle
    }

    /// A bundle whose one entry is the third of seven, which has a path of every kind of step.
    pub fn logged(&self, signer: &SigstoreCertificate, member: &Value) -> Value {
        let entry = self.entry(&self.body(signer, member), 2, 7);
        self.bundle(signer, member, &[entry])
    }
}

impl Default for SigstoreFixture {
    fn default() -> Self {
        Self::new()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2035, 1, 1));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn leaf(signer: &SigstoreSigner, timestamps: Option<Vec<u8>>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(signer.from);
    params.not_after = params.not_before + Duration::from_secs(CERTIFICATE_SECONDS);
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from(7_u64));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = signer.purposes.clone();
    let name = |subject: &String| match subject.contains("://") {
        true => SanType::URI(subject.as_str().try_into().expect("a URI")),
        false => SanType::Rfc822Name(subject.as_str().try_into().expect("an address")),
    };
    params.subject_alt_names = signer.subjects.iter().map(name).collect();
    let mut add = |id: &[u64], content| {
        params.custom_extensions.push(CustomExtension::from_oid_content(id, content));
    };
    // The timestamps stand between others, so that what follows them must be kept.
    if let Some(raw) = &signer.issuer_raw {
        add(&ISSUER_RAW, raw.as_bytes().to_vec());
    }
    if let Some(list) = timestamps {
        add(&TIMESTAMPS, octet_string(&list));
    }
    if let Some(issuer) = &signer.issuer {
        add(&ISSUER, [&[0x0c, issuer.len() as u8], issuer.as_bytes()].concat());
    }
    params
}

fn octet_string(content: &[u8]) -> Vec<u8> {
    let length = content.len();
    match length {
        0..=0x7f => [&[4, length as u8], content].concat(),
        0x80..=0xff => [&[4, 0x81, length as u8], content].concat(),
        _ => [&[4, 0x82, (length >> 8) as u8, length as u8], content].concat(),
    }
}

/// A TLS vector with a length of two octets.
fn vector(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes(), content].concat()
}

fn sha256(data: &[u8]) -> [u8; 32] {
    digest(&SHA256, data).as_ref().try_into().expect("32 bytes")
}

fn id(key: &KeyPair) -> [u8; 32] {
    sha256(&key.subject_public_key_info())
}

fn hex_of(base64: &Value) -> String {
    hex::encode(STANDARD.decode(base64.as_str().expect("text")).expect("base64"))
}

fn node(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    sha256(&[&[1], &left[..], &right].concat())
}

/// MTH of RFC 6962, section 2.1.
fn head(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [one] => sha256(&[&[0], one.as_slice()].concat()),
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            node(head(left), head(right))
        }
    }
}

/// PATH of RFC 6962, section 2.1.1.
fn path(index: usize, leaves: &[Vec<u8>]) -> Vec<[u8; 32]> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut below, beside) = match index < left.len() {
        true => (path(index, left), head(right)),
        false => (path(index - left.len(), right), head(left)),
    };
    below.push(beside);
    below
}
