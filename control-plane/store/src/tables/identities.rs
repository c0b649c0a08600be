//! As whom each node was heard last, and what is doubted about its identity. Never signed, never in the outbox.
//!
//! Owns what is remembered of all replicas' streams. Refuses to judge it: the server does.

use std::time::Duration;

use rap_types::{ClusterId, NodeId, Wall};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;
use crate::columns::bound;
use crate::counted::{may_conflict, one_row};
use crate::query::{all, optional, plain_row, statements};

/// As what a stream heard its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardIdentity {
    /// Generation of the key that its certificate is of.
    pub key_generation: u64,
    /// Instance of its agent, if the node reported; an acknowledgement alone is no contact of an instance.
    pub instance: Option<[u8; 16]>,
    /// Newest (incarnation, version) that it acknowledged on the stream; zeros for none.
    pub held: (u64, u64),
}

/// As whom a node was heard last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRow {
    /// The node.
    pub node: NodeId,
    /// Cluster of the node.
    pub cluster: ClusterId,
    /// Key generation of the node when the identity was told.
    pub key_generation: u64,
    held_incarnation: u64,
    held_version: u64,
    instance: Uuid,
    replica: Uuid,
    ago_ms: u64,
    /// Code of what is doubted; empty if nothing is.
    pub doubt: String,
}

plain_row!(IdentityRow {
    node: node_id,
    cluster: cluster_id,
    key_generation,
    held_incarnation,
    held_version,
    instance: instance_id,
    replica: replica_id,
    ago_ms,
    doubt,
});

impl IdentityRow {
    /// Highest (incarnation, version) that the node acknowledged under this key generation.
    pub const fn held(&self) -> (u64, u64) {
        (self.held_incarnation, self.held_version)
    }

    /// Instance of its agent; `None` if no instance was heard yet.
    pub fn instance(&self) -> Option<[u8; 16]> {
        (!self.instance.is_nil()).then(|| self.instance.into_bytes())
    }

    /// Process of the control plane that heard it.
    pub const fn replica(&self) -> [u8; 16] {
        self.replica.into_bytes()
    }

    /// How long ago it was heard, by the database's clock.
    pub const fn ago(&self) -> Duration {
        Duration::from_millis(self.ago_ms)
    }
}

/// A member whose identity is doubted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubtedNode {
    /// The node.
    pub node: NodeId,
    /// Cluster of the node.
    pub cluster: ClusterId,
    /// Name of the node.
    pub name: String,
    /// Code of what is doubted.
    pub doubt: String,
    /// When it was told last.
    pub doubted_at: Wall,
}

plain_row!(DoubtedNode { node: node_id, cluster: cluster_id, name, doubt, doubted_at });

/// The columns of [`IdentityRow`]. Whatever somebody wrote into the time, it is a number of milliseconds.
macro_rules! identity {
    ($rest:literal) => {
        concat!(
            "SELECT i.node_id, n.cluster_id, i.key_generation, i.held_incarnation, i.held_version, i.instance_id, \
                i.replica_id, i.doubt, \
                floor(extract(epoch FROM clock_timestamp() - least(greatest(i.heard_at, \
                clock_timestamp() - interval '10 years'), clock_timestamp())) * 1000)::bigint AS ago_ms \
            FROM node_identities i JOIN nodes n ON n.node_id = i.node_id ",
            $rest
        )
    };
}

statements! {
    async fn identities_record(arguments) -> () = may_conflict "INSERT INTO node_identities AS known \
            (node_id, key_generation, held_incarnation, held_version, instance_id, replica_id, heard_at) \
        SELECT DISTINCT ON (t.node_id) t.node_id, t.generation, t.incarnation, t.version, t.instance, $6, \
            CASE WHEN t.instance = $8 THEN '-infinity' ELSE clock_timestamp() - make_interval(secs => t.ago) END \
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $7::double precision[]) \
            AS t (node_id, generation, incarnation, version, instance, ago) \
        WHERE EXISTS (SELECT 1 FROM nodes n WHERE n.node_id = t.node_id) \
        ORDER BY t.node_id, t.ago \
        ON CONFLICT (node_id) DO UPDATE SET key_generation = excluded.key_generation, \
            (instance_id, replica_id, heard_at) = (SELECT l.instance, l.replica, l.heard FROM (VALUES \
                (excluded.instance_id, excluded.replica_id, excluded.heard_at), \
                (CASE WHEN excluded.key_generation > known.key_generation THEN $8 ELSE known.instance_id END, \
                known.replica_id, CASE WHEN known.heard_at > clock_timestamp() THEN '-infinity' ELSE known.heard_at END)) \
                AS l (instance, replica, heard) ORDER BY l.instance = $8, l.heard DESC LIMIT 1), \
            (held_incarnation, held_version) = (SELECT h.incarnation, h.version FROM (VALUES \
                (excluded.held_incarnation, excluded.held_version), \
                (CASE WHEN excluded.key_generation = known.key_generation THEN known.held_incarnation ELSE 0 END, \
                CASE WHEN excluded.key_generation = known.key_generation THEN known.held_version ELSE 0 END)) \
                AS h (incarnation, version) ORDER BY h.incarnation DESC, h.version DESC LIMIT 1), \
            doubt = CASE WHEN excluded.key_generation = known.key_generation THEN known.doubt ELSE '' END \
        WHERE excluded.key_generation >= known.key_generation";
    /// As whom a node was heard last.
    pub async fn identity_read(node: NodeId) -> Option<IdentityRow> = optional identity!("WHERE i.node_id = $1");
    /// The same, locked until the transaction ends.
    pub async fn identity_hold(node: NodeId) -> Option<IdentityRow> = optional
        identity!("WHERE i.node_id = $1 FOR UPDATE OF i");
    /// As whom these nodes were heard last.
    pub async fn identities_among(nodes: &[NodeId]) -> Vec<IdentityRow> = all
        identity!("WHERE i.node_id = ANY($1)");
    /// Records a doubt about a node's identity under this key generation. False if it was recorded within the last hour.
    /// The node may have no row yet: contacts are written late.
    pub async fn identity_doubt(node: NodeId, key_generation: u64, doubt: &str) -> bool = may_conflict
        "INSERT INTO node_identities AS known \
            (node_id, key_generation, instance_id, replica_id, heard_at, doubt, doubted_at) \
        SELECT n.node_id, $2, nobody.id, nobody.id, '-infinity', $3, clock_timestamp() \
        FROM nodes n, (VALUES ('00000000-0000-0000-0000-000000000000'::uuid)) AS nobody (id) WHERE n.node_id = $1 \
        ON CONFLICT (node_id) DO UPDATE SET doubt = excluded.doubt, doubted_at = excluded.doubted_at \
        WHERE known.key_generation = excluded.key_generation AND (known.doubt <> excluded.doubt \
            OR known.doubted_at NOT BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp())";
    /// Ends a doubt: the node is taken with the state that it has.
    pub async fn identity_accept(node: NodeId) -> () = one_row
        "UPDATE node_identities SET doubt = '', doubted_at = '-infinity', held_incarnation = 0, held_version = 0 \
        WHERE node_id = $1";
    /// Members whose identity is doubted, the last first; at most 256.
    pub async fn nodes_doubted() -> Vec<DoubtedNode> = all
        "SELECT i.node_id, n.cluster_id, n.name, i.doubt, \
            CASE WHEN isfinite(i.doubted_at) THEN i.doubted_at ELSE n.created_at END AS doubted_at \
        FROM node_identities i JOIN nodes n USING (node_id) \
        WHERE i.doubt <> '' AND i.key_generation = n.key_generation AND n.identity_status IN ('active', 'draining') \
        ORDER BY i.doubted_at DESC, i.node_id LIMIT 256";
}

/// Records as what nodes were heard by `replica`, each with how long ago it was, in one statement. What is of an older
/// key generation is passed over, and so are nodes that do not exist. The newest contact of an instance counts. What a
/// node acknowledged only rises while its key generation stays; a new one ends a doubt.
pub async fn node_identities_record(
    connection: &mut PgConnection,
    replica: [u8; 16],
    heard: &[(NodeId, Duration, HeardIdentity)],
) -> Result<()> {
    let counters = |counter: fn(&HeardIdentity) -> u64| -> Vec<i64> {
        heard.iter().map(|(.., one)| i64::try_from(counter(one)).unwrap_or(i64::MAX)).collect()
    };
    let arguments = bound!(
        heard.iter().map(|(node, ..)| node.uuid()).collect::<Vec<_>>(),
        counters(|one| one.key_generation),
        counters(|one| one.held.0),
        counters(|one| one.held.1),
        heard.iter().map(|(.., one)| one.instance.map_or(Uuid::nil(), Uuid::from_bytes)).collect::<Vec<_>>(),
        Uuid::from_bytes(replica),
        heard.iter().map(|(_, ago, _)| ago.min(&LONGEST).as_secs_f64()).collect::<Vec<_>>(),
        Uuid::nil(),
    );
    identities_record(connection, arguments).await
}

/// Longer ago than anybody asks for.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
