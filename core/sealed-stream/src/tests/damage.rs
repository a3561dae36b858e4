//! What an adversary does to a stream, and what it is called.

use super::*;

const SIZE: u64 = 4040 + 3 * 4080 + 100;

fn refused(sealed: &[u8]) -> StreamError {
    open(sealed, small()).unwrap_err()
}

fn segment(bytes: &[u8], number: usize) -> &[u8] {
    let start = if number == 0 { 40 } else { number * 4096 };
    &bytes[start..bytes.len().min((number + 1) * 4096)]
}

#[test]
fn each_byte_of_a_short_stream_matters() {
    let (_, bytes) = seal(&plain(50), small());
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut twin = bytes.clone();
            twin[at] ^= bit;
            let code = refused(&twin).code();
            assert_eq!(code, if at == 0 { "stream.header" } else { "stream.wrong-key-or-file" }, "byte {at}");
        }
    }
}

#[test]
fn each_place_of_a_long_stream_matters() {
    let (_, bytes) = seal(&plain(SIZE), small());
    for number in 0..5 {
        let start = if number == 0 { 40 } else { number * 4096 };
        let end = bytes.len().min((number + 1) * 4096);
        for at in [start, start + 1, end - 17, end - 16, end - 1] {
            let mut twin = bytes.clone();
            twin[at] ^= 0x10;
            match refused(&twin) {
                StreamError::WrongKeyOrFile if number == 0 => {}
                StreamError::Corrupt { segment } if segment as usize == number && number > 0 => {}
                other => panic!("byte {at}: {other}"),
            }
        }
    }
}

#[test]
fn every_cut_is_noticed_and_at_segment_ends_it_is_named() {
    let (sealed, bytes) = seal(&plain(SIZE), small());
    let layout = Layout::new(small(), SIZE).unwrap();
    let cuts = (0..60)
        .chain((1..5).flat_map(|number| number * 4096 - 20..number * 4096 + 20))
        .chain(bytes.len() - 120..bytes.len());
    for cut in cuts {
        let twin = &bytes[..cut];
        let found = refused(twin);
        let known = Opener::expecting(twin, &key(0), &data("file"), &layout, &sealed.root).and_then(all);
        assert_eq!(known.unwrap_err().code(), found.code());
        // Of a segment that is cut within, too little is left to tell a cut from a change.
        let behind = if cut < 40 {
            0
        } else if cut < 4096 {
            cut - 40
        } else {
            cut % 4096
        };
        let named = cut < 40 || behind < 16;
        let expected = match named {
            true => "stream.truncated",
            false if cut < 4096 => "stream.wrong-key-or-file",
            false => "stream.corrupt",
        };
        assert_eq!(found.code(), expected, "cut at {cut}: {found}");
    }
}

#[test]
fn what_follows_the_last_segment_is_noticed() {
    for size in [0, 10, 4040, SIZE] {
        let (sealed, bytes) = seal(&plain(size), small());
        let layout = Layout::new(small(), size).unwrap();
        let (_, other) = seal(&plain(100), small());
        for more in [&[0][..], &[0; 16], &bytes[bytes.len() - 16..], &other, &plain(9000)] {
            let twin = [&bytes, more].concat();
            let known = Opener::expecting(twin.as_slice(), &key(0), &data("file"), &layout, &sealed.root);
            assert!(all(known.unwrap()).is_err());
            let found = refused(&twin);
            let full = bytes.len().is_multiple_of(4096);
            // Bytes that join the last segment's cannot be told from a change of it.
            let joined = if size > 4080 { "stream.corrupt" } else { "stream.wrong-key-or-file" };
            assert_eq!(found.code(), if full { "stream.extended" } else { joined }, "{size}");
        }
    }
}

/// A writer with the key could append; a segment made for a place behind the end still does not belong.
#[test]
fn a_segment_that_is_valid_elsewhere_is_refused_here() {
    let header = Header::insecure_with([1; 32], [2; 7]);
    let sealed = |size| {
        let mut sealer =
            Sealer::insecure_with_header(Vec::new(), &key(0), &data("file"), small(), header).unwrap();
        sealer.write_all(&plain(size)).unwrap();
        sealer.finish().unwrap().1
    };
    // Both have the same key, so the longer one's segments are authentic in their places.
    let (short, long) = (sealed(4040 + 4080), sealed(4040 + 2 * 4080));
    let extended = [&short[..], segment(&long, 2)].concat();
    assert!(matches!(refused(&extended), StreamError::Extended { segment: 1 }));
    let cut = &long[..2 * 4096];
    assert!(matches!(refused(cut), StreamError::Truncated { segment: 1 }));
    // An empty segment behind a full one, which no writer makes.
    let cipher = crate::segment::Cipher::new(&key(0), header, &data("file")).unwrap();
    let tag = cipher.seal(2, crate::segment::Place::Last, &mut []).unwrap();
    let odd = [&long[..2 * 4096], &tag].concat();
    assert!(matches!(refused(&odd), StreamError::Corrupt { segment: 2 }));
    let layout = Layout::new(small(), 4040 + 4080).unwrap();
    assert_eq!(Layout::of_sealed(small(), odd.len() as u64).ok(), None);
    // Authentic and longer than the manifest says: refused before the first byte too many.
    let root = root_of(&short, &layout).unwrap();
    let opener = Opener::expecting(long.as_slice(), &key(0), &data("file"), &layout, &root).unwrap();
    let mut given = Vec::new();
    let refused = StreamError::from_read(opener.take(1 << 20).read_to_end(&mut given).unwrap_err());
    assert_eq!(refused.code(), "stream.size");
    assert_eq!(given.len(), 4040 + 4080);
}

#[test]
fn segments_that_change_places_are_refused() {
    let (_, bytes) = seal(&plain(SIZE), small());
    let swapped = [&bytes[..4096], segment(&bytes, 2), segment(&bytes, 1), &bytes[3 * 4096..]].concat();
    assert!(matches!(refused(&swapped), StreamError::Corrupt { segment: 1 }));
    let dropped = [&bytes[..4096], &bytes[2 * 4096..]].concat();
    assert!(matches!(refused(&dropped), StreamError::Corrupt { segment: 1 }));
    let twice = [&bytes[..2 * 4096], &bytes[4096..]].concat();
    assert!(matches!(refused(&twice), StreamError::Corrupt { segment: 2 }));
    let (_, other) = seal(&plain(SIZE), small());
    let foreign = [&bytes[..4096], segment(&other, 1), &bytes[2 * 4096..]].concat();
    assert!(matches!(refused(&foreign), StreamError::Corrupt { segment: 1 }));
    let headed = [&other[..40], &bytes[40..]].concat();
    assert!(matches!(refused(&headed), StreamError::WrongKeyOrFile));
}

#[test]
fn another_key_file_artifact_or_segment_size_opens_nothing() {
    let (one, other) = (ArtifactId::insecure_from([1; 16]), ArtifactId::insecure_from([2; 16]));
    let (a, b): (FilePath, FilePath) = ("a".parse().unwrap(), "b".parse().unwrap());
    let own = AssociatedData::file(&one, &a);
    let (_, bytes) = seal_as(&plain(9000), small(), &key(0), &own);
    assert!(open_as(&bytes, small(), &key(0), &own).unwrap() == plain(9000));
    let wrong = [
        (key(1), own.clone()),
        (key(0), AssociatedData::file(&one, &b)),
        (key(0), AssociatedData::file(&other, &a)),
        (key(0), AssociatedData::manifest(&one)),
        (key(0), AssociatedData::foreign(b"")),
    ];
    for (key, data) in &wrong {
        let refused = open_as(&bytes, small(), key, data).unwrap_err();
        assert!(matches!(refused, StreamError::WrongKeyOrFile), "{refused}");
        let layout = Layout::new(small(), 9000).unwrap();
        let mut reader = SeekReader::new(&bytes, key, data, layout).unwrap();
        let refused = StreamError::from_read(reader.read(&mut [0; 10]).unwrap_err());
        assert!(matches!(refused, StreamError::WrongKeyOrFile), "{refused}");
    }
    let refused = open_as(&bytes, SegmentSize::KIB_64, &key(0), &own).unwrap_err();
    assert!(matches!(refused, StreamError::WrongKeyOrFile), "{refused}");
}
