//! What travels on paths: datagrams that only the two ends can make.
//!
//! Stands for WireGuard. Owns who made a datagram, and that neither a changed nor a copied one is taken.

use std::collections::BTreeSet;

use rap_types::{Digest, Mono, NodeId};

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// Traffic.
    Data,
    /// A probe of the way, with its sequence number and time.
    Ask(u32, Mono),
    /// The answer, with what was asked.
    Answer(u32, Mono),
}

/// Seals a datagram; `counter` is the maker's and never used twice.
pub fn seal(maker: NodeId, to: NodeId, counter: u64, inner: Inner) -> Vec<u8> {
    let (kind, sequence, time) = match inner {
        Inner::Data => (1, 0, Mono(0)),
        Inner::Ask(sequence, time) => (2, sequence, time),
        Inner::Answer(sequence, time) => (3, sequence, time),
    };
    let mut text = Vec::with_capacity(LENGTH);
    text.push(kind);
    text.extend(maker.as_bytes());
    text.extend(to.as_bytes());
    text.extend(counter.to_be_bytes());
    text.extend(u32::to_be_bytes(sequence));
    text.extend(time.0.to_be_bytes());
    let tag = tag(&text);
    text.extend(tag);
    text
}

/// Who made it, its counter, and what it says; `None` if it was changed or is for somebody else.
pub fn open(text: &[u8], me: NodeId) -> Option<(NodeId, u64, Inner)> {
    let body =
        text.get(..LENGTH - TAG).filter(|body| text.len() == LENGTH && text[LENGTH - TAG..] == tag(body))?;
    let node = |at: usize| NodeId::from_slice(&body[at..at + 16]).ok();
    let number = |at: usize| body[at..at + 8].try_into().ok().map(u64::from_be_bytes);
    let sequence = u32::from_be_bytes(body[41..45].try_into().ok()?);
    let inner = match body[0] {
        1 => Inner::Data,
        2 => Inner::Ask(sequence, Mono(number(45)?)),
        _ => Inner::Answer(sequence, Mono(number(45)?)),
    };
    (node(17)? == me).then_some((node(1)?, number(33)?, inner))
}

fn tag(body: &[u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    tag.copy_from_slice(&Digest::of(&[b"a key that both ends have", body]).as_bytes()[..TAG]);
    tag
}

const TAG: usize = 8;
const LENGTH: usize = 1 + 16 + 16 + 8 + 4 + 8 + TAG;

/// Counters that one node has seen of another.
#[derive(Debug, Default)]
pub struct Window(BTreeSet<u64>);

impl Window {
    /// False: this one came before, or is older than the window reaches.
    pub fn takes(&mut self, counter: u64) -> bool {
        let old = self.0.len() >= REACH && self.0.first().is_some_and(|first| counter < *first);
        let new = !old && self.0.insert(counter);
        if self.0.len() > REACH {
            self.0.pop_first();
        }
        new
    }
}

/// As boringtun's.
const REACH: usize = 1024;
