//! The agent's own socket: who may speak to it, what it answers, and the client of the commands.

mod client;
mod server;

pub use client::LocalClient;
pub use server::{LocalServer, bind};

/// The document of `memberships`.
pub fn memberships_document(source: &str, memberships: Vec<serde_json::Value>) -> serde_json::Value {
    serde_json::json!({ "schema": "rap.memberships.v1", "source": source, "memberships": memberships })
}
