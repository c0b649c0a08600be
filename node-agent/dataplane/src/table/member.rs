//! Whose data plane this is.

use rap_types::{ClusterId, InstallationId, NodeId};

/// Fixed by the first table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) installation: InstallationId,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}
