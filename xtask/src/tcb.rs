//! `cargo xtask tcb`: the packages linked into the guest's agent are the trusted base; their list is a golden file.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use crate::run;
use crate::tree::Tree;

const GOLDEN: &str = "guest/agent/tcb.txt";

/// Compares, or writes with `bless`.
pub(crate) fn run(bless: bool) -> Result<()> {
    let limit = Tree::read()?.law.limits.agent_packages;
    let linked = linked()?;
    let path = run::root().join(GOLDEN);
    if bless {
        let text: String = linked.iter().map(|name| format!("{name}\n")).collect();
        std::fs::write(&path, text).with_context(|| format!("{GOLDEN} cannot be written"))?;
    }
    let golden = std::fs::read_to_string(&path).with_context(|| format!("{GOLDEN} cannot be read"))?;
    let golden: BTreeSet<String> = golden.lines().map(str::to_string).collect();
    let added: Vec<_> = linked.difference(&golden).cloned().collect();
    let removed: Vec<_> = golden.difference(&linked).cloned().collect();
    if !added.is_empty() || !removed.is_empty() {
        bail!(
            "the agent's packages are not those of {GOLDEN}:\n  added: {}\n  removed: {}\n\
             If each of them belongs into the guest, run `cargo xtask tcb --bless` and say why in the commit.",
            added.join(", "),
            removed.join(", ")
        );
    }
    if linked.len() > limit {
        bail!("{} packages are linked into the agent, the promise is at most {limit}", linked.len());
    }
    println!("tcb: {} packages are linked into coffer-agent (at most {limit})", linked.len());
    Ok(())
}

fn linked() -> Result<BTreeSet<String>> {
    let text = run::output(run::cargo().args([
        "tree",
        "--package=coffer-agent",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
        "--target=x86_64-unknown-linux-gnu",
    ]))?;
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(text.lines().map(name).filter(|line| !line.is_empty()).collect())
}
