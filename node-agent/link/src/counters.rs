//! What one link sent, received and refused.
//!
//! Owns the numbers. The shell publishes them.

use std::collections::BTreeMap;

use rap_types::Reason;

/// Totals since the connection began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames decoded.
    pub frames_received: u64,
    /// Bytes of decoded frames, headers included.
    pub bytes_received: u64,
    /// Frames handed to the shell for its socket.
    pub frames_sent: u64,
    /// Bytes of those frames, headers included.
    pub bytes_sent: u64,
    /// Frames and inputs that were refused, by reason. Includes frames refused by a full queue.
    pub rejected: BTreeMap<Reason, u64>,
    /// Frames that were accepted for sending and never sent, by reason.
    pub dropped: BTreeMap<Reason, u64>,
}

impl Counters {
    pub(crate) fn received(&mut self, bytes: usize) {
        self.frames_received += 1;
        self.bytes_received += bytes as u64;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.frames_sent += 1;
        self.bytes_sent += bytes as u64;
    }

    pub(crate) fn rejected(&mut self, reason: Reason) {
        *self.rejected.entry(reason).or_default() += 1;
    }

    pub(crate) fn dropped(&mut self, reason: Reason, frames: u64) {
        if frames > 0 {
            *self.dropped.entry(reason).or_default() += frames;
        }
    }
}
