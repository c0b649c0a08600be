//! The service of a cluster's keys: list, prepare, rotate, confirmations, taint, revoke, recover.
//!
//! Owns the transactions. Which step is legal is rap-authority's; every step runs under the cluster's
//! lock, with its audit row, and this replica goes by it at once.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::{
    AuthorityLife, AuthorityState, AuthorityStep, RowKeys, SealingKey, Succession, extend_chain,
};
use rap_contract::{PublicKey, Signer};
use rap_store::{
    AuthorityRow, ClusterRow, ConfirmationRow, KeyState, PgConnection, PreparedAuthorityRow, StoreError,
    audit_insert, authority_confirmations, authority_insert, authority_prepared_delete,
    authority_prepared_insert, authority_prepared_read, authority_state_set, cluster_hold, cluster_names,
    cluster_read, config_seq_allocate, incarnation_raise, outbox_append,
};
use rap_types::{ClusterId, Digest, Reason, Wall};
use rap_wire::v1;
use rap_wire::v1::authority_server::Authority;
use tonic::{Request, Response, Status};
use v1::authority_record::Kind;

use super::{Actor, Failure, audit, authorized};
use crate::clusters::{StoredAuthority, open_dek};
use crate::control::Control;
use crate::custody::Sealed;

/// Authority of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct AuthorityService(Arc<Control>);

impl AuthorityService {
    /// Serves `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self(control)
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Authority for AuthorityService {
    async fn authority_list(&self, request: Request<v1::ClusterRef>) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRead, list)
    }

    async fn authority_prepare(
        &self,
        request: Request<v1::AuthorityKeyRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, prepare)
    }

    async fn authority_rotate(
        &self,
        request: Request<v1::AuthorityKeyRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, rotate)
    }

    async fn authority_confirmations(
        &self,
        request: Request<v1::ClusterRef>,
    ) -> Answer<v1::AuthorityConfirmationsAnswer> {
        authorized!(self, request, AuthorityRead, confirmations)
    }

    async fn authority_taint(
        &self,
        request: Request<v1::AuthorityStepRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, taint)
    }

    async fn authority_revoke(
        &self,
        request: Request<v1::AuthorityStepRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, revoke)
    }

    async fn authority_recover(
        &self,
        request: Request<v1::AuthorityKeyRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRecover, recover)
    }
}

/// A cluster whose rows are held by the transaction. It need not be one that can be served.
struct Held {
    dek: SealingKey,
    rows: RowKeys,
    row: ClusterRow,
    stored: StoredAuthority,
}

impl Held {
    async fn lock(control: &Control, connection: &mut PgConnection, id: ClusterId) -> Result<Self, Failure> {
        let facts = &control.installation.facts;
        let dek = open_dek(connection, facts, &control.kek, id).await?;
        let rows = RowKeys::of_cluster(facts.id, id, &dek);
        let row = cluster_hold(connection, &rows).await?.ok_or_else(unknown)?.into_inner();
        let stored = StoredAuthority::read(connection, facts, &rows).await?;
        Ok(Self { dek, rows, row, stored })
    }

    fn id(&self) -> ClusterId {
        self.row.cluster.cluster
    }
}

fn unknown() -> Failure {
    Failure::new(Reason::ResourceNotFound, "no such cluster")
}

/// By name or id, from the rows: a cluster whose key is lost is not served, and is recovered here.
async fn find(control: &Control, text: &str) -> Result<ClusterId, Failure> {
    let mut transaction = control.store.system().begin().await?;
    let wanted = text.parse::<ClusterId>().ok();
    let names = cluster_names(&mut transaction).await?;
    let found = names.into_iter().find(|(id, name)| Some(*id) == wanted || name == text);
    Ok(found.ok_or_else(unknown)?.0)
}

async fn list(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::ClusterRef,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    view(control, id).await
}

async fn view(control: &Control, id: ClusterId) -> Result<v1::AuthorityListAnswer, Failure> {
    let mut transaction = control.store.system().begin_snapshot().await?;
    let facts = &control.installation.facts;
    let rows = RowKeys::of_cluster(facts.id, id, &open_dek(&mut transaction, facts, &control.kek, id).await?);
    let row = cluster_read(&mut transaction, &rows).await?.ok_or_else(unknown)?;
    let stored = StoredAuthority::read(&mut transaction, facts, &rows).await?;
    let prepared = authority_prepared_read(&mut transaction, id).await?;
    let newest = stored.chain.sequence();
    let mut keys: Vec<v1::AuthorityKey> = stored
        .chain
        .records()
        .iter()
        .map(|record| {
            let header = record.header();
            let state = stored.life.state(header.sequence).unwrap_or(AuthorityState::Revoked);
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
        state: AuthorityState::Prepared.as_str().to_owned(),
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

/// The key that a request brings, or a new one.
fn key_of(request: &v1::AuthorityKeyRequest) -> Result<Signer, Failure> {
    match request.imported_seed.as_slice() {
        [] => Ok(Signer::generate(&mut rand::rng())),
        seed => imported_key(seed),
    }
}

/// A key that was made elsewhere.
///
/// # Errors
/// `key.invalid`.
pub fn imported_key(seed: &[u8]) -> Result<Signer, Failure> {
    let seed: &[u8; 32] =
        seed.try_into().map_err(|_| Failure::new(Reason::KeyInvalid, "a private key has 32 bytes"))?;
    let signer = Signer::from_seed(seed);
    // The same admission as for any key of another's making.
    PublicKey::from_slice(signer.public().as_bytes())?;
    Ok(signer)
}

async fn prepare(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::AuthorityKeyRequest,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    let key = key_of(&request)?;
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_prepared(control, connection, actor, id, &key, &request.reason).await
    });
    done?;
    view(control, id).await
}

async fn write_prepared(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    id: ClusterId,
    key: &Signer,
    reason: &str,
) -> Result<(), Failure> {
    let held = Held::lock(control, connection, id).await?;
    held.stored.life.after(AuthorityStep::Prepare)?;
    refuse_used(&held, key)?;
    if key.public() == control.installation.facts.authority {
        return Err(Failure::new(Reason::KeyPurpose, "the key is the installation authority's"));
    }
    let sealed =
        Sealed::PreparedAuthority(id).seal(&held.dek, control.installation.facts.id, key.seed().as_slice());
    let row = PreparedAuthorityRow {
        cluster: id,
        public_key: *key.public().as_bytes(),
        sealed_private_key: sealed,
    };
    authority_prepared_insert(connection, &row).await?;
    let digest = Digest::of(&[key.public().as_bytes()]);
    note(connection, actor, "authority.prepare", id, Some(digest), reason).await
}

async fn rotate(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::AuthorityKeyRequest,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    let key = key_of(&request)?;
    let imported = !request.imported_seed.is_empty();
    let now = control.clock.now().wall;
    let served = served_incarnation(control, id);
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_rotation(control, connection, actor, id, (&key, imported), (served, now), &request.reason).await
    });
    done?;
    follow(control, id).await?;
    view(control, id).await
}

async fn write_rotation(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    id: ClusterId,
    (fresh, imported): (&Signer, bool),
    (served, now): (u64, Wall),
    reason: &str,
) -> Result<(), Failure> {
    let held = Held::lock(control, connection, id).await?;
    let facts = &control.installation.facts;
    let prepared = match authority_prepared_read(connection, id).await? {
        Some(_) if imported => {
            return Err(Failure::new(
                Reason::AuthorityState,
                "a key is prepared; rotate without importing one",
            ));
        }
        Some(row) => {
            let sealed = Sealed::PreparedAuthority(id);
            let signer = Signer::from_seed(&*sealed.open32(&held.dek, facts.id, &row.sealed_private_key)?);
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
    let signer = Signer::from_seed(&*place.open32(&held.dek, facts.id, sealed)?);
    append(control, connection, &held, Succession::Rotation(&signer), next, (served, now)).await?;
    authority_prepared_delete(connection, id).await?;
    let digest = Digest::of(&[next.public().as_bytes()]);
    note(connection, actor, "authority.rotate", id, Some(digest), reason).await
}

async fn recover(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::AuthorityKeyRequest,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    let key = key_of(&request)?;
    let now = control.clock.now().wall;
    let served = served_incarnation(control, id);
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_recovery(control, connection, actor, id, &key, (served, now), &request.reason).await
    });
    done?;
    follow(control, id).await?;
    view(control, id).await
}

async fn write_recovery(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    id: ClusterId,
    next: &Signer,
    times: (u64, Wall),
    reason: &str,
) -> Result<(), Failure> {
    let held = Held::lock(control, connection, id).await?;
    held.stored.life.after(AuthorityStep::Recover)?;
    let succession = Succession::Recovery(&control.installation.authority);
    append(control, connection, &held, succession, next, times).await?;
    for row in held.stored.rows.iter().filter(|row| row.state != KeyState::Revoked) {
        authority_state_set(connection, &held.rows, row.sequence, row.state, KeyState::Revoked).await?;
    }
    authority_prepared_delete(connection, id).await?;
    let digest = Digest::of(&[next.public().as_bytes()]);
    note(connection, actor, "authority.recover", id, Some(digest), reason).await
}

fn refuse_used(held: &Held, key: &Signer) -> Result<(), Failure> {
    if held.stored.chain.contains(&key.public()) {
        return Err(Failure::new(Reason::ChainBroken, "a key that was used before never returns"));
    }
    Ok(())
}

/// Signs the record, writes it with its key, and starts its incarnation.
async fn append(
    control: &Control,
    connection: &mut PgConnection,
    held: &Held,
    succession: Succession<'_>,
    next: &Signer,
    (served, now): (u64, Wall),
) -> Result<(), Failure> {
    let (id, facts) = (held.id(), &control.installation.facts);
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
            &held.dek,
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
    let seq = config_seq_allocate(connection, id).await?;
    Ok(outbox_append(connection, id, seq, &["trust".to_owned()], true).await?)
}

async fn taint(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::AuthorityStepRequest,
) -> Result<v1::AuthorityListAnswer, Failure> {
    step(control, actor, &request, KeyState::Active, KeyState::Tainted).await
}

async fn revoke(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::AuthorityStepRequest,
) -> Result<v1::AuthorityListAnswer, Failure> {
    step(control, actor, &request, KeyState::Tainted, KeyState::Revoked).await
}

async fn step(
    control: &Arc<Control>,
    actor: &Actor,
    request: &v1::AuthorityStepRequest,
    from: KeyState,
    to: KeyState,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_step(control, connection, actor, id, request, (from, to)).await
    });
    done?;
    follow(control, id).await?;
    view(control, id).await
}

async fn write_step(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    id: ClusterId,
    request: &v1::AuthorityStepRequest,
    (from, to): (KeyState, KeyState),
) -> Result<(), Failure> {
    let held = Held::lock(control, connection, id).await?;
    let wanted = match request.sequence {
        0 => oldest(&held.stored.life, from)?,
        sequence => sequence,
    };
    let (legal, action) = match to {
        KeyState::Revoked => (AuthorityStep::Revoke { sequence: wanted }, "authority.revoke"),
        _ => {
            let nodes = authority_confirmations(connection, id).await?;
            let now = control.clock.now().wall;
            let awaited = nodes.iter().filter(|node| is_awaited(control, node, id, wanted + 1, now));
            let unconfirmed = awaited.count() as u64;
            let step = AuthorityStep::Taint { sequence: wanted, unconfirmed, force: request.force };
            (step, "authority.taint")
        }
    };
    held.stored.life.after(legal)?;
    if !authority_state_set(connection, &held.rows, wanted, from, to).await? {
        return Err(Failure::new(Reason::RequestConflict, "the key's state changed meanwhile"));
    }
    let digest = held.stored.chain.digest_at(wanted);
    let forced = if request.force { " (forced)" } else { "" };
    let reason = format!("record {wanted}{forced} {}", request.reason);
    note(connection, actor, action, id, digest, reason.trim()).await
}

/// The oldest key in a state, the one that signs aside.
fn oldest(life: &AuthorityLife, state: KeyState) -> Result<u64, Failure> {
    let is = |sequence: &u64| life.state(*sequence).is_some_and(|now| now.as_str() == state.as_str());
    let none = || Failure::new(Reason::AuthorityState, "no key is in the state that this step needs");
    (1..life.signer()).find(is).ok_or_else(none)
}

async fn confirmations(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::ClusterRef,
) -> Result<v1::AuthorityConfirmationsAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    let mut transaction = control.store.system().begin_snapshot().await?;
    let facts = &control.installation.facts;
    let keys = RowKeys::of_cluster(facts.id, id, &open_dek(&mut transaction, facts, &control.kek, id).await?);
    let stored = StoredAuthority::read(&mut transaction, facts, &keys).await?;
    let rows = authority_confirmations(&mut transaction, id).await?;
    let (newest, now) = (stored.chain.sequence(), control.clock.now().wall);
    let nodes = rows.iter().map(|row| v1::AuthorityConfirmation {
        node_id: row.node.to_vec(),
        name: row.name.clone(),
        sequence: row.sequence.unwrap_or(0),
        confirmed_at_ms: row.confirmed_at.map_or(0, |at| at.0),
        last_seen_at_ms: row.last_seen_at.map_or(0, |at| at.0),
        awaited: is_awaited(control, row, id, newest, now),
    });
    Ok(v1::AuthorityConfirmationsAnswer { sequence: newest, nodes: nodes.collect() })
}

/// True if the node was seen within a day and has not confirmed the record `wanted`.
fn is_awaited(control: &Control, row: &ConfirmationRow, cluster: ClusterId, wanted: u64, now: Wall) -> bool {
    if wanted <= 1 || row.sequence.is_some_and(|sequence| sequence >= wanted) {
        return false;
    }
    let connected = control.sessions.acknowledged_by(cluster, row.node).is_some();
    connected || row.last_seen_at.is_some_and(|at| now.since(at) < SEEN_WITHIN)
}

/// Nothing may be signed in an incarnation that this process served, whatever the rows say.
fn served_incarnation(control: &Control, id: ClusterId) -> u64 {
    let newest = control.clusters.by_id(id).and_then(|cluster| cluster.feed.newest());
    newest.map_or(0, |published| published.order.incarnation.0)
}

/// This replica goes by the change now, the others by the doorbell.
async fn follow(control: &Arc<Control>, id: ClusterId) -> Result<(), Failure> {
    match control.clusters.by_id(id) {
        Some(_) => control.reload_cluster(id).await?,
        None => drop(control.load_cluster(id).await?),
    }
    if let Some(cluster) = control.clusters.by_id(id) {
        control.changed(&cluster).await;
    }
    Ok(())
}

async fn note(
    connection: &mut PgConnection,
    actor: &Actor,
    action: &str,
    id: ClusterId,
    digest: Option<Digest>,
    reason: &str,
) -> Result<(), Failure> {
    let object = format!("cluster/{id}");
    let entry = audit(&actor.audit_name(), action, object, Some(id), digest, reason, actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(())
}

const SEEN_WITHIN: Duration = Duration::from_secs(86_400);
