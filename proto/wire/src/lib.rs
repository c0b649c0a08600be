//! Messages of `rap.fabric.v1` as prost types, gRPC stubs behind the feature `rpc`, and the descriptor set.

mod frame;

pub use frame::{FRAME_CAP, FrameDecoder, FrameError, encode_frame};

/// Generated messages and, with the feature `rpc`, gRPC stubs.
#[allow(clippy::all, missing_docs, rust_2018_idioms)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/rap.fabric.v1.rs"));
}

/// The encoded `FileDescriptorSet` of every published .proto file.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
