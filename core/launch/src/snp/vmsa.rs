//! The processor's state at its first instruction, as the launcher encrypts it: the VMSA page.
//!
//! SPEC: AMD64 Architecture Programmer's Manual, volume 2, table B-4 (layout); Linux, arch/x86/kvm/svm (what KVM
//! sets: `EFER.SVME`, `CR4.MCE`); the values of the other launchers are those that their providers publish.

use crate::bytes::put;

use super::{CpuType, Vmm};

pub(crate) const PAGE: usize = 0x1000;
/// Where the first processor begins.
pub(crate) const RESET_VECTOR: u64 = 0xffff_fff0;
/// The PAT after reset, and as Google's hypervisor sets it.
const PAT: u64 = 0x0007_0406_0007_0406;
const PAT_GCE: u64 = 0x0007_0106;
/// What KVM sets where the launcher names no processor.
const RDX_AT_RESET: u64 = 0x600;

/// What differs between launchers.
struct Flavour {
    cs: u16,
    ss: u16,
    tr: u16,
    rdx: u64,
    mxcsr: u32,
    fcw: u16,
    pat: u64,
}

impl Flavour {
    fn of(vmm: Vmm, cpu: &CpuType, first: bool) -> Self {
        match vmm {
            Vmm::Qemu => Self {
                cs: 0x9b,
                ss: 0x93,
                tr: 0x8b,
                rdx: u64::from(cpu.signature()),
                mxcsr: 0x1f80,
                fcw: 0x37f,
                pat: PAT,
            },
            Vmm::Ec2 | Vmm::Ec2Since2026 => Self {
                cs: if first { 0x9a } else { 0x9b },
                ss: 0x92,
                tr: 0x83,
                rdx: if vmm == Vmm::Ec2 { 0 } else { RDX_AT_RESET },
                mxcsr: 0,
                fcw: 0,
                pat: PAT,
            },
            Vmm::Gce => {
                Self { cs: 0x9b, ss: 0x93, tr: 0x8b, rdx: RDX_AT_RESET, mxcsr: 0, fcw: 0, pat: PAT_GCE }
            }
        }
    }
}

/// The page of a processor that begins at `address`.
pub(crate) fn page(vmm: Vmm, cpu: &CpuType, address: u64, features: u64) -> Vec<u8> {
    let flavour = Flavour::of(vmm, cpu, address == RESET_VECTOR);
    let mut page = vec![0; PAGE];
    let code = address & 0xffff_0000;
    // Selector, attributes, limit and base, in the order of the page.
    let segments: [(u16, u16, u64); 10] = [
        (0, 0x93, 0),
        (0xf000, flavour.cs, code),
        (0, flavour.ss, 0),
        (0, 0x93, 0),
        (0, 0x93, 0),
        (0, 0x93, 0),
        (0, 0, 0),
        (0, 0x82, 0),
        (0, 0, 0),
        (0, flavour.tr, 0),
    ];
    for (slot, (selector, attributes, base)) in page.chunks_exact_mut(16).zip(segments) {
        write(slot, 0, &selector.to_le_bytes());
        write(slot, 2, &attributes.to_le_bytes());
        write(slot, 4, &0xffffu32.to_le_bytes());
        write(slot, 8, &base.to_le_bytes());
    }
    let words: [(usize, u64); 11] = [
        // EFER, CR4, CR0, DR7, DR6, RFLAGS, RIP, PAT, RDX, SEV_FEATURES, XCR0.
        (0xd0, 0x1000),
        (0x148, 0x40),
        (0x158, 0x10),
        (0x160, 0x400),
        (0x168, 0xffff_0ff0),
        (0x170, 2),
        (0x178, address & 0xffff),
        (0x268, flavour.pat),
        (0x310, flavour.rdx),
        (0x3b0, features),
        (0x3e8, 1),
    ];
    for (at, value) in words {
        write(&mut page, at, &value.to_le_bytes());
    }
    write(&mut page, 0x408, &flavour.mxcsr.to_le_bytes());
    write(&mut page, 0x410, &flavour.fcw.to_le_bytes());
    page
}

/// Every place is inside of the page or segment by the tables above.
fn write(bytes: &mut [u8], at: usize, value: &[u8]) {
    let _ = put(bytes, at, value);
}
