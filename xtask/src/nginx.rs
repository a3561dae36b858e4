//! An image of Debian's own nginx, from Debian's packages, with a page and a canary in a layer of their own.
//!
//! The programs are untouched. What a package's installation would have written, as `/etc/passwd`, is written here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::run;

/// nginx and what it needs; where releases name a package differently, the first name that apt knows.
const PACKAGES: [&[&str]; 10] = [
    &["base-files"],
    &["base-passwd"],
    &["libc6"],
    &["libcrypt1"],
    &["libgcc-s1"],
    &["libpcre2-8-0", "libpcre3"],
    &["libssl3t64", "libssl3"],
    &["nginx"],
    &["nginx-common"],
    &["zlib1g"],
];

/// What goes into the layer that only the guest may read.
pub(crate) struct Contents<'a> {
    pub(crate) page: &'a str,
    pub(crate) canary: &'a str,
}

/// Makes the image as an OCI layout in `folder`, tagged `latest`.
pub(crate) fn image(folder: &Path, contents: &Contents<'_>) -> Result<()> {
    let work = folder.with_extension("work");
    let _ = fs::remove_dir_all(&work);
    let _ = fs::remove_dir_all(folder);
    let programs = work.join("programs");
    fs::create_dir_all(&programs)?;
    unpack_packages(&work, &programs)?;
    finish_installation(&programs)?;
    let page = work.join("page");
    write(&page.join("var/www/html/index.html"), contents.page)?;
    write(&page.join("srv/canary.txt"), contents.canary)?;
    let layout = Layout::create(folder)?;
    let layers = [layout.layer(&programs, &work)?, layout.layer(&page, &work)?];
    layout.finish(&layers)?;
    fs::remove_dir_all(&work).context("the working folder cannot be removed")
}

fn unpack_packages(work: &Path, root: &Path) -> Result<()> {
    let archives = work.join("archives");
    fs::create_dir_all(&archives)?;
    let known = |name: &&&str| {
        Command::new("apt-cache").args(["show", name]).output().is_ok_and(|out| out.status.success())
    };
    let names = PACKAGES.iter().filter_map(|names| names.iter().find(known));
    run::checked(
        Command::new("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .args(names)
            .current_dir(&archives),
    )?;
    for archive in fs::read_dir(&archives)? {
        run::checked(Command::new("dpkg-deb").arg("-x").arg(archive?.path()).arg(root))?;
    }
    Ok(())
}

/// What the packages' own installation scripts would do.
fn finish_installation(root: &Path) -> Result<()> {
    let masters = root.join("usr/share/base-passwd");
    fs::copy(masters.join("passwd.master"), root.join("etc/passwd"))?;
    fs::copy(masters.join("group.master"), root.join("etc/group"))?;
    let enabled = root.join("etc/nginx/sites-enabled");
    fs::create_dir_all(&enabled)?;
    let link = enabled.join("default");
    if !link.exists() {
        std::os::unix::fs::symlink("/etc/nginx/sites-available/default", &link)?;
    }
    for folder in ["var/log/nginx", "var/lib/nginx", "run", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["usr/share/doc", "usr/share/man", "usr/share/locale"] {
        let _ = fs::remove_dir_all(root.join(folder));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a path without a folder")?)?;
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

struct Layout {
    folder: PathBuf,
}

struct Layer {
    descriptor: Value,
    diff_id: String,
}

impl Layout {
    fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    fn layer(&self, root: &Path, work: &Path) -> Result<Layer> {
        let tar = work.join("layer.tar");
        run::checked(
            Command::new("tar")
                .args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
                .args(["--format=pax", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"])
                .arg("--file")
                .arg(&tar)
                .arg("--directory")
                .arg(root)
                .arg("."),
        )?;
        let diff_id = sha256(&tar)?;
        run::checked(Command::new("gzip").args(["-n", "-f", "-6"]).arg(&tar))?;
        let descriptor =
            self.take(&work.join("layer.tar.gz"), "application/vnd.oci.image.layer.v1.tar+gzip")?;
        Ok(Layer { descriptor, diff_id })
    }

    fn take(&self, file: &Path, media_type: &str) -> Result<Value> {
        let digest = sha256(file)?;
        let size = fs::metadata(file)?.len();
        fs::rename(file, self.folder.join("blobs/sha256").join(&digest))?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
    }

    fn json(&self, value: &Value, media_type: &str) -> Result<Value> {
        let file = self.folder.join("new.json");
        fs::write(&file, serde_json::to_vec(value)?)?;
        self.take(&file, media_type)
    }

    fn finish(&self, layers: &[Layer]) -> Result<()> {
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["nginx", "-g", "daemon off;"],
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGQUIT",
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.json(&config, "application/vnd.oci.image.config.v1+json")?;
        let layers: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        let mut manifest = self.json(&manifest, media_type)?;
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(self.folder.join("index.json"), serde_json::to_vec(&index)?).context("index.json")
    }
}

fn sha256(file: &Path) -> Result<String> {
    let text = run::output(Command::new("sha256sum").arg(file))?;
    Ok(text.split_whitespace().next().context("sha256sum printed nothing")?.to_string())
}
