//! The service of a cluster's keys: list, prepare, rotate, confirmations, taint, revoke, recover, and the
//! rotation of its data key.
//!
//! Owns the transactions. Which step is legal is rap-authority's; every step runs under the cluster's
//! lock, with its audit row, and this replica goes by it at once.

mod data_key;
mod retirement;
mod succession;
mod view;

use std::sync::Arc;

use rap_authority::{DataKeys, RowKeys};
use rap_contract::{PublicKey, Signer};
use rap_rpc::v1::authority_server::Authority;
use rap_store::{ClusterRow, PgConnection, audit_insert, cluster_hold, cluster_names, cluster_read};
use rap_types::{ClusterId, Digest, Reason};
use rap_wire::v1;
use tonic::{Request, Response, Status};

use super::{Actor, Failure, audit, authorized};
use crate::clusters::{StoredAuthority, is_meant};
use crate::control::Control;
use crate::findings::alarm_about;

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
        authorized!(self, request, AuthorityRead, view::list)
    }

    async fn authority_prepare(
        &self,
        request: Request<v1::AuthorityKeyRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, succession::prepare)
    }

    async fn authority_rotate(
        &self,
        request: Request<v1::AuthorityKeyRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, succession::rotate)
    }

    async fn authority_confirmations(
        &self,
        request: Request<v1::ClusterRef>,
    ) -> Answer<v1::AuthorityConfirmationsAnswer> {
        authorized!(self, request, AuthorityRead, view::confirmations)
    }

    async fn authority_taint(
        &self,
        request: Request<v1::AuthorityStepRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, retirement::taint)
    }

    async fn authority_revoke(
        &self,
        request: Request<v1::AuthorityStepRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRotate, retirement::revoke)
    }

    async fn authority_recover(
        &self,
        request: Request<v1::AuthorityKeyRequest>,
    ) -> Answer<v1::AuthorityListAnswer> {
        authorized!(self, request, AuthorityRecover, succession::recover)
    }

    async fn data_key_rotate(
        &self,
        request: Request<v1::DataKeyRotateRequest>,
    ) -> Answer<v1::DataKeyRotateAnswer> {
        authorized!(self, request, DataKeyRotate, data_key::rotate)
    }
}

/// A cluster whose rows are held by the transaction. It need not be one that can be served.
struct Held {
    keys: DataKeys,
    rows: RowKeys,
    row: ClusterRow,
    stored: StoredAuthority,
}

impl Held {
    async fn lock(control: &Control, connection: &mut PgConnection, id: ClusterId) -> Result<Self, Failure> {
        let facts = &control.installation.facts;
        let keyring = control.keyring();
        let before = keyring.read(connection, id).await?;
        let row = cluster_hold(connection, &keyring.rows(id, &before)).await?;
        let row = row.ok_or_else(unknown)?.into_inner();
        // Read under the lock: a rotation may have added one while this waited, and secrets are sealed here.
        let keys = keyring.read(connection, id).await?;
        let rows = keyring.rows(id, &keys);
        let stored = StoredAuthority::read(connection, facts, &rows).await?;
        Ok(Self { keys, rows, row, stored })
    }

    fn id(&self) -> ClusterId {
        self.row.cluster.cluster
    }
}

fn unknown() -> Failure {
    Failure::new(Reason::ResourceNotFound, "no such cluster")
}

/// By name or id, from the rows: a cluster whose key is lost is not served, and is recovered here. Its own
/// row has to say that it is the one, under its MAC.
async fn find(control: &Control, text: &str) -> Result<ClusterId, Failure> {
    let mut snapshot = control.store.system().begin_snapshot().await?;
    let names = cluster_names(&mut snapshot).await?;
    let mut meant = names.into_iter().filter(|(id, name)| is_meant(*id, name, text)).map(|(id, _)| id);
    let id = meant.next().ok_or_else(unknown)?;
    if meant.next().is_some() {
        return Err(Failure::new(Reason::RequestConflict, "two clusters have this name: give the id"));
    }
    let keyring = control.keyring();
    let rows = keyring.rows(id, &keyring.read(&mut snapshot, id).await?);
    let row = cluster_read(&mut snapshot, &rows).await?.ok_or_else(unknown)?;
    drop(snapshot);
    if !is_meant(id, &row.cluster.name, text) {
        let object = format!("cluster/{id}");
        alarm_about(control, Reason::RowTampered, &object, "it was found by a name that is not its own")
            .await;
        return Err(Failure::new(Reason::RowTampered, "the cluster that was found has another name"));
    }
    Ok(id)
}

/// A key that was made elsewhere.
///
/// # Errors
/// `key.invalid`.
pub fn imported_key(seed: &[u8]) -> Result<Signer, Failure> {
    let seed: &[u8; 32] =
        seed.try_into().map_err(|_| Failure::new(Reason::KeyInvalid, "a private key has 32 bytes"))?;
    if seed == &[0; 32] {
        return Err(Failure::new(Reason::KeyInvalid, "a private key of zeros"));
    }
    let signer = Signer::from_seed(seed);
    // The same admission as for any key of another's making.
    PublicKey::from_slice(signer.public().as_bytes())?;
    Ok(signer)
}

fn refuse_used(held: &Held, key: &Signer) -> Result<(), Failure> {
    if held.stored.chain.contains(&key.public()) {
        return Err(Failure::new(Reason::ChainBroken, "a key that was used before never returns"));
    }
    Ok(())
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
