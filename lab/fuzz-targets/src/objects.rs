//! Sealed objects: what a store that lies gives to the gateway, and what reaches it from clients.

use std::sync::Arc;

use bytes::Bytes;
use coffer_core_sealed_objects::{Kind, ObjectKeys, ObjectName, Part, PartId, Reading, Shape};
use coffer_core_sealed_stream::{Key, SegmentSealer};
use coffer_guest_objects::{Chunks, Completion, Deletions, Page};
use hyper::{HeaderMap, Method};

const PLAIN: &[u8] = b"what was written";

/// Opens an object as a reader does that has the store's word only: what was changed gives an error.
pub fn sealed_object(data: &[u8]) {
    let (keys, name) = (keys(), name());
    let length = data.len() as u64;
    let shape = match Kind::of(length) {
        Kind::Whole => Shape::whole(&name, length),
        Kind::Parts => keys.open_index(&name, data).and_then(|index| Shape::parts(&name, length, &index)),
    };
    let Ok(shape) = shape else { return };
    let size = shape.size();
    let Ok(mut reading) = Reading::new(keys, Arc::new(shape), 0..size) else { return };
    let (mut out, mut rest) = (Vec::new(), data);
    while !reading.is_done() {
        match reading.feed(rest, &mut out) {
            Ok(taken) if taken > 0 || reading.is_done() => rest = rest.split_at(taken).1,
            _ => return,
        }
    }
    assert_eq!(out, PLAIN);
}

/// Opens a name from a listing: what opens is sealed to the same.
pub fn sealed_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(key) = keys().open_name("lake", text) else { return };
    let sealed = match key.strip_suffix('/') {
        Some(_) if text.ends_with('/') => keys().seal_folder("lake", &key).unwrap(),
        _ => keys().seal_name(&ObjectName::new("lake", &key).unwrap()).unwrap(),
    };
    assert_eq!(sealed, text);
}

/// Reads the documents of stores and clients.
pub fn object_documents(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Page::parse(text);
    if let Ok(Completion(parts)) = Completion::parse(text) {
        assert!(parts.is_sorted_by(|one, other| one.0 < other.0));
    }
    let _ = Deletions::parse(text);
    let _ = text.parse::<Part>();
}

/// Takes a body apart, whole and byte by byte: both give the same.
pub fn object_chunks(data: &[u8]) {
    let (mut whole, mut one) = (Chunks::default(), Chunks::default());
    let (mut out, mut single) = (Vec::new(), Vec::new());
    let first = whole.feed(Bytes::copy_from_slice(data), &mut out);
    let second = data.iter().try_for_each(|byte| one.feed(Bytes::copy_from_slice(&[*byte]), &mut single));
    assert_eq!(first.is_ok(), second.is_ok());
    if first.is_ok() {
        assert_eq!((out.concat(), whole.is_whole()), (single.concat(), one.is_whole()));
    }
}

/// Reads a request's target and its headers, a line each.
pub fn object_call(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let (method, target) = lines.next().unwrap_or_default().split_once(' ').unwrap_or_default();
    let Ok(method) = method.parse::<Method>() else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (name.parse::<hyper::header::HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let _ = coffer_guest_objects::Call::parse(&method, path, query, &headers);
}

fn keys() -> Arc<ObjectKeys> {
    Arc::new(ObjectKeys::derive(&Key::new([7; 32])).unwrap())
}

fn name() -> ObjectName {
    ObjectName::new("lake", "a/b").unwrap()
}

fn sealed(sealer: SegmentSealer) -> Vec<u8> {
    let mut bytes = sealer.header().as_bytes().to_vec();
    let mut text = PLAIN.to_vec();
    sealer.seal_last(&mut text).unwrap();
    bytes.extend(text);
    bytes
}

pub(crate) fn object_seeds() -> Vec<Vec<u8>> {
    // The list alone, as if its object had no parts: five mebibytes of zeros would make a fuzzer slow.
    let part = Part { id: PartId::insecure_from([1; 16]), size: PLAIN.len() as u64 };
    let index = coffer_core_sealed_objects::Index::new(vec![part]).unwrap();
    vec![sealed(keys().object(&name()).unwrap()), keys().seal_index(&name(), &index).unwrap()]
}

pub(crate) fn name_seeds() -> Vec<Vec<u8>> {
    let own = |key: &str| keys().seal_name(&ObjectName::new("lake", key).unwrap()).unwrap().into_bytes();
    let folder = keys().seal_folder("lake", "a/b/").unwrap().into_bytes();
    vec![own("a/b"), own("x"), own("a//"), folder]
}

pub(crate) fn document_seeds() -> Vec<Vec<u8>> {
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a</Key><Size>1</Size><ETag>&quot;e&quot;\
                </ETag></Contents><CommonPrefixes><Prefix>f/</Prefix></CommonPrefixes><NextContinuationToken>n\
                </NextContinuationToken></ListBucketResult>";
    let completion = "<C><Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part></C>";
    let deletions = "<Delete><Quiet>true</Quiet><Object><Key>a&#47;b</Key></Object></Delete>";
    let part = Part { id: PartId::insecure_from([1; 16]), size: 9 }.to_string();
    [page, completion, deletions, &part].iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn chunk_seeds() -> Vec<Vec<u8>> {
    vec![b"5;chunk-signature=ab\r\nhello\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n".to_vec()]
}

pub(crate) fn call_seeds() -> Vec<Vec<u8>> {
    [
        "GET /b/a%20b?x-id=GetObject\nrange: bytes=1-2",
        "PUT /b/k?partNumber=2&uploadId=u%2F\nx-amz-copy-source: /b/o\nx-amz-copy-source-range: bytes=0-9",
        "GET /b?list-type=2&prefix=a%2F&delimiter=%2F&max-keys=7&encoding-type=url",
        "POST /b?delete",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
