//! The last contact of each node and what the node acknowledged. Never signed, never in the outbox.
//!
//! Owns the clock of contacts: the database's. A replica only says how long ago it heard a node.

use std::time::Duration;

use rap_authority::Columns;
use rap_types::{ClusterId, NodeId, Wall};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::Result;
use crate::columns::{bound, read};
use crate::counted::may_conflict;
use crate::query::{all, plain_row, statements};
use crate::row::Joined;

/// A node's last contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// When it was heard of, by the database's clock.
    pub last_seen_at: Wall,
    /// What was known of it then.
    pub known: ContactFacts,
}

/// What a replica knows of a node it hears.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContactFacts {
    /// Version of its agent.
    pub agent_version: String,
    /// Newest (incarnation, version) it said it verified.
    pub acked: (u64, u64),
    /// Code of the last refusal it reported; empty if none.
    pub last_reject: String,
    /// Generation of the CA that signed the certificate it showed; 0 if not known.
    pub certificate_ca: u64,
}

impl Joined for Option<Contact> {
    /// Reads the columns of a LEFT JOIN.
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        let Some(last_seen_at) = read(row, "last_seen_at")? else { return Ok(None) };
        let known = ContactFacts {
            agent_version: read(row, "agent_version")?,
            acked: (read(row, "acked_incarnation")?, read(row, "acked_version")?),
            last_reject: read(row, "last_reject")?,
            certificate_ca: read(row, "certificate_ca")?,
        };
        Ok(Some(Contact { last_seen_at, known }))
    }

    /// Not at all: a contact is never decided on.
    fn cover(&self, columns: Columns) -> Columns {
        columns
    }
}

statements! {
    async fn contacts_record(arguments) -> () = may_conflict "INSERT INTO node_contacts \
            (node_id, last_seen_at, agent_version, acked_incarnation, acked_version, last_reject, certificate_ca, \
            replica_id) \
        SELECT DISTINCT ON (t.node_id) t.node_id, clock_timestamp() - make_interval(secs => t.ago), \
            t.agent, t.incarnation, t.version, t.reject, t.ca, $8 \
        FROM unnest($1::uuid[], $2::double precision[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], \
            $7::bigint[]) AS t (node_id, ago, agent, incarnation, version, reject, ca) \
        WHERE EXISTS (SELECT 1 FROM nodes n WHERE n.node_id = t.node_id) \
        ORDER BY t.node_id, t.ago \
        ON CONFLICT (node_id) DO UPDATE SET last_seen_at = excluded.last_seen_at, \
            agent_version = excluded.agent_version, acked_incarnation = excluded.acked_incarnation, \
            acked_version = excluded.acked_version, last_reject = excluded.last_reject, \
            certificate_ca = excluded.certificate_ca, replica_id = excluded.replica_id \
        WHERE node_contacts.last_seen_at <= excluded.last_seen_at \
            OR node_contacts.last_seen_at > clock_timestamp()";
    /// Contacts that lie in the future, because the database's clock was set back or somebody wrote them, become
    /// contacts of now: absence is counted from here. Returns how many.
    pub async fn node_contacts_bound() -> u64 = may_conflict
        "UPDATE node_contacts SET last_seen_at = clock_timestamp() WHERE last_seen_at > clock_timestamp()";
    async fn contacts_end(nodes: &[NodeId], replica: Uuid) -> () = may_conflict
        "UPDATE node_contacts SET replica_id = NULL WHERE node_id = ANY($1) AND replica_id = $2";
    async fn elsewhere(cluster: ClusterId, replica: Uuid) -> Vec<NodeElsewhere> = all
        "SELECT c.node_id, c.replica_id, c.acked_version FROM node_contacts c \
            JOIN nodes n ON n.node_id = c.node_id JOIN replica_heartbeats h ON h.replica_id = c.replica_id \
        WHERE n.cluster_id = $1 AND c.replica_id <> $2 AND h.beat_at > clock_timestamp() - interval '10 seconds'";
}

/// A node that has its stream to another replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeElsewhere {
    /// The node.
    pub node: NodeId,
    replica: Uuid,
    /// Version that the node acknowledged last.
    pub acked_version: u64,
}

plain_row!(NodeElsewhere { node: node_id, replica: replica_id, acked_version });

impl NodeElsewhere {
    /// The replica.
    pub const fn replica(&self) -> [u8; 16] {
        self.replica.into_bytes()
    }
}

/// Records that nodes have no stream to this replica any more.
pub async fn node_contacts_end(
    connection: &mut PgConnection,
    nodes: &[NodeId],
    replica: [u8; 16],
) -> Result<()> {
    contacts_end(connection, nodes, Uuid::from_bytes(replica)).await
}

/// Nodes of a cluster that have their stream to another replica than this, of those that work.
pub async fn nodes_elsewhere(
    connection: &mut PgConnection,
    cluster: ClusterId,
    replica: [u8; 16],
) -> Result<Vec<NodeElsewhere>> {
    elsewhere(connection, cluster, Uuid::from_bytes(replica)).await
}

/// Records that `replica` hears many nodes, each with how long ago it was, in one statement. An older contact
/// never replaces a newer one, unless that one lies in the future; nodes that do not exist are passed over.
/// No value of one contact can fail the others: what a column does not hold is cut.
pub async fn node_contacts_record(
    connection: &mut PgConnection,
    replica: [u8; 16],
    contacts: &[(NodeId, Duration, ContactFacts)],
) -> Result<()> {
    let counters = |counter: fn(&ContactFacts) -> u64| -> Vec<i64> {
        contacts.iter().map(|(.., known)| i64::try_from(counter(known)).unwrap_or(i64::MAX)).collect()
    };
    let texts = |text: fn(&ContactFacts) -> &String| -> Vec<String> {
        contacts.iter().map(|(.., known)| storable(text(known))).collect()
    };
    let arguments = bound!(
        contacts.iter().map(|(node, ..)| node.uuid()).collect::<Vec<_>>(),
        contacts.iter().map(|(_, ago, _)| ago.min(&LONGEST).as_secs_f64()).collect::<Vec<_>>(),
        texts(|known| &known.agent_version),
        counters(|known| known.acked.0),
        counters(|known| known.acked.1),
        texts(|known| &known.last_reject),
        counters(|known| known.certificate_ca),
        Uuid::from_bytes(replica),
    );
    contacts_record(connection, arguments).await
}

fn storable(text: &str) -> String {
    text.chars().filter(|letter| *letter != '\0').take(TEXT).collect()
}

/// Of a contact; an older one is no news to anybody.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// What the columns hold.
const TEXT: usize = 1024;
