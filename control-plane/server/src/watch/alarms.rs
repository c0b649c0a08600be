//! What is wrong now and needs an operator: shown by `rapctl status` until it is put right.
//!
//! Owns which alarms are raised. Refuses to grow without bound: beyond its capacity the oldest goes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rap_types::{ClusterId, Reason, Wall};

/// Alarms of this process, each with since when.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<BTreeMap<AlarmKey, Wall>>);

/// Where, by whom, which code, what.
type AlarmKey = (Option<ClusterId>, By, Reason, String);

/// Who raised an alarm: nobody else knows when it is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The publisher, which reads what the planner plans with.
    Publisher,
    /// The rotation of a data key, which reads every row.
    DataKeyRotation,
    /// The look at rows that no version depends on.
    Look,
    /// The look for absent nodes, which reads the policy of every cluster whether or not something is to be published.
    Absence,
}

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
    pub fn raise(&self, cluster: Option<ClusterId>, by: By, reason: Reason, what: &str, now: Wall) -> bool {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cluster, by, reason, what.to_owned());
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

    /// What this one found wrong with a cluster for this reason was put right.
    pub fn lower(&self, cluster: ClusterId, by: By, reason: Reason) {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.retain(|(of, raised_by, code, _), _| (*of, *raised_by, *code) != (Some(cluster), by, reason));
    }

    /// Of what this one raised about a cluster, or about the installation, only this still holds.
    pub fn keep_only(&self, cluster: Option<ClusterId>, by: By, what: &[String]) {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        alarms
            .retain(|(of, raised_by, _, text), _| (*of, *raised_by) != (cluster, by) || what.contains(text));
    }

    /// All of them.
    pub fn all(&self) -> Vec<Alarm> {
        let alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = |((cluster, _, reason, what), since): (&AlarmKey, &Wall)| Alarm {
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
        assert!(alarms.raise(Some(cluster), By::Publisher, Reason::RowTampered, "row 1", Wall(1)));
        assert!(!alarms.raise(Some(cluster), By::Publisher, Reason::RowTampered, "row 1", Wall(2)));
        assert_eq!(alarms.all()[0].since, Wall(1));
        alarms.lower(ClusterId::from_bytes([2; 16]), By::Publisher, Reason::RowTampered);
        assert_eq!(alarms.all().len(), 1);
        alarms.lower(cluster, By::DataKeyRotation, Reason::RowTampered);
        assert_eq!(alarms.all().len(), 1, "another one does not know that it was put right");
        alarms.lower(cluster, By::Publisher, Reason::RowTampered);
        assert!(alarms.raise(Some(cluster), By::Publisher, Reason::RowTampered, "row 1", Wall(3)));
        assert!(alarms.raise(None, By::Look, Reason::RowTampered, "row 2", Wall(3)));
        assert!(alarms.raise(None, By::Look, Reason::RowTampered, "row 3", Wall(3)));
        alarms.keep_only(None, By::Look, &["row 3".to_owned()]);
        let about: Vec<String> = alarms.all().into_iter().map(|alarm| alarm.what).collect();
        assert_eq!(about, ["row 3", "row 1"]);
        for at in 0..2 * CAPACITY as i64 {
            alarms.raise(None, By::Publisher, Reason::RowTampered, &format!("row {at}"), Wall(10 + at));
        }
        assert_eq!(alarms.all().len(), CAPACITY);
        assert!(alarms.all().iter().all(|alarm| alarm.what != "row 1" || alarm.cluster.is_none()));
    }
}
