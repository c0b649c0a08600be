//! Faults found by use: every line of the list has a row in docs/develop/bad-input.md. Owns the form of a row: line, what
//! was wrong, test, commit. The names of the tests are another check's.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

const PAGE: &str = "docs/develop/bad-input.md";
const LIST: &str = "scripts/xtask/faults.toml";

/// The number of lines of each section of the list.
#[derive(Deserialize)]
struct Faults {
    lines: BTreeMap<String, usize>,
}

/// One finding per line without a row, per row without a line, and per row that names neither a test nor `open`.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let list: Faults = toml::from_str(&read(LIST)?).with_context(|| LIST.to_owned())?;
    Ok(findings(&list, &read(PAGE)?))
}

fn findings(list: &Faults, page: &str) -> Vec<String> {
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in page.lines().filter_map(row) {
        rows.entry(row.line).or_default().push(row.test);
    }
    let mut findings = Vec::new();
    for (section, lines) in &list.lines {
        for number in 1..=*lines {
            let line = format!("{section}.{number}");
            match rows.remove(line.as_str()).as_deref() {
                None => findings.push(format!("{PAGE}: no row for line {line} of {LIST}")),
                Some([test]) if test.contains("](") || test.starts_with("open") => {}
                Some([_]) => findings.push(format!("{PAGE}: row {line} names neither a test nor `open`")),
                Some(_) => findings.push(format!("{PAGE}: more than one row for line {line}")),
            }
        }
    }
    findings.extend(rows.keys().map(|line| format!("{PAGE}: row {line} is no line of {LIST}")));
    findings
}

/// A row of the table, without the fault's text and the commit.
struct Row<'a> {
    line: &'a str,
    test: &'a str,
}

/// The row that a line of the page is; its first cell is two numbers with a dot between.
fn row(text: &str) -> Option<Row<'_>> {
    let cells: Vec<&str> = text.strip_prefix("| ")?.split(" | ").collect();
    let [line, _, test, _] = cells[..] else { return None };
    let (section, number) = line.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(section) && is_number(number)).then_some(Row { line, test })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_row_and_a_row_without_a_test_are_found() {
        let list = Faults { lines: BTreeMap::from([("1".to_owned(), 3), ("2".to_owned(), 1)]) };
        let page = "| 1.1 | a | `one` in [x](x.rs) | abc |\n| 1.2 | b | some day | |\n| 2.1 | c | open | |\n| 2.2 | d | open | |";
        let found = findings(&list, page);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("row 1.2 names neither"), "{found:?}");
        assert!(found[1].contains("no row for line 1.3"), "{found:?}");
        assert!(found[2].contains("row 2.2 is no line"), "{found:?}");
    }
}
