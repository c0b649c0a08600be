//! Questions to nodes that have their stream to another replica: that replica is asked, and answers.
//!
//! Owns the texts and their MAC, by the key of the installation's rows: whoever writes the database asks no node for
//! anything new. Refuses to own how a text travels (`tasks/doorbell`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
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
    /// A node is to be asked about another one.
    Ask {
        /// Drawn by whoever asks.
        id: [u8; 16],
        /// The replica that is asked.
        replica: [u8; 16],
        /// Cluster of both.
        cluster: ClusterId,
        /// Who is asked about whom.
        nodes: (NodeId, NodeId),
        /// The encoded question, in base64.
        question: String,
    },
    /// What came of it.
    Answer {
        /// As in the question.
        id: [u8; 16],
        /// A part of the result, or a code, whether a node chose it, and a text.
        result: Result<Part, (String, bool, String)>,
    },
}

/// A part of an encoded result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// How many bytes came before.
    at: usize,
    /// How many bytes the whole has.
    of: usize,
    /// The bytes, in base64.
    bytes: String,
}

impl Part {
    /// The parts of a result, in order; `None` if it is longer than what is passed on.
    pub fn all(result: &[u8]) -> Option<Vec<Self>> {
        if result.len() > WHOLE {
            return None;
        }
        let of = result.len();
        let part = |(number, bytes)| Self { at: number * PART, of, bytes: BASE64.encode(bytes) };
        // An empty result has a part, too.
        let chunks = result.chunks(PART).chain(result.is_empty().then_some(result));
        Some(chunks.enumerate().map(part).collect())
    }
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
pub struct Errands(Mutex<BTreeMap<[u8; 16], Open>>);

/// An errand that waits, and what came of its answer.
#[derive(Debug)]
struct Open {
    reply: oneshot::Sender<Answer>,
    bytes: Vec<u8>,
}

pub(crate) type Answer = Result<v1::DiagnosticResult, Failure>;

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
        waiting.insert(id, Open { reply, bytes: Vec::new() });
        Ok((Waiting(self, id), answer))
    }

    /// Takes a part of an answer, and hands the whole to whoever waits for it. What nobody waits for is dropped, and so is a part that
    /// is not the next one.
    pub(crate) fn answered(&self, id: [u8; 16], result: Result<Part, (String, bool, String)>) {
        let mut waiting = self.lock();
        let Some(open) = waiting.get_mut(&id) else { return };
        let answer = match result {
            Ok(Part { at, of, bytes }) => {
                let bytes = BASE64.decode(bytes).unwrap_or_default();
                if at != open.bytes.len() || of > WHOLE || at + bytes.len() > of {
                    return;
                }
                open.bytes.extend(bytes);
                if open.bytes.len() < of {
                    return;
                }
                v1::DiagnosticResult::decode(open.bytes.as_slice()).map_err(|_| {
                    Failure::new(Reason::ServerInternal, "another replica answered with no result")
                })
            }
            Err((code, hearsay, text)) => {
                let reason = Reason::from_code(&code).unwrap_or(Reason::ServerInternal);
                Err(if hearsay { Failure::said(reason, text) } else { Failure::new(reason, text) })
            }
        };
        let Some(open) = waiting.remove(&id) else { return };
        // Whoever asked may have given up.
        let _gone = open.reply.send(answer);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<[u8; 16], Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const TABLE: &str = "told_errands";
const NAME: &str = "errand";
/// A longer text is not delivered.
const LONGEST: usize = 7_900;
/// Bytes of a result in one text.
const PART: usize = 4_096;
/// The longest result: more than a node's longest document.
const WHOLE: usize = 1024 * 1024;
/// Errands that wait at the same time.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_parts_comes_out_whole_and_a_part_that_is_not_the_next_one_changes_nothing() {
        let whole = |length| v1::DiagnosticResult { path_explain: "x".repeat(length), ..Default::default() };
        for length in [0, 1, PART - 4, 3 * PART] {
            let (errands, result) = (Errands::default(), whole(length));
            let parts = Part::all(&result.encode_to_vec()).unwrap();
            let (_waiting, mut answer) = errands.begin([1; 16]).unwrap();
            for part in &parts {
                assert!(answer.try_recv().is_err(), "before the last part");
                for other in parts.iter().filter(|other| other.at != part.at) {
                    errands.answered([1; 16], Ok(other.clone()));
                }
                errands.answered([2; 16], Ok(part.clone()));
                errands.answered([1; 16], Ok(part.clone()));
            }
            assert_eq!(answer.try_recv().unwrap().unwrap(), result);
        }
        assert_eq!(Part::all(&vec![0; WHOLE + 1]), None);
    }

    #[test]
    fn a_part_fits_into_a_text() {
        let of = WHOLE;
        let part = Part { at: of - PART, of, bytes: BASE64.encode([255; PART]) };
        let errand = Errand::Answer { id: [255; 16], result: Ok(part) };
        let sealed = serde_json::to_string(&errand).unwrap();
        let sealed = Sealed { errand: sealed, mac: Digest::from_bytes([255; 32]) };
        assert!(serde_json::to_string(&sealed).unwrap().len() <= LONGEST);
    }
}
