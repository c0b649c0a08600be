//! Links in Markdown files. Owns finding relative links and whether their target exists; the network is not asked.

use std::path::Path;

use anyhow::{Context, Result};

use crate::tree;

/// Follows every relative link of every Markdown file. One line per dead one.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in tree::files(root, "md")? {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let folder = file.parent().unwrap_or(root);
        for (line, target) in relative_links(&text) {
            if !folder.join(&target).exists() {
                let file = file.strip_prefix(root)?;
                findings.push(format!("{}:{line}: {target} does not exist", file.display()));
            }
        }
    }
    Ok(findings)
}

/// `(line, target)` of each `[text](target)` outside code, without fragments and without absolute addresses.
pub fn relative_links(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let Some((target, _)) = part.split_once(')') else { continue };
            let target = target.split(['#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number + 1, target.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub fn relative_links_are_found_and_others_left_alone() {
        let text = "[a](docs/A.md#part) [b](https://x.example/y) [c](#here)\n```\n[d](no.md)\n```\n[e](../E.md \"title\")";
        assert_eq!(relative_links(text), [(1, "docs/A.md".to_owned()), (5, "../E.md".to_owned())]);
    }
}
