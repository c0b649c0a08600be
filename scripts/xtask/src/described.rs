//! What must be described: every crate in ARCHITECTURE, with its folder and kind; every page within reach of the README.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::links::relative_links;
use crate::rules::{Kind, Rules};
use crate::tree;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// One line per crate or page that a newcomer would not be led to.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let rules = Rules::read(&root.join("scripts/xtask/layers.toml"))?;
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let architecture = read(ARCHITECTURE)?;
    let mut findings = Vec::new();
    for (name, rule) in &rules.crates {
        if !has_row(&architecture, name, rule.kind, &rule.folder) {
            let kind = rule.kind.as_str();
            findings.push(format!("{ARCHITECTURE}: no row of `{name}` in {}/ as {kind}", rule.folder));
        }
    }
    let mut reached: Vec<PathBuf> = Vec::new();
    for (index, folder) in [("README.md", ""), ("docs/adr/README.md", "docs/adr")] {
        let links = relative_links(&read(index)?);
        reached.extend(links.into_iter().map(|(_, target)| Path::new(folder).join(target)));
    }
    for page in tree::files(&root.join("docs"), "md")? {
        let page = page.strip_prefix(root)?;
        if !reached.iter().any(|one| one == page) {
            findings.push(format!("{}: the README does not lead to it", page.display()));
        }
    }
    Ok(findings)
}

/// True if a table row names the crate, leads below its top folder and says its kind.
fn has_row(text: &str, name: &str, kind: Kind, top: &str) -> bool {
    text.lines().any(|line| {
        line.starts_with("| ")
            && line.contains(&format!("`{name}`"))
            && line.contains(&format!("](../{top}"))
            && line.contains(&format!("| {} |", kind.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_the_crate_its_folder_and_its_kind() {
        let text = "| L2 | `rap-a` | [proto/a](../proto/a) | pure | words |\nprose on `rap-b`";
        assert!(has_row(text, "rap-a", Kind::Pure, "proto"));
        assert!(!has_row(text, "rap-a", Kind::Shell, "proto"));
        assert!(!has_row(text, "rap-a", Kind::Pure, "scripts"));
        assert!(!has_row(text, "rap-b", Kind::Pure, "proto"));
    }
}
