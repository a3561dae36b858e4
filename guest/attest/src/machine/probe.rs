//! Which TEE this machine has.

use std::path::PathBuf;

use coffer_sys_nsm::Nsm;
use coffer_sys_tpm::Tpm;
use coffer_sys_tsm::{Measurements, Provider, SevGuest, TdxGuest, Tsm};

use super::Platform;
use super::azure::Azure;
use super::cca::Realm;
use super::nitro::Enclave;
use super::snp::{SnpGuest, Source as SnpSource};
use super::tdx::TrustDomain;
use super::tpm::TpmMachine;

/// Where the kernel shows what machines have.
#[derive(Clone, Debug)]
pub struct Places {
    /// The TPM.
    pub tpm: PathBuf,
    /// The TPM's event log.
    pub tpm_log: PathBuf,
    /// configfs-tsm.
    pub tsm: PathBuf,
    /// The older device of SEV-SNP.
    pub sev_guest: PathBuf,
    /// The device of TDX.
    pub tdx_guest: PathBuf,
    /// The Nitro Security Module.
    pub nsm: PathBuf,
    /// The firmware's event log of confidential guests.
    pub ccel: PathBuf,
    /// The registers of a TD.
    pub measurements: PathBuf,
    /// Azure's instance metadata service.
    pub imds: String,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            tpm: "/dev/tpmrm0".into(),
            tpm_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            tsm: coffer_sys_tsm::REPORTS.into(),
            sev_guest: coffer_sys_tsm::SEV_GUEST.into(),
            tdx_guest: coffer_sys_tsm::TDX_GUEST.into(),
            nsm: coffer_sys_nsm::NSM.into(),
            ccel: "/sys/firmware/acpi/tables/data/CCEL".into(),
            measurements: coffer_sys_tsm::MEASUREMENTS.into(),
            imds: "http://169.254.169.254".into(),
        }
    }
}

/// A machine whose TEE is known and whose init-data is not bound yet.
pub struct Machine(pub(super) Box<dyn Platform>);

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine({})", self.0.tee())
    }
}

impl Machine {
    /// The TEE.
    #[must_use]
    pub fn tee(&self) -> coffer_core_evidence::Tee {
        self.0.tee()
    }
}

/// No TEE that can be used.
#[derive(Debug, thiserror::Error)]
#[error("the machine has no TEE to attest with: {}", tried.join("; "))]
pub struct ProbeError {
    /// What was looked for, and why it is not it.
    pub tried: Vec<String>,
}

/// Looks for the machine's TEE, in the order that the module's head gives.
///
/// # Errors
/// When there is none; the error says what was looked for and what was found in its place.
pub fn probe(places: &Places) -> Result<Machine, ProbeError> {
    let mut tried = Vec::new();
    if let Some(machine) = confidential(places, &mut tried) {
        return Ok(machine);
    }
    let tpm = match Tpm::open(&places.tpm) {
        Ok(mut tpm) => match Azure::report(&mut tpm) {
            Ok(Some(report)) => match Azure::new(tpm, &report, places) {
                Ok(azure) => return Ok(Machine(Box::new(azure))),
                Err(why) => {
                    tried.push(format!("Azure's paravisor: {why}"));
                    Tpm::open(&places.tpm).ok()
                }
            },
            Ok(None) => Some(tpm),
            Err(why) => {
                tried.push(format!("the TPM: {why}"));
                None
            }
        },
        Err(why) => {
            tried.push(format!("the TPM: {why}"));
            None
        }
    };
    match Nsm::open(&places.nsm) {
        Ok(nsm) => return Ok(Machine(Box::new(Enclave::new(nsm)))),
        Err(why) => tried.push(why.to_string()),
    }
    match tpm {
        Some(tpm) => Ok(Machine(Box::new(TpmMachine::new(tpm, places.tpm_log.clone())))),
        None => Err(ProbeError { tried }),
    }
}

/// A TEE of the processor's.
fn confidential(places: &Places, tried: &mut Vec<String>) -> Option<Machine> {
    let trust_domain = |tsm: Option<Tsm>| {
        let device = TdxGuest::open(&places.tdx_guest).ok();
        let registers = Measurements::at(&places.measurements);
        Machine(Box::new(TrustDomain { tsm, device, ccel: places.ccel.clone(), registers }))
    };
    match Tsm::at(&places.tsm) {
        None => tried.push(format!("{} is not there", places.tsm.display())),
        Some(tsm) => match tsm.provider() {
            Ok(Provider::TdxGuest) => return Some(trust_domain(Some(tsm))),
            Ok(Provider::SevGuest) => {
                return Some(Machine(Box::new(SnpGuest(SnpSource::Tsm(tsm)))));
            }
            Ok(Provider::ArmCcaGuest) => return Some(Machine(Box::new(Realm(tsm)))),
            Ok(other) => tried.push(format!("the driver {other} is not known")),
            Err(why) => tried.push(why.to_string()),
        },
    }
    match SevGuest::open(&places.sev_guest) {
        Ok(device) => return Some(Machine(Box::new(SnpGuest(SnpSource::Device(device))))),
        Err(why) => tried.push(why.to_string()),
    }
    match TdxGuest::open(&places.tdx_guest) {
        // Without configfs-tsm there is no quote, and evidence will say so; but it is a TD, and not another machine.
        Ok(_) => return Some(trust_domain(None)),
        Err(why) => tried.push(why.to_string()),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Places {
        let path = |name: &str| PathBuf::from("/nowhere").join(name);
        Places {
            tpm: path("tpmrm0"),
            tpm_log: path("log"),
            tsm: path("tsm"),
            sev_guest: path("sev-guest"),
            tdx_guest: path("tdx_guest"),
            nsm: path("nsm"),
            ccel: path("CCEL"),
            measurements: path("measurements"),
            imds: "http://127.0.0.1:1".into(),
        }
    }

    #[test]
    fn a_machine_without_a_tee_says_what_was_looked_for() {
        let error = probe(&nowhere()).expect_err("nothing there");
        for name in ["tpmrm0", "tsm", "sev-guest", "tdx_guest", "nsm"] {
            assert!(error.to_string().contains(name), "{name} is not in {error}");
        }
    }

    #[test]
    fn a_trust_domain_without_configfs_is_one_and_its_missing_quote_is_said() {
        let device = tempfile::NamedTempFile::new().expect("a file in the device's place");
        let places = Places { tdx_guest: device.path().into(), ..nowhere() };
        let machine = probe(&places).expect("a trust domain");
        assert_eq!(machine.tee(), coffer_core_evidence::Tee::Tdx);
        let data =
            coffer_core_evidence::ReportData::from_runtime_hash(coffer_core_digest::Digest::sha256(b"x"));
        let mut platform = machine.0;
        let request = super::super::Request { report_data: &data, log: None, command_line: "" };
        let error = platform.evidence(&request).expect_err("no quote");
        assert!(error.to_string().contains("configfs-tsm"), "{error}");
        assert_eq!(error.code(), "attestation.evidence");
    }
}
