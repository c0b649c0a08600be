//! The agent's own socket: who may speak to it, what it answers, and the client of the commands.

mod client;
mod server;

pub use client::LocalClient;
pub use server::{Directory, LocalServer, bind};
