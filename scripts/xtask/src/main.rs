//! Checks on the repository itself: layers, limits, docs.
fn main() {}
