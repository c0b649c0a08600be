//! Who calls, and what the caller may do.
//!
//! Owns the check of session, grant and rate. Refuses to own what a permission allows (rap-authority).

pub mod actor;
pub mod authorize;
pub mod call;
pub mod operator_row;
pub mod source_rates;
