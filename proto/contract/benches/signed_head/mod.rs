//! A cluster head of ordinary size. Owns the fixture; refuses to own what is measured.

use rap_contract::{Audience, HeaderTerms};
use rap_types::{ClusterId, InstallationId, KeyId, Wall};
use rap_wire::v1;

/// Installation it is for.
pub const INSTALLATION: InstallationId = InstallationId::from_bytes([1; 16]);
/// Cluster it is for.
pub const CLUSTER: ClusterId = ClusterId::from_bytes([2; 16]);
/// When it is signed.
pub const ISSUED_AT: Wall = Wall(1_800_000_000_000);

/// The head, to be signed by `issuer`.
pub fn head(issuer: KeyId) -> v1::ClusterHead {
    let header = HeaderTerms {
        installation: INSTALLATION,
        cluster: CLUSTER,
        audience: Audience::Cluster(CLUSTER),
        issuer,
        incarnation: 1,
        sequence: 9,
        issued_at: ISSUED_AT,
        expires_at: None,
        critical: Vec::new(),
    };
    v1::ClusterHead {
        header: Some(header.to_wire()),
        incarnation: 1,
        version: 9,
        refresh: 0,
        tree_size: 1 << 14,
        root: vec![3; 32],
        previous_head: vec![4; 32],
        fresh_until_ms: ISSUED_AT.0 + 300_000,
        reconnect_window_ms: 5_000,
    }
}
