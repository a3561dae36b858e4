//! Sealing and opening from beginning to end.

use super::*;
use proptest::prelude::*;

#[test]
fn every_boundary_size_opens_to_what_was_sealed() {
    for segment in [small(), SegmentSize::KIB_64, SegmentSize::MIB_1] {
        for size in boundaries(segment) {
            let text = plain(size);
            let (sealed, bytes) = seal(&text, segment);
            let layout = Layout::new(segment, size).unwrap();
            assert_eq!((sealed.size, sealed.sealed_size), (size, bytes.len() as u64));
            assert_eq!(layout.sealed_size(), bytes.len() as u64);
            assert_eq!(Layout::of_sealed(segment, bytes.len() as u64).unwrap(), layout);
            assert_eq!(sealed.digest, coffer_core_digest::Digest::sha256(&bytes));
            assert_eq!(root_of(&bytes, &layout).unwrap(), sealed.root);
            assert!(open(&bytes, segment).unwrap() == text, "{size}");
            let known = Opener::expecting(bytes.as_slice(), &key(0), &data("file"), &layout, &sealed.root);
            assert!(all(known.unwrap()).unwrap() == text, "{size}");
        }
    }
}

#[test]
fn segments_that_are_sealed_one_by_one_are_those_of_the_sealer() {
    for size in boundaries(small()) {
        let text = plain(size);
        let header = Header::insecure_with([9; 32], [8; 7]);
        let mut sealer =
            Sealer::insecure_with_header(Vec::new(), &key(0), &data("file"), small(), header).unwrap();
        std::io::Write::write_all(&mut sealer, &text).unwrap();
        let (_, expected) = sealer.finish().unwrap();
        let mut own = SegmentSealer::insecure_with_header(&key(0), &data("file"), small(), header).unwrap();
        let mut found = own.header().as_bytes().to_vec();
        let mut rest = text.as_slice();
        while rest.len() > own.capacity() {
            let (segment, behind) = rest.split_at(own.capacity());
            let mut segment = segment.to_vec();
            own.seal(&mut segment).unwrap();
            found.extend(segment);
            rest = behind;
        }
        let mut last = rest.to_vec();
        own.seal_last(&mut last).unwrap();
        found.extend(last);
        assert!(found == expected, "{size}");
    }
}

#[test]
fn a_segment_that_no_reader_would_take_is_not_sealed() {
    let fresh = || SegmentSealer::new(&key(0), &data("file"), small()).unwrap();
    let mut own = fresh();
    let mut short = vec![0; own.capacity() - 1];
    assert!(matches!(own.seal(&mut short), Err(StreamError::Buffer { .. })));
    let mut long = vec![0; own.capacity() + 1];
    assert!(matches!(fresh().seal_last(&mut long), Err(StreamError::Buffer { .. })));
    let mut full = vec![0; own.capacity()];
    own.seal(&mut full).unwrap();
    assert!(matches!(own.seal_last(&mut Vec::new()), Err(StreamError::Buffer { .. })));
}

#[test]
fn two_sealings_of_the_same_bytes_have_nothing_in_common() {
    let (one, first) = seal(&plain(100), small());
    let (other, second) = seal(&plain(100), small());
    assert_ne!(one.root, other.root);
    assert!(first[1..33] != second[1..33] && first[40..] != second[40..]);
}

#[test]
fn sizes_between_which_no_stream_lies_are_refused() {
    for sealed in [0, 1, 39, 40, 55, 4097, 4111, 4112, 8193, 8208] {
        let refused = Layout::of_sealed(small(), sealed);
        assert!(matches!(refused, Err(StreamError::SealedSize { found }) if found == sealed), "{sealed}");
    }
    for sealed in [56, 57, 4096, 4113, 8192, 8209] {
        assert_eq!(Layout::of_sealed(small(), sealed).unwrap().sealed_size(), sealed);
    }
}

#[test]
fn more_than_the_counter_can_number_is_refused_without_allocation() {
    let most = u64::from(u32::MAX) * 4080 - 40;
    let layout = Layout::new(small(), most).unwrap();
    assert_eq!(layout.segments(), u32::MAX);
    assert!(matches!(Layout::new(small(), most + 1), Err(StreamError::TooLarge { .. })));
    assert!(matches!(Layout::new(SegmentSize::MIB_1, u64::MAX), Err(StreamError::TooLarge { .. })));
    assert!(Layout::of_sealed(small(), u64::MAX).is_err());
    // What a manifest declares costs nothing before the bytes are there.
    let layout = Layout::new(SegmentSize::MIB_1, 1 << 51).unwrap();
    let (_, bytes) = seal(b"small", SegmentSize::MIB_1);
    let mut reader = SeekReader::new(bytes, &key(0), &data("file"), layout).unwrap();
    let refused = StreamError::from_read(reader.read(&mut [0; 8]).unwrap_err());
    assert!(matches!(refused, StreamError::Truncated { segment: 0 }), "{refused}");
}

#[test]
fn segment_sizes_are_powers_of_two_between_4_kib_and_1_mib() {
    for bytes in [0, 1, 64, 2048, 4095, 4097, 12288, 2 << 20, 1 << 32, u64::MAX] {
        let refused = SegmentSize::new(bytes);
        assert!(matches!(refused, Err(StreamError::SegmentSize { found }) if found == bytes), "{bytes}");
    }
    assert_eq!(SegmentSize::new(65536).unwrap(), SegmentSize::KIB_64);
    assert_eq!(SegmentSize::new(1 << 20).unwrap(), SegmentSize::MIB_1);
}

#[test]
fn a_sealer_whose_writer_failed_seals_nothing_more() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut sealer = Sealer::new(Full(5000), &key(0), &data("file"), small()).unwrap();
    assert_eq!(sealer.write_all(&plain(20_000)).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let again = StreamError::from_read(sealer.write_all(b"more").unwrap_err());
    assert!(matches!(again, StreamError::Failed), "{again}");
    assert!(matches!(sealer.finish(), Err(StreamError::Failed)));
}

#[test]
fn an_interrupted_reader_is_asked_again_and_a_failing_one_is_reported() {
    struct Halting<'a>(&'a [u8], bool);
    impl Read for Halting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(7);
            match self.0.read(&mut buffer[..length])? {
                0 if length > 0 => Err(std::io::ErrorKind::ConnectionReset.into()),
                read => Ok(read),
            }
        }
    }
    let (_, bytes) = seal(&plain(9000), small());
    let refused = all(Opener::new(Halting(&bytes, false), &key(0), &data("file"), small()).unwrap());
    assert!(matches!(refused, Err(StreamError::Io(_))), "{refused:?}");
    let whole = [&bytes[..]].concat();
    let chained = Halting(&whole, false).take(whole.len() as u64);
    assert!(all(Opener::new(chained, &key(0), &data("file"), small()).unwrap()).unwrap() == plain(9000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However plaintext is cut into writes and reads, it comes back whole.
    #[test]
    fn pieces_do_not_matter(size in 0u64..20_000, writes in prop::collection::vec(1usize..5000, 1..12), piece in 1usize..6000) {
        let text = plain(size);
        let mut sealer = Sealer::new(Vec::new(), &key(0), &data("file"), small()).unwrap();
        let (mut rest, mut turn) = (text.as_slice(), writes.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*turn.next().unwrap()));
            sealer.write_all(now).unwrap();
            rest = later;
        }
        let (sealed, bytes) = sealer.finish().unwrap();
        prop_assert_eq!(sealed.size, size);
        let mut opener = Opener::new(bytes.as_slice(), &key(0), &data("file"), small()).unwrap();
        let (mut found, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match opener.read(&mut buffer).unwrap() {
                0 => break,
                read => found.extend_from_slice(&buffer[..read]),
            }
        }
        prop_assert!(found == text);
    }
}
