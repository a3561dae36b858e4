//! The guest that was built, as files: small enough to be loaded at each start, and what its manifest says.
//!
//! Nothing is booted here. Left out: that the same inputs give the same bytes, which `tools/guest-image` tests.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use coffer_core_digest::Digest;
use coffer_tools_guest_image::Manifest;

/// The promised limit of the initramfs, which is read, hashed and unpacked at each start.
const LARGEST_INITRAMFS: usize = 12 << 20;

#[test]
fn the_initramfs_is_at_most_12_mib_and_what_the_manifest_says() -> Result<()> {
    let Some(home) = std::env::var_os("COFFER_E2E_GUEST") else {
        println!("skipped: no guest was built; run `cargo xtask test`");
        return Ok(());
    };
    let folder = PathBuf::from(home).join("guest");
    let read = |name: &str| fs::read(folder.join(name)).with_context(|| format!("{name} cannot be read"));
    let manifest: Manifest = serde_json::from_slice(&read("guest.json")?).context("the guest's manifest")?;
    let initramfs = read("initramfs.cpio.zst")?;
    let size = initramfs.len();
    ensure!(size <= LARGEST_INITRAMFS, "the initramfs has {size} bytes, over {LARGEST_INITRAMFS}");
    for (name, content, said) in
        [("initramfs", &initramfs, &manifest.initramfs), ("kernel", &read("vmlinuz")?, &manifest.kernel)]
    {
        let (digest, size) = (Digest::sha256(content), content.len() as u64);
        ensure!(
            (digest, size) == (said.digest, said.size),
            "the {name} is {digest} of {size} bytes; the manifest says {} of {}",
            said.digest,
            said.size
        );
    }
    Ok(())
}
