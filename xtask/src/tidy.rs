//! `cargo xtask tidy`: what formatters and compilers do not check.

use std::path::Path;

use anyhow::{Result, bail};

use crate::run;
use crate::tree::{self, Tree};

const BANNED_FOLDERS: [&str; 9] =
    ["common", "util", "utils", "base", "misc", "helper", "manager", "v2", "legacy"];
const PROGRAMS: [&str; 2] = ["coffer-agent", "coffer-broker"];

/// Checks and prints; fails with every complaint.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read()?;
    let mut complaints = Vec::new();
    for package in &tree.packages {
        let folder = run::root().join(&package.folder);
        for file in tree::files(&folder, ".rs")? {
            complaints.extend(source(&file, tree.law.limits.file_lines)?);
        }
        complaints.extend(crate_form(&folder, &package.name, &tree)?);
    }
    if !complaints.is_empty() {
        bail!("tidy: {} complaints:\n  {}", complaints.len(), complaints.join("\n  "));
    }
    println!("tidy: {} crates are in order", tree.packages.len());
    Ok(())
}

fn source(file: &Path, limit: usize) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    let place = file.strip_prefix(run::root()).unwrap_or(file).display().to_string();
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!("{place}: does not begin with //!"));
    }
    let production = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    let test_file = place.contains("/tests/") || place.ends_with("tests.rs");
    if production > limit && !test_file {
        complaints.push(format!("{place}: {production} production lines, the limit is {limit}"));
    }
    for (number, line) in text.lines().enumerate() {
        let at = || format!("{place}:{}", number + 1);
        if line.ends_with(' ') || line.contains('\t') {
            complaints.push(format!("{}: trailing blank or tab", at()));
        }
        if unfinished(line) {
            complaints.push(format!("{}: unfinished work in a comment", at()));
        }
    }
    Ok(complaints)
}

/// Built from halves, so that this file does not accuse itself.
fn unfinished(line: &str) -> bool {
    [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"]].iter().any(|halves| line.contains(&halves.concat()))
}

fn crate_form(folder: &Path, name: &str, tree: &Tree) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let shown = folder.strip_prefix(run::root()).unwrap_or(folder).display().to_string();
    if shown.split('/').any(|part| BANNED_FOLDERS.contains(&part)) {
        complaints.push(format!("{shown}: a folder's name must say what is in it"));
    }
    match std::fs::read_to_string(folder.join("README.md")) {
        Err(_) => complaints.push(format!("{shown}: no README.md")),
        Ok(text) if text.lines().count() > tree.law.limits.crate_readme_lines => {
            complaints.push(format!("{shown}/README.md: over {} lines", tree.law.limits.crate_readme_lines));
        }
        Ok(_) => {}
    }
    let main = folder.join("src/main.rs");
    if PROGRAMS.contains(&name) && main.exists() {
        let lines = std::fs::read_to_string(&main)?.lines().count();
        if lines > tree.law.limits.program_lines {
            complaints.push(format!("{shown}/src/main.rs: {lines} lines of wiring, a program is thin"));
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_seen() {
        assert!(unfinished(&format!("// {}: later", ["TO", "DO"].concat())));
        assert!(!unfinished("// done"));
    }
}
