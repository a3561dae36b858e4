//! scratch
use coffer_core_launch::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (f, k, i) = (
        std::fs::read("/usr/share/OVMF/OVMF_CODE_4M.fd").unwrap(),
        std::fs::read(&a[1]).unwrap(),
        std::fs::read(&a[2]).unwrap(),
    );
    let r = predict_tpm(&TpmLaunch {
        firmware: &f,
        kernel: &k,
        initrd: &i,
        command_line: &coffer_host_sandbox::base_command_line(coffer_host_sandbox::ChannelKind::VirtioSerial),
        memory_mib: 512,
        vcpus: 2,
        address_width: AddressWidth::Unreported,
        init_data: None,
        bank: "sha256".parse().unwrap(),
    })
    .unwrap();
    for (n, d) in r.registers() {
        println!("{n} {}", d.hex().to_uppercase());
    }
}
