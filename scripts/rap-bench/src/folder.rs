//! The folder of one run. What was started with a path in it ends with it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::process;

/// A folder that takes its processes with it when it goes.
#[derive(Debug)]
pub struct RunFolder(TempDir);

impl RunFolder {
    /// A new one in the system's folder for temporary files.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("rap-bench-").tempdir()?))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Ends what is left, and waits until it is gone.
    pub async fn clear(&self) -> Result<()> {
        process::end_mentioning(self.path(), CLEAR).await
    }

    /// Leaves the files.
    pub fn keep(&mut self) {
        self.0.disable_cleanup(true);
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        process::kill_mentioning(self.path());
    }
}

const CLEAR: Duration = Duration::from_secs(20);
