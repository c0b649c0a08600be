//! What the scheduler promises, over arbitrary orders of frames, asks and instants.

use std::collections::VecDeque;

use proptest::prelude::*;
use rap_types::ChannelClass;

use super::*;
use crate::decoder::Decoder;
use crate::frame::{Frame, FrameId, FrameKind, HEADER_LEN, PAYLOAD_MAX};

/// A frame that can be told from all others by its stream.
fn numbered(id: QueueId, number: u64, length: usize) -> (Frame, Encoded) {
    let class = ChannelClass::ALL.iter().copied().find(|class| QueueId::of_class(*class) == id);
    let frame = match class {
        Some(class) => {
            let frame = Frame::local(class, FrameKind::Data, vec![0; length]);
            Frame { id: FrameId::Stream(number), ..frame }
        }
        None => Frame::local(ChannelClass::Control, FrameKind::Probe, number.to_be_bytes().to_vec()),
    };
    assert_eq!(QueueId::of(&frame), id);
    let encoded = frame.encoded().unwrap();
    (frame, encoded)
}

/// Everything that `budget` lets through in one ask.
fn ask(scheduler: &mut Scheduler, budget: usize, now: Mono) -> Vec<Frame> {
    let mut wire = Vec::new();
    while let Some(frame) = scheduler.pop(wire.len(), budget, now) {
        frame.write(&mut wire);
    }
    let (mut decoder, mut rest) = (Decoder::new(), wire.as_slice());
    std::iter::from_fn(|| decoder.decode(&mut rest).unwrap()).collect()
}

fn queue_of(index: usize) -> QueueId {
    QueueId::ALL[index % QueueId::ALL.len()]
}

/// Fills every queue until it refuses or drops, with frames of `length`.
fn fill(scheduler: &mut Scheduler, length: usize, number: &mut u64) {
    for id in QueueId::ALL {
        loop {
            *number += 1;
            let pushed = scheduler.push(id, numbered(id, *number, length).1);
            if pushed != Ok(0) {
                break;
            }
        }
    }
}

fn bytes_held(scheduler: &Scheduler) -> usize {
    scheduler.queues.iter().map(|queue| queue.held().1).sum()
}

#[derive(Debug, Clone)]
enum Step {
    Push { queue: usize, length: usize },
    Ask { budget: usize, elapsed_ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![4 => 0..2000usize, 1 => 0..=PAYLOAD_MAX];
    prop_oneof![
        4 => (0..8usize, length).prop_map(|(queue, length)| Step::Push { queue, length }),
        1 => (0..40_000usize, 0..60u64).prop_map(|(budget, elapsed_ms)| Step::Ask { budget, elapsed_ms }),
    ]
}

proptest! {
    /// Conservation: what was accepted is sent once and in order, or was counted as dropped, oldest
    /// first, or waits; and what waits never exceeds the contract.
    #[test]
    fn every_accepted_frame_is_sent_once_in_order_or_counted_as_dropped(
        steps in proptest::collection::vec(step(), 0..400),
    ) {
        let mut scheduler = Scheduler::new();
        let mut waiting: [VecDeque<Frame>; 8] = Default::default();
        let (mut now, mut number) = (Mono(0), 0);
        let drain = [Step::Ask { budget: usize::MAX, elapsed_ms: 0 }];
        for step in steps.iter().chain(&drain) {
            match *step {
                Step::Push { queue, length } => {
                    number += 1;
                    let id = queue_of(queue);
                    let (frame, encoded) = numbered(id, number, length);
                    let room = scheduler.has_room(id, encoded.wire_len());
                    let pushed = scheduler.push(id, encoded);
                    prop_assert_eq!(room, pushed.is_ok());
                    if let Ok(dropped) = pushed {
                        let keeps = id.contract().when_full == contract::WhenFull::Refuse;
                        prop_assert!(!keeps || dropped == 0, "{:?} lost a frame", id);
                        waiting[queue % 8].drain(..usize::try_from(dropped).unwrap());
                        waiting[queue % 8].push_back(frame);
                    }
                }
                Step::Ask { budget, elapsed_ms } => {
                    now = now.plus(Duration::from_millis(elapsed_ms));
                    let sent = ask(&mut scheduler, budget, now);
                    let bytes: usize = sent.iter().map(Frame::wire_len).sum();
                    prop_assert!(bytes <= budget || sent.len() == 1);
                    prop_assert_eq!(sent.is_empty(), waiting.iter().all(VecDeque::is_empty));
                    for frame in sent {
                        let expected = waiting[QueueId::of(&frame) as usize].pop_front();
                        prop_assert_eq!(Some(frame), expected);
                    }
                }
            }
            for (queue, id) in scheduler.queues.iter().zip(QueueId::ALL) {
                let (frames, bytes) = queue.held();
                prop_assert!(frames <= id.contract().frames && bytes <= id.contract().bytes, "{:?}", id);
            }
        }
        prop_assert!(waiting.iter().all(VecDeque::is_empty));
    }

    /// Whatever waits below, the frame of a queue within its budget is the next one.
    #[test]
    fn a_frame_within_its_budget_waits_for_no_lower_queue(
        urgent in 0..BUDGETED, length in 0..=PAYLOAD_MAX, asks in 0..64usize,
    ) {
        let mut scheduler = Scheduler::new();
        let mut number = 0;
        for id in &QueueId::ALL[BUDGETED..] {
            let _full_or_dropped = scheduler.push(*id, numbered(*id, number, length).1);
        }
        for _ in 0..asks {
            ask(&mut scheduler, 1, Mono(0));
            number += 1;
            let id = QueueId::ALL[BUDGETED..][asks % (QueueId::ALL.len() - BUDGETED)];
            let _full_or_dropped = scheduler.push(id, numbered(id, number, length).1);
        }
        let (frame, encoded) = numbered(QueueId::ALL[urgent], u64::MAX, 100);
        scheduler.push(QueueId::ALL[urgent], encoded).unwrap();
        prop_assert_eq!(ask(&mut scheduler, 1, Mono(0)), [frame]);
    }
}

/// Every queue is kept full; the clock may stand still or race. The bound is in bytes.
#[test]
fn no_queue_starves_while_all_others_are_full() {
    for (length, step_ms) in [(0, 0), (100, 0), (1000, 0), (1000, 1), (1000, 1000), (8000, 3)] {
        let mut scheduler = Scheduler::new();
        let (mut number, mut now, mut total) = (0, Mono(0), 0_usize);
        let longest = HEADER_LEN + length;
        let budgets: usize = QueueId::ALL.map(|id| id.contract().budget + longest).iter().sum();
        let turn: usize = QueueId::ALL.map(|id| id.contract().quantum + longest).iter().sum();
        let mut last = [0_usize; 8];
        let mut sent = [0_usize; 8];
        while total < 8 << 20 {
            fill(&mut scheduler, length, &mut number);
            now = now.plus(Duration::from_millis(step_ms));
            for frame in ask(&mut scheduler, 16 * 1024, now) {
                total += frame.wire_len();
                let index = QueueId::of(&frame) as usize;
                sent[index] += frame.wire_len();
                last[index] = total;
            }
            for (id, last) in QueueId::ALL.iter().zip(last) {
                let turns = longest.div_ceil(id.contract().quantum) + 1;
                let bound = budgets + turns * turn + 16 * 1024;
                assert!(total - last <= bound, "{id:?} waited {} of {bound} bytes", total - last);
            }
        }
        let share = |id: QueueId| sent[id as usize] as f64;
        let twice = share(QueueId::File) / share(QueueId::Vpn);
        assert!((1.8..2.2).contains(&twice), "length {length}: file has twice the share of vpn, not {twice}");
    }
}

#[test]
fn within_a_window_each_budget_is_spent_before_anything_lower_is_sent() {
    let mut scheduler = Scheduler::new();
    let mut number = 0;
    let mut order = Vec::new();
    let mut spent = [0_usize; 8];
    while order.last() != Some(&QueueId::Telemetry) {
        fill(&mut scheduler, 1000, &mut number);
        for frame in ask(&mut scheduler, 1, Mono(1)) {
            let id = QueueId::of(&frame);
            if order.last() != Some(&id) {
                order.push(id);
            }
            if order.len() <= BUDGETED {
                spent[id as usize] += frame.wire_len();
            }
        }
    }
    // Own, input and control spend their budgets; the round begins behind the queue it stood at.
    assert_eq!(order[..3], QueueId::ALL[..3]);
    assert_eq!(order[3..], QueueId::ALL[1..], "then everybody in turn");
    for id in &QueueId::ALL[..BUDGETED] {
        let (budget, spent) = (id.contract().budget, spent[*id as usize]);
        assert!((budget..budget + 2000).contains(&spent), "{id:?}: {spent} of {budget}");
    }
}

#[test]
fn the_newest_frames_of_a_droppable_queue_are_kept() {
    let mut scheduler = Scheduler::new();
    let dropped: u64 = (0..5)
        .map(|number| scheduler.push(QueueId::Render, numbered(QueueId::Render, number, 9).1).unwrap())
        .sum();
    assert_eq!(dropped, 3);
    let kept: Vec<FrameId> =
        ask(&mut scheduler, 1 << 20, Mono(0)).into_iter().map(|frame| frame.id).collect();
    assert_eq!(kept, [FrameId::Stream(3), FrameId::Stream(4)]);
    let longer_than_the_queue = numbered(QueueId::Telemetry, 1, PAYLOAD_MAX).1;
    assert_eq!(scheduler.push(QueueId::Telemetry, longer_than_the_queue), Err(Full));
}

#[test]
fn a_goodbye_is_accepted_by_full_queues_and_waits_for_no_class() {
    let mut scheduler = Scheduler::new();
    let mut number = 0;
    fill(&mut scheduler, 1000, &mut number);
    let (own, _) = scheduler.queues[QueueId::Own as usize].held();
    let classes: u64 = scheduler.queues[1..].iter().map(|queue| queue.held().0 as u64).sum();
    assert_eq!(scheduler.push_last(numbered(QueueId::Own, u64::MAX, 0).1), classes);
    let sent = ask(&mut scheduler, usize::MAX, Mono(0));
    assert_eq!(sent.len(), own + 1);
    assert_eq!(sent.last().unwrap().payload, u64::MAX.to_be_bytes().to_vec());
}

#[test]
fn full_queues_hold_less_than_a_mebibyte_and_cleared_ones_nothing() {
    let mut scheduler = Scheduler::new();
    let mut number = 0;
    for length in [0, 1000, PAYLOAD_MAX] {
        fill(&mut scheduler, length, &mut number);
        assert!(bytes_held(&scheduler) <= 1 << 20);
    }
    assert!(scheduler.clear() > 0);
    assert_eq!((bytes_held(&scheduler), scheduler.clear()), (0, 0));
    assert!(ask(&mut scheduler, usize::MAX, Mono(0)).is_empty());
}

/// A frame of a path.
fn of_path(label: u64, length: usize) -> Encoded {
    Frame::labelled(ChannelClass::Vpn, label, 1, vec![label as u8; length]).encoded().unwrap()
}

fn labels(frames: &[Frame]) -> Vec<u64> {
    let label = |frame: &Frame| match frame.id {
        FrameId::Label(label) => label,
        FrameId::Stream(_) => 0,
    };
    frames.iter().map(label).collect()
}

#[test]
fn a_path_that_floods_delays_a_frame_of_another_by_one_turn() {
    let mut scheduler = Scheduler::new();
    for _ in 0..2_000 {
        scheduler.push(QueueId::Vpn, of_path(7, 1_000)).unwrap();
    }
    scheduler.push(QueueId::Vpn, of_path(9, 100)).unwrap();
    let sent = labels(&ask(&mut scheduler, 6_000, Mono(0)));
    assert!(sent[..3].contains(&9), "{sent:?}");
    // Two that flood share the link, whatever the length of their frames.
    let mut scheduler = Scheduler::new();
    for _ in 0..20 {
        scheduler.push(QueueId::Vpn, of_path(7, 12_000)).unwrap();
        for _ in 0..50 {
            scheduler.push(QueueId::Vpn, of_path(9, 200)).unwrap();
        }
    }
    let sent = ask(&mut scheduler, 300_000, Mono(0));
    let bytes = |of: u64| {
        sent.iter().filter(|frame| frame.id == FrameId::Label(of)).map(Frame::wire_len).sum::<usize>()
    };
    assert!(bytes(7).abs_diff(bytes(9)) < 20_000, "{} and {}", bytes(7), bytes(9));
}

#[test]
fn a_path_drops_its_own_oldest_frames_and_beyond_the_total_the_one_with_the_most_does() {
    let mut scheduler = Scheduler::new();
    scheduler.push(QueueId::Vpn, of_path(1, 1_000)).unwrap();
    let dropped: u64 = (0..2_000).map(|_| scheduler.push(QueueId::Vpn, of_path(7, 1_000)).unwrap()).sum();
    assert!(dropped > 1_500, "{dropped}");
    assert!(bytes_held(&scheduler) <= 257 * 1024 + 1_020);
    for label in 8..12 {
        for _ in 0..300 {
            scheduler.push(QueueId::Vpn, of_path(label, 1_000)).unwrap();
        }
    }
    assert!(bytes_held(&scheduler) <= 1024 * 1024);
    let sent = labels(&ask(&mut scheduler, usize::MAX, Mono(0)));
    assert!(sent.contains(&1), "a path with one frame lost none");
    for label in 7..12 {
        let count = sent.iter().filter(|sent| **sent == label).count();
        assert!((180..=256).contains(&count), "{label}: {count}");
    }
}

/// What reaches the socket of a lane at `rate` bytes per ms, from a path that offers frames of 1,000 bytes at `offered`
/// per ms: the longest wait of a frame that was sent in the last second, and how many were dropped.
fn carried_at(rate: usize, offered: usize, sparse: &mut Vec<Duration>) -> (Duration, u64) {
    let mut scheduler = Scheduler::new();
    let (mut debt, mut dropped, mut longest) = (0, 0, Duration::ZERO);
    for millis in 0..10_000_u64 {
        let now = Mono(1).plus(Duration::from_millis(millis));
        for _ in 0..offered {
            dropped += scheduler.push(QueueId::Vpn, of_path(7, 1_000).waiting_since(now)).unwrap();
        }
        if millis % 50 == 0 {
            scheduler.push(QueueId::Vpn, of_path(9, 100).waiting_since(now)).unwrap();
        }
        debt += rate;
        loop {
            dropped += scheduler.shed(now);
            let Some(frame) = (debt >= 1_000).then(|| scheduler.pop(0, usize::MAX, now)).flatten() else {
                break;
            };
            debt -= frame.wire_len().min(debt);
            let waited = now.since(frame.since);
            match frame.label() {
                9 => sparse.push(waited),
                _ if millis >= 9_000 => longest = longest.max(waited),
                _ => {}
            }
        }
    }
    (longest, dropped)
}

#[test]
fn a_path_below_the_rate_loses_nothing_and_one_above_it_delays_no_other() {
    let (longest, dropped) = carried_at(10_000, 5, &mut Vec::new());
    assert_eq!(dropped, 0);
    assert!(longest <= Duration::from_millis(5), "{longest:?}");
    let mut sparse = Vec::new();
    let (longest, dropped) = carried_at(5_000, 20, &mut sparse);
    assert!(dropped > 100_000, "{dropped}");
    assert!(longest <= Duration::from_millis(500), "{longest:?}");
    let most = sparse.iter().max().unwrap();
    assert!(sparse.len() >= 199 && *most <= Duration::from_millis(5), "{} {most:?}", sparse.len());
}

#[test]
fn what_a_lane_did_not_carry_for_half_a_second_is_not_sent() {
    let mut scheduler = Scheduler::new();
    for _ in 0..100 {
        scheduler.push(QueueId::Vpn, of_path(7, 1_000).waiting_since(Mono(0))).unwrap();
    }
    let now = Mono(501_000_000);
    scheduler.push(QueueId::Vpn, of_path(7, 10).waiting_since(now)).unwrap();
    assert_eq!(scheduler.shed(now), 100);
    assert_eq!(ask(&mut scheduler, usize::MAX, now).len(), 1);
}

#[test]
fn above_the_total_the_newest_bulk_goes_and_what_is_reliable_stays() {
    let mut scheduler = Scheduler::new();
    let mut number = 0;
    for label in 1..=4 {
        for _ in 0..300 {
            scheduler.push(QueueId::Vpn, of_path(label, 1_000)).unwrap();
        }
    }
    assert!((1_000_000..=TOTAL).contains(&scheduler.bytes()));
    let mut dropped = 0;
    for id in [QueueId::Input, QueueId::Control, QueueId::Clipboard, QueueId::File] {
        while let Ok(count) = scheduler.push(id, numbered(id, number, 1_000).1) {
            (number, dropped) = (number + 1, dropped + count);
            assert!(scheduler.bytes() <= TOTAL);
        }
    }
    assert!(dropped > 400, "{dropped}");
    let sent = ask(&mut scheduler, usize::MAX, Mono(0));
    assert!(labels(&sent).iter().filter(|label| **label > 0).count() > 400, "and bulk shares what is left");
}

#[test]
fn every_accepted_frame_of_a_path_is_sent_once_in_its_order() {
    let mut scheduler = Scheduler::new();
    for number in 0..200_u64 {
        let payload = number.to_be_bytes().repeat(1 + (number as usize * 37) % 200);
        let frame = Frame::labelled(ChannelClass::Vpn, 1 + number % 5, 1, payload);
        assert_eq!(scheduler.push(QueueId::Vpn, frame.encoded().unwrap()), Ok(0));
    }
    let mut sent = Vec::new();
    while let [frame] = &ask(&mut scheduler, 1, Mono(0))[..] {
        sent.push(frame.clone());
    }
    assert_eq!(sent.len(), 200);
    for label in 1..=5 {
        let of = sent.iter().filter(|frame| frame.id == FrameId::Label(label));
        let numbers: Vec<u64> =
            of.map(|frame| u64::from_be_bytes(*frame.payload.first_chunk().unwrap())).collect();
        assert!(numbers.is_sorted() && numbers.len() == 40, "{label}: {numbers:?}");
    }
    assert_eq!(bytes_held(&scheduler), 0);
}
