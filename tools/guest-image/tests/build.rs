//! The builder on made-up kernels: the same bytes from the same inputs, modules in order, refusals by name.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use coffer_tools_guest_image::{BuildSpec, Built, GuestImageError, Kernel, build};

const VERSION: &str = "6.1.0-test";

/// A 64-bit ELF file with one section (ELF-64 object file format, version 1.5).
fn elf(section: &str, content: &[u8], interpreter: bool) -> Vec<u8> {
    let names = format!("\0{section}\0.shstrtab\0");
    let headers = usize::from(interpreter);
    let content_at = 64 + 56 * headers;
    let names_at = content_at + content.len();
    let table_at = (names_at + names.len()).next_multiple_of(8);
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    let half = |out: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    let word = |out: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    let long = |out: &mut Vec<u8>, values: &[usize]| {
        values.iter().for_each(|v| out.extend((*v as u64).to_le_bytes()));
    };
    half(&mut out, &[1, 62]);
    word(&mut out, &[1]);
    long(&mut out, &[0, if interpreter { 64 } else { 0 }, table_at]);
    word(&mut out, &[0]);
    half(&mut out, &[64, 56, headers as u16, 64, 3, 2]);
    if interpreter {
        word(&mut out, &[3, 4]);
        long(&mut out, &[content_at, 0, 0, content.len(), content.len(), 1]);
    }
    out.extend_from_slice(content);
    out.extend_from_slice(names.as_bytes());
    out.resize(table_at, 0);
    out.resize(table_at + 64, 0);
    let last = section.len() + 2;
    for (name, kind, at, size) in [(1, 1, content_at, content.len()), (last, 3, names_at, names.len())] {
        word(&mut out, &[name as u32, kind]);
        long(&mut out, &[0, 0, at, size]);
        word(&mut out, &[0, 0]);
        long(&mut out, &[1, 0]);
    }
    out
}

fn module(depends: &str, before: &str) -> Vec<u8> {
    elf(".modinfo", format!("license=GPL\0depends={depends}\0softdep=pre: {before}\0").as_bytes(), false)
}

/// An unpacked kernel package in `root` whose modules are made in the order given.
fn kernel(root: &Path, modules: &[(&str, Vec<u8>)]) -> Kernel {
    let tree = root.join("lib/modules").join(VERSION);
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::create_dir_all(tree.join("kernel/deep")).unwrap();
    fs::write(root.join("boot").join(format!("vmlinuz-{VERSION}")), b"kernel").unwrap();
    fs::write(tree.join("modules.builtin"), "kernel/crypto/crc32c_generic.ko\nkernel/net/inside.ko\n")
        .unwrap();
    fs::write(tree.join("modules.builtin.modinfo"), b"crc32c_generic.alias=crc32c\0").unwrap();
    for (name, content) in modules {
        fs::write(tree.join("kernel/deep").join(name), content).unwrap();
    }
    Kernel::open(root).unwrap()
}

fn usual() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("dm-mod.ko", module("", "")),
        ("dm-verity.ko", module("dm-mod,dm-bufio", "")),
        ("dm-bufio.ko", module("dm-mod,inside", "crc32c nowhere")),
        ("xts.ko", module("", "ecb")),
        ("ecb.ko", module("", "")),
        ("unused.ko", module("", "")),
    ]
}

fn run(root: &Path, modules: &[(&str, Vec<u8>)], names: &[&str]) -> Result<Built, GuestImageError> {
    let kernel = kernel(root, modules);
    let agent = root.join("agent");
    fs::write(&agent, elf(".text", b"code", false)).unwrap();
    build(&BuildSpec { agent, kernel: &kernel, modules: names })
}

fn names(built: &Built) -> Vec<&str> {
    built.manifest.modules.iter().map(|module| module.name.as_str()).collect()
}

fn with(file: &'static str, content: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let mut modules = usual();
    modules.push((file, content));
    modules
}

#[test]
fn the_same_inputs_give_the_same_bytes_from_different_places() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let deep: PathBuf = other.path().join("a/longer/path");
    let mut backwards = usual();
    backwards.reverse();
    let first = run(one.path(), &usual(), &["dm-verity", "xts"]).unwrap();
    let second = run(&deep, &backwards, &["dm_verity", "xts"]).unwrap();
    assert_eq!(first.initramfs, second.initramfs);
    assert_eq!(
        serde_json::to_string(&first.manifest).unwrap(),
        serde_json::to_string(&second.manifest).unwrap()
    );
}

#[test]
fn another_agent_gives_other_bytes_and_another_manifest() {
    let root = tempfile::tempdir().unwrap();
    let first = run(root.path(), &usual(), &["xts"]).unwrap();
    let agent = root.path().join("other");
    fs::write(&agent, elf(".text", b"cope", false)).unwrap();
    let kernel = Kernel::open(root.path()).unwrap();
    let second = build(&BuildSpec { agent, kernel: &kernel, modules: &["xts"] }).unwrap();
    assert_ne!(first.initramfs, second.initramfs);
    assert_ne!(first.manifest.agent.digest, second.manifest.agent.digest);
}

#[test]
fn each_module_comes_after_what_it_needs_and_builtin_ones_do_not_come() {
    let root = tempfile::tempdir().unwrap();
    let built = run(root.path(), &usual(), &["dm-verity", "xts", "dm-mod", "crc32c"]).unwrap();
    assert_eq!(names(&built), ["dm-mod.ko", "dm-bufio.ko", "dm-verity.ko", "ecb.ko", "xts.ko"]);
}

#[test]
fn a_module_that_the_kernel_has_not_is_named_with_who_needs_it() {
    let root = tempfile::tempdir().unwrap();
    let modules = with("broken.ko", module("absent", ""));
    let error = run(root.path(), &modules, &["broken"]).unwrap_err();
    assert_eq!(error.to_string(), "kernel 6.1.0-test has no module absent, which broken needs");
}

fn zstd_module() -> Vec<u8> {
    zstd::bulk::compress(&module("dm-mod", ""), 3).unwrap()
}

#[test]
fn a_module_compressed_by_zstd_gives_the_bytes_of_the_plain_one() {
    let (plain, packed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = run(plain.path(), &with("zip.ko", module("dm-mod", "")), &["zip"]).unwrap();
    let second = run(packed.path(), &with("zip.ko.zst", zstd_module()), &["zip"]).unwrap();
    assert_eq!(names(&second), ["dm-mod.ko", "zip.ko"]);
    assert_eq!(first.initramfs, second.initramfs);
    assert_eq!(first.manifest, second.manifest);
}

#[test]
fn a_cut_module_compressed_by_zstd_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut content = zstd_module();
    content.pop();
    let error = run(root.path(), &with("zip.ko.zst", content), &["zip"]).unwrap_err();
    assert!(matches!(error, GuestImageError::DamagedModule { .. }), "{error}");
}

#[test]
fn a_kernel_says_the_packages_that_it_and_its_modules_came_from() {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("origin.json");
    kernel(root.path(), &usual());
    fs::write(&origin, r#"{"name":"linux-image-1","version":"2","sha256":"00"}"#).unwrap();
    let alone = Kernel::open(root.path()).unwrap();
    assert_eq!(alone.package.map(|package| package.name).as_deref(), Some("linux-image-1"));
    assert_eq!(alone.module_packages, []);
    let modules = r#"{"name":"linux-image-1","version":"2","sha256":"00",
        "modules":[{"name":"linux-modules-1","version":"2","sha256":"01"}]}"#;
    fs::write(&origin, modules).unwrap();
    let apart = Kernel::open(root.path()).unwrap();
    assert_eq!(apart.package.unwrap().name, "linux-image-1");
    assert_eq!(apart.module_packages[0].name, "linux-modules-1");
}

#[test]
fn a_module_of_another_compression_is_refused_as_such() {
    let root = tempfile::tempdir().unwrap();
    let error = run(root.path(), &with("zip.ko.gz", b"\x1f\x8b".to_vec()), &["zip"]).unwrap_err();
    assert!(matches!(error, GuestImageError::CompressedModule { .. }), "{error}");
    for (file, content) in [("zip.ko.xz", b"\xfd7zXZ".to_vec()), ("zap.ko.zst", b"\x28\xb5".to_vec())] {
        let root = tempfile::tempdir().unwrap();
        let error = run(root.path(), &with(file, content), &[&file[..3]]).unwrap_err();
        assert!(matches!(error, GuestImageError::DamagedModule { .. }), "{error}");
    }
}

#[test]
fn a_module_in_xz_is_the_module_that_was_compressed() {
    use std::io::Write as _;
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::default()).unwrap();
    writer.write_all(&module("dm-mod", "")).unwrap();
    let packed = run_in_new(&with("packed.ko.xz", writer.finish().unwrap()), &["packed"]);
    let plain = run_in_new(&with("packed.ko", module("dm-mod", "")), &["packed"]);
    assert_eq!(names(&packed), ["dm-mod.ko", "packed.ko"]);
    assert_eq!(packed.initramfs, plain.initramfs);
}

fn run_in_new(modules: &[(&str, Vec<u8>)], names: &[&str]) -> Built {
    let root = tempfile::tempdir().unwrap();
    run(root.path(), modules, names).unwrap()
}

#[test]
fn drivers_of_tees_come_along_where_the_kernel_has_them_and_stop_no_guest() {
    let plain = run_in_new(&usual(), &["xts"]);
    assert_eq!(names(&plain), ["ecb.ko", "xts.ko"]);
    let mut with_drivers = with("tdx-guest.ko", module("tsm,dm-mod", ""));
    with_drivers.push(("tsm.ko", module("", "")));
    let able = run_in_new(&with_drivers, &["xts"]);
    assert_eq!(names(&able), ["ecb.ko", "xts.ko", "tsm.ko", "dm-mod.ko", "tdx-guest.ko"]);
    let archive = zstd::decode_all(able.initramfs.as_slice()).unwrap();
    let text = String::from_utf8_lossy(&archive).into_owned();
    assert!(
        !text.contains("xts.ko\n/lib/modules/tsm.ko"),
        "what must be loaded and what may be are two lists"
    );
    assert!(text.contains("/lib/modules/tsm.ko\n/lib/modules/dm-mod.ko\n/lib/modules/tdx-guest.ko\n"));
}

#[test]
fn a_circle_of_modules_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut modules = with("one.ko", module("two", ""));
    modules.push(("two.ko", module("one", "")));
    let error = run(root.path(), &modules, &["one"]).unwrap_err();
    assert!(matches!(error, GuestImageError::Circle(_)), "{error}");
}

#[test]
fn a_damaged_module_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let error = run(root.path(), &with("bad.ko", b"\x7fELFxx".to_vec()), &["bad"]).unwrap_err();
    assert!(matches!(error, GuestImageError::DamagedModule { .. }), "{error}");
}

#[test]
fn an_agent_that_needs_an_interpreter_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let kernel = kernel(root.path(), &usual());
    let agent = root.path().join("agent");
    fs::write(&agent, elf(".interp", b"/lib64/ld.so\0", true)).unwrap();
    let error = build(&BuildSpec { agent, kernel: &kernel, modules: &[] }).unwrap_err();
    assert!(error.to_string().contains("linked dynamically"), "{error}");
}

#[test]
fn a_directory_without_a_kernel_is_refused_with_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let error = Kernel::open(root.path()).unwrap_err();
    assert!(error.to_string().contains("boot/vmlinuz-*"), "{error}");
}
