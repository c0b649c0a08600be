//! Metrics for Prometheus: the families a program has, their text form, and the endpoint.
//!
//! Owns the format and the bounds of the endpoint. Refuses to own numbers: programs hand them over at each scrape.

mod endpoint;
mod exposition;

pub use endpoint::serve;
pub use exposition::{Exposition, Family, Kind, names_in, table_in};
