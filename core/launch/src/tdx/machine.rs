//! One machine, hashed: the events that its firmware and kernel will log, and those of machines a little different.

use std::collections::BTreeMap;

use coffer_core_digest::Digest;
use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::{EventType, command_line_bytes};

use super::boot_options::BootOptions;
use super::{BANK, LeftOut, MEMORY_MIB, TdxKernel, TdxLaunch, Vmm, boot_options, hob, variables};
use crate::events::{CALLING, EXIT_BOOT_SERVICES, INITRD_OPTION, SecureBootVariables, Sequence};
use crate::ovmf::{Ovmf, SevSection, TdxSection};
use crate::{Component, LaunchError, PredictedEvent, Variation, kernel, variations};

/// The log's indexes of RTMR0 to RTMR2.
pub(super) const RTMR0: u32 = 1;
pub(super) const RTMR1: u32 = 2;
pub(super) const RTMR2: u32 = 3;

/// What was hashed of the inputs.
pub(super) struct Machine {
    /// The memory map by memory size, for the expected one and for those that are tried.
    pub(super) maps: BTreeMap<u32, Digest>,
    /// The variable store.
    pub(super) variables: Option<Digest>,
    pub(super) secure_boot: SecureBootVariables,
    pub(super) boot_option: Result<Vec<u8>, &'static str>,
    /// The tables by processors and memory: loader, RSDP, tables.
    pub(super) acpi: BTreeMap<(u32, u32), [Digest; 3]>,
    /// The register of the separator before the kernel starts.
    pub(super) separator: u32,
    pub(super) kernel: Option<Kernel>,
    pub(super) shape: Shape,
}

/// The kernel, hashed.
pub(super) struct Kernel {
    pub(super) file: Digest,
    /// The Authenticode hash by memory size, as QEMU loads it.
    pub(super) images: BTreeMap<u32, Digest>,
    pub(super) initrd: Digest,
    /// The initrd's SHA-256, for people.
    pub(super) initrd_file: Digest,
    pub(super) command_line: String,
    pub(super) measures: bool,
}

/// What is varied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) memory_mib: u32,
    pub(super) vcpus: u32,
    /// The measured command line.
    pub(super) measured_line: Option<String>,
    pub(super) separator: u32,
    pub(super) secure_boot_state: Vec<u8>,
}

impl Machine {
    pub(super) fn read(
        launch: &TdxLaunch<'_>,
        ovmf: &Ovmf<'_>,
        sections: &[TdxSection<'_>],
    ) -> Result<Self, LaunchError> {
        let (least, most) = MEMORY_MIB;
        let mut sizes = variations::memory(launch.memory_mib, least, most);
        sizes.push(launch.memory_mib);
        let map = |memory: &u32| (*memory, Digest::of(BANK, &hob::list(sections, *memory, launch.vmm)));
        let data = |kind| sections.iter().find(|section| section.kind == kind).map(|section| section.data);
        let store = data(TdxSection::VARIABLES);
        let build = data(TdxSection::BOOT_VOLUME).map(boot_options::of);
        let knows_secure_boot = build.as_ref().is_some_and(|build| build.knows_secure_boot);
        let secure_boot = variables::secure_boot(store.unwrap_or_default(), knows_secure_boot);
        let boot_option = match build.map(|build| build.options) {
            Some(BootOptions::Menu(option)) => Ok(option),
            Some(BootOptions::Later) => Err(
                "this firmware is of edk2-stable202505 or later, which measures more into RTMR0 than is known here",
            ),
            _ => Err("no boot menu was found in this firmware, so its boot options are not known"),
        };
        // Builds that know of an SVSM have the separator in the register that the specification says.
        let separator = match ovmf.sev_sections() {
            _ if launch.vmm == Vmm::Gce => RTMR1,
            Ok(found) if found.iter().any(|section| section.kind == SevSection::SVSM_CAA) => RTMR1,
            _ => RTMR0,
        };
        let acpi = launch.acpi.iter().map(|acpi| {
            let digests = [acpi.loader, acpi.rsdp, acpi.tables].map(|file| Digest::of(BANK, file));
            ((acpi.vcpus, acpi.memory_mib), digests)
        });
        let kernel =
            launch.kernel.map(|kernel| Kernel::read(kernel, &sizes, launch.memory_mib)).transpose()?;
        let shape = Shape {
            memory_mib: launch.memory_mib,
            vcpus: launch.vcpus,
            measured_line: kernel.as_ref().map(|kernel| format!("{}{INITRD_OPTION}", kernel.command_line)),
            separator,
            secure_boot_state: secure_boot.state.clone(),
        };
        Ok(Self {
            maps: sizes.iter().map(map).collect(),
            variables: store.map(|store| Digest::of(BANK, store)),
            secure_boot,
            boot_option,
            acpi: acpi.collect(),
            separator,
            kernel,
            shape,
        })
    }

    /// The events in the order of the log, of the registers that can be computed.
    pub(super) fn events(&self, shape: &Shape) -> (Vec<PredictedEvent>, Vec<LeftOut>) {
        let mut left_out = Vec::new();
        let mut events = Sequence::new(BANK);
        match self.firmware_events(&mut events, shape) {
            Ok(()) => {}
            Err(why) => {
                events.events.clear();
                left_out.push(LeftOut { register: "rtmr0", why });
            }
        }
        let before_kernel = left_out.is_empty() && shape.separator == RTMR0;
        match &self.kernel {
            None => {
                const WHY: &str = "no kernel is given, and what a boot loader starts cannot be told";
                left_out.extend(["rtmr1", "rtmr2"].map(|register| LeftOut { register, why: WHY }));
                if before_kernel {
                    events.separator(RTMR0);
                }
            }
            Some(kernel) => {
                let why = kernel.events(&mut events, shape, before_kernel);
                left_out.extend(why.map(|why| LeftOut { register: "rtmr2", why }));
            }
        }
        (events.events, left_out)
    }

    /// RTMR0, but for a separator that comes last.
    fn firmware_events(&self, events: &mut Sequence, shape: &Shape) -> Result<(), &'static str> {
        let map = self.maps.get(&shape.memory_mib).ok_or("the memory map of this size was not computed")?;
        let store = self.variables.as_ref().ok_or("the firmware's metadata has no variable store")?;
        let option = self.boot_option.as_ref().map_err(|why| *why)?;
        let [loader, rsdp, tables] = self.acpi.get(&(shape.vcpus, shape.memory_mib)).ok_or(
            "the launcher's ACPI tables for this machine are not given (etc/table-loader, etc/acpi/rsdp and \
             etc/acpi/tables of its fw_cfg)",
        )?;
        if self.secure_boot.is_on() {
            return Err("secure boot is on, and which certificate admits the kernel is not computed");
        }
        let detail = format!("memory map of {} MiB", shape.memory_mib);
        events.digest(RTMR0, EventType::EFI_HANDOFF_TABLES2, Component::Memory, *map, detail);
        let kind = EventType::EFI_PLATFORM_FIRMWARE_BLOB2;
        events.digest(RTMR0, kind, Component::FirmwareSettings, *store, "the firmware's variable store");
        let state = shape.secure_boot_state.clone();
        events.secure_boot(RTMR0, &SecureBootVariables { state, ..self.secure_boot.clone() });
        let files = [("etc/table-loader", loader), ("etc/acpi/rsdp", rsdp), ("etc/acpi/tables", tables)];
        for (name, digest) in files {
            let detail = format!("{name} of a machine with {} vCPUs", shape.vcpus);
            let kind = EventType::PLATFORM_CONFIG_FLAGS;
            events.digest(RTMR0, kind, Component::AcpiTables, *digest, detail);
        }
        let kind = EventType::EFI_VARIABLE_BOOT;
        events.add(RTMR0, kind, Component::FirmwareSettings, &[0, 0], "BootOrder: 0000");
        events.add(RTMR0, kind, Component::FirmwareSettings, option, "Boot0000: the firmware's menu");
        Ok(())
    }

    /// Machines that differ in one thing from the one predicted.
    pub(super) fn variations(&self) -> Vec<Variation> {
        let expected = &self.shape;
        let mut found = Vec::new();
        let mut add = |component, detail: String, shape: Shape| {
            let (events, left_out) = self.events(&shape);
            let values = crate::reference::replay(BANK, &events);
            let name = |index: &u32| crate::register_name(Tee::Tdx, *index);
            let named = replayed(&left_out)
                .into_iter()
                .filter_map(|index| Some((name(&index)?, *values.get(&index)?)));
            let registers = named.collect();
            let mut digests: Vec<Digest> = events.iter().map(|event| event.digest).collect();
            // The memory map is known even where the register is not.
            if shape.memory_mib != expected.memory_mib {
                digests.extend(self.maps.get(&shape.memory_mib));
            }
            found.push(Variation { component, detail, registers, events: digests });
        };
        let other = |vcpus, memory_mib| Shape { vcpus, memory_mib, ..expected.clone() };
        for (vcpus, memory) in
            self.acpi.keys().copied().filter(|at| *at != (expected.vcpus, expected.memory_mib))
        {
            let parts = [
                (vcpus != expected.vcpus).then(|| variations::vcpus_detail(vcpus, expected.vcpus)),
                (memory != expected.memory_mib)
                    .then(|| variations::memory_detail(memory, expected.memory_mib)),
            ];
            let component = if vcpus == expected.vcpus { Component::Memory } else { Component::Vcpus };
            let detail = parts.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            add(component, detail, other(vcpus, memory));
        }
        let line = |text: String| Shape { measured_line: Some(text), ..expected.clone() };
        if let Some(kernel) = &self.kernel {
            let plain = kernel.command_line.clone();
            let detail = "the command line without ` initrd=initrd`, as firmware before 2022 passes it";
            add(Component::CommandLine, detail.to_owned(), line(plain.clone()));
            for (text, detail) in variations::command_lines(&plain) {
                add(Component::CommandLine, detail, line(format!("{text}{INITRD_OPTION}")));
            }
        }
        for (state, detail) in [(vec![], "is not set"), (vec![0], "is off"), (vec![1], "is on")] {
            if state != expected.secure_boot_state {
                let detail = format!("the variable SecureBoot {detail}");
                add(Component::SecureBoot, detail, Shape { secure_boot_state: state, ..expected.clone() });
            }
        }
        let separator = if self.separator == RTMR0 { RTMR1 } else { RTMR0 };
        let detail = format!("the separator before the kernel in RTMR{}", separator.saturating_sub(1));
        add(Component::BootSequence, detail, Shape { separator, ..expected.clone() });
        for memory in self.maps.keys().copied().filter(|memory| *memory != expected.memory_mib) {
            let tried = self.acpi.contains_key(&(expected.vcpus, memory));
            if !tried {
                let detail = variations::memory_detail(memory, expected.memory_mib);
                add(Component::Memory, detail, other(expected.vcpus, memory));
            }
        }
        found
    }
}

impl Kernel {
    fn read(launch: TdxKernel<'_>, sizes: &[u32], memory_mib: u32) -> Result<Self, LaunchError> {
        // The expected size must do; those that are tried need not.
        kernel::as_loaded(launch.kernel, launch.initrd.len(), memory_mib)?;
        let images = kernel::images(BANK, launch.kernel, launch.initrd.len(), sizes.iter().copied())?;
        Ok(Self {
            file: Digest::sha256(launch.kernel),
            images,
            initrd: Digest::of(BANK, launch.initrd),
            initrd_file: Digest::sha256(launch.initrd),
            command_line: launch.command_line.to_owned(),
            measures: kernel::measures_into_rtmrs(launch.kernel),
        })
    }

    /// RTMR1 and RTMR2; why the second cannot be, if it cannot.
    fn events(&self, events: &mut Sequence, shape: &Shape, separator0: bool) -> Option<&'static str> {
        let kind = EventType::EFI_BOOT_SERVICES_APPLICATION;
        if let Some(image) = self.images.get(&shape.memory_mib) {
            let detail = format!("Authenticode of the kernel {} as QEMU loads it", self.file);
            events.digest(RTMR1, kind, Component::Kernel, *image, detail);
        }
        events.action(RTMR1, CALLING);
        if shape.separator == RTMR1 {
            events.separator(RTMR1);
        } else if separator0 {
            events.separator(RTMR0);
        }
        if self.measures {
            let text = shape.measured_line.clone().unwrap_or_default();
            let kind = EventType::EVENT_TAG;
            events.add(RTMR2, kind, Component::CommandLine, &command_line_bytes(&text), text);
            events.digest(
                RTMR2,
                kind,
                Component::Initrd,
                self.initrd,
                format!("initrd {}", self.initrd_file),
            );
        }
        for step in EXIT_BOOT_SERVICES {
            events.action(RTMR1, step);
        }
        (!self.measures).then_some(
            "this kernel's boot stub measures neither command line nor initrd into RTMR2; Linux 6.9 or later does",
        )
    }
}

/// The indexes of the registers that were not left out.
pub(super) fn replayed(left_out: &[LeftOut]) -> Vec<u32> {
    let is_left_out = |name| left_out.iter().any(|left| left.register == name);
    [(RTMR0, "rtmr0"), (RTMR1, "rtmr1"), (RTMR2, "rtmr2")]
        .into_iter()
        .filter(|(_, name)| !is_left_out(*name))
        .map(|(index, _)| index)
        .collect()
}
