//! `--dry-run=server`: what an act would send to whom.

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DryRun {
    /// Show which nodes would receive what, and change nothing.
    #[arg(long, value_name = "WHERE")]
    dry_run: Option<Where>,
}

/// Where the plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// At the control plane.
    Server,
}

impl DryRun {
    pub(crate) const fn is_wanted(self) -> bool {
        self.dry_run.is_some()
    }
}
