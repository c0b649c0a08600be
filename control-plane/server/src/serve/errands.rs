//! Pings of nodes that have their stream to another replica: that replica is asked, and answers.
//!
//! Owns the texts and their MAC, by the key of the installation's rows: whoever writes the database asks no node for
//! anything new. Refuses to own how a text travels (`tasks/doorbell`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prost::Message as _;
use rap_authority::Columns;
use rap_types::{ClusterId, Digest, NodeId, Reason};
use rap_wire::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::keys::handle::Keys;

/// What one replica asks of another, or answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Errand {
    /// A node is to ping another one.
    Ping {
        /// Drawn by whoever asks.
        id: [u8; 16],
        /// The replica that is asked.
        replica: [u8; 16],
        /// Cluster of both.
        cluster: ClusterId,
        /// Who pings whom.
        nodes: (NodeId, NodeId),
        /// How often, and how far apart in milliseconds.
        series: (u32, u32),
    },
    /// What came of it.
    Answer {
        /// As in the question.
        id: [u8; 16],
        /// The encoded result, or a code, whether a node chose it, and a text.
        result: Result<Vec<u8>, (String, bool, String)>,
    },
}

/// A text that is no errand, or one that no replica of this installation sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Another text.
    Other,
    /// Its MAC does not hold.
    Forged,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    errand: String,
    mac: Digest,
}

impl Errand {
    /// The text of an errand; `None` if it is longer than what is delivered.
    pub fn text(&self, keys: &Keys) -> Option<String> {
        let errand = serde_json::to_string(self).ok()?;
        let mac =
            Digest::from_bytes(keys.rows.seal(TABLE, NAME, 1, &Columns::new().bytes(errand.as_bytes())));
        let text = serde_json::to_string(&Sealed { errand, mac }).ok()?;
        (text.len() <= LONGEST).then_some(text)
    }

    /// What a text says.
    ///
    /// # Errors
    /// If it is no errand of a replica.
    pub fn of_text(keys: &Keys, text: &str) -> Result<Self, Unread> {
        let Sealed { errand, mac } = serde_json::from_str(text).map_err(|_| Unread::Other)?;
        let covered = Columns::new().bytes(errand.as_bytes());
        keys.rows.check(TABLE, NAME, 1, &covered, mac.as_bytes()).ok_or(Unread::Forged)?;
        serde_json::from_str(&errand).map_err(|_| Unread::Other)
    }
}

/// Errands that were not answered yet.
#[derive(Debug, Default)]
pub struct Errands(Mutex<BTreeMap<[u8; 16], oneshot::Sender<Answer>>>);

pub(crate) type Answer = Result<v1::PingResult, Failure>;

/// Forgets an errand when nobody waits for it any more.
pub(crate) struct Waiting<'a>(&'a Errands, [u8; 16]);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Errands {
    /// An errand that waits for its answer.
    ///
    /// # Errors
    /// `rate.limited` if too many wait.
    pub(crate) fn begin(&self, id: [u8; 16]) -> Result<(Waiting<'_>, oneshot::Receiver<Answer>), Failure> {
        let mut waiting = self.lock();
        if waiting.len() >= MOST {
            return Err(Failure::new(Reason::RateLimited, "other replicas are asked too much; try again"));
        }
        let (reply, answer) = oneshot::channel();
        waiting.insert(id, reply);
        Ok((Waiting(self, id), answer))
    }

    /// Hands an answer to whoever waits for it. One that nobody waits for is dropped.
    pub(crate) fn answered(&self, id: [u8; 16], result: Result<Vec<u8>, (String, bool, String)>) {
        let Some(reply) = self.lock().remove(&id) else { return };
        let answer = match result {
            Ok(bytes) => v1::PingResult::decode(bytes.as_slice())
                .map_err(|_| Failure::new(Reason::ServerInternal, "another replica answered with no result")),
            Err((code, hearsay, text)) => {
                let reason = Reason::from_code(&code).unwrap_or(Reason::ServerInternal);
                Err(if hearsay { Failure::said(reason, text) } else { Failure::new(reason, text) })
            }
        };
        // Whoever asked may have given up.
        let _gone = reply.send(answer);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<[u8; 16], oneshot::Sender<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const TABLE: &str = "told_errands";
const NAME: &str = "errand";
/// A longer text is not delivered.
const LONGEST: usize = 7_900;
/// Errands that wait at the same time.
const MOST: usize = 64;
