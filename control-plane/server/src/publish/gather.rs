//! How long a change waits for further ones before a round begins.

use std::time::Duration;

use tokio::time::Instant;

use crate::serve::feed::Feed;
use crate::serve::wake::Wake;

/// Waits for changes that come with this one, and until the streams took the version before; if more changes are known
/// to come (`crowded`), until 1 s after the version before. An urgent change ends all of that.
pub(crate) async fn gather(wake: &Wake, feed: &Feed, busy: bool, crowded: bool) {
    let gathering = async {
        if busy {
            settle(wake).await;
        }
        feed.taken().await;
        if crowded {
            tokio::time::sleep_until(feed.published_at() + CROWDED).await;
        }
    };
    tokio::pin!(gathering);
    while !wake.is_urgent() {
        tokio::select! {
            () = &mut gathering => return,
            () = wake.urged() => {}
        }
    }
}

/// Waits until wakes pause for 5 ms, at most 50 ms in all.
async fn settle(wake: &Wake) {
    let cap = Instant::now() + CAP;
    loop {
        tokio::select! {
            () = wake.woken() => {}
            () = tokio::time::sleep_until(cap.min(Instant::now() + TRAILING)) => return,
        }
        if Instant::now() >= cap {
            return;
        }
    }
}

const CROWDED: Duration = Duration::from_secs(1);
const TRAILING: Duration = Duration::from_millis(5);
const CAP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use rap_planner::{ClusterRows, Limits, MapKey, NodeRow, Published, plan};
    use rap_types::{ClusterId, HeadOrder, Incarnation, InstallationId, NodeId, Version, Wall};

    use super::*;

    fn member() -> NodeRow {
        NodeRow {
            node: NodeId::from_bytes([1; 16]),
            name: "one".into(),
            node_public_key: [1; 32],
            wireguard_public_key: [1; 32],
            organization: None,
            roles: Vec::new(),
            capabilities: Vec::new(),
            draining: false,
            tags: Vec::new(),
            region: String::new(),
            link_endpoints: Vec::new(),
            wireguard_endpoints: Vec::new(),
            host_number: 1,
            key_generation: 1,
        }
    }

    fn published() -> Published {
        let rows = ClusterRows {
            installation: InstallationId::from_bytes([1; 16]),
            cluster: ClusterId::from_bytes([2; 16]),
            name: "prod".into(),
            incarnation: Incarnation(1),
            version: Version(1),
            ipv4_pool: "100.96.0.0/16".parse().unwrap(),
            cluster_ca: vec![1],
            next_ca: None,
            degraded_for_ms: 1,
            leaf_lifetime_ms: 10,
            mtu: 1280,
            link_probe_interval_ms: 1000,
            wireguard_keepalive_s: 25,
            wireguard_key_max_age_ms: 0,
            identity_key_max_age_ms: 0,
            degraded_ends: Vec::new(),
            survive_forever_roles: Vec::new(),
            nodes: vec![member()],
            gone: Vec::new(),
            revocations: Arc::default(),
            leaves: BTreeMap::new(),
            limits: Limits::default(),
            loopback: rap_types::sense::Loopback::Refused,
        };
        Published {
            plan: Arc::new(plan(&rows, &MapKey::from_bytes([3; 32])).unwrap()),
            head: Arc::from([0; 4]),
            order: HeadOrder::new(1, 1, 0),
            previous: None,
            issued_at: Wall(1),
            fresh_until: Wall(2),
        }
    }

    /// How long a change waits.
    async fn waited(feed: &Feed, wake: &Wake, busy: bool) -> Duration {
        let began = Instant::now();
        gather(wake, feed, busy, false).await;
        began.elapsed()
    }

    #[tokio::test]
    async fn a_change_waits_a_second_for_others_that_are_known_to_come_unless_it_is_urgent() {
        let (feed, wake) = (Feed::default(), Wake::default());
        feed.publish(published());
        let began = Instant::now();
        gather(&wake, &feed, false, true).await;
        assert!(began.elapsed() >= Duration::from_millis(990), "{:?}", began.elapsed());
        feed.publish(published());
        wake.urgent();
        let began = Instant::now();
        gather(&wake, &feed, false, true).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }

    /// Far from the 250 ms that a change waits, also on a machine with other things to do.
    const AT_ONCE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_change_waits_for_the_streams_at_most_250_ms_and_an_urgent_one_not_at_all() {
        let (feed, wake) = (Feed::default(), Wake::default());
        let turn = feed.open(NodeId::from_bytes([1; 16]), true);
        assert!(waited(&feed, &wake, false).await < AT_ONCE, "nothing was published yet");
        feed.publish(published());
        assert!(waited(&feed, &wake, false).await >= Duration::from_millis(245));
        feed.publish(published());
        turn.took(true);
        assert!(waited(&feed, &wake, false).await < AT_ONCE);
        feed.publish(published());
        wake.urgent();
        assert!(waited(&feed, &wake, true).await < AT_ONCE);
        wake.begin();
        drop(turn);
        assert!(waited(&feed, &wake, false).await < AT_ONCE, "a stream that ended");
    }

    #[tokio::test]
    async fn an_urgent_change_ends_the_wait_of_one_before_it() {
        let (feed, wake) = (Feed::default(), Wake::default());
        // Wakes that never pause, and a stream that never takes anything.
        let _turn = feed.open(NodeId::from_bytes([1; 16]), true);
        feed.publish(published());
        let urgent = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            wake.urgent();
        };
        let (waited, ()) = tokio::join!(waited(&feed, &wake, true), urgent);
        assert!(waited < AT_ONCE, "{waited:?}");
    }

    #[tokio::test]
    async fn changes_in_a_burst_are_gathered() {
        let (feed, wake) = (Feed::default(), Wake::default());
        let burst = async {
            loop {
                wake.changed();
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::select! {
            waited = waited(&feed, &wake, true) => waited,
            () = burst => unreachable!("it goes on for ever"),
        };
        assert!(waited >= TRAILING, "{waited:?}");
    }

    #[tokio::test]
    async fn streams_with_a_snapshot_leave_the_version_to_those_without_for_a_moment() {
        let feed = Feed::default();
        let [member, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 16]));
        let mut old = feed.open(other, true);
        let waiting = feed.open(other, false);
        let new = feed.open(member, false);
        feed.publish(published());
        assert!(old.held_until().is_some());
        assert_eq!(new.held_until(), None);
        assert_eq!(waiting.held_until(), None, "it is not in the version and holds nobody back");
        new.took(true);
        old.progress().await;
        assert_eq!(old.held_until(), None);
        let silent = feed.open(member, false);
        feed.publish(published());
        let until = old.held_until().unwrap();
        tokio::time::sleep_until(until).await;
        assert_eq!(old.held_until(), None, "for no longer");
        drop(silent);
    }
}
