//! Prepares, rotates and recovers the authority of a cluster.

use rap_authority::{AuthorityStep, Floor, FloorOf, Succession, extend_chain};
use rap_contract::{KeyState, PublicKey, Signer};
use rap_store::{
    AuthorityRow, PreparedAuthorityRow, StoreError, SystemTransaction, authority_insert,
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

/// What is done with the next key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyStep {
    Prepare,
    Rotate,
    Recover,
}

/// A key that is about to speak for a cluster.
pub(crate) struct NextKey {
    signer: Signer,
    imported: bool,
    /// Nothing may be signed in an incarnation that this process served, whatever the rows say.
    served: u64,
    now: Wall,
}

impl NextKey {
    /// The key that a request brings, or a new one.
    pub(crate) fn of(
        serving: &Serving,
        id: ClusterId,
        request: &v1::AuthorityKeyRequest,
    ) -> Result<Self, Failure> {
        let signer = match request.imported_seed.as_slice() {
            [] => Signer::generate(&mut rand::rng()),
            seed => imported_key(seed)?,
        };
        let newest = serving.clusters.by_id(id).and_then(|cluster| cluster.feed.newest());
        Ok(Self {
            signer,
            imported: !request.imported_seed.is_empty(),
            served: newest.map_or(0, |published| published.order.incarnation.0),
            now: serving.watch.clock.now().wall,
        })
    }
}

pub(crate) async fn write_next_key(
    keys: &Keys,
    database: &Database,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    id: ClusterId,
    next: &NextKey,
    step: KeyStep,
) -> Result<(), Failure> {
    let held = LockedCluster::lock(keys, database, transaction, id).await?;
    let (action, key) = match step {
        KeyStep::Prepare => {
            write_prepared(keys, transaction, &held, &next.signer).await?;
            ("authority.prepare", next.signer.public())
        }
        KeyStep::Rotate => ("authority.rotate", write_rotation(keys, transaction, &held, next).await?),
        KeyStep::Recover => {
            write_recovery(keys, transaction, &held, next).await?;
            ("authority.recover", next.signer.public())
        }
    };
    let change = Change::of(action, format!("cluster/{id}")).inside(id).after(Digest::of(&[key.as_bytes()]));
    let change = match step {
        KeyStep::Prepare => change,
        KeyStep::Rotate | KeyStep::Recover => change.touches(id, ["trust"], true),
    };
    change.record(transaction, acting).await?;
    Ok(())
}

async fn write_prepared(
    keys: &Keys,
    transaction: &mut SystemTransaction,
    held: &LockedCluster,
    key: &Signer,
) -> Result<(), Failure> {
    let id = held.id();
    held.stored.life.after(AuthorityStep::Prepare)?;
    refuse_used(held, key)?;
    if key.public() == keys.installation.facts.authority {
        return Err(Failure::new(Reason::KeyPurpose, "the key is the installation authority's"));
    }
    let sealed =
        Sealed::PreparedAuthority(id).seal(&held.keys, keys.installation.facts.id, key.seed().as_slice());
    let row = PreparedAuthorityRow {
        cluster: id,
        public_key: *key.public().as_bytes(),
        sealed_private_key: sealed,
    };
    Ok(authority_prepared_insert(transaction, &row).await?)
}

/// The key that speaks from now on: the prepared one, if there is one.
async fn write_rotation(
    keys: &Keys,
    transaction: &mut SystemTransaction,
    held: &LockedCluster,
    fresh: &NextKey,
) -> Result<PublicKey, Failure> {
    let (id, facts) = (held.id(), &keys.installation.facts);
    let prepared = match authority_prepared_read(transaction, id).await? {
        Some(_) if fresh.imported => {
            return Err(Failure::new(
                Reason::AuthorityState,
                "a key is prepared; rotate without importing one",
            ));
        }
        Some(row) => {
            let sealed = Sealed::PreparedAuthority(id);
            let signer = Signer::from_seed(&*sealed.open32(&held.keys, facts.id, &row.sealed_private_key)?);
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
    let next = prepared.as_ref().unwrap_or(&fresh.signer);
    let last = held.stored.rows.last().ok_or(StoreError::Absent)?;
    let sealed = last.sealed_private_key.as_deref().unwrap_or_default();
    let secret = Sealed::ClusterAuthority(id, last.sequence);
    let signer = Signer::from_seed(&*secret.open32(&held.keys, facts.id, sealed)?);
    append(keys, transaction, held, Succession::Rotation(&signer), next, (fresh.served, fresh.now)).await?;
    if prepared.is_some() {
        authority_prepared_delete(transaction, id).await?;
    }
    Ok(next.public())
}

async fn write_recovery(
    keys: &Keys,
    transaction: &mut SystemTransaction,
    held: &LockedCluster,
    next: &NextKey,
) -> Result<(), Failure> {
    held.stored.life.after(AuthorityStep::Recover)?;
    let succession = Succession::Recovery(&keys.installation.authority);
    append(keys, transaction, held, succession, &next.signer, (next.served, next.now)).await?;
    for row in held.stored.rows.iter().filter(|row| row.state != KeyState::Revoked) {
        authority_state_set(transaction, &held.rows, row.sequence, row.state, KeyState::Revoked).await?;
    }
    if authority_prepared_read(transaction, held.id()).await?.is_some() {
        authority_prepared_delete(transaction, held.id()).await?;
    }
    Ok(())
}

/// Signs the record, writes it with its key, and starts its incarnation.
async fn append(
    keys: &Keys,
    transaction: &mut SystemTransaction,
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
        sealed_private_key: Some(Sealed::ClusterAuthority(id, sequence).seal(
            &held.keys,
            facts.id,
            next.seed().as_slice(),
        )),
        state: KeyState::Active,
    };
    match authority_insert(transaction, &held.rows, &row).await {
        Err(error) if error.is_exists("cluster_authorities_public_key") => {
            return Err(Failure::new(Reason::ResourceExists, "the key speaks for a cluster already"));
        }
        inserted => inserted?,
    }
    let signed = Floor { sequence, digest: extended.chain.digest() };
    transaction.effects.signed.push((FloorOf::Authority(id), signed));
    if !incarnation_raise(transaction, &held.rows, extended.chain.incarnation()).await? {
        return Err(Failure::new(Reason::RequestConflict, "another incarnation began meanwhile"));
    }
    Ok(())
}
