//! JSON documents of the programs: every schema that a program prints has a row in docs/operate/json.md, and every row is
//! printed by one. Owns finding the schemas in the sources; the fields are compared by the lab.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tree;

const PAGE: &str = "docs/operate/json.md";
const SOURCES: [&str; 4] =
    ["control-plane/cli/src", "control-plane/server/src", "node-agent/agent/src", "proto/runtime/src"];
/// What stands before the schema of a printed document.
const PRINTED: [&str; 6] =
    ["Answer::new(", "Answer::list(", ".answer(", "form, ", "\"schema\": ", "schema: "];
/// Documents that are written into files.
const IN_FILES: [&str; 5] =
    ["rap.audit-evidence.v1", "rap.bundle.v1", "rap.evidence.v1", "rap.host.v1", "rap.support.v1"];

/// One finding per printed schema without a row and per row without a schema.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let mut printed = BTreeSet::new();
    let mut named = BTreeSet::new();
    for folder in SOURCES {
        for file in tree::files(&root.join(folder), "rs")? {
            let text = read(&file)?;
            // The tests of a file stand at its end.
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            named.extend(schemas(text).map(|(_, schema)| schema.to_owned()));
            let is_printed = |before: &str| PRINTED.iter().any(|one| before.ends_with(one));
            printed.extend(
                schemas(text).filter(|(before, _)| is_printed(before)).map(|(_, one)| one.to_owned()),
            );
        }
    }
    Ok(findings(&printed, &named, &read(&root.join(PAGE))?))
}

fn findings(printed: &BTreeSet<String>, named: &BTreeSet<String>, page: &str) -> Vec<String> {
    let rows: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let missing = printed.iter().filter(|schema| !IN_FILES.contains(&schema.as_str()));
    let missing = missing.filter(|schema| !rows.contains(schema.as_str()));
    let unprinted = rows.iter().filter(|row| !named.contains(**row));
    let missing = missing.map(|schema| format!("{PAGE}: no row for {schema}, which a program prints"));
    missing.chain(unprinted.map(|row| format!("{PAGE}: no program prints {row}"))).collect()
}

/// Every schema of a text, with what stands before it.
fn schemas(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("\"rap.").filter_map(|(at, _)| {
        let schema = text[at + 1..].split('"').next()?;
        let is_schema = schema.rsplit_once(".v").is_some_and(|(_, number)| number.parse::<u32>().is_ok());
        is_schema.then_some((&text[..at], schema))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_without_a_row_and_a_row_without_a_schema_are_findings() {
        let text = "Answer::new(\"rap.a.v1\", x); sign(\"rap.key.v1\"); json!({ \"schema\": \"rap.b.v2\" })";
        let all: Vec<&str> = schemas(text).map(|(_, schema)| schema).collect();
        assert_eq!(all, ["rap.a.v1", "rap.key.v1", "rap.b.v2"]);
        let printed: BTreeSet<String> = ["rap.a.v1", "rap.b.v2"].map(str::to_owned).into();
        let page = "| schema | printed by |\n|---|---|\n| `rap.a.v1` | `a` | x |\n| `rap.c.v1` | `c` | x |\n";
        let said = findings(&printed, &printed, page);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("rap.b.v2") && said[1].contains("rap.c.v1"), "{said:?}");
    }
}
