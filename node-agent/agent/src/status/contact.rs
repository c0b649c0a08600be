//! Contact of one membership with its control plane and its data plane, as status shows it.
//!
//! Owns what was heard last, and which failure is news. Refuses to judge a node: `health` does.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_runtime::Fault;
use rap_state::Closed;
use rap_types::{Mono, Now, Reason, Wall};

use crate::dataplane::DataplaneFacts;

/// Contact with the control plane and the data plane.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    pub(super) url: Option<String>,
    pub(super) heard_at: Option<Mono>,
    pub(super) stream: bool,
    pub(super) error: Option<(String, Reason, String)>,
    /// Since when the present stream says something.
    served_since: Option<Mono>,
    /// What the control plane refused this node for, at which URL and when. See [`Self::refusal`].
    refused: Option<(String, Fault, Mono)>,
    pub(super) dataplane: Option<DataplaneFacts>,
    pub(super) dataplane_error: Option<(Reason, String)>,
    /// Validity of the leaf.
    pub certificate: Option<(Wall, Wall)>,
    /// Why the last snapshot could not be stored or used, while that is so.
    pub disk: Option<Reason>,
    /// Since when a write is under way.
    pub write_since: Option<Mono>,
    /// Whose addresses the last snapshot wanted, while that is so.
    pub overlap: Option<String>,
    pub(super) alarms: BTreeMap<Reason, u64>,
    /// What the start found in the directory and put right.
    pub(super) found: Vec<(Reason, String)>,
}

impl Contact {
    /// What the start found: files that others could reach, and a certificate that is not used.
    pub fn found(&mut self, closed: &[Closed], certificate: Option<Fault>) {
        let closed = closed.iter().map(|Closed { path, mode }| {
            let text = format!("{} was open to others (mode {mode:03o}) and is closed now", path.display());
            (Reason::SecretExposed, text)
        });
        self.found.extend(closed);
        if let Some(fault) = certificate {
            self.alarmed(fault.reason);
            self.found.push((fault.reason, format!("{fault}; a new certificate is asked for")));
        }
    }

    /// A stream was opened at this URL; it counts once something was heard.
    pub fn dialled(&mut self, url: String) {
        self.url = Some(url);
    }

    /// Something happened that a person must look at.
    pub fn alarmed(&mut self, reason: Reason) {
        *self.alarms.entry(reason).or_default() += 1;
    }

    /// The control plane said something. True if contact was lost before.
    pub fn heard(&mut self, now: Now) -> bool {
        let again = self.error.is_some();
        (self.stream, self.heard_at, self.error) = (true, Some(now.mono), None);
        self.served_since.get_or_insert(now.mono);
        again
    }

    /// The stream ended or could not be opened. True if that is news.
    pub fn lost(&mut self, url: String, fault: &Fault, now: Now) -> bool {
        if is_refusal(fault.reason) {
            self.refused = Some((url.clone(), fault.clone(), now.mono));
        } else if self.refusal(now.mono).is_none() {
            self.refused = None;
        }
        self.served_since = None;
        let news = self.stream || self.error.as_ref().is_none_or(|(_, reason, _)| *reason != fault.reason);
        self.stream = false;
        self.error = Some((url, fault.reason, fault.message.clone()));
        news
    }

    /// What the control plane refused this node for, at which URL and when, until a stream lasts: some refusals come after
    /// its first messages. A URL that is not reached afterwards does not change it.
    pub(super) fn refusal(&self, now: Mono) -> Option<&(String, Fault, Mono)> {
        let served = self.served_since.is_some_and(|since| now.since(since) >= LASTS);
        self.refused.as_ref().filter(|_| !served)
    }

    /// A data plane is there.
    pub fn dataplane_up(&mut self, facts: DataplaneFacts) {
        (self.dataplane, self.dataplane_error) = (Some(facts), None);
    }

    /// It is gone. True if that is news.
    pub fn dataplane_down(&mut self, fault: &Fault) -> bool {
        let before = self.dataplane_error.as_ref().map(|(reason, _)| *reason);
        // None to adopt at start is the usual case: one is spawned next.
        let expected = before.is_none() && fault.reason == Reason::DataplaneUnavailable;
        let news = self.dataplane.take().is_some() || (before != Some(fault.reason) && !expected);
        self.dataplane_error = Some((fault.reason, fault.message.clone()));
        news
    }
}

/// A stream that lasts so long is served.
const LASTS: Duration = Duration::from_secs(3);

/// True for what waiting does not change: the control plane will not serve this node. TLS alone says too little: after a
/// refusal it only says that the certificate is no good.
fn is_refusal(reason: Reason) -> bool {
    !reason.row().retryable && !matches!(reason, Reason::CertificateInvalid | Reason::ServerInternal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_that_comes_back_is_news_once() {
        let (mut contact, now) = (Contact::default(), Now { wall: Wall(1), mono: Mono(1) });
        assert!(!contact.heard(now), "the first contact is none that came back");
        let fault = Fault::new(Reason::ServerUnreachable, "away");
        assert!(contact.lost("https://cp:8443".to_owned(), &fault, now));
        assert!(!contact.lost("https://cp:8443".to_owned(), &fault, now), "it is said once");
        assert!(contact.heard(now));
        assert!(!contact.heard(now));
    }
    #[test]
    fn a_refusal_stays_until_a_stream_lasts() {
        let (mut contact, now) = (Contact::default(), Now { wall: Wall(1), mono: Mono(1) });
        let refusal =
            |contact: &Contact, now: Now| contact.refusal(now.mono).map(|(_, fault, _)| fault.reason);
        let lost = |contact: &mut Contact, reason, now| {
            contact.lost("https://cp:8443".to_owned(), &Fault::new(reason, "x"), now);
            refusal(contact, now)
        };
        assert_eq!(lost(&mut contact, Reason::ServerUnreachable, now), None);
        let mismatch = Some(Reason::AuthorityMismatch);
        assert_eq!(lost(&mut contact, Reason::AuthorityMismatch, now), mismatch);
        for later in [Reason::CertificateInvalid, Reason::ServerUnavailable, Reason::SnapshotStale] {
            assert_eq!(lost(&mut contact, later, now), mismatch, "{later}");
        }
        contact.heard(now);
        assert_eq!(refusal(&contact, now), mismatch, "its first messages say nothing yet");
        let later = now.plus(LASTS);
        assert_eq!(refusal(&contact, later), None);
        assert_eq!(lost(&mut contact, Reason::ServerUnreachable, later), None, "that is over");
    }
}
