//! The hand-off block list by which a launcher tells TDVF of memory: the first event of RTMR0.
//!
//! SPEC: PI 1.7, volume 3, section 5 (HOBs); TDX Virtual Firmware Design Guide, section 7.2; QEMU,
//! hw/i386/tdvf-hob.c. What is measured ends before the end-of-list HOB. Compared with recorded logs: QEMU guests of
//! 1, 2, 8 and 10 GiB, and a Google guest of 16 GiB.

use crate::kernel::low_memory;
use crate::ovmf::TdxSection;

use super::Vmm;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const HANDOFF_SIZE: u16 = 56;
const RESOURCE_SIZE: u16 = 48;
/// `EFI_RESOURCE_SYSTEM_MEMORY` and `EFI_RESOURCE_MEMORY_UNACCEPTED`.
const ACCEPTED: u32 = 0;
const UNACCEPTED: u32 = 7;
/// Present, initialized, tested.
const ATTRIBUTES: u32 = 7;
/// Google's hypervisor asks the firmware to accept all memory early.
const EARLY: u32 = 0x1000_0000;
/// Where the list stands if the metadata does not say.
const DEFAULT_PLACE: u64 = 0x80_9000;

/// A stretch of memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    start: u64,
    end: u64,
}

/// The list as it is measured.
pub(super) fn list(sections: &[TdxSection<'_>], memory_mib: u32, vmm: Vmm) -> Vec<u8> {
    let place = sections.iter().find(|section| section.kind == TdxSection::TD_HOB);
    let place = place.map_or(DEFAULT_PLACE, |section| section.gpa);
    let resources = match vmm {
        Vmm::Qemu => qemu(sections, memory_mib),
        Vmm::Gce => gce(sections, memory_mib),
    };
    let size = u64::try_from(resources.len()).unwrap_or_default().saturating_mul(u64::from(RESOURCE_SIZE));
    let end = place.saturating_add(u64::from(HANDOFF_SIZE)).saturating_add(size);
    // QEMU counts the end-of-list HOB in, Google's hypervisor does not.
    let end = if vmm == Vmm::Qemu { end.saturating_add(8) } else { end };
    let mut list = Vec::new();
    list.extend([1, 0]);
    list.extend(HANDOFF_SIZE.to_le_bytes());
    list.extend([0; 4]);
    // EFI_HOB_HANDOFF_TABLE_VERSION; boot mode 0 and no memory for HOBs.
    list.extend(9u32.to_le_bytes());
    list.extend([0; 36]);
    list.extend(end.to_le_bytes());
    for (kind, attributes, range) in resources {
        list.extend([3, 0]);
        list.extend(RESOURCE_SIZE.to_le_bytes());
        list.extend([0; 20]);
        list.extend(kind.to_le_bytes());
        list.extend(attributes.to_le_bytes());
        list.extend(range.start.to_le_bytes());
        list.extend(range.end.saturating_sub(range.start).to_le_bytes());
    }
    list
}

fn range(section: &TdxSection<'_>) -> Range {
    Range { start: section.gpa, end: section.gpa.saturating_add(section.size) }
}

/// What of `bank` is outside of `taken`, which is sorted.
fn outside(bank: Range, taken: &[Range]) -> Vec<Range> {
    let mut free = Vec::new();
    let mut at = bank.start;
    for range in taken.iter().filter(|range| range.end > bank.start && range.start < bank.end) {
        if range.start > at {
            free.push(Range { start: at, end: range.start });
        }
        at = at.max(range.end);
    }
    if at < bank.end {
        free.push(Range { start: at, end: bank.end });
    }
    free
}

/// All in the order of addresses; the volumes are not memory.
fn qemu(sections: &[TdxSection<'_>], memory_mib: u32) -> Vec<(u32, u32, Range)> {
    let memory = |section: &&TdxSection<'_>| {
        matches!(section.kind, TdxSection::TD_HOB | TdxSection::MEMORY) && section.size > 0
    };
    let mut taken: Vec<Range> = sections.iter().filter(memory).map(range).collect();
    taken.sort_unstable();
    let low = low_memory(memory_mib);
    let high = (u64::from(memory_mib) << 20).saturating_sub(low);
    let free = outside(Range { start: 0, end: low }, &taken);
    let mut all: Vec<_> = taken.into_iter().map(|range| (ACCEPTED, ATTRIBUTES, range)).collect();
    all.extend(free.into_iter().map(|range| (UNACCEPTED, ATTRIBUTES, range)));
    all.sort_unstable_by_key(|(.., range)| *range);
    if high > 0 {
        let range = Range { start: 4 * GIB, end: (4 * GIB).saturating_add(high) };
        all.push((UNACCEPTED, ATTRIBUTES, range));
    }
    all
}

/// First what is accepted, in the order of the metadata and with the volumes, then what is not.
fn gce(sections: &[TdxSection<'_>], memory_mib: u32) -> Vec<(u32, u32, Range)> {
    let accepted: Vec<Range> = sections.iter().filter(|section| section.size > 0).map(range).collect();
    let mut taken = accepted.clone();
    taken.sort_unstable();
    let memory = u64::from(memory_mib) << 20;
    let banks = [
        Range { start: 0, end: memory.min(3 * GIB) },
        Range { start: 4 * GIB - 2 * MIB, end: 4 * GIB },
        Range { start: 4 * GIB, end: (4 * GIB).saturating_add(memory.saturating_sub(3 * GIB)) },
    ];
    let free: Vec<Range> = banks.into_iter().flat_map(|bank| outside(bank, &taken)).collect();
    let accepted = accepted.into_iter().map(|range| (ACCEPTED, ATTRIBUTES, range));
    accepted.chain(free.into_iter().map(|range| (UNACCEPTED, ATTRIBUTES | EARLY, range))).collect()
}
