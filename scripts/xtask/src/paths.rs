//! Paths of the repository that pages name without a link. Owns telling them from other words in backticks.

use std::path::Path;

use anyhow::{Context, Result};

use crate::tree;

const TOP: [&str; 8] =
    ["proto/", "control-plane/", "node-agent/", "migrations/", "docs/", "artifacts/", "scripts/", ".ci/"];

/// One line per path in backticks that does not exist.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for page in tree::files(root, "md")? {
        let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        for (line, path) in named(&text) {
            if !root.join(path).exists() {
                let page = page.strip_prefix(root)?;
                findings.push(format!("{}:{line}: `{path}` does not exist", page.display()));
            }
        }
    }
    Ok(findings)
}

/// Paths from the root, also as the first word of a command; `NAME` stands for many.
fn named(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let words = line.split('`').skip(1).step_by(2).filter_map(|code| code.split_whitespace().next());
            found.extend(words.filter(|word| is_path(word)).map(|word| (number + 1, word)));
        }
    }
    found
}

fn is_path(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    TOP.iter().any(|top| word.starts_with(top)) && word.bytes().all(plain) && !word.contains("NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_other_words() {
        let text = "`scripts/lab run spine` and `proto/types`, not `a/b`, `docs/*.md`, `docs/NAME.md`\n```\n`docs/x`\n```\n`docs/A.md`";
        assert_eq!(named(text), [(1, "scripts/lab"), (1, "proto/types"), (5, "docs/A.md")]);
    }
}
