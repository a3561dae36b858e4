//! Images by umoci, a registry on a loopback port, and comparison of directories.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A text that stands in a file of the image and must be in nothing that is sealed.
pub(crate) const CANARY: &str = "canary 4f1c9e0b that nobody but the owner may read";

/// Runs a tool; `None` and a visible line if it is not installed.
pub(crate) fn tool(name: &str, args: &[&str]) -> Option<Vec<u8>> {
    let Ok(output) = Command::new(name).args(args).output() else {
        println!("skipped: {name} is not installed");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {text}{}", String::from_utf8_lossy(&output.stdout));
    Some(output.stdout)
}

/// An image of two layers in `oci:DIRECTORY:plain`, and the root file system that it should show.
pub(crate) struct Umoci {
    pub(crate) directory: TempDir,
    pub(crate) layout: String,
    pub(crate) rootfs: PathBuf,
}

pub(crate) fn umoci() -> Option<Umoci> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("skipped: umoci makes images with owners as root only");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout").display().to_string();
    let bundle = directory.path().join("bundle");
    let bundle_name = bundle.display().to_string();
    let image = format!("{layout}:plain");
    tool("umoci", &["init", "--layout", &layout])?;
    tool("umoci", &["new", "--image", &image])?;
    tool("umoci", &["unpack", "--image", &image, &bundle_name])?;
    let rootfs = bundle.join("rootfs");
    fs::create_dir_all(rootfs.join("usr/bin")).unwrap();
    fs::create_dir_all(rootfs.join("srv/many")).unwrap();
    symlink("usr/bin", rootfs.join("bin")).unwrap();
    fs::write(rootfs.join("usr/bin/app"), vec![0x42; 300_001]).unwrap();
    fs::set_permissions(rootfs.join("usr/bin/app"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(rootfs.join("usr/bin/app"), rootfs.join("usr/bin/app2")).unwrap();
    fs::write(rootfs.join("srv/canary"), CANARY.repeat(200)).unwrap();
    fs::write(rootfs.join("srv/gone"), b"removed by the second layer").unwrap();
    std::os::unix::fs::chown(rootfs.join("srv/canary"), Some(1000), Some(70_000)).unwrap();
    for i in 0..300 {
        fs::write(rootfs.join(format!("srv/many/file-{i:04}")), vec![b'a'; i]).unwrap();
    }
    if xattr::set(rootfs.join("srv/canary"), "user.note", b"line\nline").is_err() {
        println!("note: no user attributes on this file system");
    }
    tool("umoci", &["repack", "--refresh-bundle", "--image", &image, &bundle_name])?;
    fs::remove_file(rootfs.join("srv/gone")).unwrap();
    fs::write(rootfs.join("srv/late"), b"second layer").unwrap();
    // Another whole second than before: umoci takes a folder whose time changed within one for unchanged.
    let srv = rootfs.join("srv");
    let later = fs::metadata(&srv).unwrap().mtime() + 10;
    tool("touch", &["--date", &format!("@{later}"), srv.to_str().unwrap()])?;
    tool("umoci", &["repack", "--image", &image, &bundle_name])?;
    tool(
        "umoci",
        &["config", "--image", &image, "--config.entrypoint", "/usr/bin/app", "--config.env", "A=b"],
    )?;
    Some(Umoci { directory, layout, rootfs })
}

impl Umoci {
    pub(crate) fn source(&self) -> coffer_tools_images::Source {
        coffer_tools_images::Source::parse(&format!("oci:{}:plain", self.layout)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// Compares two directories: names, kinds, contents, owners, modes, times and attributes.
pub(crate) fn compare(left: &Path, right: &Path) {
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(left), names(right), "{}", left.display());
    for name in names(left) {
        let (a, b) = (left.join(&name), right.join(&name));
        let (m, n) = (fs::symlink_metadata(&a).unwrap(), fs::symlink_metadata(&b).unwrap());
        // umoci rounds times to the nearest second when it writes layers.
        let seconds = |m: &fs::Metadata| m.mtime() + i64::from(m.mtime_nsec() >= 500_000_000);
        let all = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), seconds(m));
        assert_eq!(all(&m), all(&n), "{}", a.display());
        if m.is_symlink() {
            assert_eq!(fs::read_link(&a).unwrap(), fs::read_link(&b).unwrap());
        } else if m.is_dir() {
            compare(&a, &b);
        } else {
            assert_eq!(m.nlink(), n.nlink(), "{}", a.display());
            assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap(), "{}", a.display());
            assert_eq!(
                xattr::get(&a, "user.note").unwrap_or_default(),
                xattr::get(&b, "user.note").unwrap_or_default()
            );
        }
    }
}

/// Whether any file below a directory holds the text.
pub(crate) fn holds(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// A registry that ends with the test.
pub(crate) struct Registry {
    child: Child,
    pub(crate) name: String,
    pub(crate) data: TempDir,
}

impl Registry {
    pub(crate) fn start() -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = data.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            data.path().join("data").display()
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: docker-registry is not installed");
            return None;
        };
        let registry = Self { child, name: format!("127.0.0.1:{port}"), data };
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(&registry.name).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
