//! Source scan of the PURE crates: no sockets, files, processes, environment, clocks or generators outside tests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::edges::Workspace;
use crate::rules::Rules;
use crate::source;
use crate::tree;

/// Scans every PURE crate. One line per finding, `path:line: what`.
pub fn check(rules: &Rules, workspace: &Workspace) -> Result<Vec<String>> {
    let forbidden: Vec<Vec<&str>> =
        rules.pure_source_forbids.iter().map(|path| path.split("::").collect()).collect();
    let mut findings = Vec::new();
    for name in rules.pure() {
        let Some(member) = workspace.members.get(name) else { continue };
        let mut files = tree::files(&member.folder.join("src"), "rs")?;
        let mut texts = Vec::new();
        for file in &files {
            texts.push(std::fs::read_to_string(file).with_context(|| file.display().to_string())?);
        }
        let stripped: Vec<_> =
            texts.iter().map(|text| source::without_tests(&source::tokens(text))).collect();
        let tests_only: Vec<PathBuf> = files
            .iter()
            .zip(&stripped)
            .flat_map(|(file, (_, modules))| modules.iter().map(|module| module_file(file, module)))
            .collect();
        for (file, (kept, _)) in files.drain(..).zip(stripped) {
            let skip =
                tests_only.iter().any(|test| file == test.with_extension("rs") || file.starts_with(test));
            if !skip {
                findings.extend(scan(&file, &kept, &forbidden));
            }
        }
    }
    Ok(findings)
}

/// Where `mod module;` in `file` finds its source, without extension.
fn module_file(file: &Path, module: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new(""));
    if stem == "lib" || stem == "main" || stem == "mod" {
        folder.join(module)
    } else {
        folder.join(stem).join(module)
    }
}

fn scan(file: &Path, tokens: &[source::Token], forbidden: &[Vec<&str>]) -> Vec<String> {
    let mut findings = Vec::new();
    for path in source::paths(tokens) {
        let hit = forbidden
            .iter()
            .find(|wanted| path.segments.windows(wanted.len()).any(|window| window == wanted.as_slice()));
        if hit.is_some() {
            let written = path.segments.join("::");
            findings.push(format!("{}:{}: {written} in a PURE crate", file.display(), path.line));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_part_is_found_wherever_it_stands() {
        let tokens = source::tokens(
            "use std::time::{Duration, Instant};\nfn f() { std::env::var(\"x\"); env!(\"X\"); }",
        );
        let found = scan(Path::new("a.rs"), &tokens, &[vec!["Instant"], vec!["std", "env"]]);
        assert_eq!(
            found,
            ["a.rs:1: std::time::Instant in a PURE crate", "a.rs:2: std::env::var in a PURE crate"]
        );
    }

    #[test]
    fn a_modules_file_is_found_from_tables_of_contents_and_from_plain_files() {
        assert_eq!(module_file(Path::new("src/lib.rs"), "golden"), Path::new("src/golden"));
        assert_eq!(module_file(Path::new("src/head.rs"), "golden"), Path::new("src/head/golden"));
    }
}
