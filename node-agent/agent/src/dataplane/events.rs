//! What the task that keeps a data plane tells the driver.
//!
//! Owns the events. Refuses to judge them: the node's cores do.

use rap_node::Input;
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
    /// It refused a table.
    Refused(Fault),
    /// It applied a table or reported something: what the cores take without more ado.
    Told(Input),
    /// The process of the data plane ended.
    Exited(Box<Exit>),
}

/// What is known about a data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataplaneFacts {
    /// Answer of the data plane to the hello.
    pub hello: v1::DataplaneHelloAnswer,
    /// True if it ran before this agent asked for it.
    pub adopted: bool,
    /// Number of its start on this host.
    pub path_instance: u32,
}
