//! What the documents promise, checked. Owns the order only.

use std::path::Path;

use anyhow::Result;

use crate::{errors, links};

/// All checks on documents.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = errors::check(root)?;
    findings.extend(links::check(root)?);
    Ok(findings)
}
