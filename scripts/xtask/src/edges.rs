//! Edges between the workspace's crates, as Cargo sees them. Owns the comparison with the rules; reads no source file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package, TargetKind as CargoKind};

use crate::program::{TEST_FEATURES, TargetKind};
use crate::rules::{Kind, Rules};

/// The workspace's crates.
pub struct Workspace {
    /// By name.
    pub members: BTreeMap<String, Member>,
}

/// One crate of the workspace.
pub struct Member {
    /// Top-level folder of the repository it lives in.
    pub top: String,
    /// Dependencies on other members.
    pub edges: Vec<Edge>,
    /// What Cargo builds of it.
    pub targets: Vec<TargetOf>,
}

/// One target of a package.
pub struct TargetOf {
    /// As other crates write it.
    pub name: String,
    /// What it is.
    pub kind: TargetKind,
    /// Its root file.
    pub path: PathBuf,
}

/// A dependency on another member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Name of the crate depended on.
    pub to: String,
    /// True for a dev-dependency.
    pub tests_only: bool,
    /// Features that it asks for.
    pub features: Vec<String>,
}

impl Workspace {
    /// Asks Cargo.
    pub fn read(root: &Path) -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo metadata")?;
        let names: Vec<String> =
            metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
        let mut members = BTreeMap::new();
        for package in metadata.workspace_packages() {
            let top = package
                .manifest_path
                .strip_prefix(&metadata.workspace_root)?
                .iter()
                .next()
                .context("a crate lives below the root")?
                .to_owned();
            let edges = package
                .dependencies
                .iter()
                .filter(|dependency| names.contains(&dependency.name))
                .map(|dependency| Edge {
                    to: dependency.name.clone(),
                    tests_only: dependency.kind == DependencyKind::Development,
                    features: dependency.features.clone(),
                })
                .collect();
            let targets = targets(package);
            members.insert(package.name.to_string(), Member { top, edges, targets });
        }
        Ok(Self { members })
    }
}

fn targets(package: &Package) -> Vec<TargetOf> {
    let kind_of = |kinds: &[CargoKind]| {
        kinds.iter().find_map(|kind| match kind {
            CargoKind::Lib => Some(TargetKind::Library),
            CargoKind::Bin => Some(TargetKind::Program),
            CargoKind::Test => Some(TargetKind::Tests),
            CargoKind::Bench => Some(TargetKind::Bench),
            CargoKind::CustomBuild => Some(TargetKind::BuildScript),
            _ => None,
        })
    };
    let of = |target: &cargo_metadata::Target| {
        let (kind, path) = (kind_of(&target.kind)?, target.src_path.as_std_path().to_path_buf());
        let name =
            if kind == TargetKind::Library { target.name.replace('-', "_") } else { target.name.clone() };
        Some(TargetOf { name, kind, path })
    };
    package.targets.iter().filter_map(of).collect()
}

/// Compares the workspace with the rules. One line per finding.
pub fn check(rules: &Rules, workspace: &Workspace) -> Vec<String> {
    let mut findings = Vec::new();
    for name in rules.crates.keys().filter(|name| !workspace.members.contains_key(*name)) {
        findings.push(format!("layers.toml: {name} is not in the workspace"));
    }
    for (name, member) in &workspace.members {
        let Some(rule) = rules.crates.get(name) else {
            findings.push(format!("{name}: not in layers.toml"));
            continue;
        };
        if rule.folder != member.top {
            findings.push(format!("{name}: lives in {}/, layers.toml says {}/", member.top, rule.folder));
        }
        for edge in &member.edges {
            findings.extend(check_edge(rules, name, edge));
        }
    }
    findings
}

fn check_edge(rules: &Rules, from: &str, edge: &Edge) -> Option<String> {
    let rule = rules.crates.get(from)?;
    if rules.crates.get(&edge.to).is_some_and(|to| to.kind == Kind::Script) {
        return Some(format!("{from} -> {}: nothing may use a script crate", edge.to));
    }
    let for_tests = edge.features.iter().find(|feature| TEST_FEATURES.contains(&feature.as_str()));
    if let Some(feature) = for_tests.filter(|_| !edge.tests_only) {
        return Some(format!("{from} -> {}: the feature `{feature}` is for tests", edge.to));
    }
    let Some(may_use) = &rule.may_use else { return None };
    let allowed = may_use.contains(&edge.to) || (edge.tests_only && rule.tests_may_use.contains(&edge.to));
    let kind = if edge.tests_only { "dev-dependency" } else { "dependency" };
    (!allowed).then(|| format!("{from} -> {}: {kind} not allowed by layers.toml", edge.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str(
            r#"
            pure_forbids = []
            pure_source_forbids = []
            forbidden = []
            [only_through]
            [crates]
            low = { kind = "pure", folder = "proto", may_use = [] }
            high = { kind = "program", folder = "node-agent", may_use = ["low"], tests_may_use = ["side"] }
            side = { kind = "shell", folder = "control-plane", may_use = ["low"] }
            tool = { kind = "script", folder = "scripts" }
            "#,
        )
        .expect("rules")
    }

    fn member(top: &str, edges: &[(&str, bool)]) -> Member {
        Member {
            top: top.to_owned(),
            edges: edges
                .iter()
                .map(|(to, tests_only)| Edge {
                    to: (*to).to_owned(),
                    tests_only: *tests_only,
                    features: Vec::new(),
                })
                .collect(),
            targets: Vec::new(),
        }
    }

    fn workspace(high: &[(&str, bool)], low: &[(&str, bool)]) -> Workspace {
        let members = BTreeMap::from([
            ("low".to_owned(), member("proto", low)),
            ("high".to_owned(), member("node-agent", high)),
            ("side".to_owned(), member("control-plane", &[])),
            ("tool".to_owned(), member("scripts", &[("high", false), ("side", false)])),
        ]);
        Workspace { members }
    }

    #[test]
    fn edges_on_the_list_pass() {
        let found = check(&rules(), &workspace(&[("low", false), ("side", true)], &[]));
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn an_upward_edge_is_found() {
        let found = check(&rules(), &workspace(&[], &[("high", false)]));
        assert_eq!(found, ["low -> high: dependency not allowed by layers.toml"]);
    }

    #[test]
    fn a_test_edge_does_not_allow_a_normal_one() {
        let found = check(&rules(), &workspace(&[("side", false)], &[]));
        assert_eq!(found, ["high -> side: dependency not allowed by layers.toml"]);
    }

    #[test]
    fn a_feature_for_tests_is_for_dev_dependencies() {
        let mut workspace = workspace(&[("low", false), ("low", true)], &[]);
        for edge in &mut workspace.members.get_mut("high").expect("high").edges {
            edge.features = vec!["testing".to_owned()];
        }
        assert_eq!(check(&rules(), &workspace), ["high -> low: the feature `testing` is for tests"]);
    }

    #[test]
    fn nothing_may_use_a_script_crate() {
        let found = check(&rules(), &workspace(&[("tool", true)], &[]));
        assert_eq!(found, ["high -> tool: nothing may use a script crate"]);
    }

    #[test]
    fn unlisted_absent_and_misplaced_crates_are_found() {
        let mut workspace = workspace(&[], &[]);
        workspace.members.remove("side");
        workspace.members.insert("new".to_owned(), member("proto", &[]));
        workspace.members.insert("low".to_owned(), member("docs", &[]));
        let found = check(&rules(), &workspace);
        assert_eq!(
            found,
            [
                "layers.toml: side is not in the workspace",
                "low: lives in docs/, layers.toml says proto/",
                "new: not in layers.toml",
            ]
        );
    }
}
