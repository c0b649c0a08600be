//! What goes into a node and what comes out of it.
//!
//! Owns the words. Refuses to own what happens between them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rap_trust::{
    Admission, AuditEvidence, BreakGlassPins, Evidence, Floors, HeldCheckpoint, KeptAudit, PersistId, Pinned,
    Record, StoredBreakGlass,
};
use rap_types::sense::Loopback;
use rap_types::{Reason, Wall};
use rap_wire::v1;
use zeroize::Zeroizing;

use crate::{ForwardingTable, PathTerms, RunExplain, RunPing, WayChange};

/// A leaf certificate and its key, for links. Prints neither.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkCertificate {
    /// DER leaf.
    pub certificate: Vec<u8>,
    /// PKCS#8 DER key.
    pub private_key: Zeroizing<Vec<u8>>,
    /// Last instant of validity.
    pub not_after: Wall,
    /// DER certificate of the CA that signed it; empty if not known, which counts as the older trusted one.
    pub authority: Vec<u8>,
}

rap_types::debug_as!(LinkCertificate, |certificate| "LinkCertificate(until {})", certificate.not_after.0);

/// What a node is made with.
pub struct NodeSettings {
    /// Pins of the membership.
    pub pinned: Pinned,
    /// Floors on disk.
    pub floors: Floors,
    /// WireGuard private key.
    pub wireguard_private_key: Zeroizing<[u8; 32]>,
    /// Facts for every hello.
    pub contact: ContactFacts,
    /// What break-glass grants are verified with, and those on disk.
    pub grants: (BreakGlassPins, StoredBreakGlass),
    /// What the disk has of the audit log.
    pub audit: KeptAudit,
    /// Trusted time by what a start before left on disk; 0 if it left nothing.
    pub remembered: Wall,
    /// Whether endpoints on the own host are dialled.
    pub loopback: Loopback,
    /// What the administrator of the host says of paths. The instance comes from the data plane.
    pub path_terms: PathTerms,
}

/// What a data plane says when it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaneFacts {
    /// Version of the table that it has applied; 0 for none.
    pub applied: u64,
    /// Number of its start on this host.
    pub path_instance: u32,
    /// Whether it carries traffic on paths through relays.
    pub knows_paths: bool,
}

/// What a node tells about itself on every stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContactFacts {
    /// Version of the agent.
    pub agent_version: String,
    /// Kernel boot id.
    pub boot_id: String,
    /// Drawn at each start of the agent.
    pub instance: [u8; 16],
    /// Capability words.
    pub capabilities: Vec<String>,
    /// Own link endpoints by interface address.
    pub link_hints: Vec<String>,
    /// Own WireGuard endpoints by interface address.
    pub wireguard_hints: Vec<String>,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The control plane said something.
    Control(Box<v1::ControlMessage>),
    /// The stream to the control plane is up.
    StreamOpened,
    /// It is down.
    StreamClosed,
    /// The names of the control plane have these addresses.
    ControlResolved(BTreeSet<IpAddr>),
    /// A record is on disk.
    Persisted(PersistId),
    /// A checkpoint of the audit log is on disk.
    CheckpointKept(Box<HeldCheckpoint>),
    /// A record is not on disk.
    PersistFailed(PersistId, Reason),
    /// There is a new leaf.
    CertificateIssued(LinkCertificate),
    /// A data plane is there.
    DataplaneUp(PlaneFacts),
    /// It is gone.
    DataplaneDown,
    /// It applied this table version.
    TableApplied(u64),
    /// It refused the table.
    TableRefused(Reason),
    /// It reported.
    StatsArrived(Box<v1::Stats>),
    /// One connection of a link entered another state, or was measured.
    LinkChanged(Box<v1::LinkEvent>),
    /// A peer's hello carried this head; nobody verified it.
    PeerHeadHeard(Box<v1::PeerHead>),
    /// A hop refused to install a path of this node, or none answered.
    PathRefused(Box<v1::PathRefused>),
    /// A relay said what its links with other relays are like.
    RelaySaid(Box<v1::RelayWords>),
    /// The data plane's process ended. `at_ms` is filled in here.
    DataplaneExited(Box<v1::DataplaneExit>),
    /// A ping that was asked for ended.
    PingEnded([u8; 16], Result<v1::PingOutcome, Reason>),
    /// A path that was asked for was explained: a document of schema `rap.path-explain.v1`.
    PathExplained([u8; 16], Result<String, Reason>),
    /// A break-glass grant is on disk.
    BreakGlassStored(Box<Admission>),
    /// Own addresses changed: (link, WireGuard).
    AddressesChanged(Vec<String>, Vec<String>),
    /// Names that were asked for have these addresses now; none if there was no answer.
    NamesResolved(Vec<(String, Vec<SocketAddr>)>),
    /// Time passed.
    TimedOut,
}

/// What is to be done, in order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Write this and answer.
    Persist(PersistId, Box<Record>),
    /// Publish this table; the newest wins.
    Publish(Box<ForwardingTable>),
    /// Send this on the stream.
    Send(Box<v1::NodeMessage>),
    /// Run this ping.
    Ping(RunPing),
    /// Explain this path.
    Explain(RunExplain),
    /// Leave the stream and dial again.
    Reconnect {
        /// After this time.
        after: Duration,
        /// The replica that the stream leads to cannot work.
        not_ready: bool,
    },
    /// Write [`crate::Node::stored_break_glass`]. If it fails, the control plane is told of the files again.
    PersistBreakGlass,
    /// Write this checkpoint of the audit log and answer.
    KeepCheckpoint(Box<HeldCheckpoint>),
    /// Two histories of the audit log are signed: keep this and tell people.
    AuditAlarm(Box<AuditEvidence>),
    /// Two histories are signed: tell people.
    Alarm(Evidence),
    /// Traffic to a peer takes another way: tell people.
    WayChanged(WayChange),
}
