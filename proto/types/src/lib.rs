//! The words of RAP Fabric Core: typed ids, time, order, roles, channel classes, reason codes.
//!
//! Owns the vocabulary every other crate shares, and which facts make sense. Refuses to own behaviour: nothing here
//! acts, signs, reads a clock or touches a socket.

#![cfg_attr(
    not(test),
    warn(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::await_holding_lock)
)]

mod activity;
mod channel;
mod debug_as;
mod digest;
mod exit;
mod id;
pub mod limits;
mod order;
pub mod reason;
mod reject;
mod role;
mod round_trips;
mod rpc_status;
pub mod sense;
mod state;
mod time;

#[doc(hidden)]
pub use serde;

pub use activity::{Activity, ContractRow};
pub use channel::ChannelClass;
pub use digest::{Digest, KeyId};
pub use exit::ExitCode;
pub use id::{
    ClusterId, IdParseError, InstallationId, JoinRequestId, NodeId, OperatorId, OrganizationId, RequestId,
    TokenId, VpnConnectionId,
};
pub use order::{HeadOrder, Incarnation, Refresh, Version};
pub use reason::Reason;
pub use reject::Reject;
pub use role::{Capability, PlatformRole, Role, UnknownWord};
pub use round_trips::RoundTrips;
pub use state::{ApprovalMode, IdentityStatus, JoinState, NodeContact};
pub use time::{Mono, Now, Wall};

/// gRPC error domain of every reason code.
pub const ERROR_DOMAIN: &str = "rap.fabric";
