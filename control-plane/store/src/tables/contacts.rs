//! When a node was last heard of and what it acknowledged. Never signed, never in the outbox.

use rap_types::{NodeId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::StoreError;
use crate::columns::{counter, statements, timestamp, unsigned, wall_option};

/// A node's last contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// When it was heard of.
    pub last_seen_at: Wall,
    /// Version of its agent.
    pub agent_version: String,
    /// Newest (incarnation, version) it said it verified.
    pub acked: (u64, u64),
    /// Code of the last refusal it reported; empty if none.
    pub last_reject: String,
}

impl Contact {
    /// Reads the columns of a LEFT JOIN.
    pub(super) fn of_joined(row: &PgRow) -> sqlx::Result<Option<Self>> {
        let Some(last_seen_at) = wall_option(row, "last_seen_at")? else { return Ok(None) };
        Ok(Some(Self {
            last_seen_at,
            agent_version: row.try_get("agent_version")?,
            acked: (unsigned(row, "acked_incarnation")?, unsigned(row, "acked_version")?),
            last_reject: row.try_get("last_reject")?,
        }))
    }
}

statements! {
    CONTACTS_RECORD = "INSERT INTO node_contacts \
            (node_id, last_seen_at, agent_version, acked_incarnation, acked_version, last_reject) \
        SELECT DISTINCT ON (t.node_id) t.* FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], \
            $4::bigint[], $5::bigint[], $6::text[]) AS t (node_id, seen, agent, incarnation, version, reject) \
        WHERE EXISTS (SELECT 1 FROM nodes n WHERE n.node_id = t.node_id) \
        ORDER BY t.node_id, t.seen DESC \
        ON CONFLICT (node_id) DO UPDATE SET last_seen_at = excluded.last_seen_at, \
            agent_version = excluded.agent_version, acked_incarnation = excluded.acked_incarnation, \
            acked_version = excluded.acked_version, last_reject = excluded.last_reject \
        WHERE node_contacts.last_seen_at <= excluded.last_seen_at";
}

/// Records the contacts of many nodes in one statement. An older contact never replaces a newer one;
/// nodes that do not exist are passed over.
pub async fn node_contacts_record(
    connection: &mut PgConnection,
    contacts: &[(NodeId, Contact)],
) -> Result<(), StoreError> {
    let mut seen = Vec::with_capacity(contacts.len());
    let (mut incarnations, mut versions) = (Vec::new(), Vec::new());
    for (_, contact) in contacts {
        seen.push(timestamp("last_seen_at", contact.last_seen_at)?);
        incarnations.push(counter("acked_incarnation", contact.acked.0)?);
        versions.push(counter("acked_version", contact.acked.1)?);
    }
    let column = |text: fn(&Contact) -> &String| -> Vec<String> {
        contacts.iter().map(|(_, contact)| text(contact).clone()).collect()
    };
    sqlx::query(CONTACTS_RECORD)
        .bind(contacts.iter().map(|(node, _)| node.uuid()).collect::<Vec<_>>())
        .bind(seen)
        .bind(column(|contact| &contact.agent_version))
        .bind(incarnations)
        .bind(versions)
        .bind(column(|contact| &contact.last_reject))
        .execute(connection)
        .await?;
    Ok(())
}
