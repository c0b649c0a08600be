//! Namespace topologies, quickstart and lab runs.
fn main() {}
