//! What must hold in every run.

use anyhow::{Context as _, Result};

/// Fails with this text unless it holds.
pub fn require(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    holds.then_some(()).with_context(what)
}
