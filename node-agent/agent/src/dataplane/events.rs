//! What the task that keeps a data plane tells the driver.
//!
//! Owns the events. Refuses to judge them: the node's cores do.

use rap_runtime::Fault;
use rap_wire::v1;

use crate::supervise::Exit;

/// What the task tells the driver.
#[derive(Debug)]
pub enum DataplaneEvent {
    /// A data plane is there.
    Up(DataplaneFacts),
    /// It is gone, or none could be had.
    Down(Fault),
    /// It applied this table.
    Applied(u64),
    /// It refused a table.
    Refused(Fault),
    /// It reported.
    Stats(Box<v1::Stats>),
    /// One connection of a link entered another state, or was measured.
    Link(Box<v1::LinkEvent>),
    /// A peer's hello carried this head; nobody verified it.
    PeerHead(Box<v1::PeerHead>),
    /// Its process ended.
    Exited(Box<Exit>),
}

/// What is known about a data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataplaneFacts {
    /// Its answer to the hello.
    pub hello: v1::DataplaneHelloAnswer,
    /// True if it ran before this agent asked for it.
    pub adopted: bool,
}
