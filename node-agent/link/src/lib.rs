//! Links without IO: frames, the session of one connection, its send queues, who dials whom, and the paths that
//! lead through links.
//!
//! Owns the byte layout of a link, the decisions about its life, and the order of its frames. Refuses to
//! own sockets, TLS, clocks, randomness and tasks. Those are in `rap-mesh`.

#![deny(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod carried;
mod codec;
mod counters;
mod decoder;
mod facts;
mod frame;
mod hello;
mod ledger;
mod link;
mod live;
mod message;
mod pace;
pub mod path;
mod peering;
mod rows;
mod samples;
mod scheduler;
mod session;
mod silence;
mod state;
mod terms;
mod watch;

pub use codec::FrameError;
pub use counters::Counters;
pub use decoder::{BUFFER_MAX, Decoder};
pub use facts::{Direction, Lane, Local, PeerIdentity, Permit, Side, Timing};
pub use frame::{
    FENCING_LEN, FRAME_VERSION, Fencing, Frame, FrameId, FrameKind, HEADER_LEN, HOP_BUDGET_MAX, PAYLOAD_MAX,
    class_code,
};
pub use hello::{Agreed, FEATURE_FABRIC, FEATURE_LANES, FEATURE_ROWS, HEAD_MAX, PeerHello};
pub use ledger::{Ledger, Origin};
pub use link::Link;
pub use live::Live;
pub use message::{ECHO_MAX, lane_request};
pub use pace::{BulkSample, Pace};
pub use peering::{DIAL_GRACE, Kept, keep_of_duplicates, may_dial, redial_delay};
pub use rows::{RowText, Rows};
pub use samples::Measured;
pub use session::{Leaving, Opening, Permitted, Session};
pub use state::SessionState;
pub use terms::{Answer, Input, InputKind, Output, Reject};
