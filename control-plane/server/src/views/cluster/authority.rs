//! The authority keys of a cluster.

use rap_contract::KeyState;
use rap_store::{PgConnection, authority_prepared_read, cluster_read};
use rap_types::ClusterId;
use rap_wire::v1;
use v1::authority_record::Kind;

use crate::database::handle::Database;
use crate::failure::{Failure, unknown_cluster};
use crate::keys::handle::Keys;
use crate::serve::authority_chain::StoredAuthority;

pub(crate) async fn view(
    keys: &Keys,
    database: &Database,
    connection: &mut PgConnection,
    id: ClusterId,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let facts = &keys.installation.facts;
    let keyring = keys.keyring(&database.floors);
    let rows = keyring.rows(id, &keyring.read(connection, id).await?);
    let row = cluster_read(connection, &rows).await?.ok_or_else(unknown_cluster)?;
    let stored = StoredAuthority::read(connection, facts, &rows).await?;
    let prepared = authority_prepared_read(connection, id).await?;
    let newest = stored.chain.sequence();
    let mut keys: Vec<v1::AuthorityKey> = stored
        .chain
        .records()
        .iter()
        .map(|record| {
            let header = record.header();
            let state = stored.life.state(header.sequence).unwrap_or(KeyState::Revoked);
            v1::AuthorityKey {
                sequence: header.sequence,
                state: state.as_str().to_owned(),
                kind: match Kind::try_from(record.kind) {
                    Ok(Kind::Rotate) => "rotate",
                    Ok(Kind::Recovery) => "recovery",
                    _ => "create",
                }
                .to_owned(),
                public_key: record.authority_key.clone(),
                incarnation: header.incarnation,
                issued_at_ms: header.issued_at.0,
                record_digest: record.digest().to_vec(),
                signs: header.sequence == newest,
            }
        })
        .collect();
    keys.extend(prepared.map(|prepared| v1::AuthorityKey {
        state: KeyState::Prepared.as_str().to_owned(),
        public_key: prepared.public_key.to_vec(),
        ..v1::AuthorityKey::default()
    }));
    Ok(v1::AuthorityListAnswer {
        cluster_id: id.to_vec(),
        cluster_name: row.cluster.name,
        keys,
        incarnation: stored.chain.incarnation(),
    })
}
