//! Frame format: golden vectors, refusals, arbitrary bytes in arbitrary pieces.

use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use rap_link::{
    BUFFER_MAX, Decoder, FENCING_LEN, FRAME_VERSION, Fencing, Frame, FrameError, FrameId, FrameKind,
    HEADER_LEN, HOP_BUDGET_MAX, PAYLOAD_MAX, class_code,
};
use rap_types::{ChannelClass, Reason};
use rap_wire::v1;

/// Every frame the vectors cover: each kind, each class, each optional part.
fn golden() -> Vec<(String, Frame)> {
    let mut frames = Vec::new();
    for kind in FrameKind::ALL.iter().copied().filter(|kind| *kind != FrameKind::Data) {
        let name = format!("{kind:?}").to_lowercase();
        frames.push((name, Frame::local(ChannelClass::Control, kind, message(kind))));
    }
    for class in ChannelClass::ALL {
        let mut frame = Frame::local(*class, FrameKind::Data, class.as_str().as_bytes().to_vec());
        frame.id = FrameId::Stream(0x0102_0304_0506_0708);
        frames.push((format!("data_{class}"), frame));
    }
    let fencing = Some(Fencing { incarnation: 0x1112_1314_1516_1718, epoch: 0x2122_2324_2526_2728 });
    let mut fenced = Frame::local(ChannelClass::Vpn, FrameKind::Data, b"owned".to_vec());
    fenced.fencing = fencing;
    frames.push(("data_fenced".into(), fenced.clone()));
    fenced.id = FrameId::Label(u64::MAX);
    fenced.hop_budget = HOP_BUDGET_MAX;
    frames.push(("data_fenced_labelled".into(), fenced.clone()));
    fenced.fencing = None;
    fenced.payload = Bytes::new();
    frames.push(("data_labelled_empty".into(), fenced));
    let datagram = rap_link::path::wireguard_payload(b"datagram").unwrap();
    let wireguard = Frame::labelled(ChannelClass::Vpn, 0x1122_3344_5566_7788, 2, datagram);
    frames.push(("data_labelled_wireguard".into(), wireguard));
    frames
}

/// What the vector of a kind carries.
fn message(kind: FrameKind) -> Vec<u8> {
    match kind {
        FrameKind::PathRequest => {
            let installs = vec![b"install".to_vec(); 2];
            v1::PathRequest { request_id: 7, source_leaf: b"leaf".to_vec(), installs }.encode_to_vec()
        }
        FrameKind::PathAnswer => {
            let hops = vec![v1::PathHop {
                node: vec![2; 16],
                next_rtt_us: 900,
                next_loss_ppm: 10,
                util_permille: 0,
            }];
            let reason = Reason::PathGenerationStale.code().to_owned();
            v1::PathAnswer { request_id: 7, reason, position: 1, hops, generation: 1 << 32, wall_ms: 0 }
                .encode_to_vec()
        }
        FrameKind::PathWithdraw => {
            v1::PathWithdraw { path_id: vec![3; 16], generation: 1 << 32 }.encode_to_vec()
        }
        FrameKind::PathFault => {
            v1::PathFault { label: u64::MAX, reason: Reason::PathLabelUnknown.code().to_owned() }
                .encode_to_vec()
        }
        FrameKind::RelayRow => {
            v1::RelayRowMessage { leaf: b"leaf".to_vec(), row: b"row".to_vec() }.encode_to_vec()
        }
        FrameKind::LaneRequest => rap_link::lane_request(rap_link::Lane::C).payload.to_vec(),
        FrameKind::Hello => v1::LinkHello {
            protocol_min: 1,
            protocol_max: 1,
            lane: v1::LinkLane::A.into(),
            session_id: (0..16).collect(),
            features: vec![rap_link::FEATURE_FABRIC.to_owned(), rap_link::FEATURE_LANES.to_owned()],
            newest_head: b"head".to_vec(),
        }
        .encode_to_vec(),
        FrameKind::Bye => v1::LinkBye { reason: Reason::LinkDrained.code().to_owned() }.encode_to_vec(),
        FrameKind::Probe => v1::FabricProbe { seq: 9, sender_mono_ns: u64::MAX }.encode_to_vec(),
        FrameKind::ProbeAck => v1::FabricProbeAck { seq: 9, sender_mono_ns: u64::MAX }.encode_to_vec(),
        FrameKind::Echo | FrameKind::EchoReply => {
            v1::SyntheticEcho { seq: 9, payload: b"echo".to_vec() }.encode_to_vec()
        }
        FrameKind::Data => unreachable!("data has vectors of its own"),
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

fn decode_one(mut bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    Decoder::new().decode(&mut bytes)
}

fn vector_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_vectors_are_what_this_version_writes_and_reads() {
    let frames = golden();
    for (name, frame) in &frames {
        let path = vector_dir().join(format!("{name}.hex"));
        let wire = encoded(frame);
        if std::env::var_os("RAP_WRITE_VECTORS").is_some() {
            std::fs::write(&path, format!("{}\n", to_hex(&wire))).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed.trim(), to_hex(&wire), "{name}");
        assert_eq!(decode_one(&wire).unwrap().as_ref(), Some(frame), "{name}");
    }
    let files = std::fs::read_dir(vector_dir()).unwrap().count();
    assert_eq!(files, frames.len(), "a vector without a frame, or the reverse");
}

#[test]
fn unknown_version_class_kind_flag_and_reserved_bits_are_refused_with_a_code() {
    let wire = encoded(&Frame::local(ChannelClass::Control, FrameKind::Probe, vec![1]));
    let altered = |offset: usize, value: u8| {
        let mut wire = wire.clone();
        wire[offset] = value;
        decode_one(&wire).unwrap_err()
    };
    assert_eq!(altered(0, FRAME_VERSION + 1), FrameError::Version(FRAME_VERSION + 1));
    assert_eq!(altered(1, 0), FrameError::Class(0));
    assert_eq!(altered(1, 8), FrameError::Class(8));
    assert_eq!(altered(2, 0), FrameError::Kind(0));
    assert_eq!(altered(3, 0x80), FrameError::Flags(0x80));
    assert_eq!(altered(3, 0x02), FrameError::Combination(FrameKind::Probe));
    assert_eq!(altered(4, 1), FrameError::HopBudget(1));
    for reserved in 5..8 {
        assert_eq!(altered(reserved, 1), FrameError::Reserved);
    }
    assert_eq!(altered(1, class_code(ChannelClass::File)), FrameError::Combination(FrameKind::Probe));
    assert_eq!(altered(19, 1), FrameError::Combination(FrameKind::Probe), "a probe is of the link itself");
    for error in [FrameError::Version(0), FrameError::Class(0), FrameError::Flags(0), FrameError::Reserved] {
        assert_eq!(error.reason(), Reason::LinkFrameMalformed);
    }
}

#[test]
fn unknown_flags_on_a_data_frame_are_refused() {
    let mut wire = encoded(&Frame::local(ChannelClass::File, FrameKind::Data, vec![]));
    for bit in 2..8 {
        wire[3] = 1 << bit;
        assert_eq!(decode_one(&wire), Err(FrameError::Flags(1 << bit)));
    }
}

#[test]
fn hop_budget_belongs_to_labelled_frames_and_is_capped() {
    let mut frame = Frame::local(ChannelClass::Vpn, FrameKind::Data, vec![]);
    frame.id = FrameId::Label(1);
    let mut untouched = vec![7];
    assert_eq!(frame.encode(&mut untouched), Err(FrameError::HopBudget(0)));
    frame.hop_budget = HOP_BUDGET_MAX + 1;
    assert_eq!(frame.encode(&mut untouched), Err(FrameError::HopBudget(HOP_BUDGET_MAX + 1)));
    assert_eq!(untouched, [7], "a refused frame writes nothing");
}

#[test]
fn a_length_above_the_cap_is_refused_from_the_header_alone() {
    let mut wire = encoded(&Frame::local(ChannelClass::File, FrameKind::Data, vec![]));
    wire[8..12].copy_from_slice(&(PAYLOAD_MAX as u32 + 1).to_be_bytes());
    let error = decode_one(&wire).unwrap_err();
    assert_eq!(error, FrameError::TooLarge(PAYLOAD_MAX as u32 + 1));
    assert_eq!(error.reason(), Reason::LinkFrameTooLarge);
    let largest = Frame::local(ChannelClass::File, FrameKind::Data, vec![9; PAYLOAD_MAX]);
    assert_eq!(decode_one(&encoded(&largest)).unwrap(), Some(largest.clone()));
    let larger = Frame { payload: vec![9; PAYLOAD_MAX + 1].into(), ..largest };
    assert!(larger.encode(&mut Vec::new()).is_err());
}

#[test]
fn the_first_error_is_final() {
    let mut decoder = Decoder::new();
    let bad = [0u8; HEADER_LEN];
    assert_eq!(decoder.decode(&mut &bad[..]), Err(FrameError::Version(0)));
    let good = encoded(&Frame::local(ChannelClass::Control, FrameKind::Bye, vec![]));
    assert_eq!(decoder.decode(&mut &good[..]), Err(FrameError::Version(0)));
    assert_eq!(decoder.buffered(), 0);
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let class = proptest::sample::select(ChannelClass::ALL);
    let fencing = proptest::option::of((any::<u64>(), any::<u64>()));
    let label = proptest::option::of(1..=HOP_BUDGET_MAX);
    let kind = proptest::sample::select(FrameKind::ALL);
    let payload = proptest::collection::vec(any::<u8>(), 0..300);
    (class, kind, any::<u64>(), fencing, label, payload).prop_map(
        |(class, kind, id, fencing, label, payload)| match kind {
            FrameKind::Data => Frame {
                class,
                kind,
                hop_budget: label.unwrap_or(0),
                id: if label.is_some() { FrameId::Label(id) } else { FrameId::Stream(id) },
                fencing: fencing.map(|(incarnation, epoch)| Fencing { incarnation, epoch }),
                payload: payload.into(),
            },
            FrameKind::Echo | FrameKind::EchoReply => Frame::local(class, kind, payload),
            FrameKind::Hello
            | FrameKind::Bye
            | FrameKind::Probe
            | FrameKind::ProbeAck
            | FrameKind::PathRequest
            | FrameKind::PathAnswer
            | FrameKind::PathWithdraw
            | FrameKind::PathFault
            | FrameKind::LaneRequest
            | FrameKind::RelayRow => Frame::local(ChannelClass::Control, kind, payload),
        },
    )
}

proptest! {
    #[test]
    fn frames_survive_any_split_of_the_stream(
        frames in proptest::collection::vec(any_frame(), 1..8),
        cuts in proptest::collection::vec(1usize..64, 1..64),
    ) {
        let wire: Vec<u8> = frames.iter().flat_map(encoded).collect();
        prop_assert_eq!(wire.len(), frames.iter().map(Frame::wire_len).sum::<usize>());
        let mut decoder = Decoder::new();
        let mut decoded = Vec::new();
        let mut rest = wire.as_slice();
        let mut cut = cuts.iter().cycle();
        while !rest.is_empty() {
            let (mut piece, tail) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            rest = tail;
            while let Some(frame) = decoder.decode(&mut piece).unwrap() {
                decoded.push(frame);
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert_eq!(decoded, frames);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_grow_the_buffer(
        bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        start_valid in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (start_valid, bytes.first_mut()) {
            *first = FRAME_VERSION;
        }
        let mut decoder = Decoder::new();
        let mut rest = bytes.as_slice();
        while let Ok(Some(frame)) = decoder.decode(&mut rest) {
            prop_assert_eq!(decode_one(&encoded(&frame)), Ok(Some(frame)));
        }
        prop_assert!(decoder.buffered() <= BUFFER_MAX);
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(
        frame in any_frame(),
        offset in 0usize..(HEADER_LEN + FENCING_LEN),
        value in any::<u8>(),
    ) {
        let mut wire = encoded(&frame);
        let offset = offset % wire.len();
        wire[offset] = value;
        if let Ok(Some(decoded)) = decode_one(&wire) {
            let again = encoded(&decoded);
            prop_assert_eq!(&again[..], &wire[..again.len()]);
        }
    }
}
