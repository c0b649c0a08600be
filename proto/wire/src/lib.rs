//! Messages of `rap.fabric.v1` as prost types, the frames that carry them, and the descriptor set.
//!
//! Owns shapes. Refuses to own their meaning (rap-contract) and gRPC (rap-rpc).

#![cfg_attr(
    not(test),
    warn(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::await_holding_lock)
)]

mod frame;

pub use frame::{FRAME_CAP, FrameDecoder, FrameError, encode_frame};

/// Generated messages.
#[allow(clippy::all, missing_docs, rust_2018_idioms)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/rap.fabric.v1.rs"));
}

/// The encoded `FileDescriptorSet` of every published .proto file.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
