//! The registers of a virtual machine with a TPM that boots a kernel directly through OVMF.
//!
//! The machine is QEMU's q35 with OVMF's code volume read-only, a fresh copy of its variables, no boot menu and
//! no boot index. What each register depends on, compared with boots of some twenty shapes:
//!
//! | register | measured | depends on |
//! |---|---|---|
//! | 0 | firmware version and volumes | firmware file, memory, processors, physical address width |
//! | 1 | `BootOrder`, `Boot0000` | firmware file |
//! | 2, 3, 6 | a separator | nothing |
//! | 4 | the kernel's Authenticode hash | kernel, and memory and initrd size (QEMU writes them into its header) |
//! | 5 | the two steps of `ExitBootServices` | nothing |
//! | 7 | secure boot variables | firmware variables: a fresh copy has none |
//! | 8 | init-data, extended by the guest's agent | init-data |
//! | 9 | command line and initrd, by Linux's EFI stub | command line, initrd |
//!
//! Disks, network cards without a boot ROM, serial ports, the processor model (but for the address width), the
//! number of banks, and variables left by an earlier boot of the same guest change none of them. Other variables,
//! boot ROMs and other firmware builds do, and are not predicted.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::{EventType, command_line_bytes, init_data_event};

use crate::firmware::{self, AddressWidth, Shape};
use crate::{
    Artifacts, Component, ExpectedInitData, LaunchError, PredictedEvent, ReferenceValues, authenticode,
    kernel,
};

const MEMORY_MIB: (u32, u32) = (128, 65_536);
const MOST_PROCESSORS: u32 = 64;
/// Linux's `COMMAND_LINE_SIZE` on x86, less what the firmware adds.
const MOST_COMMAND_LINE: usize = 2000;
/// What OVMF adds to the command line where there is an initrd.
const INITRD_OPTION: &str = " initrd=initrd";

/// `EFI_GLOBAL_VARIABLE` and `EFI_IMAGE_SECURITY_DATABASE_GUID`, as stored.
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
const SECURITY_DATABASE: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

/// The inputs of a launch.
#[derive(Clone, Copy)]
pub struct TpmLaunch<'a> {
    /// The firmware's code volume, as in `OVMF_CODE_4M.fd`.
    pub firmware: &'a [u8],
    /// The kernel, a bzImage.
    pub kernel: &'a [u8],
    /// The initrd.
    pub initrd: &'a [u8],
    /// The command line as it is given to the launcher.
    pub command_line: &'a str,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub vcpus: u32,
    /// The physical address width.
    pub address_width: AddressWidth,
    /// The init-data's digest, if the guest is given any.
    pub init_data: Option<Digest>,
    /// The bank to predict.
    pub bank: Algorithm,
}

/// Predicts registers 0 to 9.
pub fn predict_tpm(launch: &TpmLaunch<'_>) -> Result<ReferenceValues, LaunchError> {
    check(launch)?;
    let shape =
        Shape { memory_mib: launch.memory_mib, vcpus: launch.vcpus, address_width: launch.address_width };
    let volumes = firmware::measured_volumes(launch.firmware, shape)?;
    let loaded = kernel::as_loaded(launch.kernel, launch.initrd.len(), launch.memory_mib)?;
    let measured = Measured {
        profile: firmware::profile(launch.firmware)?,
        volumes: volumes.map(|volume| Digest::of(launch.bank, &volume)),
        image: authenticode::hash(launch.bank, &loaded)?,
        initrd: Digest::of(launch.bank, launch.initrd),
    };
    let artifacts = Artifacts {
        firmware: Digest::sha256(launch.firmware),
        kernel: Digest::sha256(launch.kernel),
        initrd: Digest::sha256(launch.initrd),
        command_line: launch.command_line.to_owned(),
        memory_mib: launch.memory_mib,
        vcpus: launch.vcpus,
        address_width: launch.address_width,
    };
    Ok(assemble(launch.bank, &measured, artifacts, launch.init_data))
}

/// The reference values for what was hashed.
pub(crate) fn assemble(
    bank: Algorithm,
    measured: &Measured,
    artifacts: Artifacts,
    init_data: Option<Digest>,
) -> ReferenceValues {
    let events = sequence(bank, measured, &artifacts, init_data.as_ref());
    let init_data = init_data.map(|digest| ExpectedInitData { digest, entries: Default::default() });
    ReferenceValues::from_events(Tee::Tpm, bank, 0..=9, events, artifacts, init_data)
}

/// What was hashed in the bank.
pub(crate) struct Measured {
    pub(crate) profile: &'static firmware::Profile,
    /// The PEI volume and the DXE volume.
    pub(crate) volumes: [Digest; 2],
    /// The kernel's Authenticode hash.
    pub(crate) image: Digest,
    pub(crate) initrd: Digest,
}

/// The events in the order of the log.
fn sequence(
    bank: Algorithm,
    measured: &Measured,
    artifacts: &Artifacts,
    init_data: Option<&Digest>,
) -> Vec<PredictedEvent> {
    let mut events = Sequence { bank, events: Vec::new() };
    firmware_events(&mut events, measured, artifacts);
    secure_boot_events(&mut events);
    events.digest(
        4,
        EventType::EFI_BOOT_SERVICES_APPLICATION,
        Component::Kernel,
        measured.image,
        format!("Authenticode of the kernel {} as QEMU loads it", artifacts.kernel),
    );
    boot_events(&mut events, measured.profile);
    let kind = EventType::EVENT_TAG;
    let text = format!("{}{INITRD_OPTION}", artifacts.command_line);
    events.add(9, kind, Component::CommandLine, &command_line_bytes(&text), text.clone());
    events.digest(9, kind, Component::Initrd, measured.initrd, format!("initrd {}", artifacts.initrd));
    for step in ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"] {
        events.add(5, EventType::EFI_ACTION, Component::BootSequence, step.as_bytes(), step.to_owned());
    }
    if let Some(digest) = init_data {
        let event = init_data_event(digest, &[bank]);
        if let Some(extended) = event.digest(bank) {
            events.digest(8, event.kind, Component::InitData, *extended, format!("init-data {digest}"));
        }
    }
    events.events
}

fn check(launch: &TpmLaunch<'_>) -> Result<(), LaunchError> {
    let (least, most) = MEMORY_MIB;
    if !(least..=most).contains(&launch.memory_mib) {
        return Err(LaunchError::Memory { found: launch.memory_mib, least, most });
    }
    if !(1..=MOST_PROCESSORS).contains(&launch.vcpus) {
        return Err(LaunchError::Processors { found: launch.vcpus, most: MOST_PROCESSORS });
    }
    let line = launch.command_line;
    let refused = match () {
        () if line.len() > MOST_COMMAND_LINE => "is longer than the kernel takes",
        () if !line.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => {
            "has characters other than printable ASCII, which the firmware does not convert faithfully"
        }
        () if line.contains("vga=") => "has vga=, which QEMU writes into the kernel's header",
        () => return Ok(()),
    };
    Err(LaunchError::CommandLine(refused))
}

/// The events so far, in the order of the log.
struct Sequence {
    bank: Algorithm,
    events: Vec<PredictedEvent>,
}

impl Sequence {
    fn add(&mut self, register: u32, kind: EventType, component: Component, data: &[u8], detail: String) {
        self.digest(register, kind, component, Digest::of(self.bank, data), detail);
    }

    fn digest(
        &mut self,
        register: u32,
        kind: EventType,
        component: Component,
        digest: Digest,
        detail: String,
    ) {
        self.events.push(PredictedEvent { register, kind: kind.to_string(), component, digest, detail });
    }

    fn separator(&mut self, register: u32) {
        self.add(register, EventType::SEPARATOR, Component::BootSequence, &[0; 4], "separator".to_owned());
    }
}

fn firmware_events(events: &mut Sequence, measured: &Measured, artifacts: &Artifacts) {
    let name = measured.profile.name;
    let kind = EventType::S_CRTM_VERSION;
    events.add(0, kind, Component::Firmware, measured.profile.version, format!("version of {name}"));
    let kind = EventType::EFI_PLATFORM_FIRMWARE_BLOB;
    let Artifacts { memory_mib, vcpus, .. } = artifacts;
    let [pei, dxe] = measured.volumes;
    let detail = format!("PEI volume of {name}, with {memory_mib} MiB of memory and {vcpus} processors");
    events.digest(0, kind, Component::Firmware, pei, detail);
    events.digest(0, kind, Component::Firmware, dxe, format!("DXE volume of {name}"));
}

fn secure_boot_events(events: &mut Sequence) {
    let variables: [([u8; 16], &str, &[u8]); 5] = [
        (GLOBAL, "SecureBoot", &[0]),
        (GLOBAL, "PK", &[]),
        (GLOBAL, "KEK", &[]),
        (SECURITY_DATABASE, "db", &[]),
        (SECURITY_DATABASE, "dbx", &[]),
    ];
    for (vendor, name, value) in variables {
        let detail = match value {
            [] => format!("{name} is not set"),
            _ => format!("{name} is off"),
        };
        let kind = EventType::EFI_VARIABLE_DRIVER_CONFIG;
        events.add(7, kind, Component::SecureBoot, &variable(vendor, name, value), detail);
    }
    events.separator(7);
}

/// `UEFI_VARIABLE_DATA` (TCG PC Client PFP 1.06, section 10.2.6).
fn variable(vendor: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes();
    [vendor.as_slice(), &length(name.encode_utf16().count()), &length(value.len()), &units, value].concat()
}

/// From the start of the kernel's image to its entry.
fn boot_events(events: &mut Sequence, profile: &firmware::Profile) {
    let kind = EventType::EFI_VARIABLE_BOOT;
    events.add(1, kind, Component::FirmwareSettings, &[0, 0], "BootOrder: 0000".to_owned());
    let detail = "Boot0000: the firmware's menu".to_owned();
    events.add(1, kind, Component::FirmwareSettings, profile.boot_option, detail);
    let step = "Calling EFI Application from Boot Option";
    events.add(4, EventType::EFI_ACTION, Component::BootSequence, step.as_bytes(), step.to_owned());
    for register in 0..=6 {
        events.separator(register);
    }
}
