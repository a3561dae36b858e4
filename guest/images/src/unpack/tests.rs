//! Archives, honest and hostile.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tar::{Builder, Header};

struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry with its name as it is written here: no builder corrects it.
    fn put(mut self, name: &str, kind: EntryType, mode: u32, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(u64::from(nix::unistd::getuid().as_raw()));
        header.set_gid(u64::from(nix::unistd::getgid().as_raw()));
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).expect("appended");
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.put(name, EntryType::Regular, 0o644, "", content.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.put(name, EntryType::Directory, 0o755, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.put(name, EntryType::Symlink, 0o777, target, b"")
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.put(name, EntryType::Link, 0o644, target, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("archive")
    }
}

/// A root with an outside beside it that nothing may reach.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("directory");
        fs::create_dir(place.path().join("root")).expect("directory");
        fs::write(place.path().join("outside"), "untouched").expect("file");
        Self(place)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn unpack(&self, layers: Vec<Layer>) -> Result<(), UnpackError> {
        let mut root = Root::open(&self.root()).expect("root");
        let done = layers.into_iter().try_for_each(|layer| root.apply(&mut layer.bytes().as_slice()));
        assert_eq!(fs::read_to_string(self.0.path().join("outside")).expect("outside"), "untouched");
        assert_eq!(fs::read_dir(self.0.path()).expect("listing").count(), 2);
        done
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root().join(name)).ok()
    }
}

#[test]
fn layers_add_change_and_hide() {
    let place = Place::new();
    let lower = Layer::new()
        .directory("etc/")
        .file("etc/a", "old")
        .file("etc/b", "b")
        .directory("var/")
        .directory("var/deep/")
        .file("var/deep/x", "x")
        .file("var/y", "y");
    let upper = Layer::new()
        .file("etc/a", "new")
        .file("etc/.wh.b", "")
        .file("var/deep/new", "n")
        .file("var/.wh..wh..opq", "")
        .file("var/z", "z")
        .file("etc/.wh.none", "");
    place.unpack(vec![lower, upper]).expect("unpacked");
    assert_eq!(place.read("etc/a").as_deref(), Some("new"));
    assert_eq!(place.read("etc/b"), None);
    assert_eq!(place.read("var/deep/x"), None, "hidden by the opaque marker");
    assert_eq!(place.read("var/y"), None, "hidden by the opaque marker");
    assert_eq!(place.read("var/deep/new").as_deref(), Some("n"), "of the same layer");
    assert_eq!(place.read("var/z").as_deref(), Some("z"));
    assert_eq!(place.read("etc/.wh.b"), None);
}

#[test]
fn modes_times_and_links_are_kept() {
    let place = Place::new();
    let layer = Layer::new()
        .put("bin/su", EntryType::Regular, 0o4755, "", b"s")
        .hard("bin/su2", "bin/su")
        .symlink("sbin", "bin")
        .put("tmp", EntryType::Directory, 0o1777, "", b"")
        .file("tmp/f", "f");
    place.unpack(vec![layer]).expect("unpacked");
    let su = fs::metadata(place.root().join("bin/su")).expect("there");
    assert_eq!((su.permissions().mode() & 0o7777, su.nlink(), su.mtime()), (0o4755, 2, 1_000_000_000));
    let tmp = fs::metadata(place.root().join("tmp")).expect("there");
    assert_eq!((tmp.permissions().mode() & 0o7777, tmp.mtime()), (0o1777, 1_000_000_000));
    assert_eq!(place.read("sbin/su").as_deref(), Some("s"));
}

#[test]
fn a_later_layer_writes_through_a_symbolic_link_within_the_root() {
    let place = Place::new();
    let lower = Layer::new().directory("usr/bin/").symlink("bin", "usr/bin").symlink("abs", "/usr");
    let upper = Layer::new().file("bin/tool", "t").file("abs/lib", "l");
    place.unpack(vec![lower, upper]).expect("unpacked");
    assert_eq!(place.read("usr/bin/tool").as_deref(), Some("t"));
    assert_eq!(place.read("usr/lib").as_deref(), Some("l"));
}

#[test]
fn no_name_or_link_leads_out_of_the_root() {
    let refused = [
        Layer::new().file("../outside", "x"),
        Layer::new().file("a/../../outside", "x"),
        Layer::new().hard("copy", "../outside"),
        Layer::new().symlink("up", "..").hard("copy", "up/outside"),
        Layer::new()
            .symlink("f", "../outside")
            .hard("copy", "f")
            .file("copy/x", "x")
            .file("f/x", "x")
            .hard("g", "/f/../../outside"),
        Layer::new().file(".wh...", "x"),
    ];
    for (number, layer) in refused.into_iter().enumerate() {
        assert!(Place::new().unpack(vec![layer]).is_err(), "archive {number}");
    }
    // These are answered within the root.
    let place = Place::new();
    let layer = Layer::new()
        .symlink("up", "../..")
        .file("up/outside", "inside")
        .symlink("outside2", "../outside")
        .file("outside2", "replaced")
        .file("/absolute", "a");
    place.unpack(vec![layer]).expect("unpacked");
    assert_eq!(place.read("outside").as_deref(), Some("inside"));
    assert_eq!(place.read("outside2").as_deref(), Some("replaced"));
    assert_eq!(place.read("absolute").as_deref(), Some("a"));
}

#[test]
fn a_whiteout_does_not_follow_a_link_out() {
    let place = Place::new();
    let lower = Layer::new().symlink("up", "..").directory("d/").symlink("d/l", "../../outside");
    let upper = Layer::new().file("up/.wh.outside", "").file("d/.wh..wh..opq", "").file(".wh.up", "");
    place.unpack(vec![lower, upper]).expect("unpacked");
    assert!(!place.root().join("d/l").is_symlink());
    assert!(!place.root().join("up").is_symlink());
}

#[test]
fn a_file_replaces_a_directory_and_the_other_way_round() {
    let place = Place::new();
    let lower = Layer::new().file("d/x/y", "y").file("f", "f");
    let upper = Layer::new().file("d", "now a file").file("f/x", "now a directory");
    let error = place.unpack(vec![lower, upper]).expect_err("a file is no directory");
    assert_eq!(error.path, "f/x");
    assert_eq!(place.read("d").as_deref(), Some("now a file"));
}

#[test]
fn a_cut_archive_is_refused() {
    let bytes = Layer::new().file("f", &"x".repeat(2000)).bytes();
    let place = Place::new();
    let mut root = Root::open(&place.root()).expect("root");
    assert!(root.apply(&mut &bytes[..1024]).is_err());
}

/// A layer with one file, and pax records before it.
fn with_records(records: &[(&str, &[u8])], content: &[u8]) -> Layer {
    let mut layer = Layer::new();
    layer.0.append_pax_extensions(records.iter().copied()).expect("records");
    layer.put("file", EntryType::Regular, 0o755, "", content)
}

#[test]
fn attributes_arrive_and_those_with_line_feeds_whole() {
    let place = Place::new();
    // VFS_CAP_REVISION_2 with a byte 0x0a in its permitted set: cap_net_bind_service and cap_chown's neighbours.
    let capability = [1, 0, 0, 2, 0x0a, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records =
        [("SCHILY.xattr.security.capability", &capability[..]), ("SCHILY.xattr.user.note", b"line\nline")];
    if !nix::unistd::getuid().is_root() {
        println!("skipped: only root gives files capabilities");
        return;
    }
    place.unpack(vec![with_records(&records, b"program")]).expect("unpacked");
    let path = place.root().join("file");
    assert_eq!(xattr::get(&path, "security.capability").expect("read").as_deref(), Some(&capability[..]));
    match xattr::get(&path, "user.note") {
        Ok(Some(value)) => assert_eq!(value, b"line\nline"),
        _ => println!("skipped: no user attributes on this file system"),
    }
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o755);
}

#[test]
fn what_is_no_file_of_an_image_is_refused_by_its_cause() {
    let place = Place::new();
    let cases: [(&str, &[u8], &str); 3] = [
        ("GNU.sparse.major", b"1", "sparse"),
        ("uid", b"nobody", "owner"),
        ("path", &[b'x'; 5000], "name too long"),
    ];
    for (key, value, cause) in cases {
        let refusal = place.unpack(vec![with_records(&[(key, value)], b"")]).expect_err("refused");
        assert!(refusal.why.to_lowercase().contains(cause), "{}", refusal.why);
    }
}

#[test]
fn a_bomb_ends_at_the_memory_s_bounds_with_what_to_do() {
    let place = Place::new();
    let root = place.root();
    let mounted = nix::mount::mount(
        Some("tmpfs"),
        &root,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=1m,nr_inodes=64"),
    );
    if mounted.is_err() {
        println!("skipped: nothing can be mounted here");
        return;
    }
    // A file that is too large, and names that are too many.
    let large = Layer::new().file("large", &"0".repeat(2 << 20));
    let many = (0..100).fold(Layer::new(), |layer, number| layer.file(&format!("f{number}"), ""));
    let results = [large, many].map(|layer| {
        let mut unpacked = Root::open(&root).expect("root");
        unpacked.apply(&mut layer.bytes().as_slice())
    });
    nix::mount::umount(&root).expect("unmounted");
    for result in results {
        let refusal = result.expect_err("refused");
        assert!(refusal.why.contains("seal the image as blocks"), "{}", refusal.why);
    }
}
