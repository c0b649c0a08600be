//! When an ephemeral node that nobody hears of is due for removal.
//!
//! Owns the deadline and when to look next. Refuses to own who is connected and what was written when:
//! both come in.

use std::time::Duration;

use rap_types::NodeId;

/// How absence of a cluster's ephemeral nodes is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    allowed: Duration,
    heard_every: Duration,
    grace: Duration,
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

    /// How long a replica that saw nothing, because it started or had no database, judges nobody: nodes
    /// come back meanwhile.
    pub fn blind_for(&self) -> Duration {
        self.limit().max(self.grace)
    }

    /// Judges nodes by their silence. `seeing`: for how long this replica has seen what is written.
    pub fn look(
        &self,
        silent: &[(NodeId, Duration)],
        connected: impl Fn(&NodeId) -> bool,
        seeing: Duration,
    ) -> Look {
        if seeing < self.blind_for() {
            return Look { due: Vec::new(), again: self.soon(self.blind_for() - seeing) };
        }
        let mut look = Look { due: Vec::new(), again: self.soon(self.limit()) };
        for (node, silence) in silent {
            let left = self.limit().saturating_sub(*silence);
            match (left.is_zero(), connected(node)) {
                (true, false) => look.due.push(*node),
                (true, true) => {}
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
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 16])
    }

    fn nobody(_: &NodeId) -> bool {
        false
    }

    #[test]
    fn a_node_is_due_at_its_deadline_and_the_next_look_is_then() {
        let absence = Absence::of(5 * SECOND, 15 * SECOND);
        assert_eq!((absence.heard_every(), absence.limit()), (5 * SECOND / 4, 5 * SECOND + 5 * SECOND / 4));
        let long = 3600 * SECOND;
        let ms = Duration::from_millis;
        let early = absence.look(&[(node(1), ms(6_000)), (node(2), ms(10))], nobody, long);
        assert_eq!(early, Look { due: vec![], again: ms(250) });
        let due = absence.look(&[(node(1), ms(6_250)), (node(2), ms(6_249))], nobody, long);
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
                    let look = absence.look(&[(node(1), silence)], nobody, seeing);
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
        let look = absence.look(&silent, |one| *one == node(1), 3600 * SECOND);
        assert_eq!(look.due, [node(2)]);
        for seeing in [0, 1, 44] {
            assert!(absence.look(&silent, nobody, seeing * SECOND).due.is_empty(), "{seeing} s");
        }
        assert_eq!(absence.look(&silent, nobody, 45 * SECOND).due.len(), 2);
    }
}
