//! Files from which launches are predicted, and reference values as JSON.

use coffer_core_launch::sgx::{Pinned, SgxLaunch, Sigstruct, predict_sgx};
use coffer_core_launch::snp::{
    AuthBlock, SnpIgvmLaunch, SnpKernel, SnpLaunch, Vmm, predict_snp, predict_snp_igvm,
};
use coffer_core_launch::tdx::{self, AcpiTables, TdxKernel, TdxLaunch, predict_tdx, predict_tdx_igvm};
use coffer_core_launch::{MAX_VARIATIONS, ReferenceValues};

const PAGE: usize = 0x1000;

/// Measures a firmware file for SEV-SNP and TDX. The file's end matters, so the input is padded at its front.
pub fn launch_firmware(data: &[u8]) {
    let padding = data.len().next_multiple_of(PAGE) - data.len();
    let firmware = [&vec![0; padding], data].concat();
    let kernel = SnpKernel { kernel: b"kernel", initrd: b"initrd", command_line: "quiet" };
    for kernel in [None, Some(kernel)] {
        let launch = SnpLaunch {
            firmware: &firmware,
            kernel,
            vcpus: 2,
            cpu: "EPYC-Milan".parse().unwrap(),
            guest_features: 1,
            vmm: Vmm::Qemu,
            init_data: None,
        };
        if let Ok(values) = predict_snp(&launch) {
            look(&values);
            assert!(values.missing_registers().is_empty());
        }
    }
    let acpi =
        [AcpiTables { vcpus: 2, memory_mib: 1024, loader: b"loader", rsdp: b"rsdp", tables: b"tables" }];
    let kernel = TdxKernel { kernel: data, initrd: b"initrd", command_line: "quiet" };
    for (kernel, vmm) in [(None, tdx::Vmm::Gce), (Some(kernel), tdx::Vmm::Qemu)] {
        let launch = TdxLaunch {
            firmware: &firmware,
            kernel,
            memory_mib: 1024,
            vcpus: 2,
            vmm,
            page_order: Default::default(),
            acpi: &acpi,
            init_data: None,
        };
        if let Ok(prediction) = predict_tdx(&launch) {
            look(&prediction.values);
            let left_out: Vec<_> = prediction.left_out.iter().map(|left| left.register).collect();
            assert_eq!(prediction.values.missing_registers(), left_out);
        }
    }
}

/// Measures an IGVM file for both platforms, as it is and with its checksum made right.
pub fn launch_igvm(data: &[u8]) {
    measure_igvm(data);
    if let Some(data) = with_checksum(data) {
        measure_igvm(&data);
    }
}

fn with_checksum(data: &[u8]) -> Option<Vec<u8>> {
    let field = |at: usize| Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?) as usize);
    let fixed = if field(4)? == 1 { 24 } else { 32 };
    let mut data = data.to_vec();
    data.get_mut(20..24)?.fill(0);
    let end = field(8)?.checked_add(field(12)?)?;
    let covered = [data.get(..fixed)?, data.get(field(8)?..end)?].concat();
    let remainder = covered.iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)));
        crc
    });
    data.get_mut(20..24)?.copy_from_slice(&(!remainder).to_le_bytes());
    Some(data)
}

fn measure_igvm(data: &[u8]) {
    if let Ok(values) = predict_snp_igvm(&SnpIgvmLaunch { igvm: data, vmm: Vmm::Qemu, init_data: None }) {
        look(&values);
    }
    if let Ok(prediction) = predict_tdx_igvm(data, None) {
        look(&prediction.values);
    }
}

/// Measures an enclave's pages, which the input's first part is; the rest is its SIGSTRUCT.
pub fn launch_enclave(data: &[u8]) {
    let (enclave, sigstruct) = data.split_at(data.len().saturating_sub(1808));
    for (enclave, sigstruct) in [(data, None), (enclave, Some(sigstruct))] {
        let launch = SgxLaunch { enclave, sigstruct, pinned: Pinned::Enclave, init_data: None };
        if let Ok(values) = predict_sgx(&launch) {
            look(&values);
        }
    }
    let _ = Sigstruct::parse(data);
    let _ = AuthBlock::parse(data);
}

/// Reads reference values.
pub fn launch_reference(data: &[u8]) {
    if let Ok(values) = ReferenceValues::from_json(data) {
        look(&values);
    }
}

fn look(values: &ReferenceValues) {
    assert!(values.variations().len() <= MAX_VARIATIONS);
    let read = ReferenceValues::from_json(values.to_json().as_bytes());
    assert_eq!(read.as_ref(), Ok(values));
}

/// A page with the table and metadata that firmware has for both platforms.
fn firmware() -> Vec<u8> {
    let mut file = vec![0; PAGE];
    let mut put = |at: usize, parts: &[&[u8]]| {
        let bytes = parts.concat();
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        at
    };
    let word = |value: u32| value.to_le_bytes();
    let mut sev = vec![b"ASEV".to_vec(), word(88).to_vec(), word(1).to_vec(), word(6).to_vec()];
    for (gpa, size, kind) in [
        (0x80_0000, 0x2000, 1),
        (0x80_d000, 0x1000, 2),
        (0x80_e000, 0x1000, 3),
        (0x80_f000, 0x1000, 4),
        (0x81_0000, 0x1000, 0x10),
        (0x81_1000, 0x1000, 1),
    ] {
        sev.extend([word(gpa), word(size), word(kind)].map(Vec::from));
    }
    let sev_at = put(0x100, &[&sev.concat()]);
    let mut tdx = vec![b"TDVF".to_vec(), word(144).to_vec(), word(1).to_vec(), word(4).to_vec()];
    for (offset, raw, gpa, size, kind, attributes) in [
        (0, 0x800, 0xffff_f000u64, 0x1000u64, 0, 1),
        (0x800, 0x100, 0xffff_e000, 0x1000, 1, 0),
        (0, 0, 0x80_9000, 0x2000, 2, 0),
        (0, 0, 0x81_0000, 0x1000, 3, 2),
    ] {
        tdx.extend([word(offset).to_vec(), word(raw).to_vec(), gpa.to_le_bytes().to_vec()]);
        tdx.extend([size.to_le_bytes().to_vec(), word(kind).to_vec(), word(attributes).to_vec()]);
    }
    let tdx_at = put(0x200, &[&tdx.concat()]);
    let distance = |at: usize| word(u32::try_from(PAGE - at).unwrap());
    let guid = |text: &str| -> Vec<u8> {
        let bytes: Vec<u8> =
            (0..32).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|at: usize| bytes[at]).to_vec()
    };
    let entry = |data: &[u8], text: &str| {
        [data, &u16::try_from(data.len() + 18).unwrap().to_le_bytes(), &guid(text)].concat()
    };
    let mut table = [
        entry(&distance(tdx_at), "e47a6535984a4798865e4685a7bf8ec2"),
        entry(&distance(sev_at), "dc886566984a4798a75e5585a7bf67cc"),
        entry(&[word(0x81_0c00), word(0x400)].concat(), "7255371f3a3b4b04927b1da6efa8d454"),
        entry(&word(0x80_b004), "00f771de1a7e4fcb890e68c77e2fb44e"),
    ]
    .concat();
    let size = u16::try_from(table.len() + 18).unwrap();
    table.extend(size.to_le_bytes());
    table.extend(guid("96b582de1fb245f7baeaa366c55a082d"));
    put(PAGE - 32 - table.len(), &[&table]);
    file
}

pub(crate) fn firmware_seeds() -> Vec<Vec<u8>> {
    vec![firmware()]
}

pub(crate) fn igvm_seeds() -> Vec<Vec<u8>> {
    let header = |kind: u32, body: &[&[u8]]| {
        let body = body.concat();
        let length = u32::try_from(body.len()).unwrap();
        let padding = vec![0; body.len().next_multiple_of(8) - body.len()];
        [kind.to_le_bytes().as_slice(), &length.to_le_bytes(), &body, &padding].concat()
    };
    let (wide, word) = (u64::to_le_bytes, u32::to_le_bytes);
    let page = |gpa: u64, offset: u32, flags: u32, kind: u8| {
        header(0x302, &[&wide(gpa), &word(3), &word(offset), &word(flags), &[kind, 0, 0, 0]])
    };
    let headers = |offset: u32| {
        [
            header(0x1, &[&word(1), &[0, 2, 1, 0], &[0; 8]]),
            header(0x1, &[&word(2), &[0, 3, 1, 0], &[0; 8]]),
            header(0x301, &[&wide(0x1000), &word(7), &[0; 4]]),
            page(0x10_0000, offset, 0, 0),
            page(0x10_1000, 0, 0, 0),
            page(0x10_2000, 0, 2, 0),
            page(0x10_3000, 0, 0, 1),
            page(0x10_4000, 0, 0, 2),
            header(0x303, &[&wide(0x20_0000), &word(3), &word(7)]),
            header(0x304, &[&wide(0xffff_ffff_f000), &word(1), &word(offset), &[0; 4]]),
        ]
        .concat()
    };
    let size = headers(0).len();
    let data = 24 + size;
    let total = data + PAGE;
    let number = |value: usize| word(u32::try_from(value).unwrap());
    let fixed = [*b"IGVM", word(1), word(24), number(size), number(total), [0; 4]].concat();
    let file = [fixed, headers(u32::try_from(data).unwrap()), vec![0x5a; PAGE]].concat();
    vec![with_checksum(&file).unwrap()]
}

pub(crate) fn enclave_seeds() -> Vec<Vec<u8>> {
    let enclave = include_bytes!("../../../core/launch/testdata/enclave.sgxs").to_vec();
    let signed = [enclave.as_slice(), include_bytes!("../../../core/launch/testdata/enclave.sig")].concat();
    vec![enclave, signed]
}

pub(crate) fn reference_seeds() -> Vec<Vec<u8>> {
    let one = include_bytes!("../../../core/launch/testdata/reference.json").to_vec();
    let launch = SnpLaunch {
        firmware: &firmware(),
        kernel: None,
        vcpus: 1,
        cpu: "EPYC-Milan".parse().unwrap(),
        guest_features: 1,
        vmm: Vmm::Qemu,
        init_data: None,
    };
    vec![one, predict_snp(&launch).unwrap().to_json().into_bytes()]
}
