//! The fast plane: links, WireGuard, forwarding table.
fn main() {}
