//! Frames that other tasks hand to the task of a link.
//!
//! Owns the bound. Whoever hands a frame over never waits: a reader that waited for a full queue could wait for itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rap_link::{Frame, FrameId};
use tokio::sync::Notify;

/// Frames for one connection.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Bytes of data by label.
    by_label: BTreeMap<u64, usize>,
}

/// The inbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Inbox {
    /// Takes a frame. Data is refused at the bound of its path and at that of all; messages of paths have room of their own.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), Full> {
        let length = frame.wire_len();
        let mut waiting = self.waiting();
        match frame.id {
            FrameId::Label(label) => {
                let own = waiting.by_label.get(&label).copied().unwrap_or(0) + length;
                if own > PATH || waiting.bytes + length > DATA {
                    return Err(Full);
                }
                waiting.by_label.insert(label, own);
            }
            FrameId::Stream(_) if waiting.bytes + length > DATA + MESSAGES => return Err(Full),
            FrameId::Stream(_) => {}
        }
        waiting.bytes += length;
        waiting.frames.push_back(frame);
        let first = waiting.frames.len() == 1;
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Wakes the reader without a frame.
    pub(crate) fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Waits until there is something. Safe to cancel.
    pub(crate) async fn filled(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().frames.is_empty()
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> VecDeque<Frame> {
        let mut waiting = self.waiting();
        waiting.bytes = 0;
        waiting.by_label.clear();
        std::mem::take(&mut waiting.frames)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Data of one path.
const PATH: usize = 256 * 1024;
const DATA: usize = 1024 * 1024;
const MESSAGES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use rap_link::FrameKind;
    use rap_types::ChannelClass;

    use super::*;

    #[tokio::test]
    async fn data_is_refused_at_the_bounds_and_a_message_still_fits() {
        let inbox = Inbox::default();
        let data = |label| Frame::labelled(ChannelClass::Vpn, label, 1, vec![0; 16 * 1024]);
        let taken = |label| (0..100).take_while(|_| inbox.push(data(label)).is_ok()).count();
        assert_eq!(taken(1), 15, "256 KiB of one path, with headers");
        assert_eq!((taken(2), taken(3), taken(4)), (15, 15, 15), "another path has its own room");
        assert_eq!((taken(5), taken(6)), (3, 0), "1 MiB in all");
        let message = Frame::local(ChannelClass::Control, FrameKind::PathFault, vec![0; 20]);
        assert_eq!(inbox.push(message), Ok(()));
        inbox.filled().await;
        assert_eq!(inbox.take().len(), 64);
        assert!(inbox.take().is_empty());
        assert_eq!(inbox.push(data(6)), Ok(()));
    }
}
