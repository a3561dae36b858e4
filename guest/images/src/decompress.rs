//! Layers as plain tar bytes: gzip of many members, zstd of many frames.

use std::io::{self, BufRead, BufReader, Read};

use coffer_core_oci::media::Compression;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest window that a frame may ask for (RFC 8878, section 3.1.1.1.2, recommends 8 MB; images use up to 128).
const MAX_WINDOW: u64 = 128 << 20;

/// A reader of the plain bytes.
pub(crate) fn plain<'a>(packed: impl Read + 'a, compression: Compression) -> Box<dyn Read + 'a> {
    let packed = BufReader::with_capacity(64 << 10, packed);
    match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Zstd => Box::new(Frames::new(packed)),
    }
}

/// Zstandard frames one after another (RFC 8878, section 3.1). Their checksums are not needed: the blob's digest
/// covers every byte.
struct Frames<R> {
    packed: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(packed: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { packed, decoder, within: false }
    }

    /// Begins the next frame, over those that are to be skipped; false when there is none.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.packed.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.packed).take(length), &mut io::sink())? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(cause) => return Err(broken(&cause)),
            }
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within {
                self.within = self.begin()?;
                if !self.within {
                    return Ok(0);
                }
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                self.within = false;
                continue;
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.packed, one).map_err(|cause| broken(&cause))?;
        }
    }
}

fn broken(cause: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A frame of one raw block (RFC 8878, section 3.1.1).
    fn frame(content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("short");
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
        bytes.extend(length.to_le_bytes());
        // Last block, raw, and its size.
        bytes.extend(&(length << 3 | 1).to_le_bytes()[..3]);
        bytes.extend(content);
        bytes
    }

    fn read(packed: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        plain(packed, compression).read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn several_zstd_frames_are_one_stream_and_skippable_ones_are_skipped() {
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
        let packed = [frame(b"first "), skippable.to_vec(), frame(b"second")].concat();
        assert_eq!(read(&packed, Compression::Zstd).expect("read"), b"first second");
    }

    #[test]
    fn cut_or_foreign_zstd_is_refused() {
        let packed = frame(b"content");
        assert!(read(&packed[..packed.len() - 1], Compression::Zstd).is_err());
        assert!(read(b"no frame at all", Compression::Zstd).is_err());
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let member = |content: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).expect("written");
            encoder.finish().expect("finished")
        };
        let packed = [member(b"first "), member(b"second")].concat();
        assert_eq!(read(&packed, Compression::Gzip).expect("read"), b"first second");
        assert!(read(&packed[..packed.len() - 1], Compression::Gzip).is_err());
    }
}
