//! The slow plane: identity, verification, supervision.
fn main() {}
