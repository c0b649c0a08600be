//! Whether what an act wrote is still there: whoever repeats the act asks.
//!
//! Owns the comparison by table and key as text. Refuses to own what follows if something is gone.

use rap_authority::RowKeys;
use rap_types::{ClusterId, Digest};
use sqlx::PgConnection;

use crate::authentic::{Authentic, Stored};
use crate::columns::bound;
use crate::query::{optional, statements};
use crate::tables::addresses::AddressRow;
use crate::tables::cluster_keys::{AuthorityRow, ClusterCaRow};
use crate::tables::clusters::{ClusterRow, PolicyRow};
use crate::tables::join_requests::JoinRequestRow;
use crate::tables::nodes::NodeRow;
use crate::tables::operators::OperatorRow;
use crate::tables::organizations::{MemberRow, OrganizationRow};
use crate::tables::tokens::TokenRow;
use crate::trace::Trace;
use crate::{Result, StoreError};

statements! {
    async fn entry(key: &str) -> Option<Vec<u8>> = optional
        "SELECT row_mac FROM audit_log WHERE entry_id = $1::text::bigint";
    async fn revocation(key: &str) -> Option<Vec<u8>> = optional "SELECT record FROM node_revocations \
        WHERE cluster_id = split_part($1, '/', 1)::uuid AND sequence = split_part($1, '/', 2)::bigint";
    async fn role_grant(key: &str) -> Option<Vec<u8>> = optional
        "SELECT envelope FROM platform_role_grants WHERE grant_digest = decode($1, 'hex')";
    async fn role_grant_set(key: &str) -> Option<Vec<u8>> = optional
        "SELECT envelope FROM role_grant_sets WHERE sequence = $1::text::bigint";
}

/// Whether everything that an act wrote is still there: a value as it was, a row as it was or of a later version under
/// its own MAC. `done` is what [`crate::IdempotencyRow`] has of the act; `keys` gives the row keys of a cluster.
/// Gives the names of what was written.
///
/// # Errors
/// [`StoreError::Tampered`] for the first thing that is gone or another.
pub async fn still_done(
    connection: &mut PgConnection,
    own: &RowKeys,
    keys: impl Fn(ClusterId) -> Option<RowKeys>,
    done: &[u8],
) -> Result<Vec<String>> {
    let table = "idempotency_keys";
    let malformed = |_| StoreError::Tampered { table, key: "done".to_owned() };
    let traces: Vec<Trace> = serde_json::from_slice(done).map_err(malformed)?;
    for trace in &traces {
        let keys = match trace.cluster {
            ClusterId::ZERO => Some(own.clone()),
            cluster => keys(cluster),
        };
        let keys = keys.ok_or_else(|| StoreError::Tampered { table, key: trace.key.clone() })?;
        require(connection, &keys, trace).await?;
    }
    Ok(traces.into_iter().map(|trace| format!("{}/{}", trace.table, trace.key)).collect())
}

async fn require(connection: &mut PgConnection, keys: &RowKeys, trace: &Trace) -> Result<()> {
    let key = trace.key.as_str();
    match trace.table.as_str() {
        "audit_log" => same("audit_log", trace, entry(connection, key).await?),
        "node_revocations" => same("node_revocations", trace, revocation(connection, key).await?),
        "platform_role_grants" => same("platform_role_grants", trace, role_grant(connection, key).await?),
        "role_grant_sets" => same("role_grant_sets", trace, role_grant_set(connection, key).await?),
        ClusterRow::TABLE => row::<ClusterRow>(connection, keys, trace).await,
        PolicyRow::TABLE => row::<PolicyRow>(connection, keys, trace).await,
        AuthorityRow::TABLE => row::<AuthorityRow>(connection, keys, trace).await,
        ClusterCaRow::TABLE => row::<ClusterCaRow>(connection, keys, trace).await,
        TokenRow::TABLE => row::<TokenRow>(connection, keys, trace).await,
        JoinRequestRow::TABLE => row::<JoinRequestRow>(connection, keys, trace).await,
        AddressRow::TABLE => row::<AddressRow>(connection, keys, trace).await,
        NodeRow::TABLE => row::<NodeRow>(connection, keys, trace).await,
        OperatorRow::TABLE => row::<OperatorRow>(connection, keys, trace).await,
        OrganizationRow::TABLE => row::<OrganizationRow>(connection, keys, trace).await,
        MemberRow::TABLE => row::<MemberRow>(connection, keys, trace).await,
        _ => Err(StoreError::Tampered { table: "idempotency_keys", key: trace.key.clone() }),
    }
}

fn same(table: &'static str, trace: &Trace, found: Option<Vec<u8>>) -> Result<()> {
    match found {
        Some(value) if Digest::of(&[&value]) == trace.digest => Ok(()),
        _ => Err(StoreError::Tampered { table, key: trace.key.clone() }),
    }
}

async fn row<R: Authentic>(connection: &mut PgConnection, keys: &RowKeys, trace: &Trace) -> Result<()> {
    let query = sqlx::query_as_with(R::BY_TEXT, bound!(trace.key.as_str()));
    let stored: Option<Stored<R>> = query.fetch_optional(&mut *connection).await?;
    let gone = || StoreError::Tampered { table: R::TABLE, key: trace.key.clone() };
    let (row, version) = stored.ok_or_else(gone)?.opened_or_learned(connection, keys).await?;
    let same = version == trace.version && row.columns().digest() == trace.digest;
    if same || version > trace.version { Ok(()) } else { Err(gone()) }
}
