//! Links, relays and traffic between the nodes of a run: the shipped core of paths and the shipped choice of ways at every
//! node, driven by the forwarding tables that the nodes made of their snapshots.
//!
//! What WireGuard, TLS and TCP do is played: a datagram is sealed by its maker, a connection either stands or does not. No
//! node has a direct way. Everything follows from the seed.

mod deceit;
mod frames;
mod happening;
mod hub;
mod leaf;
mod ledger;
mod links;
mod node;
mod queue;
mod storm;
mod table;
mod talk;
mod truth;
mod tunnel;
mod wire;

use anyhow::{Context as _, Result};
use rap_types::{NodeId, Now};
use rap_wire::v1;

use happening::Happening;
use table::Facts;

pub use hub::Fabric;
pub use node::LIFETIME_S;

impl Fabric {
    /// A node has another table. The first one starts its data plane.
    pub fn apply(&mut self, me: NodeId, table: &v1::ForwardingTable, inbound: bool) -> Result<()> {
        let facts = Facts::of(table);
        if inbound {
            self.wire.inbound.insert(me);
        }
        self.leaves.entry(me).or_insert_with(|| leaf::Leaf::of(me));
        if let Some(node) = self.nodes.get_mut(&me) {
            node.facts = facts;
            return self.put_in_force(me);
        }
        self.nodes.insert(me, node::Node::new(facts));
        self.start(me)
    }

    /// The process takes the table that its agent has.
    pub fn put_in_force(&mut self, me: NodeId) -> Result<()> {
        let Some(node) = self.nodes.get_mut(&me) else { return Ok(()) };
        node.facts.terms.instance = node.instance;
        let Some(plane) = node.plane.as_mut() else { return Ok(()) };
        let facts = &node.facts;
        plane.ledger.apply(me, facts);
        let known = |peer: &NodeId| facts.terms.known.contains_key(peer) && !facts.revoked.contains_key(peer);
        let unknown: Vec<_> = plane.links.keys().filter(|peer| !known(peer)).copied().collect();
        plane.peers.retain(|peer, _| known(peer));
        for peer in facts.terms.known.keys() {
            let relayed = facts.plans.contains_key(peer);
            plane.peers.entry(*peer).or_default().ways.configure(Vec::new(), relayed);
        }
        let (terms, revoked) = (facts.terms.clone(), facts.revoked.clone());
        let plans: Vec<_> = facts.plans.values().cloned().collect();
        for peer in unknown {
            self.drop_link(me, peer)?;
        }
        self.at(me, |core, inputs| core.revoke(&revoked, inputs.now.mono))?;
        self.at(me, |core, inputs| core.set_terms(terms, inputs.now.mono))?;
        self.at(me, |core, inputs| core.set_plans(plans, inputs))?;
        Ok(())
    }

    /// A node is out of the cluster, and its process ends.
    pub fn remove(&mut self, me: NodeId) {
        if let Some(plane) = self.nodes.remove(&me).and_then(|node| node.plane) {
            for (peer, connection) in plane.links {
                self.end_heard(peer, me, connection);
            }
        }
    }

    /// Lets everything happen that is due by then.
    pub fn advance(&mut self, end: Now) -> Result<()> {
        let start = self.now;
        while let Some((at, what)) = self.queue.pop(end.mono) {
            self.now = start.plus(at.since(start.mono));
            let (name, one, other) = what.name();
            self.happen(what).with_context(|| {
                format!("after {:.3} s, {name}, {one} {other}", at.since(self.began).as_secs_f64())
            })?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<()> {
        match what {
            Happening::Frame { from, to, connection, carried } => self.arrive(to, from, connection, carried),
            Happening::Timer(me, life) => self.timer(me, life),
            Happening::WayTimer(me, to, life) => self.way_timer(me, to, life),
            Happening::Links(me, life) => {
                self.look_at_links(me, life);
                Ok(())
            }
            Happening::LinkUp(me, peer) => self.link_up(me, peer),
            Happening::LinkDead(at, peer, connection) => self.link_dead(at, peer, connection),
            Happening::NotPassed { at, to, request, life } => self.not_linked(at, to, request, life),
            Happening::Talk(me, to, round) => self.talk(me, to, round),
            Happening::Fault => {
                self.fault();
                Ok(())
            }
            Happening::End(name) => self.end_effect(name),
            Happening::Flap(one, other, more) => {
                self.flap(one, other, more);
                Ok(())
            }
        }
    }
}
