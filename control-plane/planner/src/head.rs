//! The head document of a plan, ready to be signed.

use std::time::Duration;

use rap_contract::{FEATURE_DEV, HeaderTerms};
use rap_types::{Digest, KeyId, Refresh, Wall};
use rap_wire::v1;

use crate::Plan;

/// What a head says besides the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadTerms {
    /// Cluster authority that will sign.
    pub issuer: KeyId,
    /// Idle re-sign count; 0 for the first head of a version.
    pub refresh: Refresh,
    /// Digest of the previous refresh-0 head.
    pub previous: Option<Digest>,
    /// When it is signed.
    pub issued_at: Wall,
    /// How long it keeps a node informed.
    pub fresh_for: Duration,
    /// Spread of reconnects after a lost stream.
    pub reconnect_window: Duration,
    /// Signed by a development installation.
    pub dev: bool,
}

impl Plan {
    /// The head over this plan.
    pub fn head(&self, terms: &HeadTerms) -> v1::ClusterHead {
        let header = HeaderTerms {
            incarnation: self.incarnation.0,
            sequence: self.version.0,
            critical: if terms.dev { vec![FEATURE_DEV.to_owned()] } else { Vec::new() },
            ..HeaderTerms::of_cluster(self.installation, self.cluster, terms.issuer, terms.issued_at)
        };
        v1::ClusterHead {
            header: Some(header.to_wire()),
            incarnation: self.incarnation.0,
            version: self.version.0,
            refresh: terms.refresh.0,
            tree_size: self.tree.size(),
            root: self.tree.root().to_vec(),
            previous_head: terms.previous.map(|digest| digest.to_vec()).unwrap_or_default(),
            fresh_until_ms: terms.issued_at.plus(terms.fresh_for).0,
            reconnect_window_ms: u32::try_from(terms.reconnect_window.as_millis()).unwrap_or(u32::MAX),
        }
    }
}
