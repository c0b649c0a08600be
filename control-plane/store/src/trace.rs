//! What a transaction wrote, written down. Refuses to own whether it is still there: see [`crate::still_done`].

use rap_types::{ClusterId, Digest};
use serde::{Deserialize, Serialize};

/// One thing that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub table: String,
    /// Primary key, its columns joined by `/`.
    pub key: String,
    /// Whose keys verify the row; zero for the installation's, and for a value without a MAC.
    pub cluster: ClusterId,
    /// Version of the row; zero for a value that is written once.
    pub version: u64,
    /// Of the covered columns, or of the value.
    pub digest: Digest,
}
