//! Whose identity a stream is of: what its node says of itself, and what follows from a doubt.
//!
//! Owns when a stream is asked to stay away. Signed state goes to it all the same: holding it back would keep revocations
//! from a node.

use std::time::Duration;

use rap_store::HeardIdentity;
use rap_types::{Mono, Reason};
use rap_wire::v1;
use tokio::time::Instant;

use crate::grpc::sync::member::Member;
use crate::replica::Replica;
use crate::serve::identities::Instance;
use crate::serve::identity_doubts::raise;

/// What a stream knows of its node's identity.
pub(super) struct Identity {
    /// `None`: the agent does not say.
    instance: Option<Instance>,
    /// The node reported after it was greeted: it is there, and this is not a late message.
    is_heard: bool,
    /// When it is asked to stay away at the latest.
    away_by: Option<Instant>,
}

/// Whether the stream is ended so that its node stays away.
pub(super) enum Leave {
    Now,
    At(Instant),
    Never,
}

impl Identity {
    /// As a hello says it. A node whose identity is in two places is asked to stay away when it is not the one that was
    /// heard last.
    pub(super) fn said(replica: &Replica, member: &Member, hello: &v1::NodeHello) -> Self {
        let instance = hello.instance_id.as_slice().try_into().ok();
        let newest = replica.serving.identities.newest(member.leaf.identity.node);
        let returns = member.doubt() == Some(Reason::NodeCloned) && newest.is_some() && newest != instance;
        Self { instance, is_heard: false, away_by: returns.then(|| Instant::now() + SERVED) }
    }

    /// Notes that the node reported. True if its identity turned out to be in two places now.
    pub(super) fn is_in_turn(&mut self, replica: &Replica, member: &Member, now: Mono) -> bool {
        let Some(instance) = self.instance else { return false };
        self.is_heard = true;
        let of = &member.leaf.identity;
        let in_turn = replica.serving.identities.heard(of.node, of.key_generation, instance, now);
        if in_turn {
            self.away_by.get_or_insert_with(|| Instant::now() + SERVED);
        }
        in_turn
    }

    /// As whom the node is heard now. An acknowledgement counts by itself: a stream may end right after it. Only a report
    /// counts as a contact of this instance.
    pub(super) fn heard(&self, member: &Member, held: (u64, u64), reports: bool) -> Option<HeardIdentity> {
        let instance = self.instance.filter(|_| reports);
        let key_generation = member.leaf.identity.key_generation;
        (instance.is_some() || held > (0, 0)).then_some(HeardIdentity { key_generation, instance, held })
    }

    /// Whether the stream ends: once the node has what is signed, and after a while in any case.
    pub(super) fn leaves(&self, has_all: bool, now: Instant) -> Leave {
        match self.away_by {
            Some(by) if now >= by || (has_all && self.is_heard) => Leave::Now,
            Some(by) => Leave::At(by),
            None => Leave::Never,
        }
    }
}

/// True if the node comes back with less than it acknowledged. One that lost its cache says nothing.
pub(super) fn went_back(member: &Member, hello: &v1::NodeHello) -> bool {
    let floor = hello.floor.as_ref().filter(|_| !hello.newest_head.is_empty());
    floor.is_some_and(|floor| member.went_back((floor.incarnation, floor.version)))
}

/// Records a doubt about the node's identity and tells the node.
pub(super) async fn doubt(replica: &Replica, member: &Member, reason: Reason) {
    let of = &member.leaf.identity;
    raise(&replica.serving, of.cluster, (of.node, of.key_generation), reason).await;
}

/// How long a node whose identity is in two places is asked to stay away.
pub(super) const AWAY: Duration = Duration::from_secs(60);

/// How long it is served before, at most.
const SERVED: Duration = Duration::from_secs(10);
