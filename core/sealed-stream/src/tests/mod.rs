//! Vectors of another implementation, boundaries, and each defect with its reason.

use std::io::{Read, Write};

use crate::*;

mod artifact;
mod damage;
mod random;
mod stream;
mod vectors;

/// Byte i is (i² + ⌊i / 4096⌋) mod 251, as in the vectors.
fn plain(size: u64) -> Vec<u8> {
    (0..size).map(|at| ((at * at + at / 4096) % 251) as u8).collect()
}

fn key(first: u8) -> Key {
    Key::new(std::array::from_fn(|at| first.wrapping_add(at as u8)))
}

fn data(text: &str) -> AssociatedData {
    AssociatedData::foreign(text.as_bytes())
}

fn small() -> SegmentSize {
    SegmentSize::new(4096).unwrap()
}

/// Seals with the test's key for `data("file")`.
fn seal(plain: &[u8], segment: SegmentSize) -> (Sealed, Vec<u8>) {
    seal_as(plain, segment, &key(0), &data("file"))
}

fn seal_as(plain: &[u8], segment: SegmentSize, key: &Key, data: &AssociatedData) -> (Sealed, Vec<u8>) {
    let mut sealer = Sealer::new(Vec::new(), key, data, segment).unwrap();
    sealer.write_all(plain).unwrap();
    sealer.finish().unwrap()
}

/// Reads a stream of which only the segment size is known.
fn open(sealed: &[u8], segment: SegmentSize) -> Result<Vec<u8>, StreamError> {
    open_as(sealed, segment, &key(0), &data("file"))
}

fn open_as(
    sealed: &[u8],
    segment: SegmentSize,
    key: &Key,
    data: &AssociatedData,
) -> Result<Vec<u8>, StreamError> {
    all(Opener::new(sealed, key, data, segment)?)
}

/// Everything, or the stream's own error; that nothing more comes after either.
fn all(mut reader: impl Read) -> Result<Vec<u8>, StreamError> {
    let mut plain = Vec::new();
    match reader.read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(error) => {
            let mut more = [0; 16];
            assert!(reader.read(&mut more).is_err() || more == [0; 16], "bytes after a failure");
            Err(StreamError::from_read(error))
        }
    }
}

/// Sizes at which something changes, for segments of `segment`.
fn boundaries(segment: SegmentSize) -> Vec<u64> {
    let bytes = u64::from(segment.bytes());
    let (first, other) = (bytes - HEADER_LEN - TAG_LEN, bytes - TAG_LEN);
    let ends = [first, first + other, first + 2 * other, first + 4 * other];
    let around = ends.iter().flat_map(|end| [end - 1, *end, end + 1]);
    [0, 1, 15, 16, 17].into_iter().chain(around).chain([bytes - 1, bytes, bytes + 1]).collect()
}
