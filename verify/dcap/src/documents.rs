//! Intel's signed documents: TCB info (versions 2 and 3) and enclave identities (version 2), in JSON
//! (Intel PCS API version 4).

use std::collections::BTreeMap;

use coffer_verify_api::{TcbStatus, Timestamp};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of this form.
    #[error("not the JSON of such a document: {0}")]
    Json(#[from] serde_json::Error),
    /// Another document.
    #[error("the document has no {0}")]
    Form(&'static str),
    /// A value that cannot stand there.
    #[error("{0}")]
    Content(String),
}

/// When a document was issued and when the next one is due, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// When it was issued.
    pub issued: i64,
    /// When the next one is due.
    pub next_update: i64,
}

/// Reads a TCB info or an enclave's identity, as Intel's service answers, for its dates. The signature is not checked:
/// for whoever keeps documents and wants to know when to ask again.
pub fn document_dates(body: &[u8]) -> Result<Dates, DocumentError> {
    if let Ok((signed, _)) = tcb_info(body) {
        let info = TcbInfo::parse(signed)?;
        return Ok(Dates { issued: info.issued, next_update: info.next_update });
    }
    let identity = Identity::parse(enclave_identity(body)?.0)?;
    Ok(Dates { issued: identity.issued, next_update: identity.next_update })
}

/// What Intel's services answer: the document, and the signature over its bytes.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    tcb_info: Option<&'a RawValue>,
    #[serde(borrow, rename = "enclaveIdentity")]
    enclave_identity: Option<&'a RawValue>,
    signature: Hex<64>,
}

/// The signed bytes, and the signature.
pub(crate) type Opened<'a> = (&'a [u8], [u8; 64]);

/// The signed bytes of a TCB info, and the signature.
pub(crate) fn tcb_info(body: &[u8]) -> Result<Opened<'_>, DocumentError> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)?;
    let signed = envelope.tcb_info.ok_or(DocumentError::Form("tcbInfo"))?;
    Ok((signed.get().as_bytes(), envelope.signature.0))
}

/// The signed bytes of an enclave's identity, and the signature.
pub(crate) fn enclave_identity(body: &[u8]) -> Result<Opened<'_>, DocumentError> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)?;
    let signed = envelope.enclave_identity.ok_or(DocumentError::Form("enclaveIdentity"))?;
    Ok((signed.get().as_bytes(), envelope.signature.0))
}

/// Octets in hexadecimal, of either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hex<const N: usize>(pub(crate) [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut octets = [0; N];
        hex::decode_to_slice(text.as_bytes(), &mut octets).map_err(|_| {
            D::Error::custom(format_args!("expected {N} octets in hexadecimal, found {text:?}"))
        })?;
        Ok(Self(octets))
    }
}

/// A security version of eight bits. Intel's sample documents have some with their sign extended to sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Svn(pub(crate) u8);

impl Svn {
    fn new(number: u64) -> Option<Self> {
        match number {
            0..=0xff => u8::try_from(number).ok(),
            0xff80..=0xffff => u8::try_from(number & 0xff).ok(),
            _ => None,
        }
        .map(Self)
    }
}

impl<'de> Deserialize<'de> for Svn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| D::Error::custom(format_args!("{number} is no security version")))
    }
}

#[derive(Deserialize)]
struct Component {
    svn: Svn,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Tcb {
    /// Version 3.
    Lists {
        sgxtcbcomponents: Vec<Component>,
        #[serde(default)]
        tdxtcbcomponents: Option<Vec<Component>>,
        pcesvn: u16,
    },
    /// Version 2: `sgxtcbcomp01svn` to `sgxtcbcomp16svn`, and `pcesvn`.
    Names(BTreeMap<String, u64>),
}

/// A TCB level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) sgx: [u8; 16],
    pub(crate) pce_svn: u16,
    pub(crate) tdx: Option<[u8; 16]>,
    pub(crate) grade: Grade,
}

/// What Intel says of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grade {
    pub(crate) status: TcbStatus,
    pub(crate) date: Timestamp,
    pub(crate) advisories: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LevelForm<T> {
    tcb: T,
    tcb_date: Timestamp,
    tcb_status: TcbStatus,
    #[serde(rename = "advisoryIDs", default)]
    advisory_ids: Vec<String>,
}

#[derive(Deserialize)]
struct IsvSvn {
    isvsvn: u16,
}

/// A level of an enclave or module: its security version, and what Intel says of it.
pub(crate) type IsvLevel = (u16, Grade);

/// Who makes TDX modules, and what attributes they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) mr_signer: [u8; 48],
    pub(crate) attributes: [u8; 8],
    pub(crate) mask: [u8; 8],
    pub(crate) levels: Vec<IsvLevel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleForm {
    #[serde(default)]
    id: Option<String>,
    mrsigner: Hex<48>,
    attributes: Hex<8>,
    attributes_mask: Hex<8>,
    #[serde(default)]
    tcb_levels: Vec<LevelForm<IsvSvn>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfoForm {
    #[serde(default)]
    id: Option<String>,
    version: u32,
    issue_date: Timestamp,
    next_update: Timestamp,
    fmspc: Hex<6>,
    pce_id: Hex<2>,
    tcb_type: u32,
    #[serde(default)]
    tcb_evaluation_data_number: u32,
    #[serde(default)]
    tdx_module: Option<ModuleForm>,
    #[serde(default)]
    tdx_module_identities: Vec<ModuleForm>,
    tcb_levels: Vec<LevelForm<Tcb>>,
}

/// A TCB info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcbInfo {
    pub(crate) is_tdx: bool,
    pub(crate) issued: i64,
    pub(crate) next_update: i64,
    pub(crate) fmspc: [u8; 6],
    pub(crate) pce_id: [u8; 2],
    pub(crate) evaluation: u32,
    pub(crate) module: Option<Module>,
    /// By the module's major version.
    pub(crate) modules: BTreeMap<u8, Module>,
    /// The highest first.
    pub(crate) levels: Vec<Level>,
}

impl TcbInfo {
    pub(crate) fn parse(signed: &[u8]) -> Result<Self, DocumentError> {
        let form: TcbInfoForm = serde_json::from_slice(signed)?;
        let is_tdx = match (form.version, form.id.as_deref()) {
            (2, None | Some("SGX")) | (3, Some("SGX")) => false,
            (3, Some("TDX")) => true,
            (version, id) => {
                return Err(content(format!("version {version} with the id {id:?} is not known")));
            }
        };
        if form.tcb_type != 0 {
            return Err(content(format!("tcbType {} is not known; expected 0", form.tcb_type)));
        }
        let mut levels = Vec::new();
        for level in form.tcb_levels {
            let (sgx, tdx, pce_svn) = components(level.tcb)?;
            if is_tdx && tdx.is_none() {
                return Err(content("a level has no tdxtcbcomponents".into()));
            }
            let grade = grade(level.tcb_status, level.tcb_date, level.advisory_ids, LEVELS)?;
            levels.push(Level { sgx, pce_svn, tdx, grade });
        }
        // Intel's library does not rely on the order in the document either.
        levels.sort_by(|one, other| {
            (other.sgx, other.pce_svn, other.tdx).cmp(&(one.sgx, one.pce_svn, one.tdx))
        });
        let modules = modules(form.tdx_module_identities)?;
        let module = form.tdx_module.map(module).transpose()?;
        if is_tdx && module.is_none() {
            return Err(content("tdxModule is missing".into()));
        }
        Ok(Self {
            is_tdx,
            issued: form.issue_date.as_second(),
            next_update: form.next_update.as_second(),
            fmspc: form.fmspc.0,
            pce_id: form.pce_id.0,
            evaluation: form.tcb_evaluation_data_number,
            module,
            modules,
            levels,
        })
    }
}

fn content(why: String) -> DocumentError {
    DocumentError::Content(why)
}

const LEVELS: &[TcbStatus] = &[
    TcbStatus::UpToDate,
    TcbStatus::SWHardeningNeeded,
    TcbStatus::ConfigurationNeeded,
    TcbStatus::ConfigurationAndSWHardeningNeeded,
    TcbStatus::OutOfDate,
    TcbStatus::OutOfDateConfigurationNeeded,
    TcbStatus::Revoked,
];
const MODULE_LEVELS: &[TcbStatus] = &[TcbStatus::UpToDate, TcbStatus::OutOfDate, TcbStatus::Revoked];
const ENCLAVE_LEVELS: &[TcbStatus] = &[
    TcbStatus::UpToDate,
    TcbStatus::ConfigurationNeeded,
    TcbStatus::OutOfDate,
    TcbStatus::OutOfDateConfigurationNeeded,
    TcbStatus::Revoked,
];

fn grade(
    status: TcbStatus,
    date: Timestamp,
    advisories: Vec<String>,
    known: &[TcbStatus],
) -> Result<Grade, DocumentError> {
    match known.contains(&status) {
        true => Ok(Grade { status, date, advisories }),
        false => Err(content(format!("the status {status} cannot stand there"))),
    }
}

type Components = ([u8; 16], Option<[u8; 16]>, u16);

fn components(tcb: Tcb) -> Result<Components, DocumentError> {
    let sixteen = |list: Vec<Component>| {
        let list: Vec<u8> = list.iter().map(|component| component.svn.0).collect();
        <[u8; 16]>::try_from(list).map_err(|list| content(format!("{} components; expected 16", list.len())))
    };
    match tcb {
        Tcb::Lists { sgxtcbcomponents, tdxtcbcomponents, pcesvn } => {
            Ok((sixteen(sgxtcbcomponents)?, tdxtcbcomponents.map(sixteen).transpose()?, pcesvn))
        }
        Tcb::Names(names) => {
            let get = |name: &str| names.get(name).ok_or_else(|| content(format!("{name} is missing")));
            let mut sgx = [0; 16];
            for (component, number) in sgx.iter_mut().zip(1_u8..) {
                let svn = *get(&format!("sgxtcbcomp{number:02}svn"))?;
                *component = Svn::new(svn).ok_or_else(|| content(format!("{svn} is no security version")))?.0;
            }
            let pce_svn =
                u16::try_from(*get("pcesvn")?).map_err(|_| content("pcesvn is too great".into()))?;
            Ok((sgx, None, pce_svn))
        }
    }
}

fn isv_levels(levels: Vec<LevelForm<IsvSvn>>, known: &[TcbStatus]) -> Result<Vec<IsvLevel>, DocumentError> {
    let one = |level: LevelForm<IsvSvn>| {
        let grade = grade(level.tcb_status, level.tcb_date, level.advisory_ids, known)?;
        Ok((level.tcb.isvsvn, grade))
    };
    let mut levels: Vec<IsvLevel> = levels.into_iter().map(one).collect::<Result<_, DocumentError>>()?;
    levels.sort_by_key(|(svn, _)| std::cmp::Reverse(*svn));
    Ok(levels)
}

fn module(form: ModuleForm) -> Result<Module, DocumentError> {
    Ok(Module {
        mr_signer: form.mrsigner.0,
        attributes: form.attributes.0,
        mask: form.attributes_mask.0,
        levels: isv_levels(form.tcb_levels, MODULE_LEVELS)?,
    })
}

fn modules(forms: Vec<ModuleForm>) -> Result<BTreeMap<u8, Module>, DocumentError> {
    let mut modules = BTreeMap::new();
    for form in forms {
        let id = form.id.clone().unwrap_or_default();
        let digits = id.get(..4).filter(|start| start.eq_ignore_ascii_case("TDX_")).and_then(|_| id.get(4..));
        let version =
            digits.filter(|digits| digits.len() == 2).and_then(|text| u8::from_str_radix(text, 16).ok());
        let version = version.ok_or_else(|| content(format!("{id:?} names no TDX module")))?;
        if modules.insert(version, module(form)?).is_some() {
            return Err(content(format!("{id} stands there twice")));
        }
    }
    Ok(modules)
}

/// Which quoting enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum EnclaveId {
    #[serde(rename = "QE")]
    Qe,
    #[serde(rename = "TD_QE")]
    TdQe,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityForm {
    id: EnclaveId,
    version: u32,
    issue_date: Timestamp,
    next_update: Timestamp,
    #[serde(default)]
    tcb_evaluation_data_number: u32,
    miscselect: Hex<4>,
    miscselect_mask: Hex<4>,
    attributes: Hex<16>,
    attributes_mask: Hex<16>,
    mrsigner: Hex<32>,
    isvprodid: u16,
    tcb_levels: Vec<LevelForm<IsvSvn>>,
}

/// The identity of a quoting enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: EnclaveId,
    pub(crate) issued: i64,
    pub(crate) next_update: i64,
    pub(crate) evaluation: u32,
    /// As the report has it, little endian.
    pub(crate) misc_select: [u8; 4],
    pub(crate) misc_select_mask: [u8; 4],
    pub(crate) attributes: [u8; 16],
    pub(crate) attributes_mask: [u8; 16],
    pub(crate) mr_signer: [u8; 32],
    pub(crate) isv_prod_id: u16,
    pub(crate) levels: Vec<IsvLevel>,
}

impl Identity {
    pub(crate) fn parse(signed: &[u8]) -> Result<Self, DocumentError> {
        let form: IdentityForm = serde_json::from_slice(signed)?;
        // Version 3 adds members that are not needed here.
        if !matches!(form.version, 2 | 3) {
            return Err(content(format!("version {} is not known; expected 2", form.version)));
        }
        let levels = isv_levels(form.tcb_levels, ENCLAVE_LEVELS)?;
        Ok(Self {
            id: form.id,
            issued: form.issue_date.as_second(),
            next_update: form.next_update.as_second(),
            evaluation: form.tcb_evaluation_data_number,
            misc_select: form.miscselect.0,
            misc_select_mask: form.miscselect_mask.0,
            attributes: form.attributes.0,
            attributes_mask: form.attributes_mask.0,
            mr_signer: form.mrsigner.0,
            isv_prod_id: form.isvprodid,
            levels,
        })
    }
}
