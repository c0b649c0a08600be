//! Tests on a real PostgreSQL, one file per promise.

mod statements;
