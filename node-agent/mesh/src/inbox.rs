//! Frames that other tasks hand to the task of a link.
//!
//! Owns the bound. Whoever hands a frame over never waits: a reader that waited for a full queue could wait for itself.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rap_link::{Frame, FrameKind};
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
}

/// The inbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Inbox {
    /// Takes a frame. Data is refused at the bound; messages of paths have room of their own.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), Full> {
        let length = frame.wire_len();
        let mut waiting = self.waiting();
        let most = if frame.kind == FrameKind::Data { DATA } else { DATA + MESSAGES };
        if waiting.bytes + length > most {
            return Err(Full);
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

    /// Waits until there is something. Safe to cancel.
    pub(crate) async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> VecDeque<Frame> {
        let mut waiting = self.waiting();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.frames)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const DATA: usize = 256 * 1024;
const MESSAGES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use rap_types::ChannelClass;

    use super::*;

    #[tokio::test]
    async fn data_is_refused_at_the_bound_and_a_message_still_fits() {
        let inbox = Inbox::default();
        let data = Frame::labelled(ChannelClass::Vpn, 1, 1, vec![0; 16 * 1024]);
        let taken = (0..100).take_while(|_| inbox.push(data.clone()).is_ok()).count();
        assert_eq!(taken, 15, "256 KiB with headers");
        let message = Frame::local(ChannelClass::Control, FrameKind::PathFault, vec![0; 20]);
        assert_eq!(inbox.push(message), Ok(()));
        inbox.filled().await;
        assert_eq!(inbox.take().len(), 16);
        assert!(inbox.take().is_empty());
        assert_eq!(inbox.push(data), Ok(()));
    }
}
