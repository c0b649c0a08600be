//! The control plane: decides, signs, distributes.
//!
//! Its modules are rooms: each names only rooms below it. From the bottom up: `failure` and `config` (open to
//! all), `database`, `keys`, `data_dir`, `watch`, `serve`, `tls`, `auth`, `views`, `acts`, `audit`, `publish`,
//! `replica`, then `grpc`, `tasks` and `http`, which do not name each other, `start` and `commands`.

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

pub mod acts;
mod audit;
mod auth;
pub mod commands;
pub mod config;
pub mod data_dir;
pub mod database;
pub mod failure;
mod grpc;
mod http;
pub mod keys;
pub mod publish;
pub mod replica;
pub mod serve;
pub mod start;
mod tasks;
mod tls;
mod views;
pub mod watch;
