//! What pages say is in a file. Owns the form "`name` in [file](path)" and looking the name up; a link that leads
//! nowhere is another check's.

use std::path::Path;

use anyhow::{Context, Result};

use crate::tree;

/// One line per name that does not occur where a page says it does.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for page in tree::files(root, "md")? {
        let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let folder = page.parent().unwrap_or(root);
        for Claim { line, name, target } in claims(&text) {
            let file = folder.join(&target);
            if file.exists() && !occurs(&file, &name)? {
                let page = page.strip_prefix(root)?;
                findings.push(format!("{}:{line}: `{name}` is not in {target}", page.display()));
            }
        }
    }
    Ok(findings)
}

/// A page's word that a name is in a file.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    line: usize,
    name: String,
    target: String,
}

/// Every name before "in [file](path)". Names that are lists, patterns or sentences are left alone.
fn claims(text: &str) -> Vec<Claim> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("` in [") {
            let target =
                after.split_once("](").and_then(|(_, link)| link.split_once(')')).map(|(target, _)| target);
            if let Some(target) = target {
                let target = target.split('#').next().unwrap_or_default().to_owned();
                for name in named_last(before) {
                    found.push(Claim { line: number + 1, name, target: target.clone() });
                }
            }
            rest = after;
        }
    }
    found
}

/// The names at the end of "… `a`, `b" and of "… `a` and `b", the closing mark aside.
fn named_last(before: &str) -> Vec<String> {
    let (mut names, mut marks) = (Vec::new(), before.rsplit('`'));
    while let Some(name) = marks.next() {
        let bare = name.rsplit("::").next().unwrap_or(name).trim_end_matches("()");
        if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            names.push(bare.to_owned());
        }
        if !matches!(marks.next(), Some(", " | " and ")) {
            break;
        }
    }
    names
}

/// True if the file, or the folder of which it is the table of contents, holds the name as a whole word.
fn occurs(file: &Path, name: &str) -> Result<bool> {
    let contents = |name: &std::ffi::OsStr| name == "mod.rs" || name == "lib.rs" || name == "main.rs";
    let files = if file.is_dir() {
        tree::files(file, "rs")?
    } else if file.file_name().is_some_and(contents) {
        tree::files(file.parent().context("a file has a folder")?, "rs")?
    } else {
        vec![file.to_path_buf()]
    };
    for file in files {
        if is_word_of(&std::fs::read_to_string(&file).with_context(|| file.display().to_string())?, name) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_word_of(text: &str, name: &str) -> bool {
    let inside = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices(name).any(|(start, _)| {
        let before = start.checked_sub(1).and_then(|place| text.as_bytes().get(place));
        !inside(before) && !inside(text.as_bytes().get(start + name.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_before_a_file_is_a_claim() {
        let text = "| `a::one`, `two` in [x](../x.rs); `three` and `four()` in [y](y/mod.rs#L1) | `five` in the same file |";
        let claim = |name: &str, target: &str| Claim { line: 1, name: name.into(), target: target.into() };
        let wanted = [
            claim("two", "../x.rs"),
            claim("one", "../x.rs"),
            claim("four", "y/mod.rs"),
            claim("three", "y/mod.rs"),
        ];
        assert_eq!(claims(text), wanted);
        assert_eq!(claims("vectors `a-*` in [golden](g.rs), `some words` in [h](h.rs)"), []);
    }

    #[test]
    fn only_whole_words_count() {
        assert!(is_word_of("fn one_two() {}", "one_two"));
        assert!(!is_word_of("fn one_two() {}", "one"));
        assert!(!is_word_of("struct Twone;", "one"));
    }
}
