//! What each platform calls its registers, where it puts the digest of init-data, and which registers nobody may
//! leave open.
//!
//! SPEC: init-data is placed as the KBS ecosystem places it: cut or padded with zeros to the platform's field, or
//! extended into PCR 8. A field that is no hash of its own (HOST_DATA, CONFIGID) is written as a digest of the
//! algorithm that has its length.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::init_data_in_bank;

/// The register's name for an index of the event log: `pcr4`, or `rtmr0` for a CCEL's 1.
pub fn register_name(platform: Tee, index: u32) -> Option<String> {
    match platform {
        Tee::Tpm | Tee::AzSnpVtpm | Tee::AzTdxVtpm => Some(format!("pcr{index}")),
        // SPEC: UEFI 2.10, section 38.4.1: the log's index 0 is MRTD (RIM), and 1 to 4 are the runtime registers.
        Tee::Tdx => runtime_register("rtmr", index),
        Tee::Cca => runtime_register("rem", index),
        _ => None,
    }
}

fn runtime_register(prefix: &str, index: u32) -> Option<String> {
    let number = index.checked_sub(1).filter(|number| *number < 4)?;
    Some(format!("{prefix}{number}"))
}

/// The index in the event log for a register's name; none for a register that no log leads to.
pub fn register_index(platform: Tee, name: &str) -> Option<u32> {
    let digits = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits.parse().ok()?;
    [number, number.checked_add(1)?]
        .into_iter()
        .find(|index| register_name(platform, *index).as_deref() == Some(name))
}

/// The register that binds init-data, if the platform has one.
pub const fn init_data_register(platform: Tee) -> Option<&'static str> {
    match platform {
        Tee::Tpm | Tee::AzSnpVtpm | Tee::AzTdxVtpm => Some("pcr8"),
        Tee::Tdx => Some("mrconfigid"),
        Tee::Snp => Some("host-data"),
        Tee::Sgx => Some("configid"),
        Tee::Cca => Some("rpv"),
        // No field at launch: the enclave itself extends and locks it, and only then it is in the document.
        Tee::Nitro => Some("pcr16"),
        _ => None,
    }
}

/// The register that binds init-data and its value for this digest; zero if no init-data was given, and none where
/// the platform then has no such register.
pub fn place_init_data(
    platform: Tee,
    bank: Algorithm,
    digest: Option<&Digest>,
) -> Option<(&'static str, Digest)> {
    let name = init_data_register(platform)?;
    let field = match platform {
        Tee::Tdx => Algorithm::Sha384,
        Tee::Snp => Algorithm::Sha256,
        Tee::Sgx | Tee::Cca => Algorithm::Sha512,
        _ => bank,
    };
    let zero = Digest::zero(field);
    let value = match (digest, register_index(platform, name)) {
        (None, _) if platform == Tee::Nitro => return None,
        // SPEC: AWS Nitro Secure Module, ExtendPCR: the data as they are, in a bank of SHA-384.
        (Some(digest), _) if platform == Tee::Nitro => {
            Digest::zero(Algorithm::Sha384).extend(digest.as_bytes())
        }
        (None, _) => zero,
        (Some(digest), None) => init_data_in_bank(digest, field),
        (Some(digest), Some(_)) => zero.extend(init_data_in_bank(digest, field).as_bytes()),
    };
    Some((name, value))
}

/// Which registers a platform's values must name; any one of the lists will do. A register that is not named is
/// one that the host may choose.
pub(super) fn obligatory(platform: Tee) -> &'static [&'static [&'static str]] {
    match platform {
        // SPEC: PFP 1.06, section 3.3.4: registers 0 to 7 are the firmware's and its settings'. The kernel's are 8
        // and 9: what the agent, the boot stub and the kernel measure.
        Tee::Tpm => &[&["pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr5", "pcr6", "pcr7", "pcr8", "pcr9"]],
        // RTMR3 is the guest's own, for events at run time.
        Tee::Tdx => &[&["mrtd", "mrconfigid", "rtmr0", "rtmr1", "rtmr2"]],
        Tee::Snp => &[&["measurement", "host-data"]],
        // An enclave is pinned by its pages, or by its signer with a product and a version.
        Tee::Sgx => &[&["mrenclave", "configid"], &["mrsigner", "isvprodid", "isvsvn", "configid"]],
        // The paravisor is in the launch measurement; firmware of the guest's own disk, its boot loader, kernel,
        // command line and initrd are in these registers of its TPM (11 and 12 with a unified kernel image).
        Tee::AzSnpVtpm => &[&["measurement", "pcr4", "pcr7", "pcr8", "pcr9", "pcr11", "pcr12"]],
        Tee::AzTdxVtpm => &[&["mrtd", "pcr4", "pcr7", "pcr8", "pcr9", "pcr11", "pcr12"]],
        // SPEC: AWS Nitro Enclaves: image, kernel with bootstrap, application. The others name instance and signer.
        Tee::Nitro => &[&["pcr0", "pcr1", "pcr2"]],
        // The monitor guards the realm and signs for it, so whoever may choose the platform's software says anything.
        Tee::Cca => &[&["rim", "rpv", "platform"]],
        Tee::Csv => &[&["measure"]],
        _ => &[],
    }
}
