//! Configuration in two stages: what was written (`raw`), and what it means (`settings`, by `resolve`).

pub mod effective;
pub mod layers;
pub mod listen;
pub mod raw;
pub mod resolve;
pub mod settings;
