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

use crate::events::{CALLING, EXIT_BOOT_SERVICES, INITRD_OPTION, SecureBootVariables, Sequence};
use crate::firmware::{self, AddressWidth, Shape};
use crate::reference::Prediction;
use crate::{
    Artifacts, Component, LaunchError, PredictedEvent, ReferenceValues, Variation, authenticode, kernel,
    variations,
};

const MEMORY_MIB: (u32, u32) = (128, 65_536);
const MOST_PROCESSORS: u32 = 64;
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
    let profile = firmware::profile(launch.firmware)?;
    let inner = firmware::decompress(launch.firmware)?;
    let files = Files { launch, profile, inner: &inner };
    let (pei, dxe) = firmware::volumes(profile, &inner, shape)?;
    let measured = Measured {
        profile,
        volumes: [Digest::of(launch.bank, &pei), Digest::of(launch.bank, dxe)],
        image: files.image(launch.memory_mib)?,
        initrd: Digest::of(launch.bank, launch.initrd),
    };
    let inputs = Inputs {
        firmware: Digest::sha256(launch.firmware),
        kernel: Digest::sha256(launch.kernel),
        initrd: Digest::sha256(launch.initrd),
        command_line: launch.command_line.to_owned(),
        memory_mib: launch.memory_mib,
        vcpus: launch.vcpus,
        address_width: launch.address_width,
    };
    let variations = files.variations(&measured, &inputs);
    Ok(prediction(launch.bank, &measured, &inputs, launch.init_data).finish(variations))
}

/// What is hashed again for another shape.
struct Files<'a> {
    launch: &'a TpmLaunch<'a>,
    profile: &'static firmware::Profile,
    /// The firmware's volumes, decompressed.
    inner: &'a [u8],
}

impl Files<'_> {
    /// Of the volumes only the first knows the machine's shape.
    fn volumes(&self, measured: &Measured, shape: Shape) -> Result<[Digest; 2], LaunchError> {
        let [_, dxe] = measured.volumes;
        let (pei, _) = firmware::volumes(self.profile, self.inner, shape)?;
        Ok([Digest::of(self.launch.bank, &pei), dxe])
    }

    fn image(&self, memory_mib: u32) -> Result<Digest, LaunchError> {
        let loaded = kernel::as_loaded(self.launch.kernel, self.launch.initrd.len(), memory_mib)?;
        authenticode::hash(self.launch.bank, &loaded)
    }

    /// Launches that differ in one thing from the one predicted.
    fn variations(&self, measured: &Measured, inputs: &Inputs) -> Vec<Variation> {
        let mut found = Vec::new();
        let mut add = |component, detail: String, measured: &Measured, inputs: &Inputs| {
            let other = prediction(self.launch.bank, measured, inputs, self.launch.init_data);
            let events = other.events.iter().map(|event| event.digest).collect();
            found.push(Variation { component, detail, registers: other.registers(), events });
        };
        let Inputs { memory_mib, vcpus, address_width, command_line, .. } = inputs;
        let shape = Shape { memory_mib: *memory_mib, vcpus: *vcpus, address_width: *address_width };
        for other in variations::vcpus(*vcpus, MOST_PROCESSORS) {
            if let Ok(volumes) = self.volumes(measured, Shape { vcpus: other, ..shape }) {
                let measured = Measured { volumes, ..*measured };
                add(Component::Vcpus, variations::vcpus_detail(other, *vcpus), &measured, inputs);
            }
        }
        // Each size may put the initrd, and so the kernel's header, elsewhere; only the usual ones are hashed.
        let (least, most) = MEMORY_MIB;
        let sizes: Vec<u32> = variations::memory(*memory_mib, least, most)
            .into_iter()
            .filter(|size| size.is_power_of_two())
            .collect();
        let (kernel, initrd) = (self.launch.kernel, self.launch.initrd.len());
        let images = kernel::images(self.launch.bank, kernel, initrd, sizes).unwrap_or_default();
        for (other, image) in images {
            if let Ok(volumes) = self.volumes(measured, Shape { memory_mib: other, ..shape }) {
                let measured = Measured { volumes, image, ..*measured };
                add(Component::Memory, variations::memory_detail(other, *memory_mib), &measured, inputs);
            }
        }
        let widths = [
            AddressWidth::Unreported,
            AddressWidth::Bits(39),
            AddressWidth::Bits(40),
            AddressWidth::Bits(46),
        ];
        for other in widths.into_iter().filter(|width| width != address_width) {
            if let Ok(volumes) = self.volumes(measured, Shape { address_width: other, ..shape }) {
                let detail = format!("{other} instead of {address_width}");
                add(Component::Cpu, detail, &Measured { volumes, ..*measured }, inputs);
            }
        }
        for (text, detail) in variations::command_lines(command_line) {
            add(Component::CommandLine, detail, measured, &Inputs { command_line: text, ..inputs.clone() });
        }
        found
    }
}

pub(crate) fn prediction(
    bank: Algorithm,
    measured: &Measured,
    inputs: &Inputs,
    init_data: Option<Digest>,
) -> Prediction {
    Prediction {
        platform: Tee::Tpm,
        bank,
        measured: Default::default(),
        replayed: (0..=9).collect(),
        versions: Default::default(),
        events: sequence(bank, measured, inputs, init_data.as_ref()),
        artifacts: inputs.artifacts(),
        init_data,
    }
}

/// The inputs, with files by their SHA-256.
#[derive(Clone)]
pub(crate) struct Inputs {
    pub(crate) firmware: Digest,
    pub(crate) kernel: Digest,
    pub(crate) initrd: Digest,
    pub(crate) command_line: String,
    pub(crate) memory_mib: u32,
    pub(crate) vcpus: u32,
    pub(crate) address_width: AddressWidth,
}

impl Inputs {
    fn artifacts(&self) -> Artifacts {
        Artifacts {
            firmware: Some(self.firmware),
            kernel: Some(self.kernel),
            initrd: Some(self.initrd),
            command_line: Some(self.command_line.clone()),
            memory_mib: Some(self.memory_mib),
            vcpus: Some(self.vcpus),
            address_width: Some(self.address_width),
            ..Artifacts::default()
        }
    }
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
    inputs: &Inputs,
    init_data: Option<&Digest>,
) -> Vec<PredictedEvent> {
    let mut events = Sequence::new(bank);
    firmware_events(&mut events, measured, inputs);
    // These builds have `SecureBoot` set to off.
    events.secure_boot(7, &SecureBootVariables { state: vec![0], ..Default::default() });
    events.digest(
        4,
        EventType::EFI_BOOT_SERVICES_APPLICATION,
        Component::Kernel,
        measured.image,
        format!("Authenticode of the kernel {} as QEMU loads it", inputs.kernel),
    );
    boot_events(&mut events, measured.profile);
    let kind = EventType::EVENT_TAG;
    let text = format!("{}{INITRD_OPTION}", inputs.command_line);
    events.add(9, kind, Component::CommandLine, &command_line_bytes(&text), text.clone());
    events.digest(9, kind, Component::Initrd, measured.initrd, format!("initrd {}", inputs.initrd));
    for step in EXIT_BOOT_SERVICES {
        events.action(5, step);
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
    kernel::check_command_line(launch.command_line)
}

fn firmware_events(events: &mut Sequence, measured: &Measured, inputs: &Inputs) {
    let name = measured.profile.name;
    let kind = EventType::S_CRTM_VERSION;
    events.add(0, kind, Component::Firmware, measured.profile.version, format!("version of {name}"));
    let kind = EventType::EFI_PLATFORM_FIRMWARE_BLOB;
    let Inputs { memory_mib, vcpus, .. } = inputs;
    let [pei, dxe] = measured.volumes;
    let detail = format!("PEI volume of {name}, with {memory_mib} MiB of memory and {vcpus} processors");
    events.digest(0, kind, Component::Firmware, pei, detail);
    events.digest(0, kind, Component::Firmware, dxe, format!("DXE volume of {name}"));
}

/// From the start of the kernel's image to its entry.
fn boot_events(events: &mut Sequence, profile: &firmware::Profile) {
    let kind = EventType::EFI_VARIABLE_BOOT;
    events.add(1, kind, Component::FirmwareSettings, &[0, 0], "BootOrder: 0000");
    let detail = "Boot0000: the firmware's menu";
    events.add(1, kind, Component::FirmwareSettings, profile.boot_option, detail);
    events.action(4, CALLING);
    for register in 0..=6 {
        events.separator(register);
    }
}
