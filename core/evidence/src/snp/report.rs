//! The attestation report (Firmware ABI, table 23), read field by field from its 1184 bytes.

use super::SnpError;

/// The length of a report with its signature.
pub const REPORT_LENGTH: usize = 1184;
/// The length of what the signature covers.
pub const SIGNED_LENGTH: usize = 0x2a0;

/// Where each field begins.
pub(super) mod at {
    pub(crate) const VERSION: usize = 0;
    pub(crate) const GUEST_SVN: usize = 4;
    pub(crate) const POLICY: usize = 8;
    pub(crate) const FAMILY_ID: usize = 0x10;
    pub(crate) const IMAGE_ID: usize = 0x20;
    pub(crate) const VMPL: usize = 0x30;
    pub(crate) const SIGNATURE_ALGORITHM: usize = 0x34;
    pub(crate) const CURRENT_TCB: usize = 0x38;
    pub(crate) const PLATFORM_INFO: usize = 0x40;
    pub(crate) const KEY_INFO: usize = 0x48;
    pub(crate) const RESERVED_0: usize = 0x4c;
    pub(crate) const REPORT_DATA: usize = 0x50;
    pub(crate) const MEASUREMENT: usize = 0x90;
    pub(crate) const HOST_DATA: usize = 0xc0;
    pub(crate) const ID_KEY_DIGEST: usize = 0xe0;
    pub(crate) const AUTHOR_KEY_DIGEST: usize = 0x110;
    pub(crate) const REPORT_ID: usize = 0x140;
    pub(crate) const REPORT_ID_MA: usize = 0x160;
    pub(crate) const REPORTED_TCB: usize = 0x180;
    pub(crate) const CPUID: usize = 0x188;
    pub(crate) const CHIP_ID: usize = 0x1a0;
    pub(crate) const COMMITTED_TCB: usize = 0x1e0;
    pub(crate) const CURRENT_VERSION: usize = 0x1e8;
    pub(crate) const COMMITTED_VERSION: usize = 0x1ec;
    pub(crate) const LAUNCH_TCB: usize = 0x1f0;
    pub(crate) const LAUNCH_MITIGATIONS: usize = 0x1f8;
    pub(crate) const CURRENT_MITIGATIONS: usize = 0x200;
    pub(crate) const SIGNATURE_R: usize = 0x2a0;
    pub(crate) const SIGNATURE_S: usize = 0x2e8;
}

/// AMD's family 1Ah, from which on `TCB_VERSION` begins with the FMC's version (Firmware ABI, table 3).
pub(super) const FAMILY_TURIN: u8 = 0x1a;

/// A report of a version whose layout is known. Whether it is genuine is for `verify/snp` to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    bytes: Box<[u8; REPORT_LENGTH]>,
    layout: TcbLayout,
}

/// The two layouts of `TCB_VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcbLayout {
    /// Milan and Genoa: bootloader, TEE, four reserved bytes, SNP, microcode.
    Legacy,
    /// Turin: FMC, bootloader, TEE, SNP, three reserved bytes, microcode.
    Turin,
}

/// Security versions of the platform's firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tcb {
    /// The firmware of the FMC; only in Turin's layout.
    pub fmc: Option<u8>,
    /// The boot loader.
    pub bootloader: u8,
    /// The operating system of the security processor.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// The microcode.
    pub microcode: u8,
}

impl Tcb {
    /// Reads the eight bytes of a layout.
    pub const fn read(bytes: [u8; 8], layout: TcbLayout) -> Self {
        let [b0, b1, b2, b3, _, _, b6, microcode] = bytes;
        match layout {
            TcbLayout::Legacy => Self { fmc: None, bootloader: b0, tee: b1, snp: b6, microcode },
            TcbLayout::Turin => Self { fmc: Some(b0), bootloader: b1, tee: b2, snp: b3, microcode },
        }
    }

    /// The eight bytes in a layout, with zeros where it is reserved.
    pub fn bytes(&self, layout: TcbLayout) -> [u8; 8] {
        let Self { fmc, bootloader, tee, snp, microcode } = *self;
        match layout {
            TcbLayout::Legacy => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            TcbLayout::Turin => [fmc.unwrap_or(0), bootloader, tee, snp, 0, 0, 0, microcode],
        }
    }

    /// The components by name, in the order in which they are loaded.
    pub fn components(&self) -> impl Iterator<Item = (&'static str, u8)> + use<> {
        let fmc = self.fmc.map(|fmc| ("fmc", fmc));
        let others = [
            ("bootloader", self.bootloader),
            ("tee", self.tee),
            ("snp", self.snp),
            ("microcode", self.microcode),
        ];
        fmc.into_iter().chain(others)
    }

    /// Whether no component is newer than in `other`.
    pub fn is_at_most(&self, other: &Self) -> bool {
        self.components().zip(other.components()).all(|((_, own), (_, their))| own <= their)
    }
}

impl std::fmt::Display for Tcb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (name, version)) in self.components().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{name} {version}")?;
        }
        Ok(())
    }
}

/// The processor, from version 3 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// Family and extended family.
    pub family: u8,
    /// Model and extended model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// A version of the firmware's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// Which key the firmware says it signed with (`SIGNING_KEY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// The chip's own key.
    Vcek,
    /// The key that a cloud provider loaded.
    Vlek,
    /// The report is not signed.
    None,
    /// A value that is reserved.
    Reserved(u8),
}

impl Report {
    /// Takes a report. Its length must be the one, its version one of 2 to 5.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnpError> {
        let bytes: Box<[u8; REPORT_LENGTH]> =
            Box::new(bytes.try_into().map_err(|_| SnpError::Length(bytes.len()))?);
        let mut report = Self { bytes, layout: TcbLayout::Legacy };
        match report.version() {
            2..=5 => {}
            other => return Err(SnpError::Version(other)),
        }
        let turin = match report.cpuid() {
            Some(cpuid) => cpuid.family >= FAMILY_TURIN,
            // Version 2 names no processor. A chip of Turin has an id of eight bytes, older ones of 64.
            None => {
                let (short, rest) = report.chip_id().split_at(8);
                short != [0; 8] && rest.iter().all(|byte| *byte == 0)
            }
        };
        if turin {
            report.layout = TcbLayout::Turin;
        }
        Ok(report)
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8; REPORT_LENGTH] {
        &self.bytes
    }

    /// The bytes that the signature covers.
    pub fn signed(&self) -> &[u8] {
        self.bytes.first_chunk::<SIGNED_LENGTH>().map_or(&[], |signed| signed)
    }

    /// The field of `N` bytes. Every offset in [`at`] lies so that the field is inside; one that did not would read
    /// as zeros.
    fn field<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(&[0; N])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.field(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.field(at))
    }

    fn bit(number: u32, field: u64) -> bool {
        field.checked_shr(number).unwrap_or(0) & 1 == 1
    }

    /// `VERSION`.
    pub fn version(&self) -> u32 {
        self.u32(at::VERSION)
    }

    /// `GUEST_SVN`.
    pub fn guest_svn(&self) -> u32 {
        self.u32(at::GUEST_SVN)
    }

    /// `POLICY` (table 10).
    pub fn policy(&self) -> u64 {
        self.u64(at::POLICY)
    }

    /// The least minor version of the interface that the guest wants.
    pub fn policy_abi_minor(&self) -> u8 {
        self.field::<8>(at::POLICY)[0]
    }

    /// The least major version of the interface that the guest wants.
    pub fn policy_abi_major(&self) -> u8 {
        self.field::<8>(at::POLICY)[1]
    }

    /// Whether the policy allows two threads on a core.
    pub fn smt_allowed(&self) -> bool {
        Self::bit(16, self.policy())
    }

    /// Whether the policy allows a migration agent.
    pub fn migration_allowed(&self) -> bool {
        Self::bit(18, self.policy())
    }

    /// Whether the policy allows the host to debug the guest.
    pub fn debug_allowed(&self) -> bool {
        Self::bit(19, self.policy())
    }

    /// Whether the policy keeps the guest on one socket.
    pub fn single_socket(&self) -> bool {
        Self::bit(20, self.policy())
    }

    /// Whether the policy allows devices and memory over CXL.
    pub fn cxl_allowed(&self) -> bool {
        Self::bit(21, self.policy())
    }

    /// Whether the policy asks for AES-256-XTS.
    pub fn aes_256_xts_required(&self) -> bool {
        Self::bit(22, self.policy())
    }

    /// Whether the policy asks that power is not measured.
    pub fn rapl_disable_required(&self) -> bool {
        Self::bit(23, self.policy())
    }

    /// Whether the policy asks that ciphertext is hidden from the host.
    pub fn ciphertext_hiding_required(&self) -> bool {
        Self::bit(24, self.policy())
    }

    /// Whether the policy forbids to move and swap pages.
    pub fn page_swap_disabled(&self) -> bool {
        Self::bit(25, self.policy())
    }

    /// `FAMILY_ID`.
    pub fn family_id(&self) -> &[u8; 16] {
        self.field(at::FAMILY_ID)
    }

    /// `IMAGE_ID`.
    pub fn image_id(&self) -> &[u8; 16] {
        self.field(at::IMAGE_ID)
    }

    /// `VMPL`: the privilege level that asked.
    pub fn vmpl(&self) -> u32 {
        self.u32(at::VMPL)
    }

    /// `SIGNATURE_ALGO` (table 139): 1 is ECDSA on P-384 with SHA-384.
    pub fn signature_algorithm(&self) -> u32 {
        self.u32(at::SIGNATURE_ALGORITHM)
    }

    /// `PLATFORM_INFO` (table 24).
    pub fn platform_info(&self) -> u64 {
        self.u64(at::PLATFORM_INFO)
    }

    /// Whether two threads run on a core.
    pub fn smt_enabled(&self) -> bool {
        Self::bit(0, self.platform_info())
    }

    /// Whether all memory is encrypted beside the guests'.
    pub fn tsme_enabled(&self) -> bool {
        Self::bit(1, self.platform_info())
    }

    /// Whether the memory corrects errors.
    pub fn ecc_enabled(&self) -> bool {
        Self::bit(2, self.platform_info())
    }

    /// Whether power is not measured.
    pub fn rapl_disabled(&self) -> bool {
        Self::bit(3, self.platform_info())
    }

    /// Whether ciphertext is hidden from the host.
    pub fn ciphertext_hiding_enabled(&self) -> bool {
        Self::bit(4, self.platform_info())
    }

    /// Whether memory was found free of aliases since the last reset.
    pub fn alias_check_complete(&self) -> bool {
        Self::bit(5, self.platform_info())
    }

    /// Whether trusted devices are enabled.
    pub fn tio_enabled(&self) -> bool {
        Self::bit(7, self.platform_info())
    }

    /// The word that holds `AUTHOR_KEY_EN`, `MASK_CHIP_KEY` and `SIGNING_KEY`.
    pub fn key_info(&self) -> u32 {
        self.u32(at::KEY_INFO)
    }

    /// Whether an author key certified the id key.
    pub fn author_key_enabled(&self) -> bool {
        self.key_info() & 1 == 1
    }

    /// Whether the firmware may not sign with the chip's key.
    pub fn mask_chip_key(&self) -> bool {
        self.key_info() >> 1 & 1 == 1
    }

    /// The key that signed.
    pub fn signing_key(&self) -> SigningKey {
        match self.field::<4>(at::KEY_INFO)[0] >> 2 & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            other => SigningKey::Reserved(other),
        }
    }

    /// `REPORT_DATA`: what the guest asked to be signed.
    pub fn report_data(&self) -> &[u8; 64] {
        self.field(at::REPORT_DATA)
    }

    /// `MEASUREMENT`: the launch digest.
    pub fn measurement(&self) -> &[u8; 48] {
        self.field(at::MEASUREMENT)
    }

    /// `HOST_DATA`: what the host bound at launch.
    pub fn host_data(&self) -> &[u8; 32] {
        self.field(at::HOST_DATA)
    }

    /// `ID_KEY_DIGEST`.
    pub fn id_key_digest(&self) -> &[u8; 48] {
        self.field(at::ID_KEY_DIGEST)
    }

    /// `AUTHOR_KEY_DIGEST`.
    pub fn author_key_digest(&self) -> &[u8; 48] {
        self.field(at::AUTHOR_KEY_DIGEST)
    }

    /// `REPORT_ID`.
    pub fn report_id(&self) -> &[u8; 32] {
        self.field(at::REPORT_ID)
    }

    /// `REPORT_ID_MA`: the id of the migration agent; all ones if there is none.
    pub fn report_id_ma(&self) -> &[u8; 32] {
        self.field(at::REPORT_ID_MA)
    }

    /// The processor; version 2 does not say.
    pub fn cpuid(&self) -> Option<Cpuid> {
        let [family, model, stepping] = *self.field(at::CPUID);
        (self.version() >= 3).then_some(Cpuid { family, model, stepping })
    }

    /// `CHIP_ID`: zeros if the host masks it.
    pub fn chip_id(&self) -> &[u8; 64] {
        self.field(at::CHIP_ID)
    }

    /// The chip id as the maker's key service names the chip: eight bytes for Turin, 64 before; none if masked.
    pub fn chip(&self) -> Option<&[u8]> {
        let id = self.chip_id();
        let id = match self.layout {
            TcbLayout::Turin => id.get(..8)?,
            TcbLayout::Legacy => id,
        };
        id.iter().any(|byte| *byte != 0).then_some(id)
    }

    /// The layout of the four TCB versions.
    pub const fn tcb_layout(&self) -> TcbLayout {
        self.layout
    }

    fn tcb(&self, at: usize) -> Tcb {
        Tcb::read(*self.field(at), self.layout)
    }

    /// `CURRENT_TCB`: what runs.
    pub fn current_tcb(&self) -> Tcb {
        self.tcb(at::CURRENT_TCB)
    }

    /// `REPORTED_TCB`: what the signing key was derived for.
    pub fn reported_tcb(&self) -> Tcb {
        self.tcb(at::REPORTED_TCB)
    }

    /// The reported TCB as one little-endian number.
    pub fn reported_tcb_raw(&self) -> u64 {
        self.u64(at::REPORTED_TCB)
    }

    /// `COMMITTED_TCB`: what cannot be rolled back.
    pub fn committed_tcb(&self) -> Tcb {
        self.tcb(at::COMMITTED_TCB)
    }

    /// `LAUNCH_TCB`: what ran when the guest was launched.
    pub fn launch_tcb(&self) -> Tcb {
        self.tcb(at::LAUNCH_TCB)
    }

    fn firmware(&self, at: usize) -> Version {
        let [build, minor, major] = *self.field(at);
        Version { major, minor, build }
    }

    /// The firmware's version.
    pub fn current_version(&self) -> Version {
        self.firmware(at::CURRENT_VERSION)
    }

    /// The version below which the firmware cannot be rolled back.
    pub fn committed_version(&self) -> Version {
        self.firmware(at::COMMITTED_VERSION)
    }

    /// `LAUNCH_MIT_VECTOR`, from version 5 on.
    pub fn launch_mitigations(&self) -> Option<u64> {
        (self.version() >= 5).then(|| self.u64(at::LAUNCH_MITIGATIONS))
    }

    /// `CURRENT_MIT_VECTOR`, from version 5 on.
    pub fn current_mitigations(&self) -> Option<u64> {
        (self.version() >= 5).then(|| self.u64(at::CURRENT_MITIGATIONS))
    }

    /// The signature's `r`, little-endian in 72 bytes (table 140).
    pub fn signature_r(&self) -> &[u8; 72] {
        self.field(at::SIGNATURE_R)
    }

    /// The signature's `s`, little-endian in 72 bytes.
    pub fn signature_s(&self) -> &[u8; 72] {
        self.field(at::SIGNATURE_S)
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Report(version {}, measurement {})", self.version(), hex::encode(self.measurement()))
    }
}
