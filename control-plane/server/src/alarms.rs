//! What is wrong now and needs an operator: shown by `rapctl status` until it is put right.
//!
//! Owns which alarms are raised. Refuses to grow without bound: beyond its capacity the oldest goes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rap_types::{ClusterId, Reason, Wall};

/// Alarms of this process, each with since when.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<BTreeMap<Finding, Wall>>);

/// Where, which code, what.
type Finding = (Option<ClusterId>, Reason, String);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Cluster it is about; `None` for the installation.
    pub cluster: Option<ClusterId>,
    /// Stable code.
    pub reason: Reason,
    /// What was found.
    pub what: String,
    /// Since when.
    pub since: Wall,
}

impl Alarms {
    /// Raises an alarm; true if it is news.
    pub fn raise(&self, cluster: Option<ClusterId>, reason: Reason, what: &str, now: Wall) -> bool {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cluster, reason, what.to_owned());
        if alarms.contains_key(&key) {
            return false;
        }
        if alarms.len() >= CAPACITY {
            let oldest = alarms.iter().min_by_key(|(_, since)| **since).map(|(key, _)| key.clone());
            oldest.map(|key| alarms.remove(&key));
        }
        alarms.insert(key, now);
        true
    }

    /// What was wrong with a cluster for this reason was put right.
    pub fn lower(&self, cluster: ClusterId, reason: Reason) {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.retain(|(of, code, _), _| *of != Some(cluster) || *code != reason);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Alarm> {
        let alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = |((cluster, reason, what), since): (&Finding, &Wall)| Alarm {
            cluster: *cluster,
            reason: *reason,
            what: what.clone(),
            since: *since,
        };
        alarms.iter().map(alarm).collect()
    }
}

const CAPACITY: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_news_once_until_it_is_lowered_and_their_number_is_bounded() {
        let alarms = Alarms::default();
        let cluster = ClusterId::from_bytes([1; 16]);
        assert!(alarms.raise(Some(cluster), Reason::RowTampered, "row 1", Wall(1)));
        assert!(!alarms.raise(Some(cluster), Reason::RowTampered, "row 1", Wall(2)));
        assert_eq!(alarms.all()[0].since, Wall(1));
        alarms.lower(ClusterId::from_bytes([2; 16]), Reason::RowTampered);
        assert_eq!(alarms.all().len(), 1);
        alarms.lower(cluster, Reason::RowTampered);
        assert!(alarms.raise(Some(cluster), Reason::RowTampered, "row 1", Wall(3)));
        for at in 0..2 * CAPACITY as i64 {
            alarms.raise(None, Reason::RowTampered, &format!("row {at}"), Wall(10 + at));
        }
        assert_eq!(alarms.all().len(), CAPACITY);
        assert!(alarms.all().iter().all(|alarm| alarm.what != "row 1" || alarm.cluster.is_none()));
    }
}
