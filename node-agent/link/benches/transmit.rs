//! What one frame costs from its queue to the shell's buffer: choice, accounts, counters, one copy.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rap_link::{ECHO_MAX, Input, Lane, Link, Local, PeerIdentity, Permit, Side, Timing};
use rap_types::{ChannelClass, ClusterId, Mono, NodeId, Now, Wall};

const NOW: Now = Now { mono: Mono(1), wall: Wall(1) };
const CHUNK: usize = 16 * 1024;

/// A link that owes its peer one answer of `length` bytes per question that was asked in each of these
/// classes, with the number of frames that wait.
fn owing(classes: &[ChannelClass], length: usize) -> (Link, u64) {
    let (mut asker, mut link) = pair();
    let mut wire = Vec::new();
    for class in classes {
        // As many as the asker keeps open, so that no queue that refuses is full.
        for token in 0..60 / classes.len() as u64 {
            let asked = Input::EchoAsked { token, class: *class, payload: vec![0; length].into() };
            asker.handle(asked, NOW).expect("established");
        }
    }
    asker.poll_transmit(usize::MAX, NOW, &mut wire);
    link.receive(&wire, NOW);
    let mut probe = link.clone();
    let before = probe.counters().frames_sent;
    probe.poll_transmit(usize::MAX, NOW, &mut Vec::new());
    (link, probe.counters().frames_sent - before)
}

fn pair() -> (Link, Link) {
    let (cluster, small, large) =
        (ClusterId::from_bytes([9; 16]), NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
    let local = |node| Local { node, cluster, features: Vec::new(), newest_head: Vec::new() };
    let side = Side::Dialer { expected: large, session_id: [5; 16], lane: Lane::A };
    let mut a = Link::new(local(small), side, Timing::default(), NOW);
    let mut b = Link::new(local(large), Side::Acceptor, Timing::default(), NOW);
    let proven = |node| Input::Authenticated {
        peer: PeerIdentity { cluster, node },
        permit: Permit::Until(Mono(u64::MAX)),
    };
    a.handle(Input::Opened, NOW).expect("dialing");
    a.handle(proven(large), NOW).expect("handshaking");
    b.handle(proven(small), NOW).expect("handshaking");
    let mut wire = Vec::new();
    a.poll_transmit(usize::MAX, NOW, &mut wire);
    b.receive(&wire, NOW);
    wire.clear();
    b.poll_transmit(usize::MAX, NOW, &mut wire);
    a.receive(&wire, NOW);
    (a, b)
}

fn poll_transmit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("poll_transmit");
    for (name, classes) in [("one class", &[ChannelClass::File][..]), ("all classes", ChannelClass::ALL)] {
        for length in [64, ECHO_MAX] {
            let (link, frames) = owing(classes, length);
            group.throughput(Throughput::Elements(frames));
            group.bench_function(
                BenchmarkId::new(name, format!("{frames} frames of {length} B")),
                |bencher| {
                    let mut buffer = Vec::with_capacity(2 * CHUNK);
                    bencher.iter_batched_ref(
                        || link.clone(),
                        |link| {
                            buffer.clear();
                            while {
                                link.poll_transmit(CHUNK, NOW, &mut buffer);
                                !buffer.is_empty()
                            } {
                                buffer.clear();
                            }
                        },
                        BatchSize::SmallInput,
                    );
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, poll_transmit);
criterion_main!(benches);
