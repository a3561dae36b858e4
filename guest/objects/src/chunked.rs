//! Bodies in the form `aws-chunked`, which clients use to send checksums behind what they are of.
//!
//! SPEC: Amazon S3 API reference, "Signature calculations: transferring payload in multiple chunks", and "Checking object
//! integrity". Signatures and checksums of chunks are not compared: the bytes come over loopback.

use bytes::{Bytes, BytesMut};

use crate::Refusal;

/// The longest line: a chunk's length and its signature, or a trailing header.
const LONGEST_LINE: usize = 1024;

/// Takes a body apart.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    line: BytesMut,
}

#[derive(Debug, Default)]
enum State {
    /// In the line before a chunk.
    #[default]
    Length,
    /// So many bytes of the chunk are to come.
    Data(u64),
    /// In the line end behind a chunk.
    Behind,
    /// In the lines behind the last chunk.
    Trailer,
}

impl Chunks {
    /// Takes bytes as they come, and gives what of them is content.
    pub fn feed(&mut self, mut bytes: Bytes, out: &mut Vec<Bytes>) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            if let State::Data(left) = &mut self.state {
                let own = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= own as u64;
                let ended = *left == 0;
                out.push(bytes.split_to(own));
                if ended {
                    self.state = State::Behind;
                }
                continue;
            }
            let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.keep(&bytes)?;
                return Ok(());
            };
            let own = bytes.split_to(at + 1);
            self.keep(&own)?;
            let line = self.line.split();
            self.line(line.strip_suffix(b"\r\n").ok_or_else(|| broken("a line does not end"))?)?;
        }
        Ok(())
    }

    /// Whether the last chunk was there. Trailing headers may be cut; nothing of them is used.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self.state, State::Trailer)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.line.len() + bytes.len() > LONGEST_LINE {
            return Err(broken("a line is too long"));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        match self.state {
            State::Behind if line.is_empty() => self.state = State::Length,
            State::Behind => return Err(broken("a chunk is longer than it says")),
            State::Length => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
                let length = text.and_then(|text| u64::from_str_radix(text, 16).ok());
                self.state = match length.ok_or_else(|| broken("a chunk has no length"))? {
                    0 => State::Trailer,
                    length => State::Data(length),
                };
            }
            State::Trailer | State::Data(_) => {}
        }
        Ok(())
    }
}

fn broken(why: &str) -> Refusal {
    Refusal::body(format!("the body is not in the form aws-chunked: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8], piece: usize) -> Result<Vec<u8>, Refusal> {
        let (mut chunks, mut out) = (Chunks::default(), Vec::new());
        for bytes in text.chunks(piece) {
            chunks.feed(Bytes::copy_from_slice(bytes), &mut out)?;
        }
        match chunks.is_whole() {
            true => Ok(out.concat()),
            false => Err(broken("it is cut")),
        }
    }

    #[test]
    fn content_is_what_chunks_hold_however_it_comes() {
        let text = b"5;chunk-signature=ab\r\nhello\r\n1\r\n \r\nA\r\n0123\r\n5678\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n";
        for piece in 1..=text.len() {
            assert_eq!(decoded(text, piece).unwrap(), b"hello 0123\r\n5678", "{piece}");
        }
        assert_eq!(decoded(b"0\r\n\r\n", 1).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_or_of_another_form_is_refused() {
        let long = [&b"5;"[..], &[b'x'; 1100], b"\r\nhello\r\n0\r\n"].concat();
        for text in [
            &b""[..],
            b"5\r\nhello\r\n",
            b"5\r\nhell",
            b"5\r\nhello world\r\n0\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\na\r\n0\r\n",
            b"5\nhello\n0\n",
            b"11111111111111111\r\n",
            &long,
        ] {
            assert_eq!(decoded(text, 7).unwrap_err().code, "objects.body");
        }
    }
}
