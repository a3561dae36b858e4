//! MRTD: what the launcher puts into a trust domain before it begins.
//!
//! SPEC: Intel TDX Module Base Architecture Specification (348549), section "Measurement and attestation", and the
//! ABI reference (348551), TDH.MEM.PAGE.ADD and TDH.MR.EXTEND: one SHA-384 over a record of 128 bytes for each page
//! added, and 384 bytes for each 256 bytes of content extended.

use coffer_core_digest::{Algorithm, Digest, Hasher};

use super::PageOrder;
use crate::igvm::Step;
use crate::ovmf::TdxSection;

const PAGE: u64 = 0x1000;
const CHUNK: usize = 0x100;
const CHUNKS_OF_A_PAGE: usize = 16;
const ZEROS: [u8; CHUNK] = [0; CHUNK];

struct Mrtd(Hasher);

impl Mrtd {
    fn new() -> Self {
        Self(Hasher::new(Algorithm::Sha384))
    }

    fn record(&mut self, operation: &[u8], gpa: u64) {
        let mut name = [0u8; 16];
        for (to, from) in name.iter_mut().zip(operation) {
            *to = *from;
        }
        self.0.update(&name);
        self.0.update(&gpa.to_le_bytes());
        self.0.update(&[0; 104]);
    }

    fn add(&mut self, gpa: u64) {
        self.record(b"MEM.PAGE.ADD", gpa);
    }

    /// A page's content; what lacks is zero.
    fn extend(&mut self, gpa: u64, content: &[u8]) {
        let mut chunks = content.chunks(CHUNK);
        for number in 0..CHUNKS_OF_A_PAGE {
            let chunk = chunks.next().unwrap_or_default();
            let at = u64::try_from(number.saturating_mul(CHUNK)).unwrap_or_default();
            self.record(b"MR.EXTEND", gpa.saturating_add(at));
            self.0.update(chunk);
            self.0.update(ZEROS.get(chunk.len()..).unwrap_or_default());
        }
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// Page addresses from `gpa` on, each with its content of `data`.
fn pages(gpa: u64, size: u64, data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut content = data.chunks(0x1000);
    (0..size).step_by(0x1000).map(move |at| (gpa.saturating_add(at), content.next().unwrap_or_default()))
}

/// MRTD of a guest that begins in this firmware. Where `everything` is set, all sections are extended, as Google's
/// hypervisor once did.
pub(super) fn of_sections(sections: &[TdxSection<'_>], order: PageOrder, everything: bool) -> Digest {
    let mut mrtd = Mrtd::new();
    for section in sections {
        let TdxSection { gpa, size, data, .. } = *section;
        let (added, extended) = (!section.is_augmented(), everything || section.is_extended());
        match order {
            PageOrder::Interleaved => {
                for (gpa, content) in pages(gpa, size, data) {
                    added.then(|| mrtd.add(gpa));
                    extended.then(|| mrtd.extend(gpa, content));
                }
            }
            PageOrder::AddedFirst => {
                pages(gpa, size, data).filter(|_| added).for_each(|(gpa, _)| mrtd.add(gpa));
                let contents = pages(gpa, size, data).filter(|_| extended);
                contents.for_each(|(gpa, content)| mrtd.extend(gpa, content));
            }
        }
    }
    mrtd.finish()
}

/// MRTD of a guest that an IGVM file describes.
pub(super) fn of_steps(steps: &[Step<'_>]) -> Digest {
    let mut mrtd = Mrtd::new();
    for step in steps {
        match *step {
            Step::Page { gpa, size, measured, data, .. } => {
                for (gpa, content) in pages(gpa, size, data) {
                    mrtd.add(gpa);
                    measured.then(|| mrtd.extend(gpa, content));
                }
            }
            Step::Parameters { gpa, size } => {
                (0..size / PAGE).for_each(|page| mrtd.add(gpa.saturating_add(page.saturating_mul(PAGE))));
            }
            Step::Processor { .. } | Step::IdBlock { .. } => {}
        }
    }
    mrtd.finish()
}
