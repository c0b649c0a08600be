//! `rapctl explain`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Reason code, for example token.expired; none lists all.
    pub(crate) code: Option<String>,
}
