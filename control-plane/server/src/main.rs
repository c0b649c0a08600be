//! The control plane: decides, signs, distributes.
fn main() {}
