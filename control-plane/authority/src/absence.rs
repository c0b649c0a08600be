//! When an ephemeral node that no replica hears of must be removed.
//!
//! Owns the deadline and the time of the next check. Refuses to own which nodes are connected and when contacts were
//! written: both are inputs.

use std::time::Duration;

use rap_types::NodeId;

/// How absence of a cluster's ephemeral nodes is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    allowed: Duration,
    heard_every: Duration,
    grace: Duration,
}

/// What the judging replica itself knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has a stream here.
    Here,
    /// Its stream here ended, and no other replica heard it since.
    Ended,
    /// What is known of it is what was written: its replica may have died, or lost its database, while the
    /// node lives.
    Unseen,
}

/// What a look at the nodes comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Nodes that are due now, longest silent first.
    pub due: Vec<NodeId>,
    /// When to look again: nobody is due before, unless the policy changes.
    pub again: Duration,
}

impl Absence {
    /// Under a policy's allowance, where nodes report every so often.
    pub fn of(allowed: Duration, report_interval: Duration) -> Self {
        let heard_every = (allowed / 4).clamp(SHORTEST, report_interval.max(SHORTEST));
        Self { allowed, heard_every, grace: 3 * report_interval }
    }

    /// How often a replica says of its connected nodes that they are there.
    pub const fn heard_every(&self) -> Duration {
        self.heard_every
    }

    /// Silence after which a node is gone. A node that was said to be there just before it went away is
    /// not shortened by how often that is said.
    pub fn limit(&self) -> Duration {
        self.allowed + self.heard_every
    }

    /// Silence after which a node is gone whose stream this replica did not see end: nodes of a replica that
    /// died need a while to notice and to go to another one.
    fn limit_unseen(&self) -> Duration {
        self.limit().max(self.grace).max(NOTICE)
    }

    /// How long a replica that saw nothing, because it started or had no database, judges nobody: nodes
    /// come back meanwhile. Silence itself is written down and goes on, so a long allowance needs no longer.
    fn blind_for(&self) -> Duration {
        self.limit().min(BLIND_AT_MOST).max(self.grace)
    }

    /// Judges nodes by their silence and by what this replica knows of each. `seeing`: for how long it has
    /// seen what is written.
    pub fn look(
        &self,
        silent: &[(NodeId, Duration)],
        presence: impl Fn(&NodeId, Duration) -> Presence,
        seeing: Duration,
    ) -> Look {
        if seeing < self.blind_for() {
            return Look { due: Vec::new(), again: self.soon(self.blind_for() - seeing) };
        }
        let mut look = Look { due: Vec::new(), again: self.soon(self.limit()) };
        for (node, silence) in silent {
            let presence = presence(node, *silence);
            let limit = match presence {
                Presence::Here | Presence::Ended => self.limit(),
                Presence::Unseen => self.limit_unseen(),
            };
            let left = limit.saturating_sub(*silence);
            match (left.is_zero(), presence) {
                (true, Presence::Ended | Presence::Unseen) => look.due.push(*node),
                (true, Presence::Here) => {}
                (false, _) => look.again = look.again.min(left.max(SOONEST)),
            }
        }
        look
    }

    /// Also in time to say who is connected.
    fn soon(&self, wait: Duration) -> Duration {
        wait.min(self.heard_every).clamp(SOONEST, LONGEST)
    }
}

const SHORTEST: Duration = Duration::from_secs(1);
const SOONEST: Duration = Duration::from_millis(100);
/// An agent notices a dead replica within 20 s and dials the next.
const NOTICE: Duration = Duration::from_secs(30);
const BLIND_AT_MOST: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 16])
    }

    fn ended(_: &NodeId, _: Duration) -> Presence {
        Presence::Ended
    }

    fn unseen(_: &NodeId, _: Duration) -> Presence {
        Presence::Unseen
    }

    #[test]
    fn a_node_is_due_at_its_deadline_and_the_next_look_is_then() {
        let absence = Absence::of(5 * SECOND, 15 * SECOND);
        assert_eq!((absence.heard_every(), absence.limit()), (5 * SECOND / 4, 5 * SECOND + 5 * SECOND / 4));
        let long = 3600 * SECOND;
        let ms = Duration::from_millis;
        let early = absence.look(&[(node(1), ms(6_000)), (node(2), ms(10))], ended, long);
        assert_eq!(early, Look { due: vec![], again: ms(250) });
        let due = absence.look(&[(node(1), ms(6_250)), (node(2), ms(6_249))], ended, long);
        assert_eq!(due, Look { due: vec![node(1)], again: SOONEST });
    }

    /// Walks the clock from look to look: whatever the allowance, nobody goes early, and nobody later than
    /// a tenth of a second after the deadline.
    #[test]
    fn from_look_to_look_a_node_goes_at_its_deadline() {
        for (allowed, report) in [(5, 15), (5, 1), (30, 15), (600, 15), (86_400, 15)] {
            let absence = Absence::of(allowed * SECOND, report * SECOND);
            for offset in [0, 1, 777, 1_250, 4_321] {
                let (mut silence, seeing) = (Duration::from_millis(offset), absence.blind_for());
                loop {
                    let look = absence.look(&[(node(1), silence)], ended, seeing);
                    assert!(look.again <= LONGEST && look.again >= SOONEST);
                    if !look.due.is_empty() {
                        break;
                    }
                    silence += look.again;
                }
                assert!(silence >= absence.limit(), "{allowed} s, from {offset} ms");
                assert!(silence <= absence.limit() + SOONEST, "{allowed} s, from {offset} ms: {silence:?}");
            }
        }
    }

    #[test]
    fn whoever_is_connected_stays_and_a_replica_that_saw_nothing_judges_nobody() {
        let absence = Absence::of(5 * SECOND, 15 * SECOND);
        let silent = [(node(1), 3600 * SECOND), (node(2), 3600 * SECOND)];
        let here = |one: &NodeId, _| if *one == node(1) { Presence::Here } else { Presence::Unseen };
        let look = absence.look(&silent, here, 3600 * SECOND);
        assert_eq!(look.due, [node(2)]);
        for seeing in [0, 1, 44] {
            assert!(absence.look(&silent, ended, seeing * SECOND).due.is_empty(), "{seeing} s");
        }
        assert_eq!(absence.look(&silent, ended, 45 * SECOND).due.len(), 2);
    }

    /// Whatever the allowance, nodes of a replica that died have the time to notice and to come here.
    #[test]
    fn silence_that_this_replica_did_not_see_begin_is_no_absence_before_nodes_could_come_back() {
        let long = 3600 * SECOND;
        for (allowed, report, limit) in [(5, 15, 45), (5, 1, 30), (60, 15, 75), (5, 60, 180)] {
            let absence = Absence::of(allowed * SECOND, report * SECOND);
            assert_eq!(absence.limit_unseen(), limit * SECOND, "{allowed} s, {report} s");
            let silent = [(node(1), limit * SECOND - Duration::from_millis(50))];
            let early = absence.look(&silent, unseen, long);
            assert_eq!(early, Look { due: vec![], again: SOONEST }, "{allowed} s, {report} s");
            assert_eq!(absence.look(&[(node(1), limit * SECOND)], unseen, long).due, [node(1)]);
        }
    }

    /// A nightly restart and a day's allowance: nodes are removed all the same.
    #[test]
    fn blindness_lasts_until_nodes_could_come_back_and_not_longer() {
        let day = 86_400 * SECOND;
        let absence = Absence::of(day, 15 * SECOND);
        assert_eq!(absence.blind_for(), 600 * SECOND);
        assert!(absence.look(&[(node(1), 2 * day)], unseen, 599 * SECOND).due.is_empty());
        assert_eq!(absence.look(&[(node(1), 2 * day)], unseen, 600 * SECOND).due, [node(1)]);
        assert!(absence.look(&[(node(1), day)], unseen, day).due.is_empty(), "the allowance counts in full");
        for (allowed, blind) in [(5, 45), (60, 75), (600, 600), (590, 600)] {
            assert_eq!(Absence::of(allowed * SECOND, 15 * SECOND).blind_for(), blind * SECOND, "{allowed} s");
        }
    }
}
