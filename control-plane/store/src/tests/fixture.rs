//! Rows that tests start from.

use rap_authority::{RowKeys, SealingKey};
use rap_contract::KeyState;
use rap_types::{
    ApprovalMode, ClusterId, Digest, JoinRequestId, NodeId, OrganizationId, Role, TokenId, Wall,
};
use serde_json::json;

use crate::*;

/// An id of any type, from one byte.
pub(super) fn id<T: From<uuid::Uuid>>(byte: u8) -> T {
    uuid::Uuid::from_bytes([byte; 16]).into()
}

/// What audit rows are written with.
pub(super) fn pen() -> AuditWriter {
    let kek = rap_authority::SealingKey::from_slice(&[7; 32]).unwrap();
    AuditWriter::new(rap_authority::AuditKey::of(&kek, [], id(9)))
}

/// Keys of the rows of cluster 1.
pub(super) fn keys() -> RowKeys {
    keys_of(id(1))
}

/// Keys of the rows of another cluster.
pub(super) fn keys_of(cluster: ClusterId) -> RowKeys {
    RowKeys::of_cluster(id(1), cluster, &data_key(cluster))
}

/// The data key of a cluster.
pub(super) fn data_key(cluster: ClusterId) -> SealingKey {
    let mut bytes = *cluster.as_bytes();
    bytes[0] ^= 0x55;
    SealingKey::from_slice(&[bytes, bytes].concat()).unwrap()
}

/// Keys of the installation's own rows.
pub(super) fn own_keys() -> RowKeys {
    RowKeys::of_installation(id(1), &SealingKey::from_slice(&[0x66; 32]).unwrap())
}

pub(super) const FAR: Wall = Wall(4_000_000_000_000);

pub(super) fn cluster() -> NewClusterRow {
    NewClusterRow {
        cluster: id(1),
        name: "prod".into(),
        incarnation: 1_800_000_000,
        ipv4_pool: "100.96.0.0/16".parse().unwrap(),
        dev: false,
        fresh_for_ms: 300_000,
        refresh_every_ms: 30_000,
        degraded_for_ms: 43_200_000,
        leaf_lifetime_ms: 86_400_000,
        sealed_map_key: vec![1; 61],
    }
}

pub(super) fn authority(sequence: u64, state: KeyState) -> AuthorityRow {
    AuthorityRow {
        cluster: id(1),
        sequence,
        record: vec![7; 200],
        public_key: [u8::try_from(sequence).unwrap(); 32],
        sealed_private_key: (state != KeyState::Revoked).then(|| vec![9; 61]),
        state,
    }
}

pub(super) fn ca() -> ClusterCaRow {
    ClusterCaRow {
        cluster: id(1),
        generation: 1,
        cert_der: vec![3; 300],
        sealed_key: Some(vec![4; 61]),
        state: KeyState::Active,
    }
}

pub(super) fn token(organization: Option<OrganizationId>, max_uses: u32) -> NewTokenRow {
    NewTokenRow {
        token: id(2),
        cluster: id(1),
        organization,
        envelope: vec![5; 400],
        secret_hash: Digest::of(&[b"secret"]),
        approval: ApprovalMode::Manual,
        roles: vec![Role::Core, Role::RelayNode],
        tags: vec!["rack:1".into()],
        ephemeral: false,
        max_uses,
        expires_at: FAR,
    }
}

/// A request of the host whose keys come from `host`.
pub(super) fn request(host: u16, organization: Option<OrganizationId>) -> NewJoinRequestRow {
    let mut request = [0x70; 16];
    request[..2].copy_from_slice(&host.to_be_bytes());
    NewJoinRequestRow {
        request: JoinRequestId::from_bytes(request),
        cluster: id(1),
        organization,
        token: id(2),
        node_public_key: *Digest::of(&[b"node", &host.to_be_bytes()]).as_bytes(),
        wireguard_public_key: *Digest::of(&[b"wireguard", &host.to_be_bytes()]).as_bytes(),
        nonce: [1; 32],
        name: "Host.Example".into(),
        facts: json!({"capabilities": ["can_route_mesh"], "agent_version": "0.1.0", "region": ""}),
        advertise: json!({"link": ["192.0.2.1:7443"], "wireguard": []}),
        source: "127.0.0.1".into(),
    }
}

pub(super) fn node(byte: u8, organization: Option<OrganizationId>, host_number: u32) -> NewNodeRow {
    NewNodeRow {
        node: NodeId::from_bytes([byte; 16]),
        cluster: id(1),
        organization,
        name: format!("node-{byte}"),
        node_public_key: [byte; 32],
        wireguard_public_key: [byte; 32],
        host_number,
        roles: vec![Role::Core],
        ephemeral: false,
        facts: NodeFacts { region: "eu".into(), ..NodeFacts::default() },
    }
}

/// Commits a cluster with its CA and a token.
pub(super) async fn cluster_with_token(store: &Store, max_uses: u32) -> ClusterId {
    let mut transaction = store.system().begin().await.unwrap();
    cluster_insert(&mut transaction, &keys(), &cluster()).await.unwrap();
    cluster_ca_insert(&mut transaction, &keys(), &ca()).await.unwrap();
    token_insert(&mut transaction, &keys(), &token(None, max_uses)).await.unwrap();
    transaction.commit().await.unwrap();
    id(1)
}

/// Inserts a node with the next host number.
pub(super) async fn node_added(transaction: &mut SystemTransaction, byte: u8) -> NodeId {
    let number = host_number_allocate(transaction, &keys(), id(byte), 65_534).await.unwrap().unwrap();
    node_insert(transaction, &keys(), &node(byte, None, number)).await.unwrap();
    id(byte)
}

/// Changes a node's row.
pub(super) async fn node_changed(
    transaction: &mut SystemTransaction,
    node: NodeId,
    change: impl FnOnce(&mut NewNodeRow),
) -> Result<(), StoreError> {
    let mut row = node_hold(transaction, &keys(), node).await?.expect("a node of the fixture");
    change(&mut row.node);
    node_write(transaction, &keys(), row).await
}

pub(super) fn token_id() -> TokenId {
    id(2)
}

/// Fixes the error type of a [`transact!`] in a test.
pub(super) fn committed<T>(outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    outcome
}

/// A call that was done, with the answer that is kept for a retry.
pub(super) fn claim() -> IdempotencyRow {
    IdempotencyRow {
        actor: "08".repeat(32),
        key: "0f".repeat(16),
        request: rap_types::Digest::of(&[b"request"]),
        act: "/rap.fabric.v1.Admin/TokenCreate".into(),
        done: b"[]".to_vec(),
        answer: Some(b"answer".to_vec()),
    }
}
