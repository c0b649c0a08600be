//! A table that comes in parts, until it is whole.

use rap_runtime::Fault;
use rap_types::limits;
use rap_wire::v1::{ForwardingTable, TablePart};
use zeroize::Zeroize as _;

use super::field::{refused, too_large};

/// The parts that came so far. Holds at most one table within the limits; its keys are wiped if it stays unfinished.
#[derive(Default)]
pub(crate) struct Parts {
    table: ForwardingTable,
    count: u32,
    next: u32,
}

impl Parts {
    /// Takes the next part. The table once it is whole.
    ///
    /// Part 0 begins anew, whatever came before. A part out of order, or one that exceeds a limit, ends the
    /// collection.
    pub(crate) fn take(&mut self, part: TablePart) -> Result<Option<ForwardingTable>, Fault> {
        let taken = self.add(part);
        if !matches!(taken, Ok(None)) {
            *self = Self::default();
        }
        taken
    }

    fn add(&mut self, part: TablePart) -> Result<Option<ForwardingTable>, Fault> {
        let TablePart { version, part: number, count, table } = part;
        let mut table = table.ok_or_else(|| refused(format!("part {number}: empty")))?;
        if number == 0 {
            *self = Self::default();
            (self.count, self.table) = (count, ForwardingTable { version, ..std::mem::take(&mut table) });
        } else if (number, count, version) != (self.next, self.count, self.table.version) {
            return Err(refused(format!("part {number} of {count} does not follow")));
        }
        if !(1..=PARTS).contains(&count) {
            return Err(too_large("parts", PARTS as usize));
        }
        self.next = number + 1;
        self.table.peers.append(&mut table.peers);
        self.table.revoked.append(&mut table.revoked);
        if table != ForwardingTable::default() {
            return Err(refused(format!("part {number}: more than peers and revoked")));
        }
        if self.table.peers.len() > limits::TABLE_PEERS_MAX {
            return Err(too_large("peers", limits::TABLE_PEERS_MAX));
        }
        if self.table.revoked.len() > limits::TABLE_REVOKED_MAX {
            return Err(too_large("revoked", limits::TABLE_REVOKED_MAX));
        }
        Ok((self.next == count).then(|| std::mem::take(&mut self.table)))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.table.wireguard_private_key.zeroize();
        if let Some(identity) = &mut self.table.identity {
            identity.private_key.zeroize();
        }
        for peer in &mut self.table.peers {
            peer.preshared_key.zeroize();
        }
    }
}

/// More than any table within the limits needs.
const PARTS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::Reason;
    use rap_wire::v1::{TablePeer, TableRevoked};

    fn part(part: u32, count: u32, peers: usize) -> TablePart {
        let peer = |number| TablePeer { node_id: vec![part as u8, number as u8], ..Default::default() };
        let table = ForwardingTable { peers: (0..peers).map(peer).collect(), ..Default::default() };
        TablePart { version: 7, part, count, table: Some(table) }
    }

    fn reason(parts: &mut Parts, part: TablePart) -> Reason {
        parts.take(part).unwrap_err().reason
    }

    #[test]
    fn the_last_part_makes_the_table_of_all() {
        let mut parts = Parts::default();
        assert_eq!(parts.take(part(0, 3, 2)), Ok(None));
        assert_eq!(parts.take(part(1, 3, 1)), Ok(None));
        let mut last = part(2, 3, 0);
        last.table.as_mut().unwrap().revoked.push(TableRevoked { node_id: vec![9], key_generation: 1 });
        let table = parts.take(last).unwrap().unwrap();
        assert_eq!((table.version, table.peers.len(), table.revoked.len()), (7, 3, 1));
        assert_eq!(parts.take(part(0, 1, 4)).unwrap().unwrap().peers.len(), 4, "one part is enough");
    }

    #[test]
    fn what_does_not_follow_is_refused_and_part_0_begins_anew() {
        let mut parts = Parts::default();
        assert_eq!(reason(&mut parts, part(1, 3, 1)), Reason::DataplaneTable);
        for wrong in [part(2, 3, 1), part(1, 4, 1), TablePart { version: 8, ..part(1, 3, 1) }] {
            assert_eq!(parts.take(part(0, 3, 1)), Ok(None));
            assert_eq!(reason(&mut parts, wrong), Reason::DataplaneTable);
            assert_eq!(reason(&mut parts, part(1, 3, 1)), Reason::DataplaneTable, "nothing is left of it");
        }
        let mut header = part(1, 2, 1);
        header.table.as_mut().unwrap().mtu = 1400;
        assert_eq!(parts.take(part(0, 2, 1)), Ok(None));
        assert_eq!(reason(&mut parts, header), Reason::DataplaneTable);
        assert_eq!(parts.take(part(0, 2, 1)), Ok(None));
        assert_eq!(parts.take(part(0, 1, 5)).unwrap().unwrap().peers.len(), 5);
    }

    #[test]
    fn limits_hold_before_the_last_part() {
        let mut parts = Parts::default();
        assert_eq!(reason(&mut parts, part(0, 0, 0)), Reason::DataplaneTableTooLarge);
        assert_eq!(reason(&mut parts, part(0, PARTS + 1, 0)), Reason::DataplaneTableTooLarge);
        assert_eq!(parts.take(part(0, 3, limits::TABLE_PEERS_MAX)), Ok(None));
        assert_eq!(reason(&mut parts, part(1, 3, 1)), Reason::DataplaneTableTooLarge);
    }
}
