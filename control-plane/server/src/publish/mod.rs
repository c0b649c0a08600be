//! Publication: rows at one version, plan, signed head, database, streams.
//!
//! Owns the order of a round. Refuses to own what a version says (rap-planner).

pub mod alarms;
pub mod gather;
pub mod head;
pub mod input;
pub mod planner_rows;
pub mod preview;
pub mod publisher;
pub mod round;
pub mod row_checks;
pub mod sign_version;
