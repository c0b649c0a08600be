//! The whole control plane over real TLS and a real PostgreSQL.

mod activation;
mod adoption;
mod audit;
mod authority;
mod backup;
mod break_glass;
mod degraded;
mod disk;
mod enrollment;
mod full_disk;
mod grants;
mod host;
mod hostile;
mod keys;
mod metrics;
mod postgres;
mod program;
mod replicas;
mod returning;
mod revocations;
mod rows;
mod secrets;
mod strangers;
mod sync;
mod tools;
mod world;
