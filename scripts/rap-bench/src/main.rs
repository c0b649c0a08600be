//! Benchmark scenarios.
fn main() {}
