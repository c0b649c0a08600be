//! The control plane: decides, signs, distributes.

// The standard macros panic when nobody reads, or the disk is full.
macro_rules! println {
    () => { ::rap_runtime::output::print(format_args!("\n")) };
    ($($text:tt)*) => { ::rap_runtime::output::print(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! print {
    ($($text:tt)*) => { ::rap_runtime::output::print(format_args!($($text)*)) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { ::rap_runtime::output::complain(format_args!($($text)*)) };
}

pub mod adoption;
pub mod alarms;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod certificates;
mod check;
pub mod cli;
pub mod cluster_floors;
pub mod clusters;
pub mod config;
pub mod confirm;
pub mod control;
pub mod custody;
pub mod data_keys;
pub mod database;
pub mod datadir;
pub mod dek_rotation;
pub mod findings;
pub mod floors;
pub mod grants;
pub mod grpc;
pub mod http;
pub mod init;
pub mod installation;
pub mod keys;
pub mod revocations;
mod rows;
pub mod secrets;
pub mod serve;
mod services;
pub mod sync;
pub mod tasks;
pub mod tls;
