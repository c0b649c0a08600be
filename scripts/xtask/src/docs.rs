//! What the documents promise, checked. Owns the order only.

use std::path::Path;

use anyhow::Result;

use crate::{described, documents, errors, faults, links, names, paths};

/// All checks on documents.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = errors::check(root)?;
    findings.extend(links::check(root)?);
    findings.extend(paths::check(root)?);
    findings.extend(names::check(root)?);
    findings.extend(described::check(root)?);
    findings.extend(faults::check(root)?);
    findings.extend(documents::check(root)?);
    Ok(findings)
}
