//! path-install: one hop of a path, signed by the leaf key of the source.
//!
//! Owns the shape of an install. Refuses to own the decision to carry a path.

use std::ops::RangeInclusive;

use rap_types::{ClusterId, InstallationId, NodeId, OrganizationId, Reason, Wall};
use rap_wire::v1;

use crate::leaf::verify_by_leaf;
use crate::{Audience, Expectation, HeaderTerms, LeafKey, LeafTrust, PublicKey, Reject};

/// Most hops of a path: three relays and the destination.
pub const PATH_HOPS_MAX: u8 = 4;

/// Lifetimes of a path in seconds, from the arrival of the install.
pub const PATH_LIFETIME: RangeInclusive<u32> = 10..=600;

/// One hop of a path, in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInstall {
    /// Equal in all hops.
    pub path_id: [u8; 16],
    /// Lane of the path.
    pub lane: v1::LinkLane,
    /// Rises with each path of (source, destination, lane).
    pub generation: u64,
    /// Where the path begins.
    pub source: NodeId,
    /// Where the path ends.
    pub destination: NodeId,
    /// Organization of the source; absent: of the platform.
    pub organization: Option<OrganizationId>,
    /// Position of this hop, from 1.
    pub position: u8,
    /// Number of hops.
    pub length: u8,
    /// Node before this hop.
    pub previous: NodeId,
    /// Label of frames that come from `previous`.
    pub in_label: u64,
    /// Label of frames that go to `previous`.
    pub back_out_label: u64,
    /// The hop after this one; absent at the destination.
    pub next: Option<PathNext>,
    /// Rate of the path in kbit/s; 0: no limit.
    pub rate_kbit: u32,
    /// Life from the arrival of the install, seconds.
    pub lifetime_s: u32,
    /// When the source signed.
    pub issued_at: Wall,
}

/// The side of a hop that is nearer to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathNext {
    /// Node after this hop.
    pub node: NodeId,
    /// Label of frames that go to `node`.
    pub out_label: u64,
    /// Label of frames that come from `node`.
    pub back_in_label: u64,
}

/// What a hop requires of an install.
#[derive(Debug, Clone, Copy)]
pub struct PathInstallExpectation<'a> {
    /// Installation of the membership.
    pub installation: InstallationId,
    /// Cluster of the source.
    pub cluster: ClusterId,
    /// This node.
    pub hop: NodeId,
    /// Critical features known.
    pub features: &'a [&'a str],
}

impl PathInstall {
    /// Verifies an install and reads it. Times are left to the hop, which knows when the install arrived.
    ///
    /// # Errors
    /// `certificate.*`, `node.revoked`, `envelope.*`, `key.*`, `signature.*`, `header.*`, `payload.malformed`,
    /// `path.lifetime`, `path.kind`.
    pub fn open(
        bytes: &[u8],
        leaf: &[u8],
        trust: &dyn LeafTrust,
        expect: &PathInstallExpectation<'_>,
    ) -> Result<(Self, LeafKey), Reject> {
        let audience = [Audience::Node(expect.hop)];
        let expect =
            Expectation::within(expect.installation, expect.cluster, expect.features).for_one_of(&audience);
        let (install, leaf) = verify_by_leaf::<v1::PathInstall>(bytes, leaf, trust, &expect)?;
        if install.header().expires_at.is_some() {
            return Err(malformed("expires_at: the lifetime counts from arrival"));
        }
        Ok((Self::read(&install, install.header().issued_at)?, leaf))
    }

    /// The wire form, issued by `issuer` for the node `hop`.
    pub fn to_wire(
        &self,
        installation: InstallationId,
        cluster: ClusterId,
        hop: NodeId,
        issuer: &PublicKey,
    ) -> v1::PathInstall {
        let header = HeaderTerms {
            audience: Audience::Node(hop),
            sequence: self.generation,
            ..HeaderTerms::of_cluster(installation, cluster, issuer.id(), self.issued_at)
        };
        let (next, out_label, back_in_label) = match self.next {
            Some(next) => (next.node.to_vec(), next.out_label, next.back_in_label),
            None => (Vec::new(), 0, 0),
        };
        v1::PathInstall {
            header: Some(header.to_wire()),
            path_id: self.path_id.to_vec(),
            lane: self.lane.into(),
            generation: self.generation,
            source: self.source.to_vec(),
            destination: self.destination.to_vec(),
            organization_id: self.organization.map_or_else(Vec::new, OrganizationId::to_vec),
            position: u32::from(self.position),
            length: u32::from(self.length),
            previous: self.previous.to_vec(),
            in_label: self.in_label,
            next,
            out_label,
            back_in_label,
            back_out_label: self.back_out_label,
            rate_kbit: self.rate_kbit,
            lifetime_s: self.lifetime_s,
            kind: v1::PathKind::Stream.into(),
        }
    }

    fn read(install: &v1::PathInstall, issued_at: Wall) -> Result<Self, Reject> {
        let hop = |number: u32| u8::try_from(number).ok().filter(|hop| (1..=PATH_HOPS_MAX).contains(hop));
        let node = |bytes: &[u8], what| NodeId::from_slice(bytes).map_err(|_| malformed(what));
        let lane =
            v1::LinkLane::try_from(install.lane).ok().filter(|lane| *lane != v1::LinkLane::Unspecified);
        let organization = &install.organization_id;
        let organization = (!organization.is_empty()).then(|| OrganizationId::from_slice(organization));
        let (position, length) =
            hop(install.position).zip(hop(install.length)).ok_or(malformed("position or length"))?;
        let labels = [install.out_label, install.back_in_label];
        let next = match (install.next.is_empty(), labels) {
            (true, [0, 0]) => None,
            (false, [out, back]) if out != 0 && back != 0 => {
                Some(PathNext { node: node(&install.next, "next")?, out_label: out, back_in_label: back })
            }
            _ => return Err(malformed("next and its labels")),
        };
        if install.in_label == 0 || install.back_out_label == 0 {
            return Err(malformed("in_label or back_out_label"));
        }
        let read = Self {
            path_id: install.path_id.as_slice().try_into().map_err(|_| malformed("path_id"))?,
            lane: lane.ok_or(malformed("lane"))?,
            generation: install.generation,
            source: node(&install.source, "source")?,
            destination: node(&install.destination, "destination")?,
            organization: organization.transpose().map_err(|_| malformed("organization_id"))?,
            position,
            length,
            previous: node(&install.previous, "previous")?,
            in_label: install.in_label,
            back_out_label: install.back_out_label,
            next,
            rate_kbit: install.rate_kbit,
            lifetime_s: install.lifetime_s,
            issued_at,
        };
        Reject::when(!PATH_LIFETIME.contains(&read.lifetime_s), Reason::PathLifetime, "lifetime_s")?;
        Reject::when(install.kind != i32::from(v1::PathKind::Stream), Reason::PathKind, "kind")?;
        Ok(read)
    }
}

const fn malformed(what: &'static str) -> Reject {
    Reject::new(Reason::PayloadMalformed, what)
}
