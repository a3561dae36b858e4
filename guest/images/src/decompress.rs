//! Layers as plain tar bytes: gzip of many members, zstd of many frames.

use std::io::{self, BufRead, BufReader, Read};

use coffer_core_oci::media::Compression;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// The largest window that a frame may ask for (RFC 8878, section 3.1.1.1.2, recommends 8 MB; images use up to 128).
const MAX_WINDOW: u64 = 128 << 20;

/// A reader of the plain bytes.
pub(crate) fn plain<'a>(packed: impl Read + 'a, compression: Compression) -> Box<dyn Read + 'a> {
    let packed = BufReader::with_capacity(64 << 10, packed);
    match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Zstd => Box::new(Frames { state: State::Between(packed) }),
    }
}

enum State<R: BufRead> {
    Between(R),
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Ended,
}

/// Zstandard frames one after another (RFC 8878, section 3.1).
struct Frames<R: BufRead> {
    state: State<R>,
}

impl<R: BufRead> Frames<R> {
    /// The next frame, over those that are to be skipped; the end when there is none.
    fn begin(mut packed: R) -> io::Result<State<R>> {
        loop {
            if packed.fill_buf()?.is_empty() {
                return Ok(State::Ended);
            }
            let mut decoder = ruzstd::decoding::FrameDecoder::new();
            decoder.set_max_window_size(MAX_WINDOW);
            match decoder.init(&mut packed) {
                Ok(()) => {
                    let reader = Continued::new(packed, decoder)?;
                    return Ok(State::Within(Box::new(reader)));
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length, ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut packed).take(length), &mut io::sink())? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(cause) => return Err(io::Error::new(io::ErrorKind::InvalidData, cause.to_string())),
            }
        }
    }
}
