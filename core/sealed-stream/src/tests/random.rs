//! Reading from anywhere.

use std::cell::Cell;
use std::io::{self, Seek, SeekFrom};

use super::*;
use proptest::prelude::*;

/// Counts what is fetched.
struct Counted {
    bytes: Vec<u8>,
    reads: Cell<usize>,
    fetched: Cell<usize>,
}

impl Counted {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, reads: Cell::new(0), fetched: Cell::new(0) }
    }
}

impl ReadAt for Counted {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        // Shorter than asked for, as networks are.
        let length = buffer.len().min(3000);
        let read = self.bytes.read_at(&mut buffer[..length], offset)?;
        self.fetched.set(self.fetched.get() + read);
        Ok(read)
    }
}

fn reader<S: ReadAt>(source: S, size: u64) -> SeekReader<S> {
    SeekReader::new(source, &key(0), &data("file"), Layout::new(small(), size).unwrap()).unwrap()
}

fn read_from<S: ReadAt>(reader: &mut SeekReader<S>, at: u64, length: usize) -> io::Result<Vec<u8>> {
    reader.seek(SeekFrom::Start(at))?;
    let mut out = Vec::new();
    reader.take(length as u64).read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn layout_maps_every_byte_to_the_segment_that_holds_it() {
    for size in boundaries(small()) {
        let layout = Layout::new(small(), size).unwrap();
        let (mut plain_end, mut sealed_end) = (0, HEADER_LEN);
        for segment in 0..layout.segments() {
            let (plain, sealed) =
                (layout.plain_range(segment).unwrap(), layout.sealed_range(segment).unwrap());
            assert_eq!((plain.start, sealed.start), (plain_end, sealed_end), "{size}");
            assert_eq!(sealed.end - sealed.start, plain.end - plain.start + TAG_LEN);
            (plain_end, sealed_end) = (plain.end, sealed.end);
            for at in [plain.start, plain.end.saturating_sub(1)] {
                if plain.contains(&at) {
                    assert_eq!(layout.segment_at(at), Some(segment));
                }
            }
            assert_eq!(layout.is_last(segment), segment + 1 == layout.segments());
        }
        assert_eq!((plain_end, sealed_end), (size, layout.sealed_size()));
        assert_eq!(layout.segment_at(size), None);
        assert_eq!(layout.plain_range(layout.segments()), None);
        assert_eq!(layout.sealed_range(layout.segments()), None);
        assert_eq!(layout.sealed_cover(size..size + 9), None);
    }
    let layout = Layout::new(small(), 20_000).unwrap();
    assert_eq!(layout.sealed_cover(0..1), Some(40..4096));
    assert_eq!(layout.sealed_cover(4040..4041), Some(4096..8192));
    assert_eq!(layout.sealed_cover(4039..8121), Some(40..12_288));
    assert_eq!(layout.sealed_cover(0..u64::MAX), Some(40..layout.sealed_size()));
    assert_eq!(layout.sealed_cover(5..5), None);
}

#[test]
fn only_the_segments_that_are_asked_for_are_fetched_and_eight_are_kept() {
    let size = 4080 * 20;
    let source = Counted::new(seal(&plain(size), small()).1);
    let mut reader = reader(&source, size);
    assert_eq!(source.fetched.get(), 40);
    let at = |segment: u64| segment * 4080;
    for segment in 1..=8 {
        read_from(&mut reader, at(segment), 10).unwrap();
    }
    let first = 40 + 8 * 4096;
    assert_eq!(source.fetched.get(), first);
    for segment in (1..=8).rev() {
        assert!(
            read_from(&mut reader, at(segment), 10).unwrap() == plain(size)[at(segment) as usize..][..10]
        );
    }
    assert_eq!(source.fetched.get(), first, "all eight were still there");
    // The one that was used longest ago, 8, makes room.
    read_from(&mut reader, at(12), 10).unwrap();
    read_from(&mut reader, at(1), 10).unwrap();
    assert_eq!(source.fetched.get(), first + 4096);
    read_from(&mut reader, at(8), 10).unwrap();
    assert_eq!(source.fetched.get(), first + 2 * 4096);
}

#[test]
fn seeking_is_that_of_a_file() {
    let mut reader = reader(seal(&plain(5000), small()).1, 5000);
    assert_eq!(reader.seek(SeekFrom::End(-10)).unwrap(), 4990);
    let mut out = Vec::new();
    reader.read_to_end(&mut out).unwrap();
    assert_eq!(out, plain(5000)[4990..]);
    assert_eq!(reader.seek(SeekFrom::Current(-5000)).unwrap(), 0);
    assert_eq!(reader.seek(SeekFrom::Current(-1)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(reader.seek(SeekFrom::End(-5001)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(reader.seek(SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
    assert_eq!(reader.seek(SeekFrom::Current(1)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(reader.seek(SeekFrom::Start(0)).unwrap(), 0);
    assert_eq!(reader.read(&mut []).unwrap(), 0);
}

#[test]
fn a_changed_segment_fails_alone_and_again() {
    let (size, (_, mut bytes)) = (20_000, seal(&plain(20_000), small()));
    bytes[2 * 4096 + 100] ^= 1;
    let mut reader = reader(bytes, size);
    let broken = 2 * 4080 - 40;
    assert!(read_from(&mut reader, 0, broken).unwrap() == plain(size)[..broken]);
    for _ in 0..2 {
        let refused = StreamError::from_read(read_from(&mut reader, broken as u64, 1).unwrap_err());
        assert!(matches!(refused, StreamError::Corrupt { segment: 2 }), "{refused}");
    }
    assert!(read_from(&mut reader, 3 * 4080 - 40, 9000).unwrap() == plain(size)[3 * 4080 - 40..]);
}

#[test]
fn segments_can_be_opened_by_several_threads_and_need_their_own_place() {
    let (_, bytes) = seal(&plain(20_000), small());
    let layout = Layout::new(small(), 20_000).unwrap();
    let header = Header::parse(bytes[..40].try_into().unwrap()).unwrap();
    let opener = SegmentOpener::new(&key(0), header, &data("file"), layout).unwrap();
    let piece = |segment| {
        let range = layout.sealed_range(segment).unwrap();
        &bytes[range.start as usize..range.end as usize]
    };
    std::thread::scope(|scope| {
        for segment in 0..layout.segments() {
            let (opener, expected) = (&opener, layout.plain_range(segment).unwrap());
            scope.spawn(move || {
                let mut out = vec![0; 4096];
                let length = opener.open(segment, piece(segment), &mut out).unwrap();
                assert!(out[..length] == plain(20_000)[expected.start as usize..expected.end as usize]);
            });
        }
    });
    let mut out = vec![7; 4096];
    assert!(matches!(opener.open(1, piece(2), &mut out), Err(StreamError::Corrupt { segment: 1 })));
    assert!(out[..4080] == [0; 4080], "what does not open leaves nothing");
    assert!(matches!(opener.open(1, &piece(1)[1..], &mut out), Err(StreamError::Truncated { .. })));
    assert!(matches!(opener.open(4, piece(1), &mut out), Err(StreamError::Extended { .. })));
    assert!(matches!(opener.open(5, piece(1), &mut out), Err(StreamError::NoSegment { segments: 5, .. })));
    assert!(matches!(
        opener.open(1, piece(1), &mut out[..4079]),
        Err(StreamError::Buffer { expected: 4080, found: 4079 })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any sequence of seeks and reads is that of the plaintext.
    #[test]
    fn random_access_reads_what_a_cursor_over_the_plaintext_reads(
        size in 0u64..60_000,
        steps in prop::collection::vec((0u64..61_000, 0usize..9000), 1..24),
    ) {
        let text = plain(size);
        let source = Counted::new(seal(&text, small()).1);
        let mut reader = reader(&source, size);
        for (at, length) in steps {
            let begin = text.len().min(at as usize);
            let end = text.len().min(begin + length);
            prop_assert!(read_from(&mut reader, at, length).unwrap() == text[begin..end]);
            let layout = *reader.layout();
            let cover = layout.sealed_cover(at..at + length as u64);
            prop_assert_eq!(cover.is_some(), begin < end);
            if let Some(cover) = cover {
                prop_assert!(cover.end <= layout.sealed_size() && cover.end - cover.start <= length as u64 + 2 * 4096);
            }
        }
    }

    /// Positions and shapes agree with each other for every size.
    #[test]
    fn offsets_map_there_and_back(size in 0u64..1 << 52, bits in 12u32..=20, part in 0.0f64..1.0) {
        let Ok(layout) = Layout::new(SegmentSize::new(1 << bits).unwrap(), size) else { return Ok(()) };
        prop_assert_eq!(Layout::of_sealed(layout.segment_size(), layout.sealed_size()).unwrap(), layout);
        let at = (size as f64 * part) as u64;
        if let Some(segment) = layout.segment_at(at) {
            prop_assert!(layout.plain_range(segment).unwrap().contains(&at));
            let sealed = layout.sealed_range(segment).unwrap();
            prop_assert!(sealed.end <= layout.sealed_size() && sealed.end - sealed.start <= 1 << bits);
        } else {
            prop_assert!(at >= size);
        }
    }
}

#[test]
fn a_shared_reader_gives_every_range_to_every_thread_and_a_bad_segment_to_none() {
    let size = 5 * 4080 + 17;
    let plain = plain(size as u64);
    let (_, sealed) = seal(&plain, small());
    let layout = Layout::new(small(), size as u64).unwrap();
    let shared = SharedReader::new(sealed.clone(), &key(0), &data("file"), layout).unwrap();
    std::thread::scope(|scope| {
        for start in 0..4_usize {
            let (shared, plain) = (&shared, &plain);
            scope.spawn(move || {
                for at in (start * 13..size).step_by(997) {
                    let mut buffer = vec![0; 9000];
                    let read = shared.read_at(&mut buffer, at as u64).unwrap();
                    assert_eq!(buffer[..read], plain[at..(at + 9000).min(size)]);
                }
            });
        }
    });
    let mut bad = sealed;
    bad[2 * 4096 + 5] ^= 1;
    let shared = SharedReader::new(bad, &key(0), &data("file"), layout).unwrap();
    let mut buffer = vec![0; size];
    assert_eq!(shared.read_at(&mut buffer, size as u64 - 10).unwrap(), 10);
    for (at, length) in [(0, size), (2 * 4080 - 40 + 1, 1), (2 * 4080 - 40, 4080)] {
        let refused = shared.read_at(&mut buffer[..length], at as u64).unwrap_err();
        assert_eq!(refused.code(), "stream.corrupt", "{at}");
    }
    assert_eq!(shared.read_at(&mut buffer[..4000], 0).unwrap(), 4000);
    assert_eq!(buffer[..4000], plain[..4000]);
}

#[test]
fn kept_plaintext_is_sealed_again_to_the_same_bytes() {
    let size = 2 * 4080 + 17;
    let plain = plain(size as u64);
    let (_, sealed) = seal(&plain, small());
    let layout = Layout::new(small(), size as u64).unwrap();
    let header = Header::parse(&sealed[..40].try_into().unwrap()).unwrap();
    let opener = SegmentOpener::new(&key(0), header, &data("file"), layout).unwrap();
    for segment in 0..layout.segments() {
        let (from, to) = (layout.plain_range(segment).unwrap(), layout.sealed_range(segment).unwrap());
        let mut own = plain[from.start as usize..from.end as usize].to_vec();
        opener.seal_again(segment, &mut own).unwrap();
        assert_eq!(own, sealed[to.start as usize..to.end as usize]);
        assert!(opener.seal_again(segment, &mut own).is_err(), "its length is no longer the plaintext's");
    }
}
