//! Registers as people know them: their names, their check codes, and what those measure that no log leads to.

use std::collections::BTreeSet;

use coffer_core_evidence::Tee;
use coffer_core_launch::{Component, ReferenceValues, init_data_register, register_index};

/// The register in a sentence.
pub(crate) fn label(name: &str) -> String {
    match name {
        "measurement" | "measure" => "the launch digest".to_owned(),
        "platform" => "the platform's software".to_owned(),
        _ => match name.strip_prefix("pcr") {
            Some(number) => format!("register {number}"),
            None => format!("register {}", name.to_ascii_uppercase()),
        },
    }
}

/// The register at the beginning of a sentence.
pub(crate) fn title(name: &str) -> String {
    let label = label(name);
    let mut characters = label.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => label,
    }
}

/// The code of a register that cannot be laid to one component.
pub(crate) fn code(name: &str) -> String {
    match name {
        "measurement" | "measure" => "measurement.launch-digest".to_owned(),
        _ => format!("measurement.{name}"),
    }
}

/// Whether a register belongs to the group `init-data`.
pub(crate) fn is_init_data(reference: &ReferenceValues, name: &str) -> bool {
    init_data_register(reference.platform()) == Some(name)
}

/// What a register measures: what the predicted events say, or else what the platform puts there.
pub(crate) fn components(reference: &ReferenceValues, name: &str) -> BTreeSet<Component> {
    let index = register_index(reference.platform(), name);
    let told = index.map(|index| reference.components(index)).unwrap_or_default();
    match told.is_empty() {
        true => by_design(reference.platform(), name).iter().copied().collect(),
        false => told,
    }
}

/// SPEC: TDX module base specification, "Measurement and attestation"; SNP ABI 8.17; SGX SDM 3D, chapter 38; AWS
/// Nitro Enclaves, "Where to get an enclave's measurements"; Arm RMM, section A7; PFP 1.06, section 3.3.4.
fn by_design(platform: Tee, name: &str) -> &'static [Component] {
    use Component::{
        BootSequence, CommandLine, Cpu, Enclave, Firmware, FirmwareSettings, GuestFeatures, Initrd, Kernel,
        SecureBoot, Signer, Vcpus,
    };
    match (platform, name) {
        (Tee::Tdx | Tee::AzTdxVtpm, "mrtd") => &[Firmware],
        (Tee::Tdx, "rtmr0") => &[FirmwareSettings, SecureBoot],
        (Tee::Tdx, "rtmr1") => &[Kernel, BootSequence],
        (Tee::Tdx, "rtmr2") => &[CommandLine, Initrd],
        (Tee::Snp, "measurement") => &[Firmware, Kernel, CommandLine, Initrd, Vcpus, Cpu, GuestFeatures],
        (Tee::AzSnpVtpm, "measurement") => &[Firmware],
        (Tee::Sgx, "mrenclave") => &[Enclave],
        (Tee::Sgx, "mrsigner") => &[Signer],
        (Tee::Snp, "id-key-digest" | "author-key-digest") => &[Signer],
        (Tee::Nitro, "pcr1") => &[Kernel],
        (Tee::Nitro, "pcr8") => &[Signer],
        (Tee::Cca, "rim") => &[Firmware, Vcpus],
        (Tee::Cca, "platform") => &[Firmware],
        (Tee::Csv, "measure") => &[Firmware, Kernel, CommandLine, Initrd],
        (Tee::Tpm | Tee::AzSnpVtpm | Tee::AzTdxVtpm, name) => match name {
            "pcr0" | "pcr2" => &[Firmware],
            "pcr1" | "pcr3" => &[FirmwareSettings],
            "pcr4" => &[Kernel],
            "pcr5" => &[BootSequence],
            "pcr7" => &[SecureBoot],
            "pcr9" => &[CommandLine, Initrd],
            "pcr11" => &[Kernel],
            "pcr12" => &[CommandLine],
            _ => &[],
        },
        _ => &[],
    }
}
