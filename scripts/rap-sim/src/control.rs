//! The control plane of a run: rows, revocations, plans and signed heads.
//!
//! Owns what was published, so that every node can be compared with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_contract::{
    Audience, AuthorityChain, HeadFacts, HeaderTerms, KeySet, Revocation, RevocationChain, RevocationKind,
    Signer, sign,
};
use rap_planner::{ClusterRows, HeadTerms, LeafMemory, Limits, MapKey, NodeRow, Plan, Published, plan};
use rap_types::{
    Capability, ClusterId, Digest, HeadOrder, Incarnation, InstallationId, KeyId, NodeId, Now, Refresh, Role,
    Version, Wall,
};
use rap_wire::v1;

use crate::require::require;

pub const INSTALLATION: InstallationId = InstallationId::from_bytes([1; 16]);
pub const CLUSTER: ClusterId = ClusterId::from_bytes([2; 16]);

/// One replica.
pub struct Control {
    pub installation_authority: Signer,
    authority: Signer,
    pub chain: Arc<AuthorityChain>,
    map_key: MapKey,
    /// The cluster as its database has it.
    pub rows: ClusterRows,
    pub published: Arc<Published>,
    tip: Option<Digest>,
    /// Every version that was published.
    pub history: BTreeMap<Version, Arc<Plan>>,
}

impl Control {
    /// A cluster of these nodes, its first version published.
    pub fn new(nodes: Vec<NodeRow>, now: Now) -> Result<Self> {
        let [installation_authority, authority] = [Signer::from_seed(&[3; 32]), Signer::from_seed(&[4; 32])];
        let chain = Arc::new(authority_chain(&installation_authority, &authority, now.wall)?);
        let rows = rows(nodes);
        let map_key = MapKey::from_bytes([5; 32]);
        let first = plan(&rows, &map_key)?;
        let (published, tip) = signed(first, Refresh(0), None, &authority, now)?;
        let history = BTreeMap::from([(published.order.version, published.plan.clone())]);
        let published = Arc::new(published);
        Ok(Self {
            installation_authority,
            authority,
            chain,
            map_key,
            rows,
            published,
            tip: Some(tip),
            history,
        })
    }

    /// Publishes the next version, planned of what changed. It must be the plan of all rows.
    pub fn publish(&mut self, changed: Vec<NodeRow>, gone: Option<NodeId>, now: Now) -> Result<()> {
        let before = self.published.plan.clone();
        self.rows.version.0 += 1;
        self.rows.leaves = before.nodes.iter().map(|(node, part)| (*node, memory(part))).collect();
        for row in &changed {
            self.rows.nodes.retain(|known| known.node != row.node);
            self.rows.nodes.push(row.clone());
        }
        if let Some(node) = gone {
            self.revoke(node, now.wall)?;
        }
        let touched = ClusterRows {
            nodes: changed,
            gone: gone.into_iter().collect(),
            leaves: BTreeMap::new(),
            ..self.rows.clone()
        };
        let next = before.next(&touched, &self.map_key)?.context("within every limit")?;
        let whole = plan(&self.rows, &self.map_key)?;
        require(next.tree.root() == whole.tree.root(), || {
            format!("version {}: the plan of what changed is not the plan of all rows", next.version.0)
        })?;
        let (published, tip) = signed(next, Refresh(0), self.tip, &self.authority, now)?;
        self.history.insert(published.order.version, published.plan.clone());
        (self.published, self.tip) = (Arc::new(published), Some(tip));
        Ok(())
    }

    /// Signs the present version again.
    pub fn refresh(&mut self, now: Now) -> Result<()> {
        let present = &self.published;
        let refresh = Refresh(present.order.refresh.0 + 1);
        let (published, _) =
            signed((*present.plan).clone(), refresh, present.previous, &self.authority, now)?;
        self.published = Arc::new(published);
        Ok(())
    }

    fn revoke(&mut self, node: NodeId, now: Wall) -> Result<()> {
        let row = self.rows.nodes.iter().find(|row| row.node == node).context("a member")?;
        let revocation = Revocation {
            kind: RevocationKind::Banned,
            node,
            key: KeyId::of(&row.node_public_key),
            generation: row.key_generation,
            reason: String::new(),
        };
        let known: &RevocationChain = &self.rows.revocations;
        let record = known.sign_next(&revocation, &self.chain, &self.authority, &[], now)?;
        self.rows.revocations = Arc::new(known.extended(&[record], &self.chain, &[])?);
        self.rows.nodes.retain(|row| row.node != node);
        self.rows.gone.push(node);
        Ok(())
    }
}

fn memory(part: &rap_planner::NodePlan) -> LeafMemory {
    LeafMemory { generation: part.generation, manifest_root: part.manifest.root() }
}

/// The head over a plan, and its digest.
fn signed(
    plan: Plan,
    refresh: Refresh,
    previous: Option<Digest>,
    authority: &Signer,
    now: Now,
) -> Result<(Published, Digest)> {
    let terms = HeadTerms {
        issuer: authority.id(),
        refresh,
        previous,
        issued_at: now.wall,
        fresh_for: Duration::from_secs(300),
        reconnect_window: Duration::from_secs(5),
        dev: false,
    };
    let head = sign(&plan.head(&terms), &[authority]);
    let keys = KeySet::of::<v1::ClusterHead>(authority.public());
    let (verified, facts) = HeadFacts::open(&head, &keys, &rap_contract::Expectation::default())?;
    let published = Published {
        order: HeadOrder { incarnation: plan.incarnation, version: plan.version, refresh },
        plan: Arc::new(plan),
        head: head.into(),
        previous,
        issued_at: facts.issued_at,
        fresh_until: facts.fresh_until,
    };
    Ok((published, verified.digest()))
}

fn authority_chain(installation: &Signer, authority: &Signer, now: Wall) -> Result<AuthorityChain> {
    let header = HeaderTerms {
        installation: INSTALLATION,
        cluster: CLUSTER,
        audience: Audience::Cluster(CLUSTER),
        issuer: installation.id(),
        incarnation: 1,
        sequence: 1,
        issued_at: now,
        expires_at: None,
        critical: Vec::new(),
    };
    let record = v1::AuthorityRecord {
        header: Some(header.to_wire()),
        kind: v1::authority_record::Kind::Create.into(),
        authority_key: authority.public().to_vec(),
        previous_record_digest: Vec::new(),
    };
    let records = [sign(&record, &[installation, authority])];
    Ok(AuthorityChain::verify(&records, &installation.public(), INSTALLATION, CLUSTER, &[])?)
}

fn rows(nodes: Vec<NodeRow>) -> ClusterRows {
    ClusterRows {
        installation: INSTALLATION,
        cluster: CLUSTER,
        name: "sim".into(),
        incarnation: Incarnation(1),
        version: Version(1),
        ipv4_pool: "100.96.0.0/16".parse().expect("a prefix"),
        cluster_ca: vec![1; 300],
        next_ca: None,
        degraded_for_ms: 43_200_000,
        leaf_lifetime_ms: 86_400_000,
        mtu: 1280,
        link_probe_interval_ms: 1_000,
        wireguard_keepalive_s: 25,
        wireguard_key_max_age_ms: 0,
        identity_key_max_age_ms: 0,
        degraded_ends: Vec::new(),
        survive_forever_roles: Vec::new(),
        nodes,
        gone: Vec::new(),
        revocations: Arc::default(),
        leaves: BTreeMap::new(),
        limits: Limits::default(),
        loopback: rap_types::sense::Loopback::Refused,
    }
}

/// A canonical key.
fn wireguard_key(seed: &[u8; 32]) -> [u8; 32] {
    let mut key = *Digest::of(&[b"wireguard", seed]).as_bytes();
    key[31] &= 0x7f;
    key
}

/// Row of the node with this host number. Every sixth is a relay of the platform; of the others, those that follow one are
/// relays of the organizations, and the rest cannot be dialled.
pub fn row(number: u32, organization: Option<u8>) -> NodeRow {
    let digest = *Digest::of(&[b"sim", &number.to_be_bytes()]).as_bytes();
    let organization = match number % 6 {
        0 => None,
        1 => Some(1 + (number / 6 % 3) as u8),
        _ => organization,
    };
    let relays = number % 6 < 2;
    let endpoint =
        |port: u16| if relays { vec![format!("node-{number}.example.net:{port}")] } else { Vec::new() };
    NodeRow {
        node: NodeId::from_slice(&digest[..16]).expect("16 bytes"),
        name: format!("node-{number}"),
        node_public_key: digest,
        wireguard_public_key: wireguard_key(&digest),
        organization: organization.map(|byte| rap_types::OrganizationId::from_bytes([byte; 16])),
        roles: if relays { vec![Role::RelayNode] } else { Vec::new() },
        capabilities: if relays { vec![Capability::RouteMesh] } else { Vec::new() },
        draining: false,
        tags: Vec::new(),
        region: format!("r{}", number % 2),
        link_endpoints: endpoint(7443),
        wireguard_endpoints: endpoint(51820),
        host_number: number,
        key_generation: 1,
    }
}
