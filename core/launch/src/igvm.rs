//! Reading IGVM files: what a launcher is told to put into a guest's memory, in its order.
//!
//! SPEC: microsoft/igvm, igvm_defs (format versions 1 and 2). A file serves several platforms; each header's mask says
//! for which. Headers that leave no trace in a measurement are skipped.
//! Left out: relocation, VTLs, native and VBS guests.

use crate::LaunchError;
use crate::bytes::{slice, u16_at, u32_at, u64_at, usize_at};

const MAGIC: &[u8] = b"IGVM";
const PAGE: u64 = 0x1000;
const LARGE_PAGE: u64 = 0x20_0000;
const MAX_HEADERS: usize = 1 << 20;
/// What pages and parameter areas may cover in all. Real files describe some hundred MiB.
const MAX_MEMORY: u64 = 1 << 30;

const SUPPORTED_PLATFORM: u32 = 0x1;
const PARAMETER_AREA: u32 = 0x301;
const PAGE_DATA: u32 = 0x302;
const PARAMETER_INSERT: u32 = 0x303;
const VP_CONTEXT: u32 = 0x304;
const SNP_ID_BLOCK: u32 = 0x30b;

/// The platform that a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Platform {
    Snp = 2,
    Tdx = 3,
}

/// What kind of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageType {
    Normal,
    Secrets,
    Cpuid,
}

/// One step of the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Pages of `size` bytes, with data or zero.
    Page { gpa: u64, size: u64, kind: PageType, measured: bool, data: &'a [u8] },
    /// Pages that the launcher fills.
    Parameters { gpa: u64, size: u64 },
    /// A processor's state.
    Processor { gpa: u64, data: &'a [u8] },
    /// The measurement that the file's ID block is for, and the guest's version.
    IdBlock { measurement: &'a [u8], guest_svn: u32 },
}

/// The steps for one platform.
pub(crate) fn steps(file: &[u8], platform: Platform) -> Result<Vec<Step<'_>>, LaunchError> {
    let headers = headers(file)?;
    let mask = headers
        .iter()
        .filter(|header| header.kind == SUPPORTED_PLATFORM)
        .find(|header| header.body.get(5).copied() == Some(platform as u8))
        .and_then(|header| u32_at(header.body, 0))
        .ok_or(LaunchError::Igvm(match platform {
            Platform::Snp => "it does not support SEV-SNP",
            Platform::Tdx => "it does not support TDX",
        }))?;
    let mut areas = Areas { mask, file, sizes: Vec::new(), total: 0 };
    let mut steps = Vec::new();
    for header in &headers {
        steps.extend(areas.step(header)?);
    }
    Ok(steps)
}

/// One variable header.
struct Header<'a> {
    kind: u32,
    body: &'a [u8],
}

fn headers(file: &[u8]) -> Result<Vec<Header<'_>>, LaunchError> {
    const CUT: LaunchError = LaunchError::Igvm("its headers are cut off");
    if slice(file, 0, 4) != Some(MAGIC) {
        return Err(LaunchError::Igvm("it does not begin with IGVM"));
    }
    let fixed = match u32_at(file, 4).ok_or(CUT)? {
        1 => 24,
        2 if u32_at(file, 24) == Some(0) && u32_at(file, 28) == Some(0x1000) => 32,
        2 => return Err(LaunchError::Igvm("it is not for x86 with pages of 4 KiB")),
        _ => return Err(LaunchError::Igvm("its format is neither version 1 nor 2")),
    };
    let (offset, size) = (usize_at(file, 8).ok_or(CUT)?, usize_at(file, 12).ok_or(CUT)?);
    let mut rest = slice(file, offset, size).ok_or(CUT)?;
    let head = file.get(..fixed).ok_or(CUT)?;
    if u32_at(head, 20) != Some(checksum(head, rest)) {
        return Err(LaunchError::Igvm("its checksum is wrong"));
    }
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let length = usize_at(rest, 4).ok_or(CUT)?;
        let body = slice(rest, 8, length).ok_or(CUT)?;
        headers.push(Header { kind: u32_at(rest, 0).ok_or(CUT)?, body });
        let next = length.checked_add(8).and_then(|end| end.checked_next_multiple_of(8)).ok_or(CUT)?;
        rest = rest.get(next..).unwrap_or_default();
        if headers.len() > MAX_HEADERS {
            return Err(LaunchError::Igvm("it has more than a million headers"));
        }
    }
    Ok(headers)
}

/// CRC-32 (ISO 3309) over the fixed header with a checksum of zero and the variable headers.
fn checksum(head: &[u8], variable: &[u8]) -> u32 {
    let zeroed = head.iter().enumerate().map(|(at, byte)| if (20..24).contains(&at) { 0 } else { *byte });
    let remainder = zeroed.chain(variable.iter().copied()).fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    });
    !remainder
}

/// The parameter areas so far.
struct Areas<'a> {
    mask: u32,
    file: &'a [u8],
    sizes: Vec<(u32, u64)>,
    total: u64,
}

impl<'a> Areas<'a> {
    fn step(&mut self, header: &Header<'a>) -> Result<Option<Step<'a>>, LaunchError> {
        const CUT: LaunchError = LaunchError::Igvm("a header is too short");
        let body = header.body;
        match header.kind {
            PARAMETER_AREA => {
                let (size, index) = u64_at(body, 0).zip(u32_at(body, 8)).ok_or(CUT)?;
                self.sizes.push((index, size));
                Ok(None)
            }
            PAGE_DATA if self.is_ours(body, 8)? => self.page(body).ok_or(CUT)?,
            PARAMETER_INSERT if self.is_ours(body, 8)? => self.insert(body).map(Some),
            VP_CONTEXT if self.is_ours(body, 8)? => {
                let (gpa, offset) = u64_at(body, 0).zip(usize_at(body, 12)).ok_or(CUT)?;
                let data = slice(self.file, offset, 0x1000)
                    .ok_or(LaunchError::Igvm("a processor's state lies outside of the file"))?;
                Ok(Some(Step::Processor { gpa, data }))
            }
            SNP_ID_BLOCK if self.is_ours(body, 0)? => {
                let measurement = slice(body, 8, 48).ok_or(CUT)?;
                let guest_svn = u32_at(body, 92).ok_or(CUT)?;
                Ok(Some(Step::IdBlock { measurement, guest_svn }))
            }
            _ => Ok(None),
        }
    }

    /// Whether the mask at `at` names the platform.
    fn is_ours(&self, body: &[u8], at: usize) -> Result<bool, LaunchError> {
        let mask = u32_at(body, at).ok_or(LaunchError::Igvm("a header is too short"))?;
        Ok(mask & self.mask != 0)
    }

    /// Counts memory, so that a small file cannot ask for endless work.
    fn count(&mut self, size: u64) -> Option<()> {
        self.total = self.total.checked_add(size).filter(|total| *total <= MAX_MEMORY)?;
        Some(())
    }

    fn page(&mut self, body: &[u8]) -> Option<Result<Option<Step<'a>>, LaunchError>> {
        let (gpa, offset) = (u64_at(body, 0)?, usize_at(body, 12)?);
        let (flags, kind) = (u32_at(body, 16)?, u16_at(body, 20)?);
        let size = if flags & 1 == 0 { PAGE } else { LARGE_PAGE };
        if !gpa.is_multiple_of(size) || gpa.checked_add(size).is_none() {
            return Some(Err(LaunchError::Igvm("a page is not aligned")));
        }
        // Shared with the host: not of the guest's memory.
        if flags & 4 != 0 {
            return Some(Ok(None));
        }
        if self.count(size).is_none() {
            return Some(Err(LaunchError::Igvm("it describes more than 1 GiB")));
        }
        let kind = match kind {
            0 => PageType::Normal,
            1 => PageType::Secrets,
            2 | 3 => PageType::Cpuid,
            _ => return Some(Err(LaunchError::Igvm("a page is of unknown kind"))),
        };
        let data = match offset {
            0 => &[][..],
            _ => match slice(self.file, offset, usize::try_from(size).ok()?) {
                Some(data) => data,
                None => return Some(Err(LaunchError::Igvm("a page's data lies outside of the file"))),
            },
        };
        Some(Ok(Some(Step::Page { gpa, size, kind, measured: flags & 2 == 0, data })))
    }

    fn insert(&mut self, body: &[u8]) -> Result<Step<'a>, LaunchError> {
        let found = u64_at(body, 0).zip(u32_at(body, 12)).and_then(|(gpa, index)| {
            let (_, size) = *self.sizes.iter().find(|(found, _)| *found == index)?;
            gpa.checked_add(size)?;
            self.count(size)?;
            (gpa.is_multiple_of(PAGE) && size.is_multiple_of(PAGE)).then_some((gpa, size))
        });
        let (gpa, size) =
            found.ok_or(LaunchError::Igvm("a parameter area is missing, too large or not aligned"))?;
        Ok(Step::Parameters { gpa, size })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Writing IGVM files, for tests.

    pub(crate) const PAGE_DATA: u32 = super::PAGE_DATA;

    pub(crate) struct File {
        headers: Vec<u8>,
        /// Where in the headers a file offset stands, and the data that goes there.
        data: Vec<(usize, Vec<u8>)>,
    }

    impl File {
        pub(crate) fn new(platforms: &[(u32, u8)]) -> Self {
            let mut file = Self { headers: Vec::new(), data: Vec::new() };
            for (mask, platform) in platforms {
                let body = [mask.to_le_bytes().as_slice(), &[0, *platform, 1, 0], &[0; 8]].concat();
                file.header(super::SUPPORTED_PLATFORM, &body);
            }
            file
        }

        pub(crate) fn header(&mut self, kind: u32, body: &[u8]) {
            self.headers.extend(kind.to_le_bytes());
            self.headers.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
            self.headers.extend(body);
            self.headers.resize(self.headers.len().next_multiple_of(8), 0);
        }

        pub(crate) fn page(&mut self, gpa: u64, mask: u32, flags: u32, kind: u16, data: &[u8]) {
            let body = [
                gpa.to_le_bytes().as_slice(),
                &mask.to_le_bytes(),
                &[0; 4],
                &flags.to_le_bytes(),
                &kind.to_le_bytes(),
                &[0; 2],
            ]
            .concat();
            self.with_data(PAGE_DATA, &body, data);
        }

        pub(crate) fn processor(&mut self, gpa: u64, mask: u32, data: &[u8]) {
            let body = [gpa.to_le_bytes().as_slice(), &mask.to_le_bytes(), &[0; 8]].concat();
            self.with_data(super::VP_CONTEXT, &body, data);
        }

        fn with_data(&mut self, kind: u32, body: &[u8], data: &[u8]) {
            if !data.is_empty() {
                self.data.push((self.headers.len() + 8 + 12, data.to_vec()));
            }
            self.header(kind, body);
        }

        pub(crate) fn headers_end(&self) -> usize {
            24 + self.headers.len()
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            let (mut headers, mut tail) = (self.headers.clone(), Vec::new());
            for (at, data) in &self.data {
                let offset = u32::try_from(self.headers_end() + tail.len()).unwrap();
                headers[*at..at + 4].copy_from_slice(&offset.to_le_bytes());
                tail.extend(data);
            }
            let size = u32::try_from(headers.len()).unwrap();
            let total = u32::try_from(self.headers_end() + tail.len()).unwrap();
            let mut fixed = [b"IGVM".as_slice(), &1u32.to_le_bytes(), &24u32.to_le_bytes()].concat();
            fixed.extend(size.to_le_bytes());
            fixed.extend(total.to_le_bytes());
            fixed.extend([0; 4]);
            let checksum = super::checksum(&fixed, &headers);
            fixed[20..24].copy_from_slice(&checksum.to_le_bytes());
            [fixed, headers, tail].concat()
        }
    }

    #[test]
    fn the_checksum_is_the_usual_crc_32() {
        assert_eq!(super::checksum(b"123456789", &[]), 0xcbf4_3926);
    }
}
