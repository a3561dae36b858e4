//! The command line of QEMU, as a pure function of a [`MachineSpec`].
//!
//! Every file is named by a descriptor number, so the text does not depend on where files are, and QEMU needs no
//! right to open them. The numbers are given out in order from [`FIRST_DESCRIPTOR`]: QMP, the channel, then the files.

use std::net::SocketAddr;

use base64::Engine as _;

use crate::spec::{
    Accelerator, Channel, Content, Disk, Firmware, Kind, MachineFile, MachineSpec, QuoteService, SnpGuest,
    Vendor,
};

/// The first descriptor number; high, so that it never meets one that the starting process needs for itself.
pub const FIRST_DESCRIPTOR: i32 = 100;

/// The guest's address in QEMU's user-mode network.
pub const GUEST_ADDRESS: &str = "10.0.2.15/24";
/// The gateway of QEMU's user-mode network; it leads to the host's loopback.
pub const GATEWAY: &str = "10.0.2.2";
/// The name server of QEMU's user-mode network.
pub const NAME_SERVER: &str = "10.0.2.3";

/// QEMU's cache of translated code, in MiB. More is faster and is the host's memory.
const TRANSLATION_CACHE_MIB: u32 = 128;

/// The arguments that make QEMU the machine that `spec` describes.
pub fn command_line(spec: &MachineSpec) -> Vec<String> {
    let mut line = Line { arguments: Vec::new(), files: spec.files(), first_file: first_file(spec) };
    line.defaults();
    line.machine(spec);
    line.monitor();
    line.firmware(&spec.firmware);
    line.linux(spec);
    if let Some(socket) = &spec.tpm {
        line.two("-chardev", format!("socket,id=tpm,path={}", escape(&socket.to_string_lossy())));
        line.two("-tpmdev", "emulator,id=tpm0,chardev=tpm");
        line.two("-device", "tpm-crb,tpmdev=tpm0");
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        line.disk(index, disk);
    }
    line.network(spec);
    line.channel(spec);
    if let Some(log) = &spec.console_log {
        line.two("-chardev", format!("file,id=console,path={},append=on", escape(&log.to_string_lossy())));
        line.two("-serial", "chardev:console");
    }
    line.hot_plug(spec);
    line.arguments
}

/// The descriptor number of the machine's end of the QMP connection.
pub(crate) const QMP_DESCRIPTOR: i32 = FIRST_DESCRIPTOR;
/// The descriptor number of the machine's end of a virtio-serial channel.
pub(crate) const CHANNEL_DESCRIPTOR: i32 = FIRST_DESCRIPTOR + 1;

/// The descriptor number of the specification's first file.
pub(crate) fn first_file(spec: &MachineSpec) -> i32 {
    match spec.channel {
        Some(Channel::VirtioSerial) => CHANNEL_DESCRIPTOR + 1,
        _ => CHANNEL_DESCRIPTOR,
    }
}

/// The name of the port of a slot for hot-plugged disks.
pub(crate) fn hot_plug_port(slot: u8) -> String {
    format!("port{slot}")
}

struct Line<'a> {
    arguments: Vec<String>,
    files: Vec<MachineFile<'a>>,
    first_file: i32,
}

impl Line<'_> {
    fn one(&mut self, flag: &str) {
        self.arguments.push(flag.to_owned());
    }

    fn two(&mut self, flag: &str, value: impl Into<String>) {
        self.arguments.push(flag.to_owned());
        self.arguments.push(value.into());
    }

    fn defaults(&mut self) {
        self.two("-name", "coffer");
        self.one("-nodefaults");
        self.one("-no-user-config");
        self.one("-no-reboot");
        self.two("-display", "none");
        self.two("-vga", "none");
        self.two("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }

    fn machine(&mut self, spec: &MachineSpec) {
        let memory = spec.memory_mib;
        let mut machine = String::from("q35,usb=off,sata=off,smbus=off,vmport=off,dump-guest-core=off");
        match &spec.kind {
            Kind::Plain => machine.push_str(",smm=off"),
            Kind::Tdx(tdx) => {
                machine.push_str(
                    ",smm=off,kernel-irqchip=split,confidential-guest-support=tdx0,memory-backend=ram0",
                );
                self.two("-object", tdx_object(&tdx.mr_config_id, &tdx.quotes));
                self.two("-object", format!("memory-backend-ram,id=ram0,size={memory}M"));
            }
            Kind::Snp(snp) => {
                machine.push_str(
                    ",smm=off,kernel-irqchip=split,confidential-guest-support=snp0,memory-backend=ram0",
                );
                self.two("-object", snp_object(snp));
                self.two(
                    "-object",
                    format!("memory-backend-memfd,id=ram0,size={memory}M,share=true,prealloc=false"),
                );
            }
        }
        self.two("-machine", machine);
        match spec.accelerator {
            Accelerator::Kvm => {
                self.two("-accel", "kvm");
                self.two("-cpu", kvm_processor(&spec.kind, spec.vendor));
            }
            Accelerator::SoftwareEmulation => {
                self.two("-accel", format!("tcg,thread=multi,tb-size={TRANSLATION_CACHE_MIB}"));
                // QEMU 7.2 emulates cmpxchg16b wrongly, and newer kernels crash of it.
                self.two("-cpu", "max,-cx16,phys-bits=39");
            }
        }
        self.two("-smp", spec.cpus.to_string());
        self.two("-m", format!("{memory}M"));
        self.two("-rtc", "base=utc");
    }

    fn monitor(&mut self) {
        self.two("-chardev", format!("socket,id=qmp,fd={QMP_DESCRIPTOR}"));
        self.two("-mon", "chardev=qmp,mode=control");
    }

    /// Gives the next file to QEMU's block layer and returns the name by which it is opened.
    fn next_file_set(&mut self) -> String {
        let set = self.next_number();
        self.two("-add-fd", format!("fd={set},set={set}"));
        format!("/dev/fdset/{set}")
    }

    /// Gives the next file as a descriptor that is opened again by its number.
    fn next_file_path(&mut self) -> String {
        format!("/proc/self/fd/{}", self.next_number())
    }

    fn next_number(&mut self) -> i32 {
        let number = self.first_file;
        self.first_file += 1;
        debug_assert!(!self.files.is_empty());
        self.files.remove(0);
        number
    }

    fn firmware(&mut self, firmware: &Firmware) {
        match firmware {
            Firmware::Bios => {}
            Firmware::Flash { .. } => {
                let code = self.next_file_set();
                self.two("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"));
                let variables = self.next_file_set();
                self.two(
                    "-drive",
                    format!("if=pflash,unit=1,format=raw,auto-read-only=off,file={variables}"),
                );
            }
            Firmware::Image(_) => {
                let image = self.next_file_path();
                self.two("-bios", image);
            }
        }
    }

    fn linux(&mut self, spec: &MachineSpec) {
        let Some(linux) = &spec.linux else { return };
        let kernel = self.next_file_path();
        self.two("-kernel", kernel);
        if linux.initrd.is_some() {
            let initrd = self.next_file_path();
            self.two("-initrd", initrd);
        }
        self.two("-append", linux.command_line.clone());
    }

    fn disk(&mut self, index: usize, disk: &Disk) {
        // What a guest discards of a disk that it writes, the host has again.
        let (mode, [discard, below]) = match disk.read_only {
            true => ("on", ["", ""]),
            false => ("off", [",discard=unmap", ",file.discard=unmap"]),
        };
        let file = match &disk.content {
            Content::File(_) => format!("file.driver=file,file.filename={}", self.next_file_set()),
            Content::Nbd(socket) => {
                let socket = escape(&socket.to_string_lossy());
                format!("file.driver=nbd,file.server.type=unix,file.server.path={socket}")
            }
        };
        self.two(
            "-blockdev",
            format!(
                "driver=raw,node-name=disk{index},read-only={mode}{discard},{file},file.read-only={mode}{below}"
            ),
        );
        self.two("-device", format!("virtio-blk-pci,drive=disk{index},serial={}", escape(&disk.serial)));
    }

    /// Last, so that no other device has another address because of them.
    fn hot_plug(&mut self, spec: &MachineSpec) {
        let slots = spec.hot_plug_slots.min(MachineSpec::MAX_HOT_PLUG_SLOTS);
        if slots > 0 {
            // The ports' own signals instead of ACPI's: the firmware's tables then name no slot.
            self.two("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");
        }
        for slot in 0..slots {
            let number = slot.saturating_add(1);
            let port = hot_plug_port(slot);
            self.two(
                "-device",
                format!("pcie-root-port,id={port},bus=pcie.0,chassis={number},slot={number}"),
            );
        }
    }

    fn network(&mut self, spec: &MachineSpec) {
        let Some(network) = &spec.network else { return };
        let mut user = String::from("user,id=net0,ipv6=off");
        for forward in &network.forwards {
            user.push_str(&format!(",hostfwd=tcp:{}-:{}", host_part(&forward.host), forward.guest_port));
        }
        self.two("-netdev", user);
        // No boot ROM: it would be measured, and the guest never boots from the network.
        self.two("-device", "virtio-net-pci,netdev=net0,romfile=");
    }

    fn channel(&mut self, spec: &MachineSpec) {
        match spec.channel {
            None => {}
            Some(Channel::Vsock { cid }) => self.two("-device", format!("vhost-vsock-pci,guest-cid={cid}")),
            Some(Channel::VirtioSerial) => {
                self.two("-device", "virtio-serial-pci");
                self.two("-chardev", format!("socket,id=channel,fd={CHANNEL_DESCRIPTOR}"));
                self.two(
                    "-device",
                    format!("virtserialport,chardev=channel,name={}", MachineSpec::CHANNEL_PORT),
                );
            }
        }
    }
}

/// OVMF lays out a list of memory by the width of physical addresses, and measures it into PCR 0. It believes the
/// width only where the rest of the processor agrees with it; these widths are disbelieved, so that one reference
/// value fits every machine.
fn kvm_processor(kind: &Kind, vendor: Vendor) -> &'static str {
    match (kind, vendor) {
        (Kind::Tdx(_) | Kind::Snp(_), _) => "host,pmu=off",
        (Kind::Plain, Vendor::Intel) => "host,host-phys-bits=off,phys-bits=40",
        (Kind::Plain, Vendor::Amd) => "host,host-phys-bits=off,phys-bits=39",
    }
}

/// QEMU docs, "TDX virtual machines"; the object needs JSON because the socket is a structure.
fn tdx_object(mr_config_id: &[u8], quotes: &QuoteService) -> String {
    let socket = match quotes {
        QuoteService::Unix(path) => serde_json::json!({ "type": "unix", "path": path }),
        QuoteService::Vsock { cid, port } => {
            serde_json::json!({ "type": "vsock", "cid": cid.to_string(), "port": port.to_string() })
        }
    };
    serde_json::json!({
        "qom-type": "tdx-guest",
        "id": "tdx0",
        "sept-ve-disable": true,
        "mrconfigid": base64(mr_config_id),
        "quote-generation-socket": socket,
    })
    .to_string()
}

/// QEMU docs, "AMD Secure Encrypted Virtualization", section on SEV-SNP.
fn snp_object(snp: &SnpGuest) -> String {
    let mut object = format!(
        "sev-snp-guest,id=snp0,cbitpos={},reduced-phys-bits={},policy={:#x},kernel-hashes=on,host-data={}",
        snp.cbit_position,
        snp.reduced_phys_bits,
        snp.policy,
        base64(&snp.host_data),
    );
    if let Some((block, authentication)) = &snp.id_block {
        object.push_str(&format!(",id-block={block},id-auth={authentication}"));
    }
    object
}

/// QEMU's option parser takes a doubled comma for a comma.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

fn host_part(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("{}:{}", v4.ip(), v4.port()),
        SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port()),
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
