//! Frames: one byte of kind, four of length (big endian), then the payload.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest payload that either end accepts.
pub const MAX_FRAME: usize = 1 << 20;

const HEADER: usize = 5;

/// What a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A JSON [`crate::Open`]: the first frame of every stream.
    Open = 1,
    /// Host to guest, on the input's stream: bytes for the workload's standard input. Empty means end of file.
    Stdin = 2,
    /// Guest to host: bytes of the workload's standard output.
    Stdout = 3,
    /// Guest to host: bytes of the workload's standard error.
    Stderr = 4,
    /// Host to guest: a JSON [`crate::Winsize`].
    Resize = 5,
    /// Host to guest: a signal number as JSON.
    Signal = 6,
    /// Guest to host: the workload's exit code as JSON; the last frame.
    Exit = 7,
    /// Guest to host: a JSON [`crate::Event`] of the timeline.
    Event = 8,
    /// Guest to host: a JSON [`crate::Refusal`]; the last frame.
    Refusal = 9,
    /// Both ways on blob streams: raw bytes. Empty means end of blob.
    Data = 10,
    /// A JSON [`crate::BlobReply`].
    Reply = 11,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Open,
            2 => Self::Stdin,
            3 => Self::Stdout,
            4 => Self::Stderr,
            5 => Self::Resize,
            6 => Self::Signal,
            7 => Self::Exit,
            8 => Self::Event,
            9 => Self::Refusal,
            10 => Self::Data,
            11 => Self::Reply,
            _ => return None,
        })
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: Kind,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The kind is not known.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// The length is over the limit.
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// The payload is not the JSON that its kind asks for.
    #[error("the frame's payload is not what its kind asks for: {0}")]
    Json(#[from] serde_json::Error),
}

impl Frame {
    /// A frame of raw bytes.
    pub fn bytes(kind: Kind, payload: &[u8]) -> Self {
        Self { kind, payload: payload.to_vec() }
    }

    /// A frame with a JSON payload.
    pub fn json<T: Serialize>(kind: Kind, value: &T) -> Result<Self, FrameError> {
        Ok(Self { kind, payload: serde_json::to_vec(value)? })
    }

    /// Reads a JSON payload.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        Ok(serde_json::from_slice(&self.payload)?)
    }

    /// The bytes to send.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let length = self.payload.len();
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let field = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?;
        let mut out = Vec::with_capacity(length.saturating_add(HEADER));
        out.push(self.kind as u8);
        out.extend_from_slice(&field.to_be_bytes());
        out.extend_from_slice(&self.payload);
        Ok(out)
    }
}

/// Takes bytes as they come, gives frames as they are complete. Holds at most one frame and one read.
#[derive(Default)]
pub struct FrameReader {
    pending: Vec<u8>,
    /// How much of `pending` was given out. Moving the rest for every frame would let a peer of many small frames
    /// cost as much as their number squared.
    taken: usize,
}

impl FrameReader {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..self.taken.min(self.pending.len()));
        self.taken = 0;
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    // Not an iterator: it ends for want of bytes, not for good.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let waiting = self.pending.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = waiting.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let kind = Kind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame { kind, payload: payload.to_vec() };
        self.taken = self.taken.saturating_add(length).saturating_add(HEADER);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_over_long_frame_is_refused_before_it_is_read() {
        let mut reader = FrameReader::default();
        reader.push(&[3, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(reader.next(), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut reader = FrameReader::default();
        reader.push(&[99, 0, 0, 0, 0]);
        assert!(matches!(reader.next(), Err(FrameError::Kind(99))));
    }

    #[test]
    fn many_small_frames_are_taken_one_by_one_and_none_is_lost() {
        let mut reader = FrameReader::default();
        let frame = Frame::bytes(Kind::Stdin, b"x").encode().unwrap();
        reader.push(&frame.repeat(50_000));
        reader.push(&frame[..3]);
        let mut count = 0;
        while reader.next().unwrap().is_some() {
            count += 1;
        }
        reader.push(&frame[3..]);
        assert_eq!((count, reader.next().unwrap().is_some()), (50_000, true));
        assert!(reader.next().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8), cut in 1usize..9) {
            let sent: Vec<Frame> = payloads.iter().map(|p| Frame::bytes(Kind::Stdout, p)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|f| f.encode().unwrap()).collect();
            let mut reader = FrameReader::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(cut) {
                reader.push(piece);
                while let Some(frame) = reader.next().unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
        }
    }
}
