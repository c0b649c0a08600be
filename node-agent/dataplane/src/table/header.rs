//! Everything in a table that is not about one peer or one revocation.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rap_runtime::Fault;
use rap_types::{ClusterId, InstallationId, NodeId, limits};
use rap_wire::v1::{ForwardingTable, TableGate};
use rap_wireguard::{DEFAULT_MTU, StaticSecret};
use zeroize::Zeroizing;

use super::deadlines::Deadlines;
use crate::bounds::Bounds;

use super::field::{deadline, ensure, id, prefix, refused, secret, too_large, unsupported, within};
use super::identity::LinkCertificate;
use super::member::Member;
use super::paths::PathFields;

/// The header of a table, in the words of those who obey it.
pub(super) struct Header {
    pub(super) member: Member,
    pub(super) private_key: StaticSecret,
    pub(super) mtu: u16,
    /// Own overlay addresses, each with the prefix of its pool.
    pub(super) addresses: Vec<IpNet>,
    /// Prefixes that this node forwards for.
    pub(super) routed: Vec<IpNet>,
    /// Addresses of the control plane.
    pub(super) control: BTreeSet<IpAddr>,
    /// Absent: nobody is linked.
    pub(super) leaf: Option<Arc<LinkCertificate>>,
    pub(super) deadlines: Deadlines,
    /// Absent: the default of the mesh.
    pub(super) probe_interval: Option<Duration>,
    pub(super) newest_head: Vec<u8>,
    pub(super) paths: PathFields,
}

impl Header {
    /// Reads all of a table but its version, peers and revocations.
    pub(super) fn read(mut table: ForwardingTable, bounds: &Bounds) -> Result<Self, Fault> {
        // First of all, so that they are wiped on every way out.
        let private_key = Zeroizing::new(std::mem::take(&mut table.wireguard_private_key));
        let certificate_key =
            table.identity.as_mut().map(|identity| std::mem::take(&mut identity.private_key));
        let certificate_key = Zeroizing::new(certificate_key.unwrap_or_default());
        let ForwardingTable {
            version: _,
            deadline_ns,
            node_id,
            cluster_id,
            installation_id,
            identity,
            addresses,
            mtu,
            wireguard_private_key: _,
            peers: _,
            revoked: _,
            probe_interval_ms,
            newest_head,
            tunnel_deadline_ns,
            routed,
            control,
            relays,
            gates,
            critical,
            relay,
            organization_id,
            path_lifetime_s,
            path_instance,
        } = table;
        supported(&gates, &critical)?;
        let paths = PathFields::read(&relays, relay, &organization_id, path_lifetime_s, path_instance)?;
        let private_key = StaticSecret::from(*secret(&private_key, "wireguard_private_key")?);
        let member = Member {
            installation: id(InstallationId::from_slice(&installation_id), "installation_id")?,
            cluster: id(ClusterId::from_slice(&cluster_id), "cluster_id")?,
            node: id(NodeId::from_slice(&node_id), "node_id")?,
        };
        let leaf =
            identity.map(|identity| LinkCertificate::read(identity, certificate_key, member)).transpose()?;
        let deadlines = Deadlines {
            table: deadline(deadline_ns),
            leaf: leaf.as_ref().and_then(|leaf| leaf.deadline),
            grant: deadline(tunnel_deadline_ns),
        };
        Ok(Self {
            member,
            private_key,
            mtu: overlay_mtu(mtu),
            addresses: own_addresses(&addresses, bounds)?,
            routed: routed_prefixes(&routed)?,
            control: control_addresses(&control)?,
            leaf: leaf.map(Arc::new),
            deadlines,
            probe_interval: probe_interval(probe_interval_ms),
            newest_head: Some(newest_head)
                .filter(|head| head.len() <= rap_link::HEAD_MAX)
                .unwrap_or_default(),
            paths,
        })
    }
}

/// Refuses what this version knows and cannot do.
fn supported(gates: &[TableGate], critical: &[String]) -> Result<(), Fault> {
    if !gates.is_empty() {
        return Err(unsupported("gates"));
    }
    match critical.first() {
        Some(feature) => Err(unsupported(&format!("critical feature {feature:.64}"))),
        None => Ok(()),
    }
}

fn own_addresses(texts: &[String], bounds: &Bounds) -> Result<Vec<IpNet>, Fault> {
    ensure((1..=ADDRESSES).contains(&texts.len()), || format!("addresses: 1 to {ADDRESSES}"))?;
    texts.iter().map(|text| prefix(text).and_then(|net| within(net, bounds))).collect()
}

fn routed_prefixes(texts: &[String]) -> Result<Vec<IpNet>, Fault> {
    if texts.len() > limits::TABLE_ROUTED_MAX {
        return Err(too_large("routed", limits::TABLE_ROUTED_MAX));
    }
    texts.iter().map(|text| prefix(text)).collect()
}

fn control_addresses(texts: &[String]) -> Result<BTreeSet<IpAddr>, Fault> {
    if texts.len() > CONTROL {
        return Err(too_large("control", CONTROL));
    }
    let read =
        |text: &String| text.parse().map_err(|_| refused(format!("control: {text:?}: not an address")));
    texts.iter().map(read).collect()
}

/// IPv6 takes no interface below its minimum, which is also the default.
pub(super) fn overlay_mtu(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(LARGEST_MTU).clamp(DEFAULT_MTU, LARGEST_MTU)
}

fn probe_interval(millis: u32) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis.into()).clamp(SHORTEST_PROBE, LONGEST_PROBE))
}

const ADDRESSES: usize = 16;
const CONTROL: usize = 64;
const LARGEST_MTU: u16 = 9000;
const SHORTEST_PROBE: Duration = Duration::from_millis(100);
const LONGEST_PROBE: Duration = Duration::from_secs(60);
