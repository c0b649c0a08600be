//! The clusters this process serves.
//!
//! Owns one entry per cluster, replaced by a newer one when its keys change, and why each of the others cannot
//! be served.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rap_types::{ClusterId, KeyId, Reason};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::serve::cluster::Cluster;

/// All clusters, by id. An entry is the newest one: nobody keeps it across rounds.
#[derive(Debug, Default)]
pub struct Clusters {
    served: RwLock<BTreeMap<ClusterId, Arc<Cluster>>>,
    broken: RwLock<BTreeMap<ClusterId, (String, Reason)>>,
    ids: watch::Sender<Vec<ClusterId>>,
}

impl Clusters {
    /// Adds a cluster, or replaces its entry unless that one knows more authority records. What is
    /// published and who waits for it carries over.
    pub fn put(&self, mut cluster: Cluster) -> Arc<Cluster> {
        self.broken.write().unwrap_or_else(PoisonError::into_inner).remove(&cluster.id);
        let mut clusters = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let before = clusters.get(&cluster.id);
        if let Some(before) = before {
            if before.chain.sequence() > cluster.chain.sequence() {
                return before.clone();
            }
            cluster.cas.counts_from(&before.cas);
            (cluster.feed, cluster.wake) = (before.feed.clone(), before.wake.clone());
            cluster.revocations = before.revocations.clone();
        }
        let (added, cluster) = (before.is_none(), Arc::new(cluster));
        clusters.insert(cluster.id, cluster.clone());
        if added {
            self.ids.send_modify(|ids| ids.push(cluster.id));
        }
        cluster
    }

    /// The ids of all that are served, as they are added.
    pub fn follow(&self) -> watch::Receiver<Vec<ClusterId>> {
        self.ids.subscribe()
    }

    /// Remembers why a cluster cannot be served. True if that is news.
    pub fn put_broken(&self, id: ClusterId, name: &str, reason: Reason) -> bool {
        let mut broken = self.broken.write().unwrap_or_else(PoisonError::into_inner);
        broken.insert(id, (name.to_owned(), reason)).is_none_or(|(_, before)| before != reason)
    }

    /// Forgets those that are not among `stored` any more.
    pub fn keep_broken(&self, stored: &[(ClusterId, String)]) {
        let mut broken = self.broken.write().unwrap_or_else(PoisonError::into_inner);
        broken.retain(|id, _| stored.iter().any(|(stored, _)| stored == id));
    }

    /// Why each of the others cannot be served.
    pub fn broken(&self) -> BTreeMap<ClusterId, (String, Reason)> {
        self.broken.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the cluster with this id is not served.
    pub fn refusal(&self, id: ClusterId) -> Reason {
        self.broken().get(&id).map_or(Reason::ServerUnavailable, |(_, reason)| *reason)
    }

    /// The cluster with this id.
    pub fn by_id(&self, id: ClusterId) -> Option<Arc<Cluster>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The cluster with this name or id.
    ///
    /// # Errors
    /// `resource.not_found`; why it cannot be served.
    pub fn named(&self, text: &str) -> Result<Arc<Cluster>, Failure> {
        let clusters = self.served.read().unwrap_or_else(PoisonError::into_inner);
        let found = clusters.values().find(|cluster| is_meant(cluster.id, &cluster.name, text));
        if let Some(found) = found {
            return Ok(found.clone());
        }
        let broken = self.broken.read().unwrap_or_else(PoisonError::into_inner);
        let why = broken.iter().find(|(id, (name, _))| is_meant(**id, name, text));
        Err(match why {
            Some((_, (_, reason @ Reason::ClusterNoAuthority))) => {
                Failure::new(*reason, "the cluster has no authority yet: rapctl cluster ensure-authority")
            }
            Some((_, (_, reason))) => {
                Failure::new(*reason, "the cluster cannot be served: its keys do not open")
            }
            None => Failure::new(Reason::ResourceNotFound, "no such cluster"),
        })
    }

    /// The cluster for which this key speaks now or spoke before.
    pub fn of_authority(&self, key: KeyId) -> Option<Arc<Cluster>> {
        let clusters = self.served.read().unwrap_or_else(PoisonError::into_inner);
        clusters.values().find(|cluster| cluster.sequence_of(key).is_some()).cloned()
    }

    /// Every cluster.
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Whether a cluster is the one that an operator's text means. What reads as an id is one: no name passes
/// for the id of another cluster.
pub(crate) fn is_meant(id: ClusterId, name: &str, text: &str) -> bool {
    match text.parse::<ClusterId>() {
        Ok(meant) => meant == id,
        Err(_) => name == text,
    }
}
