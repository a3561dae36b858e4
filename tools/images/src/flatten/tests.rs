//! Layers become the tree that a container runtime would show; hostile entries are refused by their cause.

use std::io::Cursor;

use coffer_core_seal::tree::{Kind, Node, NodeId};

use super::*;

/// Type, path, link or content, pax records.
type Written<'a> = (u8, &'a str, &'a str, &'a [(&'a str, &'a [u8])]);

/// A tar with entries written by hand.
fn tar_of(entries: &[Written<'_>]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (kind, path, text, pax) in entries {
        builder.append_pax_extensions(pax.iter().copied()).unwrap();
        let mut header = ::tar::Header::new_ustar();
        let name = path.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(::tar::EntryType::new(*kind));
        header.set_mode(0o640);
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(1234);
        let content = if *kind == b'0' { text.as_bytes() } else { b"" };
        if matches!(kind, b'1' | b'2') {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        if matches!(kind, b'3' | b'4') {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn flatten_with(limits: Limits, layers: &[Vec<u8>]) -> Result<Flat, ImageError> {
    let directory = tempfile::tempdir().unwrap();
    let mut flattener = Flattener::new(directory.path(), limits).unwrap();
    for layer in layers {
        flattener.layer(Cursor::new(layer))?;
    }
    flattener.finish()
}

fn flatten(layers: &[Vec<u8>]) -> Result<Flat, ImageError> {
    flatten_with(Limits::default(), layers)
}

fn at<'a>(flat: &'a Flat, path: &str) -> Option<(&'a Node, NodeId)> {
    let mut id = Tree::ROOT;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        id = flat.tree.child(id, part.as_bytes())?;
    }
    Some((flat.tree.node(id), id))
}

fn content(flat: &mut Flat, path: &str) -> String {
    let Some((Node { kind: Kind::File(extent), .. }, _)) = at(flat, path) else {
        panic!("{path} is no file")
    };
    let extent = *extent;
    let mut bytes = vec![0; extent.len as usize];
    flat.contents.read_at(extent.offset, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn upper_layers_replace_hide_and_add() {
    let lower = tar_of(&[
        (b'5', "etc/", "", &[]),
        (b'0', "etc/a", "old a", &[]),
        (b'0', "etc/b", "b", &[]),
        (b'0', "var/cache/x", "x", &[]),
        (b'0', "var/cache/y", "y", &[]),
        (b'0', "gone", "gone", &[]),
        (b'0', "was-file", "f", &[]),
    ]);
    let upper = tar_of(&[
        (b'0', "var/cache/new", "new", &[]),
        (b'0', "etc/a", "new a", &[]),
        (b'0', "etc/.wh.b", "", &[]),
        (b'0', ".wh.gone", "", &[]),
        (b'0', "var/cache/.wh..wh..opq", "", &[]),
        (b'0', ".wh..wh.plnk", "", &[]),
        (b'5', "was-file", "", &[]),
        (b'0', "was-file/inside", "i", &[]),
    ]);
    let mut flat = flatten(&[lower, upper]).unwrap();
    assert_eq!(content(&mut flat, "etc/a"), "new a");
    assert_eq!(content(&mut flat, "was-file/inside"), "i");
    // The opaque mark stands after the new entry and yet hides lower layers only.
    assert_eq!(content(&mut flat, "var/cache/new"), "new");
    for path in ["etc/b", "gone", "var/cache/x", "var/cache/y", ".wh..wh.plnk", "etc/.wh.b"] {
        assert!(at(&flat, path).is_none(), "{path}");
    }
}

#[test]
fn metadata_links_devices_and_binary_attributes_arrive() {
    let capability: &[u8] = &[1, 0, 0, 2, b'\n', b'=', b' ', 0, 0xff];
    let layer = tar_of(&[
        (b'0', "bin/ping", "ping", &[("SCHILY.xattr.security.capability", capability), ("mtime", b"-1.5")]),
        (b'1', "bin/ping6", "bin/ping", &[]),
        (b'2', "link", "bin/ping", &[]),
        (b'3', "null", "", &[]),
        (b'6', "pipe", "", &[]),
        (b'0', "short", "long", &[("path", b"a/very/long/name"), ("uid", b"4000000000"), ("gid", b"7")]),
    ]);
    let mut flat = flatten(&[layer]).unwrap();
    let (ping, id) = at(&flat, "bin/ping").unwrap();
    assert_eq!(ping.meta.xattrs[b"security.capability".as_slice()], capability);
    assert_eq!((ping.meta.mode, ping.meta.uid, ping.meta.gid, ping.meta.mtime), (0o640, 5, 6, -2));
    assert_eq!(at(&flat, "bin/ping6").unwrap().1, id);
    assert_eq!(at(&flat, "link").unwrap().0.kind, Kind::Symlink(b"bin/ping".to_vec()));
    assert_eq!(at(&flat, "null").unwrap().0.kind, Kind::Character(1, 3));
    assert_eq!(at(&flat, "pipe").unwrap().0.kind, Kind::Fifo);
    let (long, _) = at(&flat, "a/very/long/name").unwrap();
    assert_eq!((long.meta.uid, long.meta.gid), (4_000_000_000, 7));
    assert_eq!(content(&mut flat, "a/very/long/name"), "long");
}

#[test]
fn entries_below_a_link_stay_within_the_image() {
    let lower = tar_of(&[
        (b'5', "usr/lib", "", &[]),
        (b'2', "lib", "usr/lib", &[]),
        (b'2', "out", "../../../etc", &[]),
        (b'2', "abs", "/usr", &[]),
    ]);
    let upper =
        tar_of(&[(b'0', "lib/x", "x", &[]), (b'0', "out/y", "y", &[]), (b'0', "abs/lib/z", "z", &[])]);
    let mut flat = flatten(&[lower, upper]).unwrap();
    assert_eq!(content(&mut flat, "usr/lib/x"), "x");
    assert_eq!(content(&mut flat, "etc/y"), "y");
    assert_eq!(content(&mut flat, "usr/lib/z"), "z");
    assert!(matches!(at(&flat, "lib").unwrap().0.kind, Kind::Symlink(_)));
}

#[test]
fn hostile_entries_are_refused_by_their_cause() {
    let long = "n".repeat(99);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (tar_of(&[(b'0', "../x", "", &[])]), "leads out"),
        (tar_of(&[(b'0', "a/../../x", "", &[])]), "leads out"),
        (tar_of(&[(b'1', "x", "../../etc/passwd", &[])]), "leads out"),
        (tar_of(&[(b'1', "x", "missing", &[])]), "not there"),
        (tar_of(&[(b'5', "d", "", &[]), (b'1', "x", "d", &[])]), "directory"),
        (tar_of(&[(b'0', "f", "", &[]), (b'0', "f/x", "", &[])]), "not a directory"),
        (tar_of(&[(b'2', "l", "l", &[]), (b'0', "l/x", "", &[])]), "too many symbolic links"),
        (tar_of(&[(b'2', "l", "", &[])]), "target"),
        (tar_of(&[(b'0', ".wh.", "", &[])]), "whiteout"),
        (tar_of(&[(b'0', ".wh...", "", &[])]), "whiteout"),
        (tar_of(&[(b'0', "./", "", &[]), (b'2', "/", "x", &[])]), "root"),
        (tar_of(&[(b'0', &long, "", &[("path", &[b'p'; 300])])]), "not a file name"),
        (tar_of(&[(b'0', "s", "", &[("GNU.sparse.major", b"1")])]), "sparse"),
        (tar_of(&[(b'0', "s", "", &[("uid", b"x")])]), "owner"),
        (tar_of(&[(b'Z', "s", "", &[])]), "kind"),
        (vec![b'x'; 1024], "not a tar"),
    ];
    for (layer, cause) in cases {
        let refusal = flatten(&[layer]).map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains(cause), "expected {cause:?} in {refusal:?}");
    }
}

#[test]
fn cut_layer_is_refused() {
    let layer = tar_of(&[(b'0', "f", "some content", &[])]);
    for len in [100, 511, 515, 600] {
        assert!(flatten(&[layer[..len].to_vec()]).is_err(), "{len} bytes");
    }
}

#[test]
fn compressed_layers_are_known_by_their_first_bytes() {
    use std::io::Write;
    let (one, two) = (tar_of(&[(b'0', "a", "first", &[])]), tar_of(&[(b'0', "b", "second", &[])]));
    // Two gzip members that are one tar together: the first has no end mark.
    let whole = [&one[..one.len() - 1024], two.as_slice()].concat();
    let (left, right) = whole.split_at(700);
    let mut gzip = Vec::new();
    for part in [left, right] {
        let mut encoder = flate2::write::GzEncoder::new(&mut gzip, flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
    }
    let zstd = zstd::encode_all(whole.as_slice(), 1).unwrap();
    for layer in [whole, gzip, zstd] {
        let mut flat = flatten(&[layer]).unwrap();
        assert_eq!(content(&mut flat, "a"), "first");
        assert_eq!(content(&mut flat, "b"), "second");
    }
}

#[test]
fn bombs_are_stopped_at_the_limits() {
    let big = "x".repeat(60_000);
    let layer = tar_of(&[(b'0', "big", &big, &[])]);
    let bomb = zstd::encode_all(layer.as_slice(), 1).unwrap();
    let few = Limits { bytes: 30_000, entries: 10 };
    let refusal = flatten_with(few, std::slice::from_ref(&bomb)).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, ImageError::Limit { what: "bytes", limit: 30_000 }), "{refusal}");
    let twice = Limits { bytes: 100_000, entries: 10 };
    assert!(flatten_with(twice, &[bomb.clone(), bomb]).is_err(), "the limit is for all layers together");
    let many = tar_of(&[(b'0', "a", "", &[]), (b'0', "b", "", &[]), (b'0', "c", "", &[])]);
    let refusal = flatten_with(Limits { bytes: 1 << 20, entries: 2 }, &[many]).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, ImageError::Limit { what: "entries", .. }), "{refusal}");
}
