//! The workspace as the checks see it: packages with their zone, and source files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::run;

/// `zones.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Law {
    pub(crate) zone: BTreeMap<String, Zone>,
    #[serde(default)]
    pub(crate) veto: Vec<Veto>,
    #[serde(default)]
    pub(crate) allow: Vec<Allow>,
    #[serde(rename = "unsafe")]
    pub(crate) unsafe_code: UnsafeCode,
    pub(crate) limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Zone {
    #[serde(rename = "who")]
    _who: String,
    pub(crate) may_use: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Veto {
    pub(crate) zone: String,
    pub(crate) package: String,
    pub(crate) why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allow {
    pub(crate) package: String,
    pub(crate) may_use: Vec<String>,
    #[serde(rename = "why")]
    _why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnsafeCode {
    pub(crate) zones: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) file_lines: usize,
    pub(crate) program_lines: usize,
    pub(crate) crate_readme_lines: usize,
    pub(crate) agent_packages: usize,
}

/// One package of ours.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) zone: String,
    /// Relative to the workspace's root.
    pub(crate) folder: PathBuf,
    /// Names of what it depends on, tests excepted.
    pub(crate) uses: BTreeSet<String>,
    /// Names of what its tests depend on.
    pub(crate) tests_use: BTreeSet<String>,
}

/// The law and the packages it governs.
pub(crate) struct Tree {
    pub(crate) law: Law,
    pub(crate) packages: Vec<Package>,
    /// For each of our packages everything that it links, directly or through others (by name).
    pub(crate) reach: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetaPackage>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct MetaPackage {
    name: String,
    id: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Tree {
    /// Reads `zones.toml` and asks cargo for the packages.
    pub(crate) fn read() -> Result<Self> {
        let root = run::root();
        let law = std::fs::read_to_string(root.join("zones.toml")).context("zones.toml cannot be read")?;
        let law: Law = toml::from_str(&law).context("zones.toml is not as expected")?;
        let text = run::output(run::cargo().args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ]))
        .or_else(|_| {
            run::output(run::cargo().args([
                "metadata",
                "--format-version=1",
                "--filter-platform=x86_64-unknown-linux-gnu",
            ]))
        })?;
        let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
        let members = metadata.packages.iter().filter(|p| metadata.workspace_members.contains(&p.id));
        let packages = members.map(|p| package(p, &root)).collect::<Result<Vec<_>>>()?;
        let linked = packages.iter().map(|p| Ok((p.name.clone(), linked_by(&p.name)?)));
        let reach = linked.collect::<Result<_>>()?;
        Ok(Self { law, packages, reach })
    }
}

/// Asked of `cargo tree`, because `cargo metadata` also names what only a weak feature could bring in.
fn linked_by(package: &str) -> Result<BTreeSet<String>> {
    let text = run::output(run::cargo().args([
        "tree",
        "--package",
        package,
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
        "--target=x86_64-unknown-linux-gnu",
    ]))?;
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_string).collect())
}

fn package(meta: &MetaPackage, root: &Path) -> Result<Package> {
    let folder = meta.manifest_path.parent().context("a manifest without a folder")?;
    let folder = folder.strip_prefix(root).unwrap_or(folder).to_path_buf();
    let zone =
        folder.components().next().map_or_else(String::new, |c| c.as_os_str().to_string_lossy().into());
    let of = |test: bool| {
        let chosen = meta.dependencies.iter().filter(|d| (d.kind.as_deref() == Some("dev")) == test);
        chosen.map(|d| d.name.clone()).collect()
    };
    Ok(Package { name: meta.name.clone(), zone, folder, uses: of(false), tests_use: of(true) })
}

/// The files under `folder` that end in `ending`, sorted.
pub(crate) fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let entries =
            std::fs::read_dir(&next).with_context(|| format!("{} cannot be listed", next.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                let skipped =
                    name == "target" || name.starts_with('.') || name == "corpus" || name == "artifacts";
                if !skipped {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
