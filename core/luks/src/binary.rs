//! The binary header (specification, section 2.1): two copies, each before its copy of the metadata.

use std::io::{Read, Seek, SeekFrom};

use aws_lc_rs::digest;

use crate::{LuksError, Options};

/// Length of a binary header.
const BINARY: usize = 4096;
/// Length of a copy: binary header and metadata. Others are allowed to others.
const LENGTH: u64 = 16_384;
/// The lengths that the specification allows (section 2.2).
const LENGTHS: [u64; 9] =
    [16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152, 4_194_304];
const PRIMARY: &[u8; 6] = b"LUKS\xba\xbe";
const SECONDARY: &[u8; 6] = b"SKUL\xba\xbe";
const CHECKSUM: std::ops::Range<usize> = 448..512;

/// Which of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// At the volume's beginning.
    Primary,
    /// Behind it.
    Secondary,
}

/// What the binary header says.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    length: u64,
    sequence: u64,
    label: String,
    uuid: String,
    salt: [u8; 64],
}

impl Binary {
    pub(crate) fn new(options: &Options) -> Result<Self, LuksError> {
        fits("the label", &options.label, 47)?;
        let hex = hex::encode(options.uuid);
        let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
        let uuid =
            format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32));
        let salt = *coffer_core_secret::Secret::<[u8; 64]>::random()?.expose();
        Ok(Self { length: LENGTH, sequence: 1, label: options.label.clone(), uuid, salt })
    }

    pub(crate) fn offset(&self, copy: Copy) -> u64 {
        match copy {
            Copy::Primary => 0,
            Copy::Secondary => self.length,
        }
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn uuid(&self) -> &str {
        &self.uuid
    }

    /// A whole copy: binary header with its checksum, and metadata.
    pub(crate) fn encode(&self, copy: Copy, json: &[u8]) -> Result<Vec<u8>, LuksError> {
        let room = usize::try_from(self.length).unwrap_or(usize::MAX).saturating_sub(BINARY);
        // The metadata ends with a NUL.
        if json.len() >= room {
            return Err(LuksError::TooLong { what: "the metadata", most: room, found: json.len() });
        }
        let mut out = Vec::with_capacity(room.saturating_add(BINARY));
        out.extend(match copy {
            Copy::Primary => PRIMARY,
            Copy::Secondary => SECONDARY,
        });
        out.extend(2_u16.to_be_bytes());
        out.extend(self.length.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        for (text, end) in [(self.label.as_str(), 72), ("sha256", 104)] {
            out.extend(text.as_bytes());
            out.resize(end, 0);
        }
        out.extend(self.salt);
        out.extend(self.uuid.as_bytes());
        out.resize(256, 0); // the subsystem, too
        out.extend(self.offset(copy).to_be_bytes());
        out.resize(BINARY, 0);
        out.extend(json);
        out.resize(room.saturating_add(BINARY), 0);
        let sum = digest::digest(&digest::SHA256, &out);
        put(&mut out, sum.as_ref());
        Ok(out)
    }

    /// Reads a copy and its metadata's bytes, which the checksum covers.
    pub(crate) fn read<R: Read + Seek>(volume: &mut R, copy: Copy) -> Result<(Self, Vec<u8>), LuksError> {
        let malformed = |why: &str| LuksError::Malformed(why.into());
        match copy {
            Copy::Primary => Self::read_at(volume, 0, PRIMARY),
            // Where it is depends on a length that the first copy has, which may be broken.
            Copy::Secondary => {
                let mut last = LuksError::Magic;
                for offset in LENGTHS {
                    match Self::read_at(volume, offset, SECONDARY) {
                        Ok((found, json)) if found.length == offset => return Ok((found, json)),
                        Ok(_) => last = malformed("the second header is not where it says"),
                        Err(LuksError::Magic) => {}
                        Err(LuksError::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn read_at<R: Read + Seek>(
        volume: &mut R,
        at: u64,
        magic: &[u8; 6],
    ) -> Result<(Self, Vec<u8>), LuksError> {
        let malformed = |why: String| LuksError::Malformed(why);
        volume.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; BINARY];
        volume.read_exact(&mut bytes)?;
        if !bytes.starts_with(magic) {
            return Err(LuksError::Magic);
        }
        let number =
            |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_be_bytes);
        let version = bytes.get(6..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
        if version != 2 {
            return Err(LuksError::Version(version));
        }
        let (length, sequence, offset) = (number(8), number(16), number(256));
        if !LENGTHS.contains(&length) || offset != at {
            return Err(malformed(format!("its header has {length} bytes and says that it is at {offset}")));
        }
        let text = |range: std::ops::Range<usize>| {
            let bytes = bytes.get(range).unwrap_or_default();
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8(text.to_vec()).map_err(|_| malformed("a name in it is not UTF-8".into()))
        };
        let (label, algorithm, uuid) = (text(24..72)?, text(72..104)?, text(168..208)?);
        if algorithm != "sha256" {
            let found = algorithm.chars().take(32).collect();
            return Err(LuksError::Unsupported { expected: "a checksum of sha256", found });
        }
        let mut salt = [0; 64];
        salt.iter_mut().zip(bytes.get(104..168).unwrap_or_default()).for_each(|(to, from)| *to = *from);
        let rest = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(BINARY);
        let expected: Vec<u8> = bytes.get(CHECKSUM).unwrap_or_default().to_vec();
        put(&mut bytes, &[]);
        bytes.resize(BINARY.saturating_add(rest), 0);
        volume.read_exact(bytes.get_mut(BINARY..).unwrap_or_default())?;
        let found = digest::digest(&digest::SHA256, &bytes);
        let (sum, padding) = expected.split_at_checked(found.as_ref().len()).unwrap_or_default();
        if sum != found.as_ref() || padding.iter().any(|byte| *byte != 0) {
            return Err(malformed("its checksum does not fit".into()));
        }
        Ok((Self { length, sequence, label, uuid, salt }, bytes.split_off(BINARY)))
    }
}

/// Writes a checksum into its place; what is left of that is zero.
fn put(header: &mut [u8], sum: &[u8]) {
    let place = header.get_mut(CHECKSUM).unwrap_or_default();
    place.fill(0);
    place.iter_mut().zip(sum).for_each(|(to, from)| *to = *from);
}

pub(crate) fn fits(what: &'static str, text: &str, most: usize) -> Result<(), LuksError> {
    match text.len() {
        found if found > most => Err(LuksError::TooLong { what, most, found }),
        _ => Ok(()),
    }
}
