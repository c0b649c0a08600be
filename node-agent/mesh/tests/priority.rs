//! What is urgent overtakes what is bulky, over real sockets. Bounds are in bytes and frames, never in
//! time.

mod support;

use std::pin::pin;

use rap_link::{Decoder, ECHO_MAX, Frame, FrameKind, Lane};
use rap_types::{ChannelClass, Reason};
use support::*;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;

/// A link whose target owes its peer more file frames than its queue holds, and whose peer reads none.
struct FullLink {
    target: Node,
    puppet: Puppet,
    decoder: Decoder,
    /// Bytes of all frames that the peer read.
    read: u64,
}

impl FullLink {
    async fn fill(authority: &Authority) -> Self {
        let target = Node::start(authority, config(2));
        target.mesh.apply(peers(authority, &[(node(1), None)]));
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        let tcp = socket.connect(target.address()).await.unwrap();
        let mut puppet = Puppet::connect_over(authority, 1, &target, tcp, Lane::A).await;
        puppet.say_hello().await;
        let read = target.status(node(1)).unwrap().counters.bytes_sent;
        let bulk = puppet.questions(ChannelClass::File, 16);
        let counters = || target.status(node(1)).unwrap().counters;
        // The target reads on although it can answer no more: writing never blocks.
        while !counters().rejected.contains_key(&Reason::LinkQueueFull) {
            patiently(puppet.write_raw(&bulk)).await;
        }
        Self { target, puppet, decoder: Decoder::new(), read }
    }

    /// Bytes of all frames that the target gave to its socket.
    fn sent(&self) -> u64 {
        self.target.status(node(1)).unwrap().counters.bytes_sent
    }

    /// Waits until the target has taken every question asked before: a file question is refused, in turn.
    async fn questions_taken(&self) {
        let refused = self.target.mesh.echo(node(1), ChannelClass::File, vec![0; ECHO_MAX]);
        assert_eq!(patiently(refused).await, Err(Reason::LinkQueueFull), "bulk is told to wait");
    }

    /// Reads up to and including the first frame for which `wanted` holds. Returns how many frames came
    /// before it.
    async fn read_to(&mut self, wanted: impl Fn(&Frame) -> bool) -> usize {
        let mut before = 0;
        loop {
            // One byte: what follows the frame stays unread.
            let byte = [patiently(self.puppet.stream.read_u8()).await.unwrap()];
            let Some(frame) = self.decoder.decode(&mut &byte[..]).unwrap() else { continue };
            self.read += frame.wire_len() as u64;
            if wanted(&frame) {
                return before;
            }
            before += 1;
        }
    }
}

#[tokio::test]
async fn a_probe_passes_a_link_that_is_full_of_bulk() {
    let authority = Authority::new(HOME);
    let mut full = FullLink::fill(&authority).await;
    let mesh = full.target.mesh.clone();
    let mut probe = pin!(mesh.probe(node(1), 1));
    tokio::select! {
        biased;
        answered = &mut probe => panic!("{answered:?} from a peer that reads nothing"),
        () = full.questions_taken() => {}
    }
    let sent = full.sent();
    let before = full.read_to(|frame| frame.kind == FrameKind::Probe).await;
    assert!(
        full.read <= sent + LONGEST_PROBE,
        "{} bytes given out before, probe ends at {}",
        sent,
        full.read
    );
    assert!(full.read <= UNDER_WAY_MAX, "{before} frames, {} bytes could not be overtaken", full.read);
    // It overtook: the queue's bulk comes after it.
    let overtaken = AtLeast::new(QUEUED_MIN);
    full.read_to(|frame| overtaken.saw(frame.class == ChannelClass::File)).await;
}

#[tokio::test]
async fn a_control_question_passes_a_link_that_is_full_of_bulk() {
    let authority = Authority::new(HOME);
    let mut full = FullLink::fill(&authority).await;
    let mesh = full.target.mesh.clone();
    let mut echo = pin!(mesh.echo(node(1), ChannelClass::Control, vec![1; 64]));
    tokio::select! {
        biased;
        answered = &mut echo => panic!("{answered:?} from a peer that reads nothing"),
        () = full.questions_taken() => {}
    }
    let sent = full.sent();
    full.read_to(|frame| frame.class == ChannelClass::Control).await;
    assert!(full.read <= sent + 128, "{} bytes given out before, it ends at {}", sent, full.read);
}

#[tokio::test]
async fn a_goodbye_passes_a_link_that_is_full_of_bulk_and_what_it_ends_is_counted() {
    let authority = Authority::new(HOME);
    let mut full = FullLink::fill(&authority).await;
    let sent = full.sent();
    full.target.tasks.cancel();
    full.read_to(|frame| frame.kind == FrameKind::Bye).await;
    assert!(full.read <= sent + CHUNK + 64, "{} bytes given out before, it ends at {}", sent, full.read);
    let mut nothing = [0];
    assert_eq!(patiently(full.puppet.stream.read(&mut nothing)).await.unwrap_or(0), 0, "and nothing follows");
    drop(full.puppet);
    let dropped = || full.target.refused(Reason::LinkDrained) >= QUEUED_MIN as u64;
    eventually("the bulk that was not sent is counted", dropped).await;
}

/// Counts until enough were seen.
struct AtLeast {
    wanted: usize,
    seen: std::cell::Cell<usize>,
}

impl AtLeast {
    fn new(wanted: usize) -> Self {
        Self { wanted, seen: std::cell::Cell::new(0) }
    }

    fn saw(&self, this: bool) -> bool {
        self.seen.set(self.seen.get() + usize::from(this));
        self.seen.get() >= self.wanted
    }
}

const RECEIVE_BUFFER: u32 = 16 * 1024;
/// What one ask of the mesh takes at most.
const CHUNK: u64 = 16 * 1024;
const LONGEST_PROBE: u64 = 64;
/// Kernel buffers of both ends, one TLS record in each process.
const UNDER_WAY_MAX: u64 = 96 * 1024;
/// Frames of 1 KiB that the file queue holds at least when it is full.
const QUEUED_MIN: usize = 200;
