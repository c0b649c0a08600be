//! The control plane that the tests of the agent talk to.

#[path = "../../../node-agent/agent/tests/agent/fake/control.rs"]
pub mod control;
#[path = "../../../node-agent/agent/tests/agent/fake/pki.rs"]
pub mod pki;
#[path = "../../../node-agent/agent/tests/agent/fake/publish.rs"]
pub mod publish;
