//! The command lines of the three kinds of machine, as files. `COFFER_BLESS=1` writes them anew.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use coffer_host_vmm::{
    Accelerator, Channel, Content, Disk, Firmware, Forward, Kind, LinuxBoot, MachineSpec, QuoteService,
    SnpGuest, TdxGuest, UserNetwork, Vendor, qemu,
};

fn plain() -> MachineSpec {
    MachineSpec {
        kind: Kind::Plain,
        accelerator: Accelerator::SoftwareEmulation,
        vendor: Vendor::Intel,
        cpus: 2,
        memory_mib: 512,
        firmware: Firmware::Flash { code: "/fw/code.fd".into(), variables: "/run/c/vars.fd".into() },
        linux: Some(LinuxBoot {
            kernel: "/guest/vmlinuz".into(),
            initrd: Some("/guest/initramfs".into()),
            command_line: "console=ttyS0 panic=-1 quiet coffer.channel=virtio".into(),
        }),
        tpm: Some("/run/c/tpm,1.sock".into()),
        disks: vec![
            Disk {
                content: Content::File("/run/c/init-data".into()),
                serial: "coffer-initdata".into(),
                read_only: true,
            },
            Disk {
                content: Content::File("/run/c/scratch".into()),
                serial: "scratch".into(),
                read_only: false,
            },
        ],
        hot_plug_slots: 0,
        network: Some(UserNetwork {
            forwards: vec![
                Forward { host: "127.0.0.1:8080".parse().unwrap(), guest_port: 80 },
                Forward { host: "[::1]:8443".parse().unwrap(), guest_port: 443 },
            ],
        }),
        channel: Some(Channel::VirtioSerial),
        console_log: Some("/run/c/console.log".into()),
    }
}

fn confidential(kind: Kind) -> MachineSpec {
    MachineSpec {
        kind,
        accelerator: Accelerator::Kvm,
        firmware: Firmware::Image("/fw/tee.fd".into()),
        tpm: None,
        network: Some(UserNetwork::default()),
        channel: Some(Channel::Vsock { cid: 4097 }),
        ..plain()
    }
}

fn check(name: &str, spec: &MachineSpec) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{name}.txt"));
    // One option a line, with its value.
    let mut text = String::new();
    for argument in qemu::command_line(spec) {
        let option = argument.starts_with('-');
        text.push_str(if text.is_empty() {
            ""
        } else if option {
            "\n"
        } else {
            " "
        });
        text.push_str(&argument);
    }
    text.push('\n');
    if std::env::var_os("COFFER_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[test]
fn plain_under_emulation_is_as_written() {
    check("plain", &plain());
}

#[test]
fn plain_under_kvm_with_vsock_is_as_written() {
    let spec =
        MachineSpec { accelerator: Accelerator::Kvm, channel: Some(Channel::Vsock { cid: 4097 }), ..plain() };
    check("plain-kvm", &spec);
    check("plain-kvm-amd", &MachineSpec { vendor: Vendor::Amd, ..spec });
}

#[test]
fn tdx_is_as_written() {
    let mut mr_config_id = [0; 48];
    mr_config_id[..32].fill(0xab);
    let quotes = QuoteService::Unix("/var/run/tdx-qgs/qgs.socket".into());
    check("tdx", &confidential(Kind::Tdx(TdxGuest { mr_config_id, quotes })));
    let quotes = QuoteService::Vsock { cid: 2, port: 4050 };
    check("tdx-vsock-quotes", &confidential(Kind::Tdx(TdxGuest { mr_config_id, quotes })));
}

#[test]
fn snp_is_as_written() {
    let guest = SnpGuest {
        host_data: [0xcd; 32],
        policy: 0x30000,
        cbit_position: 51,
        reduced_phys_bits: 1,
        id_block: None,
    };
    check("snp", &confidential(Kind::Snp(guest.clone())));
    let signed = SnpGuest { id_block: Some(("QkxPQ0s=".into(), "QVVUSA==".into())), ..guest };
    check("snp-id-block", &confidential(Kind::Snp(signed)));
}

#[test]
fn a_served_disk_and_slots_for_others_add_to_the_line_and_change_nothing_else() {
    let mut spec = plain();
    let disk =
        Disk { content: Content::Nbd("/run/c/disk,0.sock".into()), serial: "served".into(), read_only: true };
    spec.disks.push(disk);
    spec.hot_plug_slots = 2;
    check("plain-served-slots", &spec);
    let without = qemu::command_line(&plain());
    let with = qemu::command_line(&spec);
    let mut rest = with.iter();
    assert!(without.iter().all(|argument| rest.any(|other| other == argument)), "{with:?}");
    let all = MachineSpec { hot_plug_slots: u8::MAX, ..plain() };
    let ports = qemu::command_line(&all).iter().filter(|word| word.starts_with("pcie-root-port")).count();
    assert_eq!(ports, usize::from(MachineSpec::MAX_HOT_PLUG_SLOTS));
}

#[test]
fn a_comma_in_a_path_cannot_add_an_option() {
    let spec = MachineSpec { console_log: Some("/x,server=on".into()), ..plain() };
    let line = qemu::command_line(&spec);
    assert!(
        line.iter().any(|argument| argument == "file,id=console,path=/x,,server=on,append=on"),
        "{line:?}"
    );
}
