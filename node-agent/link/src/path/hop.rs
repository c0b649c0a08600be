//! What a node does for the paths of others: installs, answers, withdrawals, faults, frames.

use std::time::Duration;

use bytes::Bytes;
use rap_types::{ChannelClass, Mono, NodeId, Now, Reason, Wall};
use rap_wire::v1;

use crate::frame::{Frame, FrameKind};
use crate::path::checks;
use crate::path::entry::{Direction, Entry};
use crate::path::message::{self, OpenedRequest, RequestText};
use crate::path::paths::Paths;
use crate::path::requests::{Asker, Renewal};
use crate::path::table::Target;
use crate::path::terms::{ANSWER_TIME, PathEnd, PathEvent, PathInputs, PathOutput, PathSlot, Verdict};

impl Paths {
    /// Whether a signature may be verified for this neighbour now. If not, refuse the request with `path.rate`.
    pub fn may_verify(&mut self, neighbour: NodeId, now: Mono) -> bool {
        self.verifications.take(neighbour, self.limits.verifications_per_neighbour, now)
    }

    /// Answers a request that was refused before [`Self::request`].
    pub fn refuse(&mut self, neighbour: NodeId, request: &RequestText, reason: Reason) {
        self.count(reason);
        self.send(neighbour, FrameKind::PathAnswer, request.refusal(reason));
    }

    /// Takes a request whose first install was verified.
    pub fn request(&mut self, from: NodeId, request: OpenedRequest, now: Now) {
        let position = request.install.position;
        let id = request.text.request;
        if let Err(reason) = self.take(from, request, now) {
            self.count(reason.code);
            let wall = if reason.code == Reason::ClockSkew { now.wall } else { Wall(0) };
            let text = message::refusal(id, reason.code, position, reason.highest, wall);
            self.send(from, FrameKind::PathAnswer, text);
        }
    }

    fn take(&mut self, from: NodeId, request: OpenedRequest, now: Now) -> Result<(), Refusal> {
        checks::check(self.me, &self.terms, &request, from, now)?;
        let OpenedRequest { text, install, key_generation, leaf_until } = request;
        let deadline = now
            .mono
            .plus(Duration::from_secs(u64::from(install.lifetime_s)))
            .min(leaf_until)
            .min(self.terms.end_of(install.source, install.destination));
        if deadline <= now.mono {
            return Err(Reason::PathDenied.into());
        }
        let entry = Entry::new(&install, key_generation, deadline, now.mono);
        let known = self.table.by_path(from, install.path_id);
        let renewed = known.filter(|id| self.table.entry(*id).is_some_and(|old| old.is_renewed_by(&install)));
        match renewed {
            Some(id) => self.judge_renewal(id, &entry)?,
            None => self.judge(&entry)?,
        }
        let next = install.next.map(|next| next.node);
        if next.is_some() {
            self.requests.has_room(from, &self.limits)?;
        }
        // The last checks: what they take is not given back.
        if !self.installs_by_source.take(install.source, self.limits.installs_per_source, now.mono)
            || !self.installs.take(self.limits.installs, now.mono)
        {
            return Err(Reason::PathRate.into());
        }
        let (entry, renewal) = match renewed {
            Some(id) => (id, Some(Renewal { deadline, issued_at: install.issued_at, key_generation })),
            None => (self.insert(entry, now.mono)?, None),
        };
        match next {
            Some(next) => {
                self.pass(next, text, Asker::Neighbour { node: from, request: 0, entry, renewal }, now)
            }
            None => self.end_here(entry, renewal, from, text.request),
        }
        Ok(())
    }

    fn judge(&self, entry: &Entry) -> Result<(), Refusal> {
        if entry.next.is_some() && self.terms.carries.is_some_and(|carries| carries.draining) {
            return Err(Reason::RelayDraining.into());
        }
        if let Some(highest) = self.table.generations.highest(entry.stream())
            && entry.generation <= highest
        {
            return Err(Refusal { code: Reason::PathGenerationStale, highest });
        }
        if !self.table.is_free(entry) {
            return Err(Reason::PathLabelInUse.into());
        }
        Ok(self.table.excess(entry.source, &self.limits).map(drop)?)
    }

    fn judge_renewal(&self, id: u64, entry: &Entry) -> Result<(), Refusal> {
        let newer = self.table.entry(id).is_some_and(|old| entry.issued_at > old.issued_at);
        if newer {
            Ok(())
        } else {
            Err(Refusal { code: Reason::PathGenerationStale, highest: entry.generation })
        }
    }

    fn insert(&mut self, entry: Entry, now: Mono) -> Result<u64, Refusal> {
        if !self.table.generations.make_room(entry.stream(), self.limits.generations) {
            return Err(Reason::PathCapacity.into());
        }
        if let Some(idle) = self.table.excess(entry.source, &self.limits)? {
            self.drop_entry(idle, Reason::PathCapacity, &[Direction::Forward, Direction::Back], now);
        }
        let id = self.fresh_id();
        self.table.insert(id, entry);
        Ok(id)
    }

    fn pass(&mut self, to: NodeId, text: RequestText, asker: Asker, now: Now) {
        let request = self.fresh_id();
        let asker = match asker {
            Asker::Neighbour { node, entry, renewal, .. } => {
                Asker::Neighbour { node, request: text.request, entry, renewal }
            }
            Asker::Own { .. } => asker,
        };
        self.requests.open(to, request, asker, now.mono.plus(ANSWER_TIME));
        self.output(PathOutput::Pass { to, request, payload: text.onward(request) });
    }

    fn end_here(&mut self, id: u64, renewal: Option<Renewal>, from: NodeId, request: u64) {
        let Some(entry) = self.table.entry(id) else { return };
        let (peer, relays) = (entry.source, entry.relays());
        self.installed(id, renewal);
        if renewal.is_none() {
            self.tell(PathEvent::Up { end: PathEnd(id), peer, slot: PathSlot::Answering, relays });
        }
        let here = v1::PathHop { node: self.me.to_vec(), ..v1::PathHop::default() };
        self.send(from, FrameKind::PathAnswer, message::answer(request, vec![here]));
    }

    /// False: the path ended meanwhile.
    fn installed(&mut self, id: u64, renewal: Option<Renewal>) -> bool {
        if let Some(Renewal { deadline, issued_at, key_generation }) = renewal {
            self.table.set_deadline(id, deadline);
            if let Some(entry) = self.table.entry_mut(id) {
                (entry.issued_at, entry.key_generation) = (issued_at, key_generation);
            }
        }
        let entry = self.table.entry_mut(id);
        entry.map(|entry| entry.installed = true).is_some()
    }

    /// Takes an answer of the node `from`, with the round trip (us) and the loss (ppm) of the link to it.
    ///
    /// # Errors
    /// `path.malformed`.
    pub fn answer(
        &mut self,
        from: NodeId,
        payload: &[u8],
        link: (u32, u32),
        inputs: &mut PathInputs<'_>,
    ) -> Result<(), Reason> {
        let answer = message::read_answer(payload)?;
        match self.requests.close(from, answer.request_id) {
            // A late answer.
            None => {}
            Some(Asker::Own { path, until }) => self.answered(path, until, &answer, inputs),
            Some(Asker::Neighbour { node, request, entry, renewal }) => {
                self.pass_back((node, request), (entry, renewal), answer, link, inputs.now.mono);
            }
        }
        Ok(())
    }

    fn pass_back(
        &mut self,
        (to, request): (NodeId, u64),
        (entry, renewal): (u64, Option<Renewal>),
        mut answer: v1::PathAnswer,
        (next_rtt_us, next_loss_ppm): (u32, u32),
        now: Mono,
    ) {
        answer.request_id = request;
        if !answer.reason.is_empty() {
            if renewal.is_none() {
                self.drop_entry(entry, message::reason(&answer.reason, Reason::PathDenied), &[], now);
            }
        } else if !self.installed(entry, renewal) {
            answer = v1::PathAnswer { reason: Reason::PathLabelUnknown.code().to_owned(), ..answer };
        }
        answer.hops.truncate(usize::from(rap_contract::PATH_HOPS_MAX) - 1);
        let here = v1::PathHop { node: self.me.to_vec(), next_rtt_us, next_loss_ppm, util_permille: 0 };
        answer.hops.insert(0, here);
        self.send(to, FrameKind::PathAnswer, prost::Message::encode_to_vec(&answer));
    }

    /// A request of [`PathOutput::Pass`] or [`PathOutput::Ask`] could not be sent.
    pub fn not_passed(&mut self, to: NodeId, request: u64, inputs: &mut PathInputs<'_>) {
        match self.requests.close(to, request) {
            None => {}
            Some(Asker::Own { path, .. }) => self.refused_path(path, Reason::PathNextUnreachable, inputs),
            Some(Asker::Neighbour { node, request, entry, renewal }) => {
                let reason = Reason::PathNextUnreachable;
                self.count(reason);
                if renewal.is_none() {
                    self.drop_entry(entry, reason, &[], inputs.now.mono);
                }
                let text = message::refusal(request, reason, 0, 0, Wall(0));
                self.send(node, FrameKind::PathAnswer, text);
            }
        }
    }

    /// Takes a withdrawal. It counts from the node before this one on the path alone.
    ///
    /// # Errors
    /// `path.malformed`.
    pub fn withdraw(&mut self, from: NodeId, payload: &[u8], now: Mono) -> Result<(), Reason> {
        let (path_id, generation) = message::read_withdraw(payload)?;
        let found = self.table.by_path(from, path_id);
        let entry = found.and_then(|id| Some((id, self.table.entry(id)?)));
        if let Some((id, entry)) = entry.filter(|(_, entry)| entry.generation == generation) {
            let next = entry.next.map(|next| next.node);
            self.drop_entry(id, Reason::PathWithdrawn, &[], now);
            if let Some(next) = next {
                self.send(next, FrameKind::PathWithdraw, payload.to_vec());
            }
        }
        Ok(())
    }

    /// Takes a fault about a label that this node sends to `from`.
    ///
    /// # Errors
    /// `path.malformed`.
    pub fn fault(&mut self, from: NodeId, payload: &[u8], inputs: &mut PathInputs<'_>) -> Result<(), Reason> {
        let (label, reason) = message::read_fault(payload)?;
        match self.table.leaving(from, label) {
            None => {}
            Some(Target::Own(path)) => self.broken(path, reason, inputs),
            Some(Target::Entry(id, direction)) => self.drop_entry(id, reason, &[direction], inputs.now.mono),
        }
        Ok(())
    }

    /// Says what becomes of a labelled frame from a neighbour.
    pub fn frame(&mut self, from: NodeId, label: u64, frame: &Frame, now: Mono) -> Verdict {
        let hop_budget = frame.hop_budget;
        let (reason, of) = match self.table.arriving(from, label) {
            None => (Reason::PathLabelUnknown, None),
            // The classes of lane C that have a user.
            Some(_) if frame.class != ChannelClass::Vpn => return self.not_yet(Reason::LinkLane),
            Some(Target::Own(path)) => match self.returned(path, now) {
                Some(verdict) => return verdict,
                None => return self.not_yet(Reason::PathLabelUnknown),
            },
            Some(Target::Entry(id, direction)) => {
                if self.table.entry(id).is_some_and(|entry| !entry.installed) {
                    return self.not_yet(Reason::PathLabelUnknown);
                }
                if !self.table.within_rate(id, direction, frame.wire_len(), now) {
                    return self.not_yet(Reason::PathRate);
                }
                match self.onward(id, direction, hop_budget, now) {
                    Ok(verdict) => return verdict,
                    Err(reason) => (reason, Some((id, direction))),
                }
            }
        };
        self.count(reason);
        self.say_fault(from, label, reason, of, now);
        Verdict::Refused(reason)
    }

    /// A frame that overtook the answer of its path, of a class that the path does not carry, or above its rate: the
    /// path goes on.
    fn not_yet(&mut self, reason: Reason) -> Verdict {
        self.count(reason);
        Verdict::Refused(reason)
    }

    fn onward(
        &mut self,
        id: u64,
        direction: Direction,
        hop_budget: u8,
        now: Mono,
    ) -> Result<Verdict, Reason> {
        let entry = self.table.entry_mut(id).ok_or(Reason::PathLabelUnknown)?;
        if entry.deadline <= now {
            return Err(Reason::PathExpired);
        }
        entry.last_used = now;
        match entry.onward(direction) {
            None => Ok(Verdict::Deliver { end: PathEnd(id), peer: entry.source }),
            Some(_) if hop_budget < 2 => Err(Reason::PathHopBudget),
            Some((to, label)) => Ok(Verdict::Forward { to, label, hop_budget: hop_budget - 1 }),
        }
    }

    /// Tells the sender of a frame that its label leads nowhere, at most once per label and 100 ms.
    fn say_fault(
        &mut self,
        from: NodeId,
        label: u64,
        reason: Reason,
        of: Option<(u64, Direction)>,
        now: Mono,
    ) {
        let entry = of.and_then(|(id, direction)| Some((self.table.entry_mut(id)?, direction)));
        let may = match entry {
            Some((entry, direction)) => entry.may_fault(direction, now),
            None => self.unknown.may_tell(from, label, now),
        };
        if may {
            self.send(from, FrameKind::PathFault, message::fault(label, reason));
        }
    }

    /// Takes the payload of a frame that is for this node.
    pub fn deliver(&mut self, end: PathEnd, peer: NodeId, payload: &Bytes) {
        match message::datagrams(payload) {
            Ok(datagrams) => {
                for datagram in datagrams {
                    self.tell(PathEvent::Received { end, peer, datagram });
                }
            }
            Err(reason) => self.count(reason),
        }
    }
}

/// Why an install is refused.
struct Refusal {
    code: Reason,
    /// Highest generation, with `path.generation_stale`.
    highest: u64,
}

impl From<Reason> for Refusal {
    fn from(code: Reason) -> Self {
        Self { code, highest: 0 }
    }
}
