//! Prepares, rotates and recovers the authority of a cluster.

use rap_authority::{AuthorityStep, Succession, extend_chain};
use rap_contract::Signer;
use rap_store::{
    AuthorityRow, KeyState, PgConnection, PreparedAuthorityRow, StoreError, authority_insert,
    authority_prepared_delete, authority_prepared_insert, authority_prepared_read, authority_state_set,
    incarnation_raise,
};
use rap_types::{ClusterId, Digest, Reason, Wall};
use rap_wire::v1;

use crate::acts::lock_cluster::{LockedCluster, imported_key, refuse_used};
use crate::database::change::{Acting, Change};
use crate::database::handle::Database;
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::keys::seal_context::Sealed;
use crate::serve::handle::Serving;

pub(crate) async fn write_prepared(
    keys: &Keys,
    database: &Database,
    connection: &mut PgConnection,
    acting: &Acting,
    id: ClusterId,
    key: &Signer,
) -> Result<(), Failure> {
    let held = LockedCluster::lock(keys, database, connection, id).await?;
    held.stored.life.after(AuthorityStep::Prepare)?;
    refuse_used(&held, key)?;
    if key.public() == keys.installation.facts.authority {
        return Err(Failure::new(Reason::KeyPurpose, "the key is the installation authority's"));
    }
    let sealed =
        Sealed::PreparedAuthority(id).seal_by(&held.keys, keys.installation.facts.id, key.seed().as_slice());
    let row = PreparedAuthorityRow {
        cluster: id,
        public_key: *key.public().as_bytes(),
        sealed_private_key: sealed,
    };
    authority_prepared_insert(connection, &row).await?;
    let digest = Digest::of(&[key.public().as_bytes()]);
    let change = Change::of("authority.prepare", format!("cluster/{id}")).inside(id).after(digest);
    change.record(connection, acting).await?;
    Ok(())
}

pub(crate) async fn write_rotation(
    keys: &Keys,
    database: &Database,
    connection: &mut PgConnection,
    acting: &Acting,
    id: ClusterId,
    (fresh, imported): (&Signer, bool),
    (served, now): (u64, Wall),
) -> Result<(), Failure> {
    let held = LockedCluster::lock(keys, database, connection, id).await?;
    let facts = &keys.installation.facts;
    let prepared = match authority_prepared_read(connection, id).await? {
        Some(_) if imported => {
            return Err(Failure::new(
                Reason::AuthorityState,
                "a key is prepared; rotate without importing one",
            ));
        }
        Some(row) => {
            let sealed = Sealed::PreparedAuthority(id);
            let signer =
                Signer::from_seed(&*sealed.open32_by(&held.keys, facts.id, &row.sealed_private_key)?);
            if signer.public().as_bytes() != &row.public_key {
                return Err(Failure::new(Reason::RowTampered, "prepared authority key"));
            }
            Some(signer)
        }
        None => None,
    };
    let life = if prepared.is_some() {
        held.stored.life.clone()
    } else {
        held.stored.life.after(AuthorityStep::Prepare)?
    };
    life.after(AuthorityStep::Rotate)?;
    let next = prepared.as_ref().unwrap_or(fresh);
    let last = held.stored.rows.last().ok_or(StoreError::Absent)?;
    let sealed = last.sealed_private_key.as_deref().unwrap_or_default();
    let place = Sealed::ClusterAuthority(id, last.sequence);
    let signer = Signer::from_seed(&*place.open32_by(&held.keys, facts.id, sealed)?);
    append(keys, connection, &held, Succession::Rotation(&signer), next, (served, now)).await?;
    authority_prepared_delete(connection, id).await?;
    let digest = Digest::of(&[next.public().as_bytes()]);
    let change = Change::of("authority.rotate", format!("cluster/{id}")).inside(id).after(digest);
    change.touches(id, ["trust"], true).record(connection, acting).await?;
    Ok(())
}

pub(crate) async fn write_recovery(
    keys: &Keys,
    database: &Database,
    connection: &mut PgConnection,
    acting: &Acting,
    id: ClusterId,
    next: &Signer,
    times: (u64, Wall),
) -> Result<(), Failure> {
    let held = LockedCluster::lock(keys, database, connection, id).await?;
    held.stored.life.after(AuthorityStep::Recover)?;
    let succession = Succession::Recovery(&keys.installation.authority);
    append(keys, connection, &held, succession, next, times).await?;
    for row in held.stored.rows.iter().filter(|row| row.state != KeyState::Revoked) {
        authority_state_set(connection, &held.rows, row.sequence, row.state, KeyState::Revoked).await?;
    }
    authority_prepared_delete(connection, id).await?;
    let digest = Digest::of(&[next.public().as_bytes()]);
    let change = Change::of("authority.recover", format!("cluster/{id}")).inside(id).after(digest);
    change.touches(id, ["trust"], true).record(connection, acting).await?;
    Ok(())
}

/// The key that a request brings, or a new one.
pub(crate) fn key_of(request: &v1::AuthorityKeyRequest) -> Result<Signer, Failure> {
    match request.imported_seed.as_slice() {
        [] => Ok(Signer::generate(&mut rand::rng())),
        seed => imported_key(seed),
    }
}

/// Signs the record, writes it with its key, and starts its incarnation.
async fn append(
    keys: &Keys,
    connection: &mut PgConnection,
    held: &LockedCluster,
    succession: Succession<'_>,
    next: &Signer,
    (served, now): (u64, Wall),
) -> Result<(), Failure> {
    let (id, facts) = (held.id(), &keys.installation.facts);
    refuse_used(held, next)?;
    let highest = held.row.cluster.incarnation.max(served);
    let extended = extend_chain(&held.stored.chain, &facts.authority, succession, next, highest, now)?;
    let sequence = extended.chain.sequence();
    let row = AuthorityRow {
        cluster: id,
        sequence,
        record: extended.record,
        public_key: *next.public().as_bytes(),
        sealed_private_key: Some(Sealed::ClusterAuthority(id, sequence).seal_by(
            &held.keys,
            facts.id,
            next.seed().as_slice(),
        )),
        state: KeyState::Active,
    };
    match authority_insert(connection, &held.rows, &row).await {
        Err(error) if error.is_exists("cluster_authorities_public_key") => {
            return Err(Failure::new(Reason::ResourceExists, "the key speaks for a cluster already"));
        }
        inserted => inserted?,
    }
    if !incarnation_raise(connection, &held.rows, extended.chain.incarnation()).await? {
        return Err(Failure::new(Reason::RequestConflict, "another incarnation began meanwhile"));
    }
    Ok(())
}

/// Nothing may be signed in an incarnation that this process served, whatever the rows say.
pub(crate) fn served_incarnation(serving: &Serving, id: ClusterId) -> u64 {
    let newest = serving.clusters.by_id(id).and_then(|cluster| cluster.feed.newest());
    newest.map_or(0, |published| published.order.incarnation.0)
}
