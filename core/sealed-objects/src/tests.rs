//! Names, contents, parts and metadata: what opens, and what does not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use coffer_core_sealed_stream::{Key, SegmentSealer};
use proptest::prelude::*;

use super::*;

fn keys(byte: u8) -> Arc<ObjectKeys> {
    Arc::new(ObjectKeys::derive(&Key::new([byte; 32])).unwrap())
}

fn name(key: &str) -> ObjectName {
    ObjectName::new("lake", key).unwrap()
}

fn plain(size: usize) -> Vec<u8> {
    (0..size).map(|at| ((at * at + at / 4096) % 251) as u8).collect()
}

fn sealed_with(mut sealer: SegmentSealer, mut text: &[u8]) -> Vec<u8> {
    let mut sealed = sealer.header().as_bytes().to_vec();
    while text.len() > sealer.capacity() {
        let (segment, rest) = text.split_at(sealer.capacity());
        let mut segment = segment.to_vec();
        sealer.seal(&mut segment).unwrap();
        sealed.extend(segment);
        text = rest;
    }
    let mut last = text.to_vec();
    sealer.seal_last(&mut last).unwrap();
    sealed.extend(last);
    sealed
}

fn object(name: &ObjectName, text: &[u8]) -> Vec<u8> {
    sealed_with(keys(1).object(name).unwrap(), text)
}

/// An object of parts, and their list.
fn parts(name: &ObjectName, texts: &[Vec<u8>]) -> (Vec<u8>, Index) {
    let (mut stored, mut list) = (Vec::new(), Vec::new());
    for text in texts {
        let id = PartId::random().unwrap();
        let part = Part { id, size: text.len() as u64 };
        let begins = stored.len() as u64;
        stored.extend(sealed_with(keys(1).part(name, &id).unwrap(), text));
        stored.resize((begins + part.stored().unwrap()) as usize, 0);
        list.push(part);
    }
    let index = Index::new(list).unwrap();
    stored.extend(keys(1).seal_index(name, &index).unwrap());
    (stored, index)
}

/// Reads as a reader does that knows the length only, in pieces of `piece` bytes.
fn read(
    keys: &Arc<ObjectKeys>,
    name: &ObjectName,
    stored: &[u8],
    range: Range<u64>,
    piece: usize,
) -> Result<Vec<u8>, ObjectError> {
    let length = stored.len() as u64;
    let shape = match Kind::of(length) {
        Kind::Whole => Shape::whole(name, length)?,
        Kind::Parts => Shape::parts(name, length, &keys.open_index(name, stored)?)?,
    };
    let mut reading = Reading::new(Arc::clone(keys), Arc::new(shape), range)?;
    let slice = |range: Range<u64>| &stored[range.start as usize..(range.end as usize).min(stored.len())];
    if let Some((_, header)) = reading.header() {
        reading.set_header(slice(header).try_into().unwrap())?;
    }
    let mut out = Vec::new();
    for mut bytes in slice(reading.cover()).chunks(piece) {
        while !bytes.is_empty() && !reading.is_done() {
            let taken = reading.feed(bytes, &mut out)?;
            bytes = &bytes[taken..];
        }
    }
    assert!(reading.is_done());
    Ok(out)
}

#[test]
fn a_name_opens_in_its_place_only_and_says_nothing_but_its_length() {
    let keys = keys(1);
    let mut seen = BTreeSet::new();
    for key in
        ["a", "a/b", "a/a", "b/a", "a/b/", "/", "//", "a//b", "./../x", "ü/日本", " a b", &"x".repeat(255)]
    {
        let sealed = keys.seal_name(&name(key)).unwrap();
        assert!(seen.insert(sealed.clone()));
        assert_eq!(sealed, keys.seal_name(&name(key)).unwrap(), "it is the same each time");
        assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/".contains(&b)), "{sealed}");
        assert_eq!(sealed.matches('/').count(), key.matches('/').count());
        assert_eq!(keys.open_name("lake", &sealed).as_deref(), Some(key));
        assert_eq!(keys.open_name("other", &sealed), None);
        assert_eq!(super::tests::keys(2).open_name("lake", &sealed), None);
        let mut changed = sealed.clone().into_bytes();
        let at = changed.len() / 2;
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(keys.open_name("lake", &String::from_utf8(changed).unwrap()), None, "{key}");
    }
    // A folder's sealed name begins those of everything in it, and its pieces open nowhere else.
    let folder = keys.seal_folder("lake", "a/b/").unwrap();
    let inside = keys.seal_name(&name("a/b/c")).unwrap();
    assert!(inside.starts_with(&folder));
    assert_eq!(keys.open_name("lake", &folder).as_deref(), Some("a/b/"));
    let (_, last) = inside.rsplit_once('/').unwrap();
    assert_eq!(keys.open_name("lake", last), None);
    for none in ["", "plain.txt", "AAAA", "/", "a/b"] {
        assert_eq!(keys.open_name("lake", none), None, "{none}");
    }
    assert!(matches!(keys.seal_folder("lake", "a/b"), Err(ObjectError::Name(_))));
}

#[test]
fn what_is_no_name_is_refused() {
    for (bucket, key) in [("", "a"), ("a/b", "a"), ("a..b", "a"), ("b", ""), ("b", "a\nb"), ("b", "\0")] {
        assert!(matches!(ObjectName::new(bucket, key), Err(ObjectError::Name(_))), "{bucket:?} {key:?}");
    }
    assert!(ObjectName::new("b", &"x".repeat(1025)).is_err());
    let deep = name(&"folder/".repeat(80));
    assert!(matches!(keys(1).seal_name(&deep), Err(ObjectError::LongName { .. })));
}

#[test]
fn an_object_opens_under_its_own_name_only() {
    let text = plain(200_000);
    let stored = object(&name("a/b"), &text);
    assert_eq!(read(&keys(1), &name("a/b"), &stored, 0..200_000, 1000).unwrap(), text);
    let other_bucket = ObjectName::new("lake2", "a/b").unwrap();
    for (keys, name) in [(keys(1), name("a/c")), (keys(1), other_bucket), (keys(2), name("a/b"))] {
        let refused = read(&keys, &name, &stored, 0..200_000, 1000).unwrap_err();
        assert_eq!(refused.code(), "stream.wrong-key-or-file");
    }
}

#[test]
fn what_the_store_changes_cuts_or_lengthens_is_refused() {
    let text = plain(200_000);
    let stored = object(&name("a"), &text);
    let code = |stored: &[u8]| {
        let all = 0..200_000;
        read(&keys(1), &name("a"), stored, all, 4096).map(|_| "opened").unwrap_or_else(|error| error.code())
    };
    assert_eq!(code(&stored), "opened");
    for at in [1, 39, 40, 70_000, stored.len() - 1] {
        let mut changed = stored.clone();
        changed[at] ^= 1;
        assert!(["stream.corrupt", "stream.wrong-key-or-file"].contains(&code(&changed)), "{at}");
    }
    // At a segment's end, within a segment, and by one segment that was there twice.
    assert_eq!(code(&stored[..131_072]), "stream.corrupt");
    assert_eq!(code(&stored[..100_000]), "stream.corrupt");
    assert_eq!(code(&stored[..10]), "stream.size");
    let longer = [&stored[..131_072], &stored[65_536..]].concat();
    assert_eq!(code(&longer), "stream.corrupt");
}

#[test]
fn lengths_tell_objects_with_parts_from_others() {
    for size in [0, 1, 65_479, 65_480, 65_481, 131_000, 500_000] {
        assert_eq!(Kind::of(object(&name("a"), &plain(size)).len() as u64), Kind::Whole, "{size}");
    }
    for sizes in [vec![1], vec![5 << 20, 3], vec![5 << 20, 6 << 20, 70_000]] {
        let texts: Vec<_> = sizes.iter().map(|size| plain(*size)).collect();
        let (stored, _) = parts(&name("a"), &texts);
        assert_eq!(Kind::of(stored.len() as u64), Kind::Parts);
        // All but the last part and the list are as long as stores want them.
        let mut whole = stored.len() as u64;
        for size in sizes {
            whole -= Part { id: PartId::insecure_from([0; 16]), size: size as u64 }.stored().unwrap();
        }
        assert!(whole < 2 * 65_536, "{whole}");
    }
}

#[test]
fn parts_are_those_that_the_list_pins_in_its_order() {
    let own = name("a");
    let texts = [plain(5 << 20), plain((5 << 20) + 7), plain(100)];
    let (stored, index) = parts(&own, &texts);
    let size = texts.iter().map(Vec::len).sum::<usize>() as u64;
    assert!(read(&keys(1), &own, &stored, 0..size, 1 << 20).unwrap() == texts.concat());
    // The second part of an earlier upload, of the same name and length, at the same place.
    let (other, _) = parts(&own, &texts);
    let begins = index.parts()[0].stored().unwrap() as usize;
    let behind = begins + index.parts()[1].stored().unwrap() as usize;
    let mut mixed = stored.clone();
    mixed[begins..behind].copy_from_slice(&other[begins..behind]);
    assert!(read(&keys(1), &own, &mixed, 0..1000, 4096).is_ok(), "other parts are as they were");
    let refused = read(&keys(1), &own, &mixed, 0..size, 1 << 20).unwrap_err();
    assert_eq!(refused.code(), "stream.wrong-key-or-file");
    // Another object's list, and a list that is cut.
    let (foreign, _) = parts(&name("b"), &texts);
    assert_eq!(read(&keys(1), &own, &foreign, 0..9, 4096).unwrap_err().code(), "stream.wrong-key-or-file");
    let mut cut = stored.clone();
    let last = cut.len() - 1;
    cut[last] ^= 1;
    assert!(read(&keys(1), &own, &cut, 0..9, 4096).is_err());
    cut[last - 7] = 0xff;
    assert_eq!(read(&keys(1), &own, &cut, 0..9, 4096).unwrap_err().code(), "objects.index");
    // A part fewer in front of the same end.
    let shorter = [&stored[..begins], &stored[behind..]].concat();
    assert!(read(&keys(1), &own, &shorter, 0..9, 4096).is_err());
}

#[test]
fn lists_have_one_form_and_a_bound() {
    let id = PartId::insecure_from([7; 16]);
    let part = Part { id, size: 0x1234 };
    assert_eq!(part.to_string().parse::<Part>().unwrap(), part);
    for text in
        ["", "07-1", &format!("{id}-"), &format!("{id}-01"), &format!("{id}-1-2"), &format!("{id}-FF")]
    {
        assert!(text.parse::<Part>().is_err(), "{text}");
    }
    assert!(Index::new(Vec::new()).is_err());
    assert!(matches!(Index::new(vec![part; MAX_PARTS + 1]), Err(ObjectError::TooManyParts)));
    let most = Index::new(vec![part; MAX_PARTS]).unwrap();
    let trailer = keys(1).seal_index(&name("a"), &most).unwrap();
    assert!(footer(&trailer).unwrap() > TRAILER_AT_FIRST);
    assert_eq!(keys(1).open_index(&name("a"), &trailer).unwrap(), most);
    for bytes in [&[][..], &[2, 0, 0, 0, 0], &[1, 0, 0, 0, 0], &[1, 0, 0, 0, 1], &[1, 255, 255, 255, 255, 0]]
    {
        assert_eq!(Index::parse(bytes).unwrap_err().code(), "objects.index");
    }
    let immense = Index::new(vec![Part { id, size: u64::MAX }]).unwrap();
    assert!(Shape::parts(&name("a"), 65_544, &immense).is_err());
}

#[test]
fn metadata_is_of_its_object_and_bounded() {
    let headers = BTreeMap::from([("content-type".to_owned(), "text/plain".to_owned())]);
    let sealed = keys(1).seal_metadata(&name("a"), &headers).unwrap();
    assert_eq!(keys(1).open_metadata(&name("a"), &sealed).unwrap(), headers);
    assert!(!sealed.contains("text"));
    assert!(keys(1).open_metadata(&name("b"), &sealed).is_err());
    assert!(keys(1).open_metadata(&name("a"), &sealed[1..]).is_err());
    assert!(keys(1).open_metadata(&name("a"), &"A".repeat(4096)).is_err());
    let long = BTreeMap::from([("x".to_owned(), "y".repeat(MAX_METADATA))]);
    assert!(matches!(keys(1).seal_metadata(&name("a"), &long), Err(ObjectError::LongMetadata { .. })));
    let most = BTreeMap::from([("x".to_owned(), "y".repeat(MAX_METADATA - 8))]);
    assert!(keys(1).seal_metadata(&name("a"), &most).unwrap().len() < 1700);
}

#[test]
fn an_empty_object_is_authenticated_too() {
    let stored = object(&name("a"), b"");
    assert_eq!(read(&keys(1), &name("a"), &stored, 0..0, 1).unwrap(), b"");
    assert!(read(&keys(1), &name("b"), &stored, 0..0, 1).is_err());
    let (stored, _) = parts(&name("a"), &[Vec::new()]);
    assert_eq!(read(&keys(1), &name("a"), &stored, 0..0, 4096).unwrap(), b"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_range_gives_what_was_sealed_there(size in 1_usize..400_000, from in 0_usize..400_000,
        length in 1_usize..200_000, piece in 1_usize..100_000) {
        let (text, from) = (plain(size), from % size);
        let end = (from + length).min(size);
        let stored = object(&name("a"), &text);
        let found = read(&keys(1), &name("a"), &stored, from as u64..(from + length) as u64, piece).unwrap();
        prop_assert!(found == text[from..end]);
    }

    #[test]
    fn ranges_over_parts_are_joined(from in 0_usize..5_243_400, length in 1_usize..200_000) {
        let texts = [plain(5 << 20), Vec::new(), plain(300), plain(200)];
        let whole = texts.concat();
        let (stored, _) = parts(&name("a"), &texts);
        let from = from % whole.len();
        let end = (from + length).min(whole.len());
        let found = read(&keys(1), &name("a"), &stored, from as u64..end as u64, 30_000).unwrap();
        prop_assert!(found == whole[from..end]);
    }
}

/// Made with pyca/cryptography and Python's own hmac, with no code of ours.
#[test]
fn what_another_implementation_sealed_opens_and_names_are_its_names() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../testdata/sealed-objects.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let key: [u8; 32] = hex::decode(text(&vectors["key"])).unwrap().try_into().unwrap();
    let own = Arc::new(ObjectKeys::derive(&Key::new(key)).unwrap());
    let name =
        |value: &serde_json::Value| ObjectName::new(&text(&value["bucket"]), &text(&value["key"])).unwrap();
    let header = |value: &serde_json::Value| {
        let bytes: [u8; 40] = hex::decode(text(value)).unwrap().try_into().unwrap();
        coffer_core_sealed_stream::Header::parse(&bytes).unwrap()
    };
    let sealed = |data: &coffer_core_sealed_stream::AssociatedData, header, size: u64| {
        let sealer = SegmentSealer::insecure_with_header(&own.content, data, SEGMENT, header).unwrap();
        sealed_with(sealer, &plain(size as usize))
    };
    let sha256 = |bytes: &[u8]| hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes));
    for vector in vectors["names"].as_array().unwrap() {
        assert_eq!(own.seal_name(&name(vector)).unwrap(), text(&vector["sealed"]));
        let found = own.open_name(name(vector).bucket(), &text(&vector["sealed"]));
        assert_eq!(found.as_deref(), Some(name(vector).key()));
    }
    for vector in vectors["objects"].as_array().unwrap() {
        let data = crate::keys::about_object(&name(vector));
        let bytes = sealed(&data, header(&vector["header"]), vector["size"].as_u64().unwrap());
        assert_eq!(bytes.len() as u64, vector["length"].as_u64().unwrap());
        assert_eq!(sha256(&bytes), text(&vector["sha256"]));
        if let Some(given) = vector["sealed"].as_str() {
            assert_eq!(hex::encode(&bytes), given);
        }
    }
    let vector = &vectors["parts"];
    let (mut stored, name_of) = (Vec::new(), name(vector));
    for at in 0..2 {
        let id = hex::decode(text(&vector["ids"][at])).unwrap().try_into().unwrap();
        let part = Part { id: PartId::insecure_from(id), size: vector["sizes"][at].as_u64().unwrap() };
        let begins = stored.len() as u64;
        let data = crate::keys::about_part(&name_of, &part.id);
        stored.extend(sealed(&data, header(&vector["headers"][at]), part.size));
        stored.resize((begins + part.stored().unwrap()) as usize, 0);
    }
    stored.resize(stored.len() + vector["filler"].as_u64().unwrap() as usize, 0);
    let index = hex::decode(text(&vector["index"])).unwrap();
    stored.extend(&index);
    stored.extend((index.len() as u64).to_be_bytes());
    assert_eq!(
        (stored.len() as u64, sha256(&stored)),
        (vector["length"].as_u64().unwrap(), text(&vector["sha256"]))
    );
    let size = (5 << 20) + 100;
    assert!(
        read(&own, &name_of, &stored, 0..size, 1 << 20).unwrap() == [plain(5 << 20), plain(100)].concat()
    );
    let vector = &vectors["metadata"];
    let found = own.open_metadata(&name(vector), &text(&vector["sealed"])).unwrap();
    assert_eq!(serde_json::to_value(found).unwrap(), vector["plain"]);
}
