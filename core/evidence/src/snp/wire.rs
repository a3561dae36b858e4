//! A report as JSON: the layout that `virtee/sev` gives it through serde, in which KBS peers send it.
//!
//! INVARIANT: [`report_from_json`] after [`report_to_json`] gives the report's bytes back, unless bytes are set that
//! are reserved in its version. A report that has such bytes is sent in base64 beside, as `report`, by
//! [`wire_of_raw`]; a judge needs exactly the bytes that were signed. Older attesters write the reserved bytes and
//! spell some fields differently; both spellings are read.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::report::at;
use super::{CertificateEntry, CertificateKind, REPORT_LENGTH, Report, SnpError, Tcb, TcbLayout, Version};
use super::{parse_certificate_table, report};

/// An ordinary certificate has 1400 bytes, a revocation list more.
const MAX_CERTIFICATE: usize = 64 << 10;
const MAX_CERTIFICATES: usize = 16;

/// What an attester sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpEvidence {
    /// The report.
    pub report: Report,
    /// Certificates of the keys, if the host provides them.
    pub certificates: Vec<CertificateEntry>,
}

impl SnpEvidence {
    /// Reads the wire form.
    pub fn parse(evidence: &Value) -> Result<Self, SnpError> {
        let Wire { attestation_report, cert_chain, report } = Wire::deserialize(evidence)?;
        let report = match report {
            Some(text) => {
                let bytes = STANDARD.decode(text).map_err(|cause| SnpError::Base64(cause.to_string()))?;
                Report::parse(&bytes)?
            }
            None => attestation_report.to_report()?,
        };
        let certificates = cert_chain.unwrap_or_default();
        let too_much = |what, limit, found| Err(SnpError::TooMuch { what, limit, found });
        if certificates.len() > MAX_CERTIFICATES {
            return too_much("cert_chain", MAX_CERTIFICATES, certificates.len());
        }
        if let Some(long) = certificates.iter().find(|entry| entry.data.0.len() > MAX_CERTIFICATE) {
            return too_much("cert_chain[].data", MAX_CERTIFICATE, long.data.0.len());
        }
        let entry = |entry: EntryJson| CertificateEntry { kind: entry.cert_type.0, data: entry.data.0 };
        Ok(Self { report, certificates: certificates.into_iter().map(entry).collect() })
    }

    /// Writes the wire form.
    pub fn to_value(&self) -> Value {
        let entry = |entry: &CertificateEntry| {
            let kind = match (&entry.kind, entry.kind.name()) {
                (CertificateKind::Other(identifier), _) => json!({"OTHER": identifier}),
                (_, name) => json!(name),
            };
            json!({"cert_type": kind, "data": entry.data})
        };
        let chain: Option<Vec<Value>> =
            (!self.certificates.is_empty()).then(|| self.certificates.iter().map(entry).collect());
        let written = report_to_json(&self.report);
        let exact = report_from_json(&written).is_ok_and(|read| read == self.report);
        let mut evidence = json!({"attestation_report": written, "cert_chain": chain});
        if let (false, Some(members)) = (exact, evidence.as_object_mut()) {
            members.insert("report".into(), STANDARD.encode(self.report.as_bytes()).into());
        }
        evidence
    }
}

/// The wire form of a raw report, with the certificates of the table that the host gives beside it; the table may be
/// empty.
pub fn wire_of_raw(report: &[u8], table: &[u8]) -> Result<Value, SnpError> {
    let (report, certificates) = (Report::parse(report)?, parse_certificate_table(table)?);
    Ok(SnpEvidence { report, certificates }.to_value())
}

/// The report's bytes from its JSON form.
pub fn report_from_json(report: &Value) -> Result<Report, SnpError> {
    ReportJson::deserialize(report)?.to_report()
}

/// The report's JSON form.
pub fn report_to_json(report: &Report) -> Value {
    // A structure of numbers and lists of numbers can always be written.
    serde_json::to_value(ReportJson::of(report)).unwrap_or_default()
}

#[derive(Deserialize)]
struct Wire {
    attestation_report: ReportJson,
    cert_chain: Option<Vec<EntryJson>>,
    /// Ours: base64 of the report as it was signed.
    report: Option<String>,
}

#[derive(Deserialize)]
struct EntryJson {
    cert_type: KindJson,
    data: Octets,
}

#[derive(Serialize, Deserialize)]
struct ReportJson {
    version: u32,
    guest_svn: u32,
    policy: u64,
    family_id: Fixed<16>,
    image_id: Fixed<16>,
    vmpl: u32,
    sig_algo: u32,
    current_tcb: TcbJson,
    plat_info: u64,
    #[serde(alias = "_author_key_en")]
    key_info: u32,
    #[serde(rename = "_reserved_0", default, skip_serializing)]
    reserved_0: u32,
    report_data: Fixed<64>,
    measurement: Fixed<48>,
    host_data: Fixed<32>,
    id_key_digest: Fixed<48>,
    author_key_digest: Fixed<48>,
    report_id: Fixed<32>,
    report_id_ma: Fixed<32>,
    reported_tcb: TcbJson,
    #[serde(default)]
    cpuid_fam_id: Option<u8>,
    #[serde(default)]
    cpuid_mod_id: Option<u8>,
    #[serde(default)]
    cpuid_step: Option<u8>,
    /// 24 bytes before the processor was named, 21 after.
    #[serde(rename = "_reserved_1", default, skip_serializing)]
    reserved_1: Octets,
    chip_id: Fixed<64>,
    committed_tcb: TcbJson,
    #[serde(default)]
    current: Option<VersionJson>,
    #[serde(default)]
    committed: Option<VersionJson>,
    #[serde(default, skip_serializing)]
    current_build: u8,
    #[serde(default, skip_serializing)]
    current_minor: u8,
    #[serde(default, skip_serializing)]
    current_major: u8,
    #[serde(default, skip_serializing)]
    committed_build: u8,
    #[serde(default, skip_serializing)]
    committed_minor: u8,
    #[serde(default, skip_serializing)]
    committed_major: u8,
    launch_tcb: TcbJson,
    #[serde(rename = "_reserved_4", default, skip_serializing)]
    reserved_4: Octets,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    launch_mit_vector: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_mit_vector: Option<u64>,
    signature: SignatureJson,
}

#[derive(Serialize, Deserialize)]
struct TcbJson {
    #[serde(default)]
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    #[serde(rename = "_reserved", default, skip_serializing)]
    reserved: Octets,
    snp: u8,
    microcode: u8,
}

#[derive(Serialize, Deserialize)]
struct VersionJson {
    major: u8,
    minor: u8,
    build: u8,
}

#[derive(Serialize, Deserialize)]
struct SignatureJson {
    r: Fixed<72>,
    s: Fixed<72>,
}

impl ReportJson {
    fn of(report: &Report) -> Self {
        let cpuid = report.cpuid();
        Self {
            version: report.version(),
            guest_svn: report.guest_svn(),
            policy: report.policy(),
            family_id: Fixed(*report.family_id()),
            image_id: Fixed(*report.image_id()),
            vmpl: report.vmpl(),
            sig_algo: report.signature_algorithm(),
            current_tcb: report.current_tcb().into(),
            plat_info: report.platform_info(),
            key_info: report.key_info(),
            reserved_0: 0,
            report_data: Fixed(*report.report_data()),
            measurement: Fixed(*report.measurement()),
            host_data: Fixed(*report.host_data()),
            id_key_digest: Fixed(*report.id_key_digest()),
            author_key_digest: Fixed(*report.author_key_digest()),
            report_id: Fixed(*report.report_id()),
            report_id_ma: Fixed(*report.report_id_ma()),
            reported_tcb: report.reported_tcb().into(),
            cpuid_fam_id: cpuid.map(|cpuid| cpuid.family),
            cpuid_mod_id: cpuid.map(|cpuid| cpuid.model),
            cpuid_step: cpuid.map(|cpuid| cpuid.stepping),
            reserved_1: Octets::default(),
            chip_id: Fixed(*report.chip_id()),
            committed_tcb: report.committed_tcb().into(),
            current: Some(report.current_version().into()),
            committed: Some(report.committed_version().into()),
            current_build: 0,
            current_minor: 0,
            current_major: 0,
            committed_build: 0,
            committed_minor: 0,
            committed_major: 0,
            launch_tcb: report.launch_tcb().into(),
            reserved_4: Octets::default(),
            launch_mit_vector: report.launch_mitigations(),
            current_mit_vector: report.current_mitigations(),
            signature: SignatureJson { r: Fixed(*report.signature_r()), s: Fixed(*report.signature_s()) },
        }
    }

    /// Which layout the attester read its TCB versions in, or would have.
    fn layout(&self) -> TcbLayout {
        let turin = match self.cpuid_fam_id {
            Some(family) if self.version >= 3 => family >= report::FAMILY_TURIN,
            _ => self.reported_tcb.fmc.is_some(),
        };
        if turin { TcbLayout::Turin } else { TcbLayout::Legacy }
    }

    fn to_report(&self) -> Result<Report, SnpError> {
        let layout = self.layout();
        let mut bytes = [0; REPORT_LENGTH];
        let mut put = |at: usize, field: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        };
        let firmware = |named: &Option<VersionJson>, loose: [u8; 3]| {
            named.as_ref().map_or(loose, |version| [version.build, version.minor, version.major])
        };
        put(at::VERSION, &self.version.to_le_bytes());
        put(at::GUEST_SVN, &self.guest_svn.to_le_bytes());
        put(at::POLICY, &self.policy.to_le_bytes());
        put(at::FAMILY_ID, &self.family_id.0);
        put(at::IMAGE_ID, &self.image_id.0);
        put(at::VMPL, &self.vmpl.to_le_bytes());
        put(at::SIGNATURE_ALGORITHM, &self.sig_algo.to_le_bytes());
        put(at::CURRENT_TCB, &self.current_tcb.bytes(layout));
        put(at::PLATFORM_INFO, &self.plat_info.to_le_bytes());
        put(at::KEY_INFO, &self.key_info.to_le_bytes());
        put(at::RESERVED_0, &self.reserved_0.to_le_bytes());
        put(at::REPORT_DATA, &self.report_data.0);
        put(at::MEASUREMENT, &self.measurement.0);
        put(at::HOST_DATA, &self.host_data.0);
        put(at::ID_KEY_DIGEST, &self.id_key_digest.0);
        put(at::AUTHOR_KEY_DIGEST, &self.author_key_digest.0);
        put(at::REPORT_ID, &self.report_id.0);
        put(at::REPORT_ID_MA, &self.report_id_ma.0);
        put(at::REPORTED_TCB, &self.reported_tcb.bytes(layout));
        let (reserved, space) = (&self.reserved_1.0, at::CHIP_ID.saturating_sub(at::CPUID));
        put(at::CHIP_ID.saturating_sub(reserved.len().min(space)), reserved);
        for (number, byte) in [self.cpuid_fam_id, self.cpuid_mod_id, self.cpuid_step].into_iter().enumerate()
        {
            if let Some(byte) = byte {
                put(at::CPUID.saturating_add(number), &[byte]);
            }
        }
        put(at::CHIP_ID, &self.chip_id.0);
        put(at::COMMITTED_TCB, &self.committed_tcb.bytes(layout));
        let loose = [self.current_build, self.current_minor, self.current_major];
        put(at::CURRENT_VERSION, &firmware(&self.current, loose));
        let loose = [self.committed_build, self.committed_minor, self.committed_major];
        put(at::COMMITTED_VERSION, &firmware(&self.committed, loose));
        put(at::LAUNCH_TCB, &self.launch_tcb.bytes(layout));
        put(at::LAUNCH_MITIGATIONS, &self.reserved_4.0);
        if let Some(vector) = self.launch_mit_vector {
            put(at::LAUNCH_MITIGATIONS, &vector.to_le_bytes());
        }
        if let Some(vector) = self.current_mit_vector {
            put(at::CURRENT_MITIGATIONS, &vector.to_le_bytes());
        }
        put(at::SIGNATURE_R, &self.signature.r.0);
        put(at::SIGNATURE_S, &self.signature.s.0);
        Report::parse(&bytes)
    }
}

impl TcbJson {
    fn bytes(&self, layout: TcbLayout) -> [u8; 8] {
        let Self { fmc, bootloader, tee, snp, microcode, .. } = *self;
        match <[u8; 4]>::try_from(self.reserved.0.as_slice()) {
            // Attesters that knew one layout only read every processor in it.
            Ok([a, b, c, d]) => [bootloader, tee, a, b, c, d, snp, microcode],
            Err(_) => Tcb { fmc, bootloader, tee, snp, microcode }.bytes(layout),
        }
    }
}

impl From<Tcb> for TcbJson {
    fn from(tcb: Tcb) -> Self {
        let Tcb { fmc, bootloader, tee, snp, microcode } = tcb;
        Self { fmc, bootloader, tee, reserved: Octets::default(), snp, microcode }
    }
}

impl From<Version> for VersionJson {
    fn from(version: Version) -> Self {
        let Version { major, minor, build } = version;
        Self { major, minor, build }
    }
}

/// A kind is a name, or `{"OTHER": identifier}`.
struct KindJson(CertificateKind);

impl<'de> Deserialize<'de> for KindJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Name(String),
            Other {
                #[serde(rename = "OTHER")]
                identifier: Value,
            },
        }
        match Form::deserialize(deserializer)? {
            Form::Name(name) => CertificateKind::of_name(&name).map(Self).ok_or_else(|| {
                de::Error::custom("cert_type: expected VCEK, VLEK, ASK, ARK, CRL, Empty or OTHER")
            }),
            // Nobody asks which; upstream writes text, or bytes.
            Form::Other { identifier } => {
                let text = identifier.as_str().map_or_else(|| identifier.to_string(), str::to_owned);
                Ok(Self(CertificateKind::Other(text.chars().take(64).collect())))
            }
        }
    }
}

/// Exactly `N` bytes as a list of numbers.
struct Fixed<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Fixed<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<const N: usize>(PhantomData<[u8; N]>);

        impl<'de, const N: usize> Visitor<'de> for List<N> {
            type Value = Fixed<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of {N} bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fixed<N>, A::Error> {
                let mut bytes = [0; N];
                for (number, byte) in bytes.iter_mut().enumerate() {
                    *byte = list.next_element()?.ok_or_else(|| de::Error::invalid_length(number, &self))?;
                }
                match list.next_element::<de::IgnoredAny>()? {
                    None => Ok(Fixed(bytes)),
                    Some(_) => Err(de::Error::invalid_length(N.saturating_add(1), &self)),
                }
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// Bytes as a list of numbers.
#[derive(Default, Deserialize)]
struct Octets(Vec<u8>);
