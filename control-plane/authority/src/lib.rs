//! Installation, clusters, enrollment decisions, key custody.
