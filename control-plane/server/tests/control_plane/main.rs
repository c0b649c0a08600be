//! The whole control plane over real TLS and a real PostgreSQL.

mod activation;
<<<<<<< HEAD
mod backup;
=======
mod authority;
>>>>>>> 8620495 (control-plane, rapctl: rotation, recovery, taint and revocation of cluster authorities)
mod disk;
mod enrollment;
mod host;
mod metrics;
mod postgres;
mod program;
mod replicas;
mod returning;
mod revocations;
mod secrets;
mod strangers;
mod sync;
mod world;
