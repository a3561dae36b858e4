//! `cargo xtask arch`: what the design forbids, the build refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};

use crate::run;
use crate::tree::{self, Package, Tree, Veto};

/// Checks and prints; fails if anything is against the law.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read()?;
    let complaints = complaints(&tree)?;
    if !complaints.is_empty() {
        bail!("zones.toml is broken in {} places:\n  {}", complaints.len(), complaints.join("\n  "));
    }
    println!("arch: {} crates keep zones.toml", tree.packages.len());
    Ok(())
}

fn complaints(tree: &Tree) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for package in &tree.packages {
        all.extend(edges(tree, package));
        all.extend(vetoes(tree, package));
        all.extend(unsafe_code(tree, package)?);
        all.extend(cycles(package)?);
    }
    Ok(all)
}

fn edges(tree: &Tree, package: &Package) -> Vec<String> {
    let Some(zone) = tree.law.zone.get(&package.zone) else {
        return vec![format!("{}: {} is no zone", package.name, package.zone)];
    };
    let excepted: BTreeSet<&String> =
        tree.law.allow.iter().filter(|a| a.package == package.name).flat_map(|a| &a.may_use).collect();
    let zone_of: BTreeMap<&str, &str> =
        tree.packages.iter().map(|p| (p.name.as_str(), p.zone.as_str())).collect();
    let forbidden = |used: &&String, extra: &[&str]| {
        zone_of.get(used.as_str()).is_some_and(|other| {
            let own = *other == package.zone && package.zone != "xtask";
            !own && !zone.may_use.iter().any(|z| z == other)
                && !extra.contains(other)
                && !excepted.contains(used)
        })
    };
    let linked = package.uses.iter().filter(|used| forbidden(used, &[]));
    let tested = package.tests_use.iter().filter(|used| forbidden(used, &["lab", "verify", "sys"]));
    linked
        .chain(tested)
        .map(|used| format!("{} ({}) may not depend on {used}", package.name, package.zone))
        .collect()
}

fn vetoes(tree: &Tree, package: &Package) -> Vec<String> {
    let reaches =
        |veto: &Veto| tree.reach.get(&package.name).is_some_and(|reach| reach.contains(&veto.package));
    let broken = tree.law.veto.iter().filter(|v| v.zone == package.zone && reaches(v));
    broken.map(|v| format!("{} reaches {}: {}", package.name, v.package, v.why)).collect()
}

fn unsafe_code(tree: &Tree, package: &Package) -> Result<Vec<String>> {
    let free = tree.law.unsafe_code.zones.contains(&package.zone);
    let mut complaints = Vec::new();
    for file in tree::files(&run::root().join(&package.folder), ".rs")? {
        let text = std::fs::read_to_string(&file)?;
        let lines: Vec<&str> = text.lines().collect();
        let tests = lines.iter().position(|line| line.starts_with("#[cfg(test)]")).unwrap_or(lines.len());
        let all_tests = file.to_string_lossy().contains("/tests/") || file.ends_with("tests.rs");
        for (number, line) in lines.iter().enumerate() {
            if !writes_unsafe(line) {
                continue;
            }
            let place =
                format!("{}:{}", file.strip_prefix(run::root()).unwrap_or(&file).display(), number + 1);
            let explained = lines[number.saturating_sub(8)..=number].iter().any(|l| l.contains("SAFETY:"));
            let in_test = all_tests || number > tests;
            match (free, explained || in_test || line.contains("#!")) {
                (false, _) => complaints.push(format!("{place}: unsafe outside sys/")),
                (true, false) => complaints.push(format!("{place}: unsafe without a SAFETY comment")),
                (true, true) => {}
            }
        }
    }
    Ok(complaints)
}

fn writes_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let word = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code)"];
    word.iter().any(|w| code.contains(w)) && !code.contains('"')
}

/// Cycles between a crate's top-level modules, read from `crate::…` and `super::…` paths.
fn cycles(package: &Package) -> Result<Vec<String>> {
    let source = run::root().join(&package.folder).join("src");
    let mut complaints = Vec::new();
    for name in ["lib.rs", "main.rs"] {
        let Ok(text) = std::fs::read_to_string(source.join(name)) else { continue };
        let graph = modules(&source, &text)?;
        if let Some(cycle) = find_cycle(&graph) {
            complaints.push(format!("{}: modules in a cycle: {}", package.name, cycle.join(" -> ")));
        }
    }
    Ok(complaints)
}

fn modules(source: &Path, root: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let declared: BTreeSet<String> = root.lines().filter_map(declared_module).collect();
    let exported = exported_items(root, &declared);
    let mut graph = BTreeMap::new();
    for module in &declared {
        let mut text = std::fs::read_to_string(source.join(format!("{module}.rs"))).unwrap_or_default();
        let folder = source.join(module);
        if folder.is_dir() {
            for file in tree::files(&folder, ".rs")? {
                text.push_str(&std::fs::read_to_string(file)?);
            }
        }
        let production = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut used: BTreeSet<String> = named_after(production, "crate::")
            .into_iter()
            .filter_map(|n| if declared.contains(&n) { Some(n) } else { exported.get(&n).cloned() })
            .collect();
        used.remove(module);
        graph.insert(module.clone(), used);
    }
    Ok(graph)
}

fn declared_module(line: &str) -> Option<String> {
    let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
    line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')).map(str::to_string)
}

/// Items that the root re-exports, with the module they come from.
fn exported_items(root: &str, declared: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut items = BTreeMap::new();
    for statement in root.split(';').filter_map(|s| s.split("use ").nth(1)) {
        let statement = statement.trim().trim_start_matches("crate::");
        let Some((module, rest)) = statement.split_once("::") else { continue };
        if declared.contains(module) {
            for item in rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|i| !i.is_empty()) {
                items.insert(item.to_string(), module.to_string());
            }
        }
    }
    items
}

/// The first path segments after `prefix`, groups in braces included.
fn named_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let ident = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
        for rest in line.split(prefix).skip(1) {
            match rest.strip_prefix('{') {
                Some(group) => {
                    let group = group.split('}').next().unwrap_or_default();
                    names.extend(group.split(',').map(|part| ident(part.trim())));
                }
                None => {
                    names.insert(ident(rest));
                }
            }
        }
    }
    names
}

fn find_cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        graph: &BTreeMap<String, BTreeSet<String>>,
        node: &str,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = path.iter().position(|p| p == node) {
            return Some(path[at..].iter().cloned().chain([node.to_string()]).collect());
        }
        if !done.contains(node) {
            path.push(node.to_string());
            for next in graph.get(node).into_iter().flatten() {
                if let Some(cycle) = visit(graph, next, path, done) {
                    return Some(cycle);
                }
            }
            path.pop();
            done.insert(node.to_string());
        }
        None
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|node| visit(graph, node, &mut Vec::new(), &mut done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_keeps_zones_toml() {
        let tree = Tree::read().expect("the workspace can be read");
        assert_eq!(complaints(&tree).expect("the sources can be read"), Vec::<String>::new());
    }

    #[test]
    fn a_forbidden_edge_and_a_reached_veto_are_named() {
        let mut tree = Tree::read().expect("the workspace can be read");
        let host = tree.packages.iter_mut().find(|p| p.name == "coffer-host-vmm").expect("host/vmm");
        host.uses.insert("coffer-server-store".into());
        tree.reach.entry("coffer-host-vmm".into()).or_default().insert("coffer-core-secret".into());
        let found = complaints(&tree).expect("the sources can be read").join("\n");
        assert!(found.contains("coffer-host-vmm (host) may not depend on coffer-server-store"), "{found}");
        assert!(found.contains("coffer-host-vmm reaches coffer-core-secret"), "{found}");
    }

    #[test]
    fn a_cycle_of_modules_is_found_and_a_chain_is_not() {
        let graph = |edges: &[(&str, &str)]| {
            let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (from, to) in edges {
                graph.entry(from.to_string()).or_default().insert(to.to_string());
            }
            graph
        };
        assert_eq!(find_cycle(&graph(&[("a", "b"), ("b", "c")])), None);
        assert_eq!(
            find_cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])),
            Some(vec!["b".to_string(), "c".to_string(), "b".to_string()])
        );
    }

    #[test]
    fn unsafe_is_seen_in_code_and_not_in_words() {
        assert!(writes_unsafe("    let x = unsafe { f() };"));
        assert!(!writes_unsafe("// unsafe { } is only in sys/"));
    }
}
