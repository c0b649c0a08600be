//! The header every signed payload begins with: whom it is from, for, and when it holds.

use std::time::Duration;

use rap_types::{ClusterId, Digest, InstallationId, KeyId, NodeId, Reason, Wall};
use rap_wire::v1;
use v1::audience::Kind;

use crate::{Expectation, FEATURE_DEV, Reject};

/// How far in the future `issued_at` and `not_before` may lie.
const TIME_TOLERANCE: Duration = Duration::from_secs(60);
/// Longest time between issue and end of a signed document.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Most critical features a header may name.
const CRITICAL_CAP: usize = 16;

/// Whom a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever holds it.
    Any,
    /// One installation.
    Installation(InstallationId),
    /// Every node of one cluster.
    Cluster(ClusterId),
    /// One node.
    Node(NodeId),
    /// The holder of one key.
    Key(KeyId),
}

impl Audience {
    fn to_wire(self) -> v1::Audience {
        let (kind, value) = match self {
            Self::Any => (Kind::Any, Vec::new()),
            Self::Installation(id) => (Kind::Installation, id.to_vec()),
            Self::Cluster(id) => (Kind::Cluster, id.to_vec()),
            Self::Node(id) => (Kind::Node, id.to_vec()),
            Self::Key(id) => (Kind::Key, id.to_vec()),
        };
        v1::Audience { kind: kind.into(), value }
    }

    fn from_wire(audience: &v1::Audience) -> Option<Self> {
        let value = &audience.value;
        match Kind::try_from(audience.kind).ok()? {
            Kind::Any if value.is_empty() => Some(Self::Any),
            Kind::Installation => InstallationId::from_slice(value).ok().map(Self::Installation),
            Kind::Cluster => ClusterId::from_slice(value).ok().map(Self::Cluster),
            Kind::Node => NodeId::from_slice(value).ok().map(Self::Node),
            Kind::Key => KeyId::from_slice(value).ok().map(Self::Key),
            Kind::Any | Kind::Role | Kind::Unspecified => None,
        }
    }
}

/// A header's values, typed. Built to sign, returned after verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderTerms {
    /// Installation the document belongs to.
    pub installation: InstallationId,
    /// Cluster it belongs to; zero for installation scope.
    pub cluster: ClusterId,
    /// Whom it is for.
    pub audience: Audience,
    /// Key that signs it.
    pub issuer: KeyId,
    /// Incarnation of the authority when it signed.
    pub incarnation: u64,
    /// Position in the document's own sequence.
    pub sequence: u64,
    /// When it was made.
    pub issued_at: Wall,
    /// When it ends, if it does.
    pub expires_at: Option<Wall>,
    /// Features the reader must know.
    pub critical: Vec<String>,
}

impl HeaderTerms {
    /// The header of an only document for an installation, without an end.
    pub fn of_installation(installation: InstallationId, issuer: KeyId, issued_at: Wall) -> Self {
        Self {
            installation,
            cluster: ClusterId::ZERO,
            audience: Audience::Installation(installation),
            issuer,
            incarnation: 0,
            sequence: 1,
            issued_at,
            expires_at: None,
            critical: Vec::new(),
        }
    }

    /// The header of an only document for every node of a cluster, without an end.
    pub fn of_cluster(
        installation: InstallationId,
        cluster: ClusterId,
        issuer: KeyId,
        issued_at: Wall,
    ) -> Self {
        let audience = Audience::Cluster(cluster);
        Self { cluster, audience, ..Self::of_installation(installation, issuer, issued_at) }
    }

    /// The wire form.
    pub fn to_wire(&self) -> v1::Header {
        v1::Header {
            installation_id: self.installation.to_vec(),
            cluster_id: self.cluster.to_vec(),
            audience: Some(self.audience.to_wire()),
            issuer_key_id: self.issuer.to_vec(),
            authority_incarnation: self.incarnation,
            sequence: self.sequence,
            issued_at_ms: self.issued_at.0,
            not_before_ms: 0,
            expires_at_ms: self.expires_at.map_or(0, |wall| wall.0),
            critical: self.critical.clone(),
        }
    }

    /// Checks a header in this order: issuer, installation, cluster, audience, times, critical.
    pub(crate) fn check(
        header: Option<&v1::Header>,
        issuer: KeyId,
        expect: &Expectation<'_>,
    ) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::HeaderMalformed, what);
        let header = header.ok_or(malformed("absent"))?;
        let terms = Self {
            installation: InstallationId::from_slice(&header.installation_id)
                .map_err(|_| malformed("installation_id"))?,
            cluster: ClusterId::from_slice(&header.cluster_id).map_err(|_| malformed("cluster_id"))?,
            audience: header.audience.as_ref().and_then(Audience::from_wire).ok_or(malformed("audience"))?,
            issuer: KeyId::from_slice(&header.issuer_key_id).map_err(|_| malformed("issuer_key_id"))?,
            incarnation: header.authority_incarnation,
            sequence: header.sequence,
            issued_at: Wall(header.issued_at_ms),
            expires_at: (header.expires_at_ms != 0).then_some(Wall(header.expires_at_ms)),
            critical: header.critical.clone(),
        };
        Reject::when(terms.issuer != issuer, Reason::HeaderIssuer, "issuer_key_id")?;
        terms.check_scope(expect)?;
        terms.check_times(header.not_before_ms, expect.now)?;
        terms.check_critical(expect)?;
        Ok(terms)
    }

    fn check_scope(&self, expect: &Expectation<'_>) -> Result<(), Reject> {
        if expect.installation.is_some_and(|id| id != self.installation) {
            return Err(Reject::new(Reason::HeaderInstallation, "installation_id"));
        }
        if expect.cluster.is_some_and(|id| id != self.cluster) {
            return Err(Reject::new(Reason::HeaderCluster, "cluster_id"));
        }
        if !expect.audience.is_empty() && !expect.audience.contains(&self.audience) {
            return Err(Reject::new(Reason::HeaderAudience, "audience"));
        }
        Ok(())
    }

    fn check_times(&self, not_before_ms: i64, now: Option<Wall>) -> Result<(), Reject> {
        // An end that never comes is no end: whoever means none leaves it out.
        let latest = self.issued_at.plus(LONGEST_LIFE);
        let senseless = |end: Wall| end <= self.issued_at || end > latest || Wall(not_before_ms) >= end;
        if self.issued_at.0 <= 0 || not_before_ms < 0 || self.expires_at.is_some_and(senseless) {
            return Err(Reject::new(Reason::HeaderMalformed, "times"));
        }
        let Some(now) = now else { return Ok(()) };
        Reject::when(self.issued_at > now.plus(TIME_TOLERANCE), Reason::ClockSkew, "issued_at")?;
        if Wall(not_before_ms) > now.plus(TIME_TOLERANCE) {
            return Err(Reject::new(Reason::HeaderNotYetValid, "not_before"));
        }
        Reject::when(self.expires_at.is_some_and(|end| end <= now), Reason::HeaderExpired, "expires_at")?;
        Ok(())
    }

    fn check_critical(&self, expect: &Expectation<'_>) -> Result<(), Reject> {
        Reject::when(self.critical.len() > CRITICAL_CAP, Reason::HeaderMalformed, "critical")?;
        for feature in &self.critical {
            if expect.features.contains(&feature.as_str()) {
                continue;
            }
            let reason =
                if feature == FEATURE_DEV { Reason::AuthorityDevRefused } else { Reason::HeaderCritical };
            return Err(Reject::new(reason, "critical"));
        }
        Ok(())
    }

    /// True if a development installation signed it.
    pub fn is_dev(&self) -> bool {
        self.critical.iter().any(|feature| feature == FEATURE_DEV)
    }
}

/// SHA-256 over the signing bytes: how one signed document refers to another.
pub(crate) fn document_digest(signing_bytes: &[u8]) -> Digest {
    Digest::of(&[signing_bytes])
}
