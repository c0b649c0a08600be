//! Diagnostics of one node: at most one a second, ten seconds each, few at a time.

use std::collections::VecDeque;
use std::time::Duration;

use rap_types::Reason;
use rap_wire::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;

type Reply = oneshot::Sender<Result<v1::DiagnosticResult, Reason>>;

/// Diagnostics that were sent and not answered yet.
#[derive(Debug)]
pub struct Diagnostics {
    waiting: VecDeque<(Vec<u8>, Instant, Reply)>,
    next_at: Instant,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self { waiting: VecDeque::new(), next_at: Instant::now() }
    }

    /// When the next one may be sent.
    pub fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Takes note of one that is being sent.
    pub fn sent(&mut self, id: Vec<u8>, reply: Reply) {
        let now = Instant::now();
        self.waiting.retain(|(_, until, _)| *until > now);
        if self.waiting.len() == MOST {
            self.waiting.pop_front();
        }
        self.waiting.push_back((id, now + DEADLINE, reply));
        self.next_at = now + EVERY;
    }

    /// Hands an answer to whoever asked; answers nobody waits for are dropped.
    pub fn answered(&mut self, result: v1::DiagnosticResult) {
        let place = self.waiting.iter().position(|(id, _, _)| *id == result.diagnostic_id);
        if let Some((_, _, reply)) = place.and_then(|place| self.waiting.remove(place)) {
            // The asker may have given up.
            let _ = reply.send(Ok(result));
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);

const DEADLINE: Duration = Duration::from_secs(10);

const MOST: usize = 10;
