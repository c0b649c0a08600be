//! The JSON documents of the programs, compared with docs/operate/json.md. Owns reading the page.

use anyhow::{Result, ensure};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/operate/json.md");

/// Compares a document that names a schema of the product with its row of the page.
///
/// # Errors
/// The schema has no row, a field of the row is missing, or a field has no place in the row.
pub fn check(document: &Value) -> Result<()> {
    against(PAGE, document)
}

fn against(page: &str, document: &Value) -> Result<()> {
    let Some(fields) = document.as_object() else { return Ok(()) };
    let Some(schema) = fields.get("schema").and_then(Value::as_str) else { return Ok(()) };
    // The lab's own reports are no documents of the product.
    if ["rap.lab.v1", "rap.quickstart.v1", "rap.smoke.v1"].contains(&schema) {
        return Ok(());
    }
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| `{schema}` | ")));
    let described = row.and_then(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    ensure!(described.is_some(), "docs/operate/json.md has no row for {schema}");
    let described: Vec<&str> = described.unwrap_or_default().split(' ').collect();
    for field in fields.keys().filter(|field| *field != "schema") {
        let known = described.iter().any(|one| one.trim_end_matches('?') == field);
        ensure!(known, "docs/operate/json.md does not name the field `{field}` of {schema}");
    }
    for field in described.iter().filter(|field| !field.ends_with('?')) {
        ensure!(fields.contains_key(*field), "{schema} lacks `{field}`, which docs/operate/json.md promises");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_has_the_fields_of_its_row_and_no_others() {
        let page = "text\n| `rap.a.v1` | `a`, `b` | one two? |\n";
        let said = |document| against(page, &document).map_err(|error| error.to_string());
        said(json!({ "schema": "rap.a.v1", "one": 1 })).unwrap();
        said(json!({ "schema": "rap.a.v1", "one": 1, "two": 2 })).unwrap();
        said(json!([1])).unwrap();
        said(json!({ "free": 1 })).unwrap();
        assert!(said(json!({ "schema": "rap.a.v1", "two": 2 })).unwrap_err().contains("lacks `one`"));
        assert!(said(json!({ "schema": "rap.a.v1", "one": 1, "x": 1 })).unwrap_err().contains("`x`"));
        assert!(said(json!({ "schema": "rap.b.v1" })).unwrap_err().contains("no row"));
    }

    #[test]
    fn the_page_has_the_documents_that_every_run_sees() {
        for schema in ["rap.nodes.v1", "rap.status.v1", "rap.version.v1"] {
            assert!(PAGE.contains(&format!("\n| `{schema}` | ")), "{schema}");
        }
    }
}
