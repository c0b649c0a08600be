//! Every row that carries a MAC, of one cluster or of the installation, in one go.
//!
//! Owns looking at all of them and sealing them where they stand: rows of a release that knew no MACs,
//! and rows under a data key that is being replaced. Refuses to seal a row that fails under every key.

use rap_authority::RowKeys;
use rap_types::ClusterId;
use sqlx::PgConnection;

use super::{addresses, cluster_keys, clusters, join_requests, nodes, operators, organizations, tokens};
use crate::StoreError;
use crate::authentic::{Authentic, Stored, Verdict};
use crate::columns::{counter, statements};

/// A row, by table and primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct RowName {
    /// Table.
    pub table: &'static str,
    /// Primary key.
    pub key: String,
}

/// What all rows of one scope are like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowsSeen {
    /// Rows whose MAC holds.
    pub sound: u64,
    /// Those of them that are under an older key of the ring.
    pub under_older_key: u64,
    /// Rows without a MAC.
    pub unsealed: Vec<RowName>,
    /// Rows that are not as they were written.
    pub tampered: Vec<RowName>,
}

/// Which rows to seal under the newest key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sealing {
    Nothing,
    WithoutMac,
    UnderOlderKey,
}

macro_rules! reseal {
    ($table:literal, $key:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " t SET row_mac = s.mac FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS s (key, version, mac) \
             WHERE ",
            $key,
            " = s.key AND t.row_version = s.version"
        )
    };
}

statements! {
    RESEAL_CLUSTERS = reseal!("clusters", "t.cluster_id::text");
    RESEAL_AUTHORITIES = reseal!("cluster_authorities", "t.cluster_id::text || '/' || t.sequence::text");
    RESEAL_CAS = reseal!("cluster_cas", "t.cluster_id::text || '/' || t.generation::text");
    RESEAL_POLICIES = reseal!("cluster_policies", "t.cluster_id::text || '/' || t.kind");
    RESEAL_TOKENS = reseal!("join_tokens", "t.token_id::text");
    RESEAL_REQUESTS = reseal!("join_requests", "t.request_id::text");
    RESEAL_ADDRESSES = reseal!("node_addresses", "t.cluster_id::text || '/' || t.host_number::text");
    RESEAL_NODES = reseal!("nodes", "t.node_id::text");
    RESEAL_OPERATORS = reseal!("operators", "t.operator_id::text");
    RESEAL_ORGANIZATIONS = reseal!("organizations", "t.organization_id::text");
    RESEAL_MEMBERS = reseal!("organization_members", "t.organization_id::text || '/' || t.member_id::text");
}

/// Looks at every row of these keys' scope and changes none.
pub async fn rows_look(connection: &mut PgConnection, keys: &RowKeys) -> Result<RowsSeen, StoreError> {
    visit_all(connection, keys, Sealing::Nothing).await
}

/// Seals rows that have no MAC, as they are. Whoever calls this vouches for them: see
/// `docs/adr/0013-row-macs.md`.
pub async fn rows_seal_unsealed(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<RowsSeen, StoreError> {
    visit_all(connection, keys, Sealing::WithoutMac).await
}

/// Seals rows under an older key again under the newest. Rows that hold under no key stay as they are.
pub async fn rows_reseal(connection: &mut PgConnection, keys: &RowKeys) -> Result<RowsSeen, StoreError> {
    visit_all(connection, keys, Sealing::UnderOlderKey).await
}

async fn visit_all(
    connection: &mut PgConnection,
    keys: &RowKeys,
    sealing: Sealing,
) -> Result<RowsSeen, StoreError> {
    let mut visit = Visit { connection, keys, sealing, seen: RowsSeen::default() };
    if keys.cluster() == ClusterId::ZERO {
        visit.table::<operators::OperatorRow>(operators::OPERATORS_ALL, RESEAL_OPERATORS).await?;
        visit
            .table::<organizations::OrganizationRow>(organizations::ORGANIZATIONS_ALL, RESEAL_ORGANIZATIONS)
            .await?;
        visit.table::<organizations::MemberRow>(organizations::MEMBERS_ALL, RESEAL_MEMBERS).await?;
        return Ok(visit.seen);
    }
    visit.table::<clusters::ClusterRow>(clusters::CLUSTER_READ, RESEAL_CLUSTERS).await?;
    visit.table::<clusters::PolicyRow>(clusters::POLICIES_LIST, RESEAL_POLICIES).await?;
    visit.table::<cluster_keys::AuthorityRow>(cluster_keys::AUTHORITIES_LIST, RESEAL_AUTHORITIES).await?;
    visit.table::<cluster_keys::ClusterCaRow>(cluster_keys::CLUSTER_CAS_ALL, RESEAL_CAS).await?;
    visit.table::<tokens::TokenRow>(tokens::TOKENS_ALL, RESEAL_TOKENS).await?;
    visit.table::<join_requests::JoinRequestRow>(join_requests::JOIN_REQUESTS_ALL, RESEAL_REQUESTS).await?;
    visit.table::<addresses::AddressRow>(addresses::ADDRESSES_ALL, RESEAL_ADDRESSES).await?;
    visit.table::<nodes::NodeRow>(nodes::NODES_LIST, RESEAL_NODES).await?;
    Ok(visit.seen)
}

struct Visit<'a> {
    connection: &'a mut PgConnection,
    keys: &'a RowKeys,
    sealing: Sealing,
    seen: RowsSeen,
}

impl Visit<'_> {
    async fn table<R>(&mut self, select: &'static str, reseal: &'static str) -> Result<(), StoreError>
    where
        R: Authentic + Send + Unpin,
    {
        let mut query = sqlx::query_as::<_, Stored<R>>(select);
        if self.keys.cluster() != ClusterId::ZERO {
            query = query.bind(self.keys.cluster().uuid());
        }
        let (mut names, mut versions, mut macs) = (Vec::new(), Vec::new(), Vec::new());
        for stored in query.fetch_all(&mut *self.connection).await? {
            let sealed_as = match stored.verdict(self.keys) {
                Verdict::Sound { row, row_version, under } => {
                    self.seen.sound += 1;
                    self.seen.under_older_key += u64::from(under > 0);
                    (under > 0 && self.sealing == Sealing::UnderOlderKey).then_some((row, row_version))
                }
                Verdict::Unsealed { row, row_version } => {
                    self.seen.unsealed.push(RowName { table: R::TABLE, key: row.key() });
                    (self.sealing == Sealing::WithoutMac).then_some((row, row_version))
                }
                Verdict::Tampered { key } => {
                    self.seen.tampered.push(RowName { table: R::TABLE, key });
                    None
                }
            };
            if let Some((row, row_version)) = sealed_as {
                names.push(row.key());
                versions.push(counter("row_version", row_version)?);
                macs.push(row.mac(self.keys, row_version));
            }
        }
        if !names.is_empty() {
            sqlx::query(reseal).bind(names).bind(versions).bind(macs).execute(&mut *self.connection).await?;
        }
        Ok(())
    }
}
