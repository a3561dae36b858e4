//! The bodies of quotes: what an enclave or a trust domain is.

use super::DcapError;
use super::read::Reader;

/// An enclave's report without its MAC (Intel SDM volume 3D, section 38.15), 384 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct EnclaveReport {
    pub cpu_svn: [u8; 16],
    pub misc_select: [u8; 4],
    pub reserved1: [u8; 12],
    pub isv_ext_prod_id: [u8; 16],
    pub attributes: [u8; 16],
    pub mr_enclave: [u8; 32],
    pub reserved2: [u8; 32],
    pub mr_signer: [u8; 32],
    pub reserved3: [u8; 32],
    pub config_id: [u8; 64],
    pub isv_prod_id: u16,
    pub isv_svn: u16,
    pub config_svn: u16,
    pub reserved4: [u8; 42],
    pub isv_family_id: [u8; 16],
    pub report_data: [u8; 64],
}

impl EnclaveReport {
    /// Bytes of one.
    pub const LEN: usize = 384;
    /// `ATTRIBUTES.DEBUG`.
    const DEBUG: u8 = 1 << 1;

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, DcapError> {
        let mut reader = Reader::new("the enclave's report", bytes);
        let report = Self::read(&mut reader)?;
        reader.end()?;
        Ok(report)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DcapError> {
        Ok(Self {
            cpu_svn: reader.array("CPUSVN")?,
            misc_select: reader.array("MISCSELECT")?,
            reserved1: reader.array("a reserved field")?,
            isv_ext_prod_id: reader.array("ISVEXTPRODID")?,
            attributes: reader.array("ATTRIBUTES")?,
            mr_enclave: reader.array("MRENCLAVE")?,
            reserved2: reader.array("a reserved field")?,
            mr_signer: reader.array("MRSIGNER")?,
            reserved3: reader.array("a reserved field")?,
            config_id: reader.array("CONFIGID")?,
            isv_prod_id: reader.u16("ISVPRODID")?,
            isv_svn: reader.u16("ISVSVN")?,
            config_svn: reader.u16("CONFIGSVN")?,
            reserved4: reader.array("a reserved field")?,
            isv_family_id: reader.array("ISVFAMILYID")?,
            report_data: reader.array("REPORTDATA")?,
        })
    }

    /// Whether a debugger may read the enclave.
    pub fn is_debug(&self) -> bool {
        self.attributes.first().is_some_and(|flags| flags & Self::DEBUG != 0)
    }
}

/// A trust domain's report, as quotes hold it (Intel TDX DCAP Quoting Library API, appendix A.3.2 and A.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct TdReport {
    pub tee_tcb_svn: [u8; 16],
    pub mr_seam: [u8; 48],
    pub mr_signer_seam: [u8; 48],
    pub seam_attributes: [u8; 8],
    pub td_attributes: TdAttributes,
    pub xfam: [u8; 8],
    pub mr_td: [u8; 48],
    pub mr_config_id: [u8; 48],
    pub mr_owner: [u8; 48],
    pub mr_owner_config: [u8; 48],
    pub rtmrs: [[u8; 48]; 4],
    pub report_data: [u8; 64],
    /// What TDX 1.5 adds.
    pub td15: Option<Td15>,
    /// What the extended report of TDX 1.5 adds.
    pub td15_ex: Option<Td15Ex>,
}

/// What TDX 1.5 adds: body type 3.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Td15 {
    /// The TCB that runs now; `tee_tcb_svn` is the one that the TD was launched with.
    pub tee_tcb_svn2: [u8; 16],
    pub mr_service_td: [u8; 48],
}

/// What the extended report adds: body type 4 (`sgx_report2_body_v1_5_ex_t`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Td15Ex {
    pub vm_id: u8,
    pub td_id: [u8; 32],
    pub dev_info: [u8; 48],
    pub init_service_td_hash: [u8; 48],
    pub init_service_td_attributes: [u8; 8],
    pub init_cpu_svn: [u8; 16],
    pub init_tee_tcb_svn: [u8; 16],
    pub init_tee_fmspc: [u8; 12],
    pub cur_service_td_hash: [u8; 48],
    pub cur_service_td_attributes: [u8; 8],
}

impl TdReport {
    /// Bytes of a TDX 1.0 report.
    pub const LEN: usize = 584;
    /// Bytes of a TDX 1.5 report.
    pub const LEN_15: usize = 648;
    /// Bytes of an extended TDX 1.5 report.
    pub const LEN_15_EX: usize = 885;

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DcapError> {
        Ok(Self {
            tee_tcb_svn: reader.array("TEE_TCB_SVN")?,
            mr_seam: reader.array("MRSEAM")?,
            mr_signer_seam: reader.array("MRSIGNERSEAM")?,
            seam_attributes: reader.array("SEAMATTRIBUTES")?,
            td_attributes: TdAttributes(reader.array("TDATTRIBUTES")?),
            xfam: reader.array("XFAM")?,
            mr_td: reader.array("MRTD")?,
            mr_config_id: reader.array("MRCONFIGID")?,
            mr_owner: reader.array("MROWNER")?,
            mr_owner_config: reader.array("MROWNERCONFIG")?,
            rtmrs: [
                reader.array("RTMR0")?,
                reader.array("RTMR1")?,
                reader.array("RTMR2")?,
                reader.array("RTMR3")?,
            ],
            report_data: reader.array("REPORTDATA")?,
            td15: None,
            td15_ex: None,
        })
    }

    pub(super) fn read_15(reader: &mut Reader<'_>) -> Result<Self, DcapError> {
        let report = Self::read(reader)?;
        let added = Td15 {
            tee_tcb_svn2: reader.array("TEE_TCB_SVN_2")?,
            mr_service_td: reader.array("MRSERVICETD")?,
        };
        Ok(Self { td15: Some(added), ..report })
    }

    pub(super) fn read_15_ex(reader: &mut Reader<'_>) -> Result<Self, DcapError> {
        let report = Self::read_15(reader)?;
        let [vm_id] = reader.array("VM_ID")?;
        let added = Td15Ex {
            vm_id,
            td_id: reader.array("TD_ID")?,
            dev_info: reader.array("DEV_INFO")?,
            init_service_td_hash: reader.array("INIT_SERVTD_HASH")?,
            init_service_td_attributes: reader.array("INIT_SERVTD_ATTRIBUTES")?,
            init_cpu_svn: reader.array("INIT_CPU_SVN")?,
            init_tee_tcb_svn: reader.array("INIT_TEE_TCB_SVN")?,
            init_tee_fmspc: reader.array("INIT_TEE_FMSPC")?,
            cur_service_td_hash: reader.array("CUR_SERVTD_HASH")?,
            cur_service_td_attributes: reader.array("CUR_SERVTD_ATTRIBUTES")?,
        };
        Ok(Self { td15_ex: Some(added), ..report })
    }

    /// Whether a service TD is bound to this TD, or may be.
    pub fn has_service_td(&self) -> bool {
        let named = self.td15.as_ref().is_some_and(|td15| td15.mr_service_td != [0; 48]);
        let bound = self
            .td15_ex
            .as_ref()
            .is_some_and(|ex| ex.init_service_td_hash != [0; 48] || ex.cur_service_td_hash != [0; 48]);
        named || bound || self.td_attributes.has(TdAttributes::SERVTD_EXT)
    }
}

/// `ATTRIBUTES` of a TD (Intel TDX Module ABI specification 348551, table 3.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdAttributes(pub [u8; 8]);

#[allow(missing_docs, reason = "the names are the specification's")]
impl TdAttributes {
    /// The TUD group: with any bit of it set, the TD cannot be trusted.
    pub const TUD: u64 = 0xff;
    pub const DEBUG: u64 = 1;
    pub const ICSSD: u64 = 1 << 16;
    pub const SERVTD_EXT: u64 = 1 << 17;
    pub const LASS: u64 = 1 << 27;
    pub const SEPT_VE_DISABLE: u64 = 1 << 28;
    pub const MIGRATABLE: u64 = 1 << 29;
    pub const PKS: u64 = 1 << 30;
    pub const KL: u64 = 1 << 31;
    pub const TPA: u64 = 1 << 62;
    pub const PERFMON: u64 = 1 << 63;
    /// Bits that the specification has a verifier refuse: 1 to 3, 7 to 15, 23 to 26, 32 to 61.
    pub const RESERVED: u64 = 0x3fff_ffff_0780_ff8e;

    /// The bits as a number.
    pub const fn bits(self) -> u64 {
        u64::from_le_bytes(self.0)
    }

    /// Whether any of these bits is set.
    pub const fn has(self, bits: u64) -> bool {
        self.bits() & bits != 0
    }
}

/// `TDREPORT_STRUCT`, which a TD gets from its module without a quote: MAC-protected for the same machine only
/// (Intel TDX Module ABI specification 348551, "TDREPORT_STRUCT"), 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct LocalTdReport {
    pub report_data: [u8; 64],
    pub td_attributes: TdAttributes,
    pub xfam: [u8; 8],
    pub mr_td: [u8; 48],
    pub mr_config_id: [u8; 48],
    pub mr_owner: [u8; 48],
    pub mr_owner_config: [u8; 48],
    pub rtmrs: [[u8; 48]; 4],
}

impl LocalTdReport {
    /// Bytes of one.
    pub const LEN: usize = 1024;
    /// `REPORTMACSTRUCT.REPORTTYPE.TYPE` of a TD.
    const TD: u8 = 0x81;

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, DcapError> {
        let mut reader = Reader::new("the TDREPORT", bytes);
        let [kind, ..]: [u8; 4] = reader.array("REPORTTYPE")?;
        if kind != Self::TD {
            return Err(DcapError::TeeType { version: 0, found: kind.into() });
        }
        // Reserved 12, CPUSVN 16, two hashes of 48.
        reader.take("REPORTMACSTRUCT", 124)?;
        let report_data = reader.array("REPORTDATA")?;
        // Reserved 32, MAC 32; then TEE_TCB_INFO 239 and reserved 17.
        reader.take("the MAC and TEE_TCB_INFO", 320)?;
        let report = Self {
            report_data,
            td_attributes: TdAttributes(reader.array("ATTRIBUTES")?),
            xfam: reader.array("XFAM")?,
            mr_td: reader.array("MRTD")?,
            mr_config_id: reader.array("MRCONFIGID")?,
            mr_owner: reader.array("MROWNER")?,
            mr_owner_config: reader.array("MROWNERCONFIG")?,
            rtmrs: [
                reader.array("RTMR0")?,
                reader.array("RTMR1")?,
                reader.array("RTMR2")?,
                reader.array("RTMR3")?,
            ],
        };
        reader.take("a reserved field", 112)?;
        reader.end()?;
        Ok(report)
    }
}
