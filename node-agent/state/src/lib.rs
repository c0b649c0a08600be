//! Identity files and bounded caches of one agent.
//!
//! Owns what an agent keeps on disk per membership: two-file checksummed records for what must never
//! regress (identity, keys, floors), and a size-capped cache for what can be fetched again. Refuses to
//! own meaning: signed objects are opaque bytes here and are verified again by whoever reads them.

pub mod base64_text;
pub mod cache;
pub mod durable;
mod error;
pub mod floors;
pub mod identity;
mod inspect;
pub mod layout;
pub mod snapshots;
pub mod space;

pub use cache::{Cache, CacheLimits, CacheStatus, Change, Failure, Tree};
pub use durable::{Durable, Record, Recovery};
pub use error::StateError;
pub use floors::{FloorStore, Floors, Raise, RevocationFloor};
pub use identity::{Credentials, Identity, IdentityStore, SignedBytes};
pub use inspect::{Closed, inspect};
pub use layout::{MembershipDir, MembershipName};
pub use snapshots::{NewSnapshot, Snapshots, StoredSnapshot};
