//! Init-data: read from its disk, bound to the machine, and only then acted on (I-5).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use coffer_core_initdata::{Attestation, DISK_HEADER, GuestConfig, InitData, InitDataError};
use coffer_guest_attest::{Bound, Places, probe};
use coffer_sys_mount::block_device_by_serial;

use crate::refusal;
use crate::stop::Stop;

const SERIAL: &str = "coffer-initdata";
const DISK_PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: &str = "Make init-data again (`coffer run` does) and attach it as the disk coffer-initdata.";

/// What the owner says, and the machine that it is bound to.
pub(crate) struct Owner {
    pub(crate) init_data: InitData,
    pub(crate) config: GuestConfig,
    /// The machine; none only where nothing is attested.
    pub(crate) machine: Option<Bound>,
}

/// Reads and binds. Nobody but the machine's TEE is asked.
pub(crate) fn establish() -> Result<Owner, Stop> {
    let init_data = read()?;
    let config = match init_data.guest_config() {
        Ok(Some(config)) => config,
        Ok(None) => {
            return Err(refusal("init-data.coffer.missing", "init-data has no entry coffer.toml", AGAIN));
        }
        Err(why) => return Err(unusable(&why)),
    };
    let machine = match probe(&Places::default()) {
        Ok(machine) => Some(machine.bind(&init_data.digest())?),
        // Without attestation nobody would look at the binding; the timeline says that there is none.
        Err(_) if config.attestation == Attestation::InsecureNone => None,
        Err(why) => {
            return Err(refusal(
                "attestation.no-tee",
                format!("init-data requires attestation, and {why}"),
                "Start a confidential machine, or one with a TPM (`coffer doctor` says what is missing).",
            ));
        }
    };
    Ok(Owner { init_data, config, machine })
}

fn read() -> Result<InitData, Stop> {
    let disk = block_device_by_serial(SERIAL, DISK_PATIENCE)
        .map_err(|why| refusal("init-data.disk.missing", why.to_string(), AGAIN))?;
    let bytes = read_disk(&disk)?;
    InitData::from_disk(&bytes).map_err(|why| unusable(&why))
}

/// As much of the disk as its header says, which is bounded.
fn read_disk(disk: &Path) -> Result<Vec<u8>, Stop> {
    let failed = |why: std::io::Error| {
        refusal("init-data.disk.unreadable", format!("reading {}: {why}", disk.display()), AGAIN)
    };
    let mut file = File::open(disk).map_err(failed)?;
    let mut header = [0; DISK_HEADER];
    file.read_exact(&mut header).map_err(failed)?;
    let length = InitData::disk_length(&header).map_err(|why| unusable(&why))?;
    let mut bytes = header.to_vec();
    let rest = length.saturating_sub(u64::try_from(DISK_HEADER).unwrap_or(u64::MAX));
    file.take(rest).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn unusable(why: &InitDataError) -> Stop {
    refusal(why.code(), why.to_string(), AGAIN)
}
