//! Moves bytes between one TLS stream and one link, and passes commands and answers.
//!
//! Owns the order of closing and the stall timeout. The session decides the state of the link; its
//! scheduler decides what is sent next. Reading never stops for a full queue: the queues bound the
//! answers to a peer that sends and does not read, and the stall timeout closes its link.

mod kernel;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rap_link::{
    Answer, Direction, Frame, FrameKind, Input, Lane, Origin, Output, Pace, PeerHello, Permit, SessionState,
};
use rap_runtime::handshake_budget::Handshake;
use rap_types::{ChannelClass, Mono, Reason};
use tokio::io::{AsyncReadExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::active::Active;
use crate::command::Command;
use crate::inbox::Inbox;
use crate::incoming;
use crate::on_demand::{Busy, Lanes};
use crate::outgoing::Outgoing;
use crate::registry::Route;
use crate::shared::{Connection, reason_of_io, until};
use crate::socket::Handle;
use crate::status::MeshEvent;

/// Runs the connection until it is closed. Its place among the handshakes is returned when the link is established.
pub(crate) async fn run(connection: &mut Connection, stream: TlsStream<TcpStream>, place: Option<Handshake>) {
    let socket = Handle::of(stream.get_ref().0).ok();
    let (read, write) = tokio::io::split(stream);
    let mut pump = Pump::new(connection, read, write, place);
    pump.socket = socket;
    pump.carry().await;
    pump.close().await;
}

struct Pump<'a> {
    connection: &'a mut Connection,
    read: ReadHalf<TlsStream<TcpStream>>,
    outgoing: Outgoing,
    /// Absent: no descriptor was free.
    socket: Option<Handle>,
    place: Option<Handshake>,
    sender: mpsc::Sender<Command>,
    commands: mpsc::Receiver<Command>,
    replaced: CancellationToken,
    /// Until when this connection is read and emptied, after another one took over.
    gives_way: Option<Mono>,
    stop: CancellationToken,
    asked: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_token: u64,
    /// Frames that other tasks send through this link.
    inbox: Arc<Inbox>,
    /// What of the frames of the peer waits to be sent on.
    origin: Option<Origin>,
    /// When data passed on lanes B and C.
    busy: Option<Arc<Busy>>,
    /// Lane A, if both sides know lanes.
    lanes: Option<Lanes>,
    /// The latest of that which the session knows.
    noticed: Mono,
    /// The rate of lane C.
    pace: Option<Pace>,
    /// The end of lane A, if this is another lane.
    ended: CancellationToken,
    /// The peer lost its permission. Nothing more is written to it.
    denied: bool,
}

enum Woken {
    LinkPeers,
    Stopped(Reason),
    Replaced,
    Asked(Command),
    Forwarded,
    Time,
    Wrote(io::Result<usize>),
    Read(io::Result<usize>),
}

impl<'a> Pump<'a> {
    fn new(
        connection: &'a mut Connection,
        read: ReadHalf<TlsStream<TcpStream>>,
        write: WriteHalf<TlsStream<TcpStream>>,
        place: Option<Handshake>,
    ) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let outgoing = Outgoing::new(write, connection.shared.now());
        Self {
            connection,
            read,
            outgoing,
            socket: None,
            place,
            sender,
            commands,
            replaced: CancellationToken::new(),
            gives_way: None,
            stop: CancellationToken::new(),
            asked: BTreeMap::new(),
            next_token: 0,
            inbox: Arc::default(),
            origin: None,
            busy: None,
            lanes: None,
            pace: None,
            noticed: Mono(0),
            ended: CancellationToken::new(),
            denied: false,
        }
    }

    async fn carry(&mut self) {
        let mut link_peers = self.connection.shared.link_peers.subscribe();
        // The permit was read before this subscription. A change in between must be seen too.
        link_peers.mark_changed();
        let group = self.connection.shared.tasks.token();
        let mut buffer = vec![0; incoming::CHUNK];
        self.settle();
        while let Some(due) = self.connection.link.poll_timeout() {
            let now = self.connection.shared.now();
            let stall = self.outgoing.stalls_at(self.connection.shared.config.write_stall);
            let due = stall.map_or(due, |stall| due.min(stall));
            let leaving = self.connection.link.state() == SessionState::Draining;
            let due = self.gives_way.filter(|_| !leaving).map_or(due, |end| due.min(end));
            let busy = self.outgoing.is_busy();
            let woken = tokio::select! {
                biased;
                _ = link_peers.changed() => Woken::LinkPeers,
                () = group.cancelled(), if !leaving => Woken::Stopped(Reason::LinkDrained),
                () = self.stop.cancelled(), if !leaving => Woken::Stopped(Reason::LinkDuplicate),
                () = self.replaced.cancelled(), if self.gives_way.is_none() => Woken::Replaced,
                () = self.ended.cancelled(), if !leaving => Woken::Stopped(Reason::LinkClosed),
                () = until(due, now) => Woken::Time,
                Some(command) = self.commands.recv() => Woken::Asked(command),
                // In random order: other tasks fill the queues as fast as this one writes, and what is read here is
                // what they wait for.
                woken = async {
                    tokio::select! {
                        wrote = self.outgoing.push(), if busy => Woken::Wrote(wrote),
                        () = self.inbox.filled(), if !leaving => Woken::Forwarded,
                        read = incoming::read(&mut self.read, &mut buffer) => Woken::Read(read),
                    }
                } => woken,
            };
            self.wake(woken, &buffer);
            self.settle();
            if self.connection.lane.is_some_and(|lane| lane != Lane::A) {
                buffer.resize(incoming::CHUNK_BULK, 0);
            }
        }
    }

    fn wake(&mut self, woken: Woken, buffer: &[u8]) {
        let now = self.connection.shared.now();
        match woken {
            Woken::LinkPeers => self.link_peers_changed(),
            Woken::Replaced => self.gives_way = Some(now.mono.plus(GIVES_WAY)),
            Woken::Stopped(reason) => self.connection.input(Input::DrainAsked(reason)),
            Woken::Asked(command) => self.ask(command),
            Woken::Forwarded => self.forward(),
            Woken::Wrote(Ok(count)) => {
                self.outgoing.wrote(count, now);
                self.keep_pace(now.mono);
            }
            Woken::Read(Ok(0)) => self.connection.input(Input::Broken(Reason::LinkClosed)),
            Woken::Read(Ok(count)) => self.connection.link.receive(&buffer[..count], now),
            Woken::Wrote(Err(error)) | Woken::Read(Err(error)) => {
                self.connection.input(Input::Broken(reason_of_io(&error)));
            }
            Woken::Time => {
                let stall = self.outgoing.stalls_at(self.connection.shared.config.write_stall);
                if stall.is_some_and(|stall| now.mono >= stall) {
                    self.connection.input(Input::Broken(Reason::LinkStalled));
                }
                if self.gives_way.is_some_and(|end| now.mono >= end) {
                    self.connection.input(Input::DrainAsked(Reason::LinkDuplicate));
                }
            }
        }
        self.notice(now.mono);
        self.connection.link.handle_timeout(now);
    }

    fn link_peers_changed(&mut self) {
        let Some(proven) = self.connection.proven else { return };
        let shared = &self.connection.shared;
        let permit = shared.link_peers.borrow().permit(&shared.trust, &proven.node, proven.until);
        self.denied = matches!(permit, Permit::Denied(_));
        let timing = shared.timing();
        self.connection.input(Input::PermitChanged(permit));
        if !self.denied {
            self.connection.input(Input::TimingChanged(timing));
        }
    }

    fn ask(&mut self, command: Command) {
        let token = self.next_token;
        self.next_token += 1;
        let (input, reply) = match command {
            Command::Probe(reply) => (Input::ProbeAsked { token }, reply),
            Command::Echo(class, payload, reply) => (Input::EchoAsked { token, class, payload }, reply),
        };
        self.asked.insert(token, reply);
        if let Err(reject) = self.connection.link.handle(input, self.connection.shared.now()) {
            self.answer(token, Answer::Failed(reject.reason()));
        }
    }

    /// Queues what other tasks send through this link. The queues bound it; what they refuse is counted.
    fn forward(&mut self) {
        let now = self.connection.shared.now();
        for frame in self.inbox.take() {
            let _counted = self.connection.link.handle(Input::SendAsked(frame), now);
        }
    }

    fn lane_asked(&self, lane: Lane) {
        if let Some(peer) = self.connection.peer {
            self.connection.shared.lane_asked(peer, lane);
        }
    }

    fn path_frame(&self, frame: Frame) {
        let Some(peer) = self.connection.peer else { return };
        let measured = self.connection.link.measured();
        let link = measured.map_or((0, 0), |measured| {
            let rtt = measured.round_trip.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
            (rtt, measured.loss_ppm)
        });
        if frame.kind == FrameKind::Data
            && frame.class != ChannelClass::Telemetry
            && let Some(busy) = &self.busy
        {
            busy.mark(self.connection.shared.now().mono);
        }
        if let Some(origin) = &self.origin {
            self.connection.shared.path_frame(peer, frame, link, origin);
        }
    }

    /// Carries out the outputs of the session and publishes its state.
    fn settle(&mut self) {
        let now = self.connection.shared.now();
        while let Some(output) = self.connection.link.poll_output() {
            match output {
                Output::Established(hello) => self.established(hello, now.mono),
                Output::ProbeAnswered { token, answer } | Output::EchoAnswered { token, answer } => {
                    self.answer(token, answer);
                }
                Output::Received(frame) => self.path_frame(frame),
                Output::LaneAsked(lane) => self.lane_asked(lane),
                // Frames wait in the scheduler. States are in the report below.
                Output::Send(_) | Output::Suspected | Output::Recovered | Output::Closed(_) => {}
            }
        }
        self.outgoing.refill(&mut self.connection.link, now);
        self.connection.report();
    }

    fn established(&mut self, hello: PeerHello, now: Mono) {
        tracing::trace!(way = "the link is up");
        if let Some(place) = self.place.take() {
            place.proved(now);
        }
        self.connection.established_at = Some(now);
        self.connection.lane = Some(hello.lane);
        if hello.lane != Lane::A {
            self.outgoing.carry_bulk();
            self.connection.congestion = self.socket.as_ref().and_then(|socket| socket.carry_bulk().ok());
        }
        self.pace = (hello.lane == Lane::C).then(Pace::default);
        self.origin = self.connection.peer.map(|peer| self.connection.shared.ledger.origin(peer));
        let (Some(peer), shared) = (self.connection.peer, &self.connection.shared) else { return };
        let head = Bytes::from(hello.newest_head);
        let lane_a = hello.lane == Lane::A;
        let lanes =
            (lane_a && hello.agreed.lanes).then(|| Lanes::new(&shared.tasks.token(), self.inbox.clone()));
        self.busy = lanes.as_ref().map(Lanes::busy);
        self.lanes.clone_from(&lanes);
        let active = Active {
            id: self.connection.id,
            direction: self.connection.direction,
            commands: self.sender.clone(),
            replaced: self.replaced.clone(),
            stop: self.stop.clone(),
            head: head.clone(),
            attached: shared.is_attachment(peer),
            session_id: hello.session_id,
            remote: self.connection.remote,
            inbox: (hello.agreed.fabric && lane_a).then(|| self.inbox.clone()),
            rows: hello.agreed.rows && lane_a,
            lanes,
            on_demand: None,
            leaf: self.connection.own_leaf,
            authorities: [
                self.connection.own_authority,
                self.connection.proven.as_ref().map(|proven| proven.node.authority),
            ],
        };
        match shared.registry.admit(peer, hello.lane, active, now) {
            Ok(on_demand) => {
                if shared.is_news(&head) {
                    shared.registry.tell(MeshEvent::PeerHead { peer, head });
                }
                if lane_a {
                    shared.link_up(peer);
                    if hello.agreed.rows {
                        shared.tell_rows(&self.inbox);
                    }
                    shared.lanes_followed(peer, self.connection.direction == Direction::Outbound);
                }
                if let Some(on_demand) = on_demand {
                    self.ended = on_demand.ended.clone();
                    self.busy = Some(on_demand.busy.clone());
                    self.inbox = on_demand.inbox.clone();
                    self.forward();
                }
            }
            Err(reason) => self.connection.input(Input::DrainAsked(reason)),
        }
    }

    /// Passes the answer on. Nobody may be waiting for it any more.
    fn answer(&mut self, token: u64, answer: Answer) {
        if let Some(reply) = self.asked.remove(&token) {
            let _gone = reply.send(answer);
        }
    }

    /// Releases the lane first, so that the last bytes do not delay a new link.
    async fn close(mut self) {
        tracing::trace!(way = "the link ends");
        if let (Some(peer), Some(lane)) = (self.connection.peer, self.connection.lane) {
            let now = self.connection.shared.now().mono;
            let shared = &self.connection.shared;
            self.lanes.iter().for_each(Lanes::end);
            let unsent = shared.registry.release(peer, lane, self.connection.id, now);
            shared.registry.reject(Reason::LinkClosed, unsent);
            let was_up = self.connection.established_at.is_some() && lane == Lane::A;
            if was_up && !matches!(shared.registry.route(peer), Route::Linked(_)) {
                shared.link_lost(peer);
            }
        }
        self.place = None;
        if self.denied {
            return;
        }
        let linger = self.connection.shared.config.linger;
        if tokio::time::timeout(linger, self.say_goodbye()).await.is_err() {
            tracing::debug!("the peer did not take the last bytes in time");
        }
    }

    /// Writes the last frames, then reads until the peer closes. Closing a socket with unread input would
    /// reset the connection, and the peer could lose the last frame.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        let now = self.connection.shared.now();
        self.outgoing.finish(&mut self.connection.link, now).await?;
        let mut ignored = [0; 4096];
        while self.read.read(&mut ignored).await? > 0 {}
        Ok(())
    }
}

const COMMANDS: usize = 64;
/// What the peer sent before it knew of the other connection arrives in this time.
const GIVES_WAY: Duration = Duration::from_secs(2);
