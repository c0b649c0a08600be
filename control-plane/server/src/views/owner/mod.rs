//! What operators of the platform see.

pub mod audit;
pub mod grants;
pub mod installation;
