//! Where the broker's program is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The program that `COFFER_E2E_BROKER` names, or one built now in the profile and the target folder of this test.
pub fn broker() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("COFFER_E2E_BROKER") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "COFFER_E2E_BROKER names {}, where no file is", path.display());
        return Ok(path);
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    // A test is at <target>/<profile>/deps/<name>.
    let own = std::env::current_exe()?;
    let profile = own.parent().and_then(|deps| deps.parent()).context("the test is at no known place")?;
    let target = profile.parent().context("the test is in no target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "coffer-broker"]).env("CARGO_TARGET_DIR", target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let done = cargo.status().context("cargo cannot be started")?;
    ensure!(done.success(), "the broker could not be built; set COFFER_E2E_BROKER to a program that is");
    Ok(profile.join("coffer-broker"))
}
