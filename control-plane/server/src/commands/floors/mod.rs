//! `floors`: what this replica has seen signed and never accepts less of.

pub mod clusters;
pub mod confirm;
