//! One path that this node carries or ends.

use std::time::Duration;

use rap_contract::{PathInstall, PathNext};
use rap_types::{Mono, NodeId, Wall};
use rap_wire::v1::LinkLane;

/// One direction of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the source to the destination.
    Forward,
    /// From the destination to the source.
    Back,
}

/// Whose generations are compared with each other: source, destination, lane.
pub(crate) type Stream = (NodeId, NodeId, LinkLane);

/// A path through this node, or that ends here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path_id: [u8; 16],
    pub(crate) source: NodeId,
    pub(crate) destination: NodeId,
    pub(crate) previous: NodeId,
    /// Absent: this node is the destination.
    pub(crate) next: Option<PathNext>,
    pub(crate) in_label: u64,
    pub(crate) back_out_label: u64,
    pub(crate) generation: u64,
    pub(crate) key_generation: u64,
    pub(crate) issued_at: Wall,
    pub(crate) deadline: Mono,
    pub(crate) last_used: Mono,
    /// When the latest fault was sent about each label that arrives here; 0: never.
    pub(crate) faulted: [Mono; 2],
    pub(crate) lane: LinkLane,
    pub(crate) length: u8,
    /// 0: no limit.
    pub(crate) rate_kbit: u32,
    /// Every hop behind this one took the path.
    pub(crate) installed: bool,
}

impl Entry {
    pub(crate) fn new(install: &PathInstall, key_generation: u64, deadline: Mono, now: Mono) -> Self {
        Self {
            path_id: install.path_id,
            source: install.source,
            destination: install.destination,
            previous: install.previous,
            next: install.next,
            in_label: install.in_label,
            back_out_label: install.back_out_label,
            generation: install.generation,
            key_generation,
            issued_at: install.issued_at,
            deadline,
            last_used: now,
            faulted: [Mono(0); 2],
            lane: install.lane,
            length: install.length,
            rate_kbit: install.rate_kbit,
            installed: false,
        }
    }

    /// True if `install` renews this path: it differs in its times alone.
    pub(crate) fn is_renewed_by(&self, install: &PathInstall) -> bool {
        self.path_id == install.path_id
            && self.stream() == (install.source, install.destination, install.lane)
            && self.generation == install.generation
            && (self.previous, self.next) == (install.previous, install.next)
            && (self.in_label, self.back_out_label) == (install.in_label, install.back_out_label)
            && (self.length, self.rate_kbit) == (install.length, install.rate_kbit)
    }

    /// Relays as the destination knows them: the one next to it.
    pub(crate) fn relays(&self) -> Vec<NodeId> {
        if self.previous == self.source { Vec::new() } else { vec![self.previous] }
    }

    /// Bytes per second and at once; absent: no limit.
    pub(crate) fn rate(&self) -> Option<(u32, u32)> {
        let rate = u32::try_from(u64::from(self.rate_kbit) * 1000 / 8).unwrap_or(u32::MAX);
        (rate > 0).then(|| (rate, (rate / 10).max(BURST)))
    }

    pub(crate) const fn stream(&self) -> Stream {
        (self.source, self.destination, self.lane)
    }

    /// The neighbours, with the labels of frames from them.
    pub(crate) fn arriving(&self) -> impl Iterator<Item = ((NodeId, u64), Direction)> {
        let back = self.next.map(|next| ((next.node, next.back_in_label), Direction::Back));
        [((self.previous, self.in_label), Direction::Forward)].into_iter().chain(back)
    }

    /// The neighbours, with the labels of frames to them.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = ((NodeId, u64), Direction)> {
        let forward = self.next.map(|next| ((next.node, next.out_label), Direction::Forward));
        [((self.previous, self.back_out_label), Direction::Back)].into_iter().chain(forward)
    }

    /// Where frames of a direction go; `None` at the destination.
    pub(crate) fn onward(&self, direction: Direction) -> Option<(NodeId, u64)> {
        match direction {
            Direction::Forward => self.next.map(|next| (next.node, next.out_label)),
            Direction::Back => Some((self.previous, self.back_out_label)),
        }
    }

    /// Whom to tell that frames of a direction no longer pass, and by which label they send them.
    pub(crate) fn origin(&self, direction: Direction) -> Option<(NodeId, u64)> {
        match direction {
            Direction::Forward => Some((self.previous, self.in_label)),
            Direction::Back => self.next.map(|next| (next.node, next.back_in_label)),
        }
    }

    /// True once per [`FAULT_PAUSE`] and direction.
    pub(crate) fn may_fault(&mut self, direction: Direction, now: Mono) -> bool {
        let last = &mut self.faulted[direction as usize];
        let may = *last == Mono(0) || now.since(*last) >= FAULT_PAUSE;
        if may {
            *last = now;
        }
        may
    }

    pub(crate) fn touches(&self, node: NodeId) -> bool {
        self.previous == node || self.next.is_some_and(|next| next.node == node)
    }
}

/// Bytes that a path with a rate may always send at once: a frame of the largest length and more.
const BURST: u32 = 64 * 1024;
/// Shortest time between two faults about one label.
pub(crate) const FAULT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 192, "{}", size_of::<Entry>());
    }
}
