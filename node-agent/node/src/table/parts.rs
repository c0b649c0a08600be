//! A table in parts that fit one message each.

use std::collections::VecDeque;

use prost::Message;
use rap_wire::v1::{ForwardingTable as Part, TablePart};

use super::forwarding::{ENTRY, ForwardingTable, MESSAGE_ROOM};

impl ForwardingTable {
    /// The parts of the table in order; the first has the header.
    pub(super) fn parts(&self) -> VecDeque<TablePart> {
        let mut filling = Filling { room: MESSAGE_ROOM, full: Vec::new(), part: self.header.clone() };
        filling.room = filling.room.saturating_sub(self.header.encoded_len());
        for peer in &self.peers {
            filling.make_room(peer);
            filling.part.peers.push(peer.clone());
        }
        for revoked in &self.revoked {
            filling.make_room(revoked);
            filling.part.revoked.push(revoked.clone());
        }
        filling.full.push(filling.part);
        let count = u32::try_from(filling.full.len()).unwrap_or(u32::MAX);
        let numbered = (0..).zip(filling.full);
        let part = |(part, table)| TablePart { version: self.version(), part, count, table: Some(table) };
        numbered.map(part).collect()
    }
}

struct Filling {
    /// Bytes left in the part.
    room: usize,
    full: Vec<Part>,
    part: Part,
}

impl Filling {
    fn make_room(&mut self, entry: &impl Message) {
        let need = entry.encoded_len() + ENTRY;
        if need > self.room {
            self.full.push(std::mem::take(&mut self.part));
            self.room = MESSAGE_ROOM;
        }
        self.room = self.room.saturating_sub(need);
    }
}
