//! Links that stand on a leaf of an authority that soon vouches no more are made anew while they are up.
//!
//! The node that dialled dials again: of two connections of one side the newer stays, so no moment is without a link.
//! A peer that has no other leaf yet is dialled again later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rap_types::{Mono, NodeId};

use crate::dial::dial;
use crate::shared::Shared;

/// Runs until the mesh ends.
pub(crate) async fn renew(shared: Arc<Shared>) {
    let end = shared.tasks.token();
    let mut link_peers = shared.link_peers.subscribe();
    let mut not_before: BTreeMap<NodeId, Mono> = BTreeMap::new();
    loop {
        let former = link_peers.borrow_and_update().former;
        if let Some(former) = former {
            let now = shared.now().mono;
            not_before.retain(|_, at| *at > now);
            let due = shared.registry.dialled_by(former).into_iter();
            let due = due.filter(|(peer, _)| !not_before.contains_key(peer)).take(AT_ONCE);
            for (peer, stop) in due.collect::<Vec<_>>() {
                let entry = shared.link_peers.borrow().peers.get(&peer).cloned();
                let Some(entry) = entry.filter(|entry| !entry.endpoints.is_empty()) else { continue };
                not_before.insert(peer, now.plus(AGAIN));
                let shared = shared.clone();
                shared.clone().tasks.spawn("link-renewed", async move {
                    dial(shared, peer, &entry.endpoints, stop).await;
                });
            }
        }
        tokio::select! {
            () = end.cancelled() => return,
            changed = link_peers.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK), if former.is_some() => {}
        }
    }
}

/// Handshakes of one look.
const AT_ONCE: usize = 64;
const LOOK: Duration = Duration::from_millis(500);
/// A peer is dialled again no sooner.
const AGAIN: Duration = Duration::from_secs(3);
