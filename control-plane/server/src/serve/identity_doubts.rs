//! Doubts about a node's identity: recorded for all replicas, alarmed once an hour, told to the node.

use rap_types::{ClusterId, NodeId, Reason};

use crate::serve::handle::Serving;
use crate::watch::raise::alarm_about_identity;

/// Records that the identity of a node under this key generation is doubted, with an alarm unless a replica told the
/// same within the last hour. The node is told in any case.
pub(crate) async fn raise(
    serving: &Serving,
    cluster: ClusterId,
    (node, key_generation): (NodeId, u64),
    reason: Reason,
) {
    // Two places explain an older state, too.
    if reason == Reason::NodeRolledBack && serving.identities.doubt(node) == Some(Reason::NodeCloned) {
        return;
    }
    let what = match reason {
        Reason::NodeCloned => {
            "one identity is in two places: two agents were heard in turn; no new certificate until `rapctl node accept`"
        }
        Reason::NodeKeyNewer => {
            "its key is newer than the database, which was restored: evict the node, then `rap-node-agent join --rejoin` there"
        }
        _ => "it came back with less than it acknowledged; no new certificate until `rapctl node accept`",
    };
    let what = format!("cluster {cluster}: {what}");
    alarm_about_identity(&serving.watch, (node, key_generation), reason, &what).await;
    note(serving, cluster, node, Some(reason));
}

/// What is doubted now; the node is told if that is news.
pub(crate) fn note(serving: &Serving, cluster: ClusterId, node: NodeId, doubt: Option<Reason>) {
    if serving.identities.doubted(node, doubt) {
        serving.sessions.notice(cluster, node, doubt);
    }
}
