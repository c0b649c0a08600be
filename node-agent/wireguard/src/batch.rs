//! Fixed packet buffers.
//!
//! Owns one block of memory that is cut into equal slots. Refuses to grow.

/// Packets, each with a note: its address, or nothing.
#[derive(Debug)]
pub(crate) struct Batch<A> {
    memory: Box<[u8]>,
    stride: usize,
    packets: Vec<(usize, A)>,
    slots: usize,
}

impl<A> Batch<A> {
    pub(crate) fn new(slots: usize, stride: usize) -> Self {
        let memory = vec![0; slots * stride].into_boxed_slice();
        Self { memory, stride, packets: Vec::with_capacity(slots), slots }
    }

    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Number of free slots.
    pub(crate) fn room(&self) -> usize {
        self.slots - self.packets.len()
    }

    /// Length of a slot in bytes.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The next free slot. [`Self::push`] makes its content the last packet.
    pub(crate) fn slot(&mut self) -> Option<&mut [u8]> {
        (self.room() > 0).then(|| {
            let start = self.packets.len() * self.stride;
            &mut self.memory[start..start + self.stride]
        })
    }

    /// Makes the first `len` bytes of the free slot a packet.
    pub(crate) fn push(&mut self, len: usize, note: A) {
        debug_assert!(len <= self.stride && self.room() > 0);
        self.packets.push((len, note));
    }

    /// Copies a packet into a free slot. False: no slot is free, or the packet is too long.
    pub(crate) fn copy(&mut self, packet: &[u8], note: A) -> bool {
        let Some(slot) = self.slot().and_then(|slot| slot.get_mut(..packet.len())) else { return false };
        slot.copy_from_slice(packet);
        self.push(packet.len(), note);
        true
    }

    pub(crate) fn packet(&self, position: usize) -> (&[u8], &A) {
        let (len, note) = &self.packets[position];
        let start = position * self.stride;
        (&self.memory[start..start + len], note)
    }

    pub(crate) fn clear(&mut self) {
        self.packets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_stay_in_their_slots_and_a_full_batch_takes_no_more() {
        let mut batch = Batch::new(2, 4);
        assert!(!batch.copy(&[0; 5], 'x'), "longer than a slot");
        assert!(batch.copy(&[1, 2, 3, 4], 'a'));
        batch.slot().unwrap()[..2].copy_from_slice(&[5, 6]);
        batch.push(2, 'b');
        assert_eq!(batch.packet(0), (&[1, 2, 3, 4][..], &'a'));
        assert_eq!(batch.packet(1), (&[5, 6][..], &'b'));
        assert!(batch.slot().is_none() && !batch.copy(&[7], 'c'));
        batch.clear();
        assert_eq!((batch.len(), batch.room()), (0, 2));
    }
}
