//! Strict mode: the offline root, the one activation, what an edited database is worth.

use std::path::Path;
use std::sync::Arc;

use rap_authority::{SealingKey, SessionKey, answer_activation_request};
use rap_contract::{PublicKeyFile, Signer};
use rap_rpc::v1::admin_client::AdminClient;
use rap_runtime::Clock;
use rap_types::{Digest, Reason};
use rap_wire::v1;

use crate::world::{World, login_proof, reason};

pub struct Strict {
    pub world: World,
    pub root: Signer,
}

pub async fn strict() -> Strict {
    strict_with(async |root| World::strict(root).await).await
}

async fn strict_with(start: impl AsyncFnOnce(&Path) -> World) -> Strict {
    let root = Signer::generate(&mut rand::rng());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PublicKeyFile::of("product-root", root.public()).text()).unwrap();
    let mut world = start(file.path()).await;
    world.root_file = Some(file);
    Strict { world, root }
}

pub fn manifest(strict: &Strict, root: &Signer, owner: &Signer) -> Vec<u8> {
    let request = std::fs::read(strict.world.made.activation_request.as_ref().unwrap()).unwrap();
    let now = Clock::new().now().wall;
    answer_activation_request(&request, root, "owner@example.com", &owner.public(), now).unwrap()
}

pub async fn activate(world: &World, manifest: &[u8], owner: &Signer) -> Result<v1::LoginAnswer, Reason> {
    let line = world.line().await;
    let mut admin = AdminClient::new(line.channel);
    let challenge = admin.login_challenge(v1::LoginChallengeRequest {}).await.unwrap().into_inner();
    let signature = login_proof(owner, &challenge, &line.exporter);
    let request = v1::ActivateRequest {
        activation_manifest: manifest.to_vec(),
        operator_key: owner.public().to_vec(),
        nonce: challenge.nonce,
        signature,
    };
    admin.activate(request).await.map(tonic::Response::into_inner).map_err(reason)
}

/// A strict installation, activated, with the owner logged in.
pub async fn activated() -> World {
    activate_strict(strict().await).await
}

/// The same with a PostgreSQL of its own, as the programs find it.
pub async fn activated_embedded() -> World {
    activate_strict(strict_with(async |root| World::strict_embedded(root).await).await).await
}

async fn activate_strict(strict: Strict) -> World {
    let manifest = manifest(&strict, &strict.root, &strict.world.owner);
    activate(&strict.world, &manifest, &strict.world.owner).await.unwrap();
    strict.world.login().await.unwrap();
    strict.world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_racing_activations_make_one_owner() {
    let strict = strict().await;
    let manifest = manifest(&strict, &strict.root, &strict.world.owner);
    let strict = Arc::new(strict);
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (strict, manifest) = (strict.clone(), manifest.clone());
        attempts.spawn(async move { activate(&strict.world, &manifest, &strict.world.owner).await });
    }
    let mut done = 0;
    while let Some(outcome) = attempts.join_next().await {
        match outcome.unwrap() {
            Ok(answer) => {
                assert_eq!(answer.platform_role, "platform_owner");
                done += 1;
            }
            Err(reason) => assert_eq!(reason, Reason::ActivationReplayed),
        }
    }
    assert_eq!(done, 1);
    let replica = &strict.world.running.replica;
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    assert_eq!(rap_store::operators_list(&mut transaction, &replica.keys.rows).await.unwrap().len(), 1);
    assert_eq!(rap_store::role_grants_list(&mut transaction).await.unwrap().len(), 1);
    assert_eq!(rap_store::role_grant_sets_from(&mut transaction, 1).await.unwrap().len(), 1);
    // The owner logs in by the same key afterwards.
    assert!(strict.world.login().await.is_ok());
}

#[tokio::test]
async fn an_activation_that_another_replica_consumed_is_replayed_and_no_rollback() {
    let mut strict = strict().await;
    let second = strict.world.replica().await;
    let manifest = manifest(&strict, &strict.root, &strict.world.owner);
    activate(&strict.world, &manifest, &strict.world.owner).await.unwrap();
    // The other replica takes the floor of the set, and has not looked for an activation.
    rap_control_plane::serve::role_grants::current(&second.replica.serving).await.unwrap();
    let first = strict.world.through(second);
    assert!(strict.world.running.replica.keys.installation.activation().is_none());
    let refusal = activate(&strict.world, &manifest, &strict.world.owner).await.unwrap_err();
    assert_eq!(refusal, Reason::ActivationReplayed);
    assert_eq!(strict.world.running.replica.watch.metrics.alarms(Reason::FloorRollback), 0);
    first.stop().await;
    strict.world.stop().await;
}

#[tokio::test]
async fn only_the_root_the_owner_and_this_connection_activate() {
    let strict = strict().await;
    let world = &strict.world;
    let stranger = Signer::generate(&mut rand::rng());
    assert_eq!(world.login().await.unwrap_err().reason, Reason::ActivationRequired);
    let by_stranger = manifest(&strict, &stranger, &stranger);
    assert_eq!(activate(world, &by_stranger, &stranger).await.unwrap_err(), Reason::KeyUnknown);
    let good = manifest(&strict, &strict.root, &world.owner);
    assert_eq!(activate(world, &good, &stranger).await.unwrap_err(), Reason::LoginRefused);

    // A proof made on another connection.
    let (one, two) = (world.line().await, world.line().await);
    let mut admin = AdminClient::new(one.channel);
    let challenge = admin.login_challenge(v1::LoginChallengeRequest {}).await.unwrap().into_inner();
    let request = v1::ActivateRequest {
        activation_manifest: good.clone(),
        operator_key: world.owner.public().to_vec(),
        signature: login_proof(&world.owner, &challenge, &two.exporter),
        nonce: challenge.nonce,
    };
    assert_eq!(reason(admin.activate(request).await.unwrap_err()), Reason::LoginRefused);
    assert!(activate(world, &good, &world.owner).await.is_ok());
    strict.world.stop().await;
}

/// Whoever owns the database may add an operator, and sessions for anybody.
async fn insert_session(world: &World, operator: &rap_store::OperatorRow, hash: Digest) {
    let session = rap_store::NewSession {
        token_hash: hash,
        operator: operator.operator,
        operator_public_key: operator.public_key,
        expires_at: Clock::new().now().wall.plus(std::time::Duration::from_secs(3600)),
    };
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    rap_store::session_insert(&mut transaction, &session).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn status_with(world: &World, bearer: &str) -> Reason {
    let mut request = tonic::Request::new(v1::StatusRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    reason(world.admin().await.status(request).await.unwrap_err())
}

#[tokio::test]
async fn rows_written_into_the_database_make_nobody_an_operator() {
    let strict = strict().await;
    let world = &strict.world;
    let good = manifest(&strict, &strict.root, &world.owner);
    activate(world, &good, &world.owner).await.unwrap();
    let expires_at = Clock::new().now().wall.plus(std::time::Duration::from_secs(3600));

    // An operator of the intruder's own, with a session that even the session key vouches for.
    let intruder = Signer::generate(&mut rand::rng());
    let row = rap_store::OperatorRow {
        operator: rap_types::OperatorId::from_bytes([7; 16]),
        name: "intruder".into(),
        public_key: *intruder.public().as_bytes(),
        platform_role: "platform_owner".into(),
        disabled_at: None,
    };
    let rows = &world.running.replica.keys.rows;
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    rap_store::operator_insert(&mut transaction, rows, &row).await.unwrap();
    let owner =
        rap_store::operator_by_key(&mut transaction, rows, world.owner.public().as_bytes()).await.unwrap();
    transaction.commit().await.unwrap();
    let key = &world.running.replica.keys.session_key;
    let issued = key.issue(intruder.public(), expires_at, &mut rand::rng());
    insert_session(world, &row, issued.claim.hash).await;
    assert_eq!(status_with(world, &issued.bearer).await, Reason::GrantMissing);

    // A session of the owner, hashed under a key the intruder chose.
    let guessed = SessionKey::of(&SealingKey::generate(&mut rand::rng()));
    let issued = guessed.issue(world.owner.public(), expires_at, &mut rand::rng());
    insert_session(world, &owner.unwrap(), issued.claim.hash).await;
    assert_eq!(status_with(world, &issued.bearer).await, Reason::SessionMissing);
    strict.world.stop().await;
}
