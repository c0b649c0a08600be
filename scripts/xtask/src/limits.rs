//! File sizes. Owns the numbers; a long file is a matter of taste, except where god objects are born.

use std::path::Path;

use anyhow::{Context, Result};

use crate::tree;

/// Fails for tables of contents and for the composing crate; prints the rest.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for top in ["proto", "control-plane", "node-agent", "scripts"] {
        for file in tree::files(&root.join(top), "rs")? {
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let path = file.strip_prefix(root)?;
            let lines = text.lines().count();
            if must_stay_small(path) && lines > COMPOSITION_LINES {
                findings.push(format!("{}: {lines} lines, at most {COMPOSITION_LINES}", path.display()));
            } else if lines > LONG_LINES {
                println!("long: {} has {lines} lines", path.display());
            }
        }
    }
    Ok(findings)
}

fn must_stay_small(path: &Path) -> bool {
    path.ends_with("src/lib.rs") || path.starts_with("node-agent/node/src")
}

const COMPOSITION_LINES: usize = 400;
const LONG_LINES: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_contents_and_the_composing_crate_must_stay_small() {
        assert!(must_stay_small(Path::new("proto/types/src/lib.rs")));
        assert!(must_stay_small(Path::new("node-agent/node/src/outputs.rs")));
        assert!(!must_stay_small(Path::new("proto/types/src/reason.rs")));
    }
}
