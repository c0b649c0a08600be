//! What a crate's resolved normal-dependency tree holds. Owns reading `cargo tree`; the source scan is elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::rules::Rules;

/// Looks at the tree of every PURE crate, and at the tree of the whole workspace.
pub fn check(root: &Path, rules: &Rules) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for name in rules.pure() {
        // One package at a time: features asked for by other crates must not count.
        let tree = tree(root, &["--package", name])?;
        findings.extend(forbidden_in(&tree, name, rules.pure_forbids.iter()));
    }
    let tree = tree(root, &["--workspace"])?;
    findings.extend(forbidden_in(&tree, "workspace", rules.forbidden.iter()));
    findings.extend(wrong_dependents(&tree, rules));
    Ok(findings)
}

/// Package name to the names of its direct dependents.
type Tree = BTreeMap<String, Vec<String>>;

fn tree(root: &Path, selection: &[&str]) -> Result<Tree> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--edges", "normal", "--prefix", "depth", "--format", " {p}"])
        .args(selection)
        .current_dir(root)
        .output()
        .context("cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    parse(std::str::from_utf8(&output.stdout).context("cargo tree")?)
}

/// Reads lines of `<depth> <name> v<version> ...`.
fn parse(text: &str) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut above: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let depth: usize = words.next().context("depth")?.parse().with_context(|| line.to_owned())?;
        let name = words.next().with_context(|| line.to_owned())?;
        above.truncate(depth);
        let dependents = tree.entry(name.to_owned()).or_default();
        if let Some(dependent) = above.last()
            && !dependents.contains(dependent)
        {
            dependents.push(dependent.clone());
        }
        above.push(name.to_owned());
    }
    Ok(tree)
}

fn forbidden_in<'a>(
    tree: &'a Tree,
    whose: &'a str,
    names: impl Iterator<Item = &'a String> + 'a,
) -> impl Iterator<Item = String> + 'a {
    names.filter_map(move |name| {
        tree.get(name).map(|by| format!("{whose}: {name} in its dependency tree (through {})", by.join(", ")))
    })
}

fn wrong_dependents(tree: &Tree, rules: &Rules) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, allowed) in &rules.only_through {
        for dependent in tree.get(name).into_iter().flatten().filter(|by| !allowed.contains(*by)) {
            findings.push(format!("{name}: brought in by {dependent}, which may not"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0 rap-a v0.1.0 (/x)\n1 sha2 v0.11.0\n2 digest v0.11.0\n1 ring v0.17.0\n2 libc v0.2.0\n1 boringtun v0.7.0\n2 ring v0.17.0\n";

    fn rules() -> Rules {
        toml::from_str(
            "pure_forbids = [\"libc\", \"tokio\"]\npure_source_forbids = []\nforbidden = []\n[only_through]\nring = [\"boringtun\"]\n[crates]\n",
        )
        .expect("rules")
    }

    #[test]
    fn a_tree_names_each_packages_dependents() {
        let tree = parse(TREE).expect("tree");
        assert_eq!(tree["ring"], ["rap-a", "boringtun"]);
        assert_eq!(tree["digest"], ["sha2"]);
        assert!(tree["rap-a"].is_empty());
    }

    #[test]
    fn a_forbidden_package_is_named_with_who_brought_it() {
        let rules = rules();
        let tree = parse(TREE).expect("tree");
        let found: Vec<String> = forbidden_in(&tree, "rap-a", rules.pure_forbids.iter()).collect();
        assert_eq!(found, ["rap-a: libc in its dependency tree (through ring)"]);
    }

    #[test]
    fn a_wrapped_package_may_not_come_by_another_way() {
        let tree = parse(TREE).expect("tree");
        assert_eq!(wrong_dependents(&tree, &rules()), ["ring: brought in by rap-a, which may not"]);
    }
}
