//! What relays say of their links: the own row is signed and said, those of others are verified and passed on.
//!
//! Owns the turn of a second. Which rows count, and when the own one is said, is decided in `rap_link::Rows`. Only a node
//! that carries for others says a row and passes rows on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rap_contract::{PublicKey, RelayLink, RelayRow, sign_by_leaf};
use rap_link::{Frame, FrameKind, Lane, RowText, SessionState};
use rap_types::{ChannelClass, InstallationId, NodeId, Reason};

use crate::fabric::Leaves;
use crate::inbox::Inbox;
use crate::shared::Shared;
use crate::status::MeshEvent;

impl Shared {
    /// Takes a row from a neighbour, and passes it on if this node is a relay.
    ///
    /// # Errors
    /// `relay.row_invalid`, `path.rate`, those of [`rap_link::Rows::take`].
    pub(crate) fn relay_row(&self, from: NodeId, payload: &Bytes) -> Result<(), Reason> {
        let text = RowText::read(payload)?;
        if !self.fabric.may_verify(from, self.now().mono) {
            return Err(Reason::PathRate);
        }
        let cluster = self.config.cluster;
        let installation =
            self.trust.cluster(cluster).map_or(InstallationId::ZERO, |trust| trust.installation);
        let opened = RelayRow::open(&text.row, &text.leaf, &Leaves(self), (installation, cluster));
        let (row, _) = opened.map_err(|reject| match reject.reason {
            revoked @ Reason::NodeRevoked => revoked,
            _ => Reason::RelayRowInvalid,
        })?;
        let (relay, links) = (row.relay, row.links.clone());
        let passes_on = {
            let state = &mut *self.relay_rows.state();
            if relay == self.config.node {
                return Err(Reason::RelayRowStale);
            }
            state.rows.take(row, payload.clone(), &state.relays, self.now())?;
            state.instance.is_some()
        };
        self.registry.tell(MeshEvent::RelayRow { relay, links });
        if passes_on {
            self.pass_row(payload, Some(from));
        }
        Ok(())
    }

    /// Tells a new neighbour what relays say.
    pub(crate) fn tell_rows(&self, inbox: &Inbox) {
        let state = self.relay_rows.state();
        let rows = state.rows.for_new(self.now().mono);
        drop(state);
        rows.into_iter().for_each(|row| self.say_row_to(inbox, row));
    }

    fn pass_row(&self, payload: &Bytes, except: Option<NodeId>) {
        let takers = self.registry.row_takers();
        for (_, inbox) in takers.iter().filter(|(node, _)| Some(*node) != except) {
            self.say_row_to(inbox, payload.clone());
        }
    }

    /// A row that finds no room is lost: the next one comes within 30 s.
    fn say_row_to(&self, inbox: &Inbox, row: Bytes) {
        if inbox.push(Frame::local(ChannelClass::Control, FrameKind::RelayRow, row)).is_err() {
            self.registry.reject(Reason::LinkQueueFull, 1);
        }
    }

    /// The own links with relays. One that stands and was not measured yet is left out: nobody speaks of it.
    fn links_with(&self, relays: &BTreeSet<NodeId>) -> Vec<RelayLink> {
        let statuses = self.registry.statuses();
        let of = |node: NodeId| {
            let stands = |state| matches!(state, SessionState::Established | SessionState::Suspect);
            let status = statuses.iter().find(|status| status.peer == node && status.lane == Lane::A);
            let Some(status) = status.filter(|status| stands(status.state)) else {
                return Some(RelayLink::down(node));
            };
            let measured = status.measured?;
            let rtt_us = u32::try_from(measured.round_trip?.as_micros()).unwrap_or(u32::MAX);
            let rtt_us = rtt_us.clamp(1, RTT_MAX_US);
            // All of the latest probes were lost, and the link stands.
            let loss_ppm = measured.loss_ppm.min(LOSS_MAX_PPM);
            Some(RelayLink { node, rtt_us, loss_ppm })
        };
        let others = relays.iter().filter(|relay| **relay != self.config.node);
        others.filter_map(|relay| of(*relay)).collect()
    }

    fn say_own_row(&self) {
        let said = {
            let state = &mut *self.relay_rows.state();
            let Some(instance) = state.instance else { return };
            let links = self.links_with(&state.relays);
            let Some(links) = state.rows.say(links, self.now().mono) else { return };
            state.said = state.said.wrapping_add(1);
            (links, u64::from(instance) << 32 | u64::from(state.said))
        };
        let Some(payload) = self.signed_row(said) else { return };
        self.relay_rows.state().rows.said(payload.clone());
        self.pass_row(&payload, None);
    }

    /// `None`: there is no leaf to sign with.
    fn signed_row(&self, (links, sequence): (Vec<RelayLink>, u64)) -> Option<Bytes> {
        let signer = self.certificate.signer()?;
        let key = PublicKey::from_slice(signer.key()).ok()?;
        let cluster = self.config.cluster;
        let installation = self.trust.cluster(cluster)?.installation;
        let row = RelayRow { relay: self.config.node, sequence, links, issued_at: self.now().wall };
        let row = row.to_wire(installation, cluster, &key);
        let row = sign_by_leaf(&row, &key, |message| signer.sign(message)).ok()?;
        Some(RowText { leaf: signer.leaf().to_vec(), row }.payload())
    }
}

/// Says the own row when it is due, until the group is cancelled.
pub(crate) async fn keep_saying(shared: Arc<Shared>) {
    let token = shared.tasks.token();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            _ = tick.tick() => shared.say_own_row(),
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);
const RTT_MAX_US: u32 = 60_000_000;
const LOSS_MAX_PPM: u32 = 999_999;
