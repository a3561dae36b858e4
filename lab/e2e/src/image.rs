//! An image that Coffer did not make: busybox from Debian, put together by umoci.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The page that is only in the image.
pub const PAGE: &str = "a page that exists only inside the sealed layer\n";
/// What nobody asks for, in the same layer; it must be found nowhere on the host.
pub const CANARY: &str = "canary-7f3c51d2-nobody-asks-for-this";

const APPLETS: [&str; 24] = [
    "cat",
    "cut",
    "dd",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "hostname",
    "httpd",
    "id",
    "ls",
    "md5sum",
    "mount",
    "ps",
    "sh",
    "sha256sum",
    "sleep",
    "stty",
    "tail",
    "test",
    "true",
    "tty",
    "wget",
];

/// Makes the layout with umoci in `layout`, tagged `latest`.
pub fn busybox_layout(layout: &Path) -> Result<()> {
    let work = layout.with_extension("work");
    fs::create_dir_all(layout.parent().context("a layout without a folder")?)?;
    let image = format!("{}:latest", layout.display());
    umoci(&["init", "--layout", &layout.to_string_lossy()])?;
    umoci(&["new", "--image", &image])?;
    let bundle = work.to_string_lossy();
    umoci(&["unpack", "--rootless", "--image", &image, &bundle])?;
    fill(&work.join("rootfs"))?;
    umoci(&["repack", "--image", &image, &bundle])?;
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.cmd",
        "/bin/httpd",
        "--config.cmd",
        "-f",
        "--config.cmd",
        "-p",
        "--config.cmd",
        "80",
        "--config.cmd",
        "-h",
        "--config.cmd",
        "/srv",
        "--config.env",
        "PATH=/bin",
        "--config.env",
        "FROM_IMAGE=yes",
        "--config.workingdir",
        "/srv",
    ])?;
    fs::remove_dir_all(&work).context("the working folder cannot be removed")
}

fn fill(root: &Path) -> Result<()> {
    for folder in ["bin", "etc", "srv", "tmp", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static is not installed")?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:33:\n")?;
    fs::write(root.join("srv/index.html"), PAGE)?;
    // Apart from the other files, so that reading those does not read this one's block.
    fs::write(root.join("srv/canary.txt"), format!("{CANARY}\n").repeat(400))?;
    // One whole block of a known pattern, for the case that changes a byte of it.
    fs::write(root.join("srv/block.bin"), [0x5a; 16384]).context("the root file system cannot be written")
}

fn umoci(words: &[&str]) -> Result<()> {
    let out = Command::new("umoci").args(words).output().context("umoci is not installed")?;
    if !out.status.success() {
        bail!("umoci {} failed: {}", words.join(" "), String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}
