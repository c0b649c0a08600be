//! Who may operate the platform: by a signed grant alone, until it ends or is taken back.

mod replicas;
mod tampering;

use std::time::Duration;

use rap_authority::FloorOf;
use rap_contract::Signer;
use rap_control_plane::serve::role_grants;
use rap_control_plane::start::Running;

use rap_rpc::v1::admin_client::AdminClient;
use rap_rpc::v1::grants_client::GrantsClient;
use rap_runtime::Clock;
use rap_types::Reason;
use rap_wire::v1;
use tonic::transport::Channel;

use crate::activation;
use crate::world::{World, login_proof, reason};

/// A strict and a development installation, activated, the owner logged in.
pub async fn worlds() -> [World; 2] {
    [activation::activated().await, World::dev().await]
}

pub fn signer() -> Signer {
    Signer::generate(&mut rand::rng())
}

async fn client(world: &World) -> GrantsClient<Channel> {
    GrantsClient::new(world.line().await.channel)
}

pub async fn add(world: &World, name: &str, key: &Signer, role: &str) -> Result<v1::PlatformGrant, Reason> {
    let request = v1::GrantAddRequest {
        name: name.into(),
        subject_key: key.public().to_vec(),
        platform_role: role.into(),
        valid_for_ms: 0,
    };
    let outcome = client(world).await.add(world.request(request)).await;
    outcome.map(tonic::Response::into_inner).map_err(reason)
}

pub async fn revoke(world: &World, name: &str) -> Result<v1::PlatformGrant, Reason> {
    let request = v1::GrantRevokeRequest { grant: name.into(), reason: "left".into() };
    let outcome = client(world).await.revoke(world.request(request)).await;
    outcome.map(tonic::Response::into_inner).map_err(reason)
}

/// Logs `key` in and returns the bearer.
pub async fn login(world: &World, key: &Signer) -> Result<v1::LoginAnswer, Reason> {
    let line = world.line().await;
    let mut admin = AdminClient::new(line.channel);
    let challenge = admin.login_challenge(v1::LoginChallengeRequest {}).await.unwrap().into_inner();
    let signature = login_proof(key, &challenge, &line.exporter);
    let operator_key = key.public().to_vec();
    let request = v1::LoginRequest { operator_key, nonce: challenge.nonce, signature };
    admin.login(request).await.map(tonic::Response::into_inner).map_err(reason)
}

pub fn with<T>(session: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {session}").parse().unwrap());
    request
}

/// What `session` gets for a call that every owner and admin may make.
pub async fn status(world: &World, session: &str) -> Option<Reason> {
    world.admin().await.status(with(session, v1::StatusRequest {})).await.map_err(reason).err()
}

async fn owner_status(world: &World) -> Option<Reason> {
    world.admin().await.status(world.request(v1::StatusRequest {})).await.map_err(reason).err()
}

/// What was audited under `action`: the objects.
pub async fn audited(world: &World, action: &str) -> Vec<String> {
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let filter = rap_store::AuditFilter { action: Some(action.into()), ..Default::default() };
    let rows = rap_store::audit_list(&mut transaction, &filter, 100).await.unwrap();
    rows.into_iter().rev().map(|row| row.entry.object).collect()
}

/// The alarm is counted, and audited at once or by another task that found the same just before.
async fn assert_alarm(world: &World, reason: Reason, object: &str) {
    assert!(world.running.replica.watch.metrics.alarms(reason) > 0, "{reason} is not counted");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let alarms = audited(world, "alarm.raise").await;
        if alarms.iter().any(|found| found.starts_with(object)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{object} is not among {alarms:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn sets(world: &World) -> Vec<Vec<u8>> {
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    rap_store::role_grant_sets_from(&mut transaction, 1).await.unwrap()
}

fn floor(running: &Running) -> Option<u64> {
    running.replica.database.floors.current()?.of(FloorOf::GrantSet).map(|floor| floor.sequence)
}

/// The database was put back from a backup: what this replica keeps copies of is not put back any more.
pub const RESTORED: &str =
    "INSERT INTO restores (backup_made_at, restored_at) VALUES (now(), now() + interval '1 hour')";

pub async fn sql(world: &World, statements: &'static str) {
    world.database.as_ref().unwrap().as_superuser(statements).await;
}

#[tokio::test]
async fn a_second_operator_logs_in_by_a_grant_alone_until_it_is_revoked() {
    for world in worlds().await {
        let ann = signer();
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::LoginRefused);
        let granted = add(&world, "ann", &ann, "platform_admin").await.unwrap();
        assert_eq!((granted.state.as_str(), granted.taken_up, granted.set_sequence), ("live", 2, 2));
        let session = login(&world, &ann).await.unwrap();
        assert_eq!(session.platform_role, "platform_admin");
        assert_eq!(status(&world, &session.session).await, None);
        // An admin runs clusters and changes no grant.
        let cluster = v1::ClusterCreateRequest { name: "by-ann".into(), ..Default::default() };
        world.admin().await.cluster_create(with(&session.session, cluster)).await.unwrap();
        let request = v1::GrantAddRequest {
            name: "eve".into(),
            subject_key: signer().public().to_vec(),
            platform_role: "platform_owner".into(),
            valid_for_ms: 0,
        };
        let refused = client(&world).await.add(with(&session.session, request)).await.unwrap_err();
        assert_eq!(reason(refused), Reason::GrantMissing);

        // The revocation holds at the other replica's next call, in the open session.
        let second = world.replica().await;
        let line = world.line_to(second.address).await;
        let mut admin = AdminClient::new(line.channel);
        admin.status(with(&session.session, v1::StatusRequest {})).await.unwrap();
        revoke(&world, "ann").await.unwrap();
        let refused = admin.status(with(&session.session, v1::StatusRequest {})).await.unwrap_err();
        assert_eq!(reason(refused), Reason::SessionMissing);
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::LoginRefused);
        let listed =
            client(&world).await.list(world.request(v1::GrantListRequest {})).await.unwrap().into_inner();
        let states: Vec<_> = listed.grants.iter().map(|grant| grant.state.as_str()).collect();
        assert_eq!(states, ["live", "revoked"]);
        assert_eq!(listed.set.unwrap().sequence, 3);
        // Name and key may be granted again.
        add(&world, "ann", &signer(), "platform_admin").await.unwrap();
        second.stop().await;
        world.stop().await;
    }
}

#[tokio::test]
async fn recovery_restores_an_owner_and_does_nothing_else() {
    let world = World::dev().await;
    let (safe, heir) = (signer(), signer());
    add(&world, "safe", &safe, "recovery").await.unwrap();
    let session = login(&world, &safe).await.unwrap().session;
    assert_eq!(status(&world, &session).await, Some(Reason::GrantMissing));
    let by_safe = |name: &str, key: &Signer, role: &str| {
        let (name, subject_key, platform_role) = (name.into(), key.public().to_vec(), role.into());
        with(&session, v1::GrantAddRequest { name, subject_key, platform_role, valid_for_ms: 0 })
    };
    for role in ["platform_admin", "recovery"] {
        let refused = client(&world).await.add(by_safe("eve", &signer(), role)).await.unwrap_err();
        assert_eq!(reason(refused), Reason::GrantMissing, "{role}");
    }
    let refusal = client(&world)
        .await
        .revoke(with(&session, v1::GrantRevokeRequest { grant: "dev-owner".into(), reason: String::new() }))
        .await
        .unwrap_err();
    assert_eq!(reason(refusal), Reason::GrantMissing);
    client(&world).await.add(by_safe("heir", &heir, "platform_owner")).await.unwrap();
    let heir = login(&world, &heir).await.unwrap();
    assert_eq!(heir.platform_role, "platform_owner");
    // The heir replaces the lost owner, who could not have been revoked before.
    let lost = v1::GrantRevokeRequest { grant: "dev-owner".into(), reason: "key lost".into() };
    client(&world).await.revoke(with(&heir.session, lost)).await.unwrap();
    assert_eq!(owner_status(&world).await, Some(Reason::SessionMissing));
    assert_eq!(world.login().await.unwrap_err().reason, Reason::LoginRefused);
    let last = v1::GrantRevokeRequest { grant: "heir".into(), reason: String::new() };
    let refused = client(&world).await.revoke(with(&heir.session, last)).await.unwrap_err();
    assert_eq!(reason(refused), Reason::GrantLastOwner);
    world.stop().await;
}

#[tokio::test]
async fn a_grant_that_ended_lets_nobody_in() {
    let world = World::dev().await;
    let ann = signer();
    let request = |valid_for_ms| v1::GrantAddRequest {
        name: "ann".into(),
        subject_key: ann.public().to_vec(),
        platform_role: "platform_admin".into(),
        valid_for_ms,
    };
    let short = client(&world).await.add(world.request(request(1))).await.unwrap_err();
    assert_eq!(reason(short), Reason::RequestInvalid);
    let granted = client(&world).await.add(world.request(request(60_000))).await.unwrap().into_inner();
    let session = login(&world, &ann).await.unwrap().session;
    assert_eq!(status(&world, &session).await, None);
    let admitted = role_grants::current(&world.running.replica.serving).await.unwrap();
    let end = rap_types::Wall(granted.expires_at_ms);
    assert!(end > Clock::new().now().wall);
    assert!(admitted.grants().of(&ann.public(), end).is_none());
    assert_eq!(admitted.operators(end).len(), 1);
    world.stop().await;
}
