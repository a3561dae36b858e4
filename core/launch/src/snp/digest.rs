//! The launch digest: one hash for each page, over the digest so far and what the page is.
//!
//! SPEC: AMD, SEV Secure Nested Paging Firmware ABI (56860), section 8.17.2, table "PAGE_INFO".

use coffer_core_digest::{Algorithm, Digest, Hasher};

const PAGE: usize = 0x1000;
const PAGE_INFO_SIZE: u16 = 0x70;

/// How a page was given to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PageKind {
    Normal = 1,
    Vmsa = 2,
    Zero = 3,
    Unmeasured = 4,
    Secrets = 5,
    Cpuid = 6,
}

/// The digest so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaunchDigest(Digest);

impl LaunchDigest {
    pub(crate) const fn new() -> Self {
        Self(Digest::zero(Algorithm::Sha384))
    }

    pub(crate) const fn value(self) -> Digest {
        self.0
    }

    fn update(&mut self, kind: PageKind, gpa: u64, contents: &Digest) {
        let mut hasher = Hasher::new(Algorithm::Sha384);
        hasher.update(self.0.as_bytes());
        hasher.update(contents.as_bytes());
        hasher.update(&PAGE_INFO_SIZE.to_le_bytes());
        // Not the initial migration image; no permissions for lower VMPLs.
        hasher.update(&[kind as u8, 0, 0, 0, 0, 0]);
        hasher.update(&gpa.to_le_bytes());
        self.0 = hasher.finish();
    }

    /// A page without measured contents.
    pub(crate) fn page(&mut self, kind: PageKind, gpa: u64) {
        self.update(kind, gpa, &Digest::zero(Algorithm::Sha384));
    }

    /// A page with contents; what lacks is zero.
    pub(crate) fn contents(&mut self, kind: PageKind, gpa: u64, contents: &[u8]) {
        let mut hasher = Hasher::new(Algorithm::Sha384);
        hasher.update(contents);
        hasher.update([0; PAGE].get(contents.len()..).unwrap_or_default());
        self.update(kind, gpa, &hasher.finish());
    }

    /// `size` bytes of pages without measured contents.
    pub(crate) fn pages(&mut self, kind: PageKind, gpa: u64, size: u64) {
        for offset in (0..size).step_by(PAGE) {
            self.page(kind, gpa.saturating_add(offset));
        }
    }

    /// `size` bytes of pages that are given with zeros as their contents.
    pub(crate) fn zeros(&mut self, gpa: u64, size: u64) {
        let contents = Digest::of(Algorithm::Sha384, &[0; PAGE]);
        for offset in (0..size).step_by(PAGE) {
            self.update(PageKind::Normal, gpa.saturating_add(offset), &contents);
        }
    }

    /// All pages of `bytes`.
    pub(crate) fn data(&mut self, mut gpa: u64, bytes: &[u8]) {
        for page in bytes.chunks(PAGE) {
            self.contents(PageKind::Normal, gpa, page);
            gpa = gpa.saturating_add(0x1000);
        }
    }
}
