//! The wire form of CSV evidence (KBS protocol, section 3.11): Hygon's structures, field by field, as JSON.
//!
//! Upstream writes each field of a certificate as a member. Here they become the bytes that they came from, so that
//! one reader of certificates is enough, and no member can say what the signed bytes do not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::certificate::{CA_LEN, CHIP_LEN};

/// More than the largest log that firmware makes, less than an attack.
const MAX_EVENT_LOG: usize = 1 << 20;

/// Why a JSON value is not CSV evidence.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A member is missing or has the wrong form.
    #[error("the evidence does not have the csv form: {0}")]
    Form(#[from] serde_json::Error),
    /// A member has another length than its field.
    #[error("{member}: expected {expected} bytes, found {found}")]
    Length {
        /// The member.
        member: &'static str,
        /// The field's length.
        expected: usize,
        /// What was found.
        found: usize,
    },
    /// The event log is not base64, or too long.
    #[error("cc_eventlog: {0}")]
    EventLog(String),
    /// The serial number is not text.
    #[error("serial_number is not printable text")]
    Serial,
}

/// Evidence as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvEvidence {
    /// The 16 bytes that tell the layout.
    pub magic: Vec<u8>,
    /// The flags beside them.
    pub flags: u32,
    /// The report.
    pub report: Vec<u8>,
    /// The certificates of HSK and CEK, if they were sent.
    pub hsk_cek: Option<(Vec<u8>, Vec<u8>)>,
    /// The certificate of PEK.
    pub pek: Vec<u8>,
    /// The chip's serial number.
    pub serial: String,
    /// The event log.
    pub event_log: Option<Vec<u8>>,
}

impl CsvEvidence {
    /// Reads the wire form and checks its bounds.
    pub fn parse(evidence: &Value) -> Result<Self, WireError> {
        let wire = Wire::deserialize(evidence)?;
        let event_log = wire.cc_eventlog.map(|text| event_log(&text)).transpose()?;
        let hsk_cek = wire.cert_chain.hsk_cek;
        let hsk_cek = hsk_cek.map(|pair| Ok::<_, WireError>((pair.hsk.bytes()?, pair.cek.bytes()?)));
        Ok(Self {
            magic: wire.attestation_report.magic,
            flags: wire.attestation_report.flags,
            report: wire.attestation_report.data,
            hsk_cek: hsk_cek.transpose()?,
            pek: wire.cert_chain.pek.bytes()?,
            serial: serial(&wire.serial_number)?,
            event_log,
        })
    }
}

fn event_log(text: &str) -> Result<Vec<u8>, WireError> {
    if text.len() / 4 > MAX_EVENT_LOG / 3 {
        return Err(WireError::EventLog(format!(
            "at most {MAX_EVENT_LOG} bytes, found {} of base64",
            text.len()
        )));
    }
    STANDARD.decode(text).map_err(|cause| WireError::EventLog(format!("not base64: {cause}")))
}

/// Text, with zeros behind it up to the field's length.
pub(crate) fn serial(field: &[u8]) -> Result<String, WireError> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let (text, padding) = field.split_at_checked(end).unwrap_or_default();
    let printable = text.iter().all(u8::is_ascii_graphic) && !text.is_empty() && text.len() <= 64;
    match (printable && padding.iter().all(|byte| *byte == 0), std::str::from_utf8(text)) {
        (true, Ok(text)) => Ok(text.to_owned()),
        _ => Err(WireError::Serial),
    }
}

#[derive(Deserialize)]
struct Wire {
    attestation_report: WireReport,
    cert_chain: WireChain,
    serial_number: Vec<u8>,
    #[serde(default)]
    cc_eventlog: Option<String>,
}

#[derive(Deserialize)]
struct WireReport {
    data: Vec<u8>,
    flags: u32,
    magic: Vec<u8>,
}

#[derive(Deserialize)]
struct WireChain {
    #[serde(default)]
    hsk_cek: Option<WirePair>,
    pek: WireChip,
}

#[derive(Deserialize)]
struct WirePair {
    hsk: WireCa,
    cek: WireChip,
}

#[derive(Deserialize)]
struct WireCa {
    body: CaBody,
    signature: WireSignature,
    #[serde(rename = "_reserved")]
    reserved: Vec<u8>,
}

#[derive(Deserialize)]
struct CaBody {
    preamble: CaPreamble,
    pubkey: WireKey,
    uid_size: u16,
    user_id: Vec<u8>,
    reserved: Vec<u8>,
}

#[derive(Deserialize)]
struct CaPreamble {
    ver: u32,
    data: CaData,
}

#[derive(Deserialize)]
struct CaData {
    kid: Vec<u8>,
    sid: Vec<u8>,
    usage: u32,
    reserved: Vec<u8>,
}

#[derive(Deserialize)]
struct WireKey {
    g: u32,
    x: Vec<u8>,
    y: Vec<u8>,
}

#[derive(Deserialize)]
struct WireSignature {
    r: Vec<u8>,
    s: Vec<u8>,
}

#[derive(Deserialize)]
struct WireChip {
    body: ChipBody,
    sigs: Vec<WireSlot>,
}

#[derive(Deserialize)]
struct ChipBody {
    ver: u32,
    data: ChipData,
}

#[derive(Deserialize)]
struct ChipData {
    firmware: WireVersion,
    reserved1: u16,
    pubkey: ChipKey,
    uid_size: u16,
    user_id: Vec<u8>,
    sid: Vec<u8>,
    reserved2: Vec<u8>,
}

#[derive(Deserialize)]
struct WireVersion {
    major: u8,
    minor: u8,
}

#[derive(Deserialize)]
struct ChipKey {
    usage: u32,
    algo: u32,
    key: WireKey,
}

#[derive(Deserialize)]
struct WireSlot {
    usage: u32,
    algo: u32,
    signature: WireSignature,
    #[serde(rename = "_reserved")]
    reserved: Vec<u8>,
}

/// Bytes of a layout, each field with its length checked.
#[derive(Default)]
struct Layout(Vec<u8>);

impl Layout {
    fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn short(mut self, number: u16) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn field(mut self, member: &'static str, bytes: &[u8], expected: usize) -> Result<Self, WireError> {
        match bytes.len() == expected {
            true => {
                self.0.extend_from_slice(bytes);
                Ok(self)
            }
            false => Err(WireError::Length { member, expected, found: bytes.len() }),
        }
    }

    fn key(self, key: &WireKey) -> Result<Self, WireError> {
        self.number(key.g).field("pubkey.x", &key.x, 72)?.field("pubkey.y", &key.y, 72)
    }

    fn signature(self, signature: &WireSignature) -> Result<Self, WireError> {
        self.field("signature.r", &signature.r, 72)?.field("signature.s", &signature.s, 72)
    }

    fn finish(self, member: &'static str, expected: usize) -> Result<Vec<u8>, WireError> {
        match self.0.len() == expected {
            true => Ok(self.0),
            false => Err(WireError::Length { member, expected, found: self.0.len() }),
        }
    }
}

impl WireCa {
    fn bytes(&self) -> Result<Vec<u8>, WireError> {
        let (body, data) = (&self.body, &self.body.preamble.data);
        Layout::default()
            .number(body.preamble.ver)
            .field("kid", &data.kid, 16)?
            .field("sid", &data.sid, 16)?
            .number(data.usage)
            .field("preamble.reserved", &data.reserved, 24)?
            .key(&body.pubkey)?
            .short(body.uid_size)
            .field("user_id", &body.user_id, 254)?
            .field("reserved", &body.reserved, 108)?
            .signature(&self.signature)?
            .field("_reserved", &self.reserved, 112)?
            .finish("hsk", CA_LEN)
    }
}

impl WireChip {
    fn bytes(&self) -> Result<Vec<u8>, WireError> {
        let data = &self.body.data;
        let mut layout = Layout::default()
            .number(self.body.ver)
            .field("firmware", &[data.firmware.major, data.firmware.minor], 2)?
            .short(data.reserved1)
            .number(data.pubkey.usage)
            .number(data.pubkey.algo)
            .key(&data.pubkey.key)?
            .short(data.uid_size)
            .field("user_id", &data.user_id, 254)?
            .field("sid", &data.sid, 16)?
            .field("reserved2", &data.reserved2, 608)?;
        for slot in &self.sigs {
            layout = layout.number(slot.usage).number(slot.algo).signature(&slot.signature)?.field(
                "_reserved",
                &slot.reserved,
                368,
            )?;
        }
        layout.finish("a certificate with two signatures", CHIP_LEN)
    }
}
