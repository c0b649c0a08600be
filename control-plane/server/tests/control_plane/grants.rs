//! Who may operate the platform, against whoever owns the database: each attack with real rows, edited
//! by a superuser, in strict and in development mode.

use std::time::Duration;

use rap_authority::{FloorOf, GrantOrder, add_grant, first_grant};
use rap_contract::{Audience, GRANT_SET_LIFE, HeaderTerms, Signer, sign};
use rap_control_plane::confirm;
use rap_control_plane::database::Database;
use rap_control_plane::datadir::DataDir;
use rap_control_plane::grants;
use rap_control_plane::serve::{self, Running};
use rap_runtime::{Clock, Refusal};
use rap_types::{ClusterId, Digest, PlatformRole, Reason};
use rap_wire::v1;
use rap_wire::v1::admin_client::AdminClient;
use rap_wire::v1::grants_client::GrantsClient;
use tonic::transport::Channel;

use crate::activation;
use crate::world::{World, login_proof, reason};

/// A strict and a development installation, activated, the owner logged in.
async fn worlds() -> [World; 2] {
    [activation::activated().await, World::dev().await]
}

fn signer() -> Signer {
    Signer::generate(&mut rand::rng())
}

async fn client(world: &World) -> GrantsClient<Channel> {
    GrantsClient::new(world.line().await.channel)
}

async fn add(world: &World, name: &str, key: &Signer, role: &str) -> Result<v1::PlatformGrant, Reason> {
    let request = v1::GrantAddRequest {
        name: name.into(),
        subject_key: key.public().to_vec(),
        platform_role: role.into(),
        valid_for_ms: 0,
    };
    let outcome = client(world).await.add(world.request(request)).await;
    outcome.map(tonic::Response::into_inner).map_err(reason)
}

async fn revoke(world: &World, name: &str) -> Result<v1::PlatformGrant, Reason> {
    let request = v1::GrantRevokeRequest { grant: name.into(), reason: "left".into() };
    let outcome = client(world).await.revoke(world.request(request)).await;
    outcome.map(tonic::Response::into_inner).map_err(reason)
}

/// Logs `key` in and returns the bearer.
async fn login(world: &World, key: &Signer) -> Result<v1::LoginAnswer, Reason> {
    let line = world.line().await;
    let mut admin = AdminClient::new(line.channel);
    let challenge = admin.login_challenge(v1::LoginChallengeRequest {}).await.unwrap().into_inner();
    let signature = login_proof(key, &challenge, &line.exporter);
    let operator_key = key.public().to_vec();
    let request = v1::LoginRequest { operator_key, nonce: challenge.nonce, signature };
    admin.login(request).await.map(tonic::Response::into_inner).map_err(reason)
}

fn with<T>(session: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {session}").parse().unwrap());
    request
}

/// What `session` gets for a call that every owner and admin may make.
async fn status(world: &World, session: &str) -> Option<Reason> {
    world.admin().await.status(with(session, v1::StatusRequest {})).await.map_err(reason).err()
}

async fn owner_status(world: &World) -> Option<Reason> {
    world.admin().await.status(world.request(v1::StatusRequest {})).await.map_err(reason).err()
}

/// What was audited under `action`: the objects.
async fn audited(world: &World, action: &str) -> Vec<String> {
    let mut transaction = world.running.control.store.system().begin().await.unwrap();
    let filter = rap_store::AuditFilter { action: Some(action.into()), ..Default::default() };
    let rows = rap_store::audit_list(&mut transaction, &filter, 100).await.unwrap();
    rows.into_iter().rev().map(|row| row.entry.object).collect()
}

/// The alarm is counted, and audited at once or by another task that found the same just before.
async fn assert_alarm(world: &World, reason: Reason, object: &str) {
    assert!(world.running.control.metrics.alarms(reason) > 0, "{reason} is not counted");
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

async fn sql(world: &World, statements: &'static str) {
    world.database.as_ref().unwrap().as_superuser(statements).await;
}

async fn sets(world: &World) -> Vec<Vec<u8>> {
    let mut transaction = world.running.control.store.system().begin().await.unwrap();
    rap_store::grant_sets_from(&mut transaction, 1).await.unwrap()
}

fn floor(running: &Running) -> Option<u64> {
    running.control.floors.current()?.of(FloorOf::GrantSet).map(|floor| floor.sequence)
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
async fn sql_edit_of_a_role_is_refused_alarmed_and_audited() {
    for world in worlds().await {
        let ann = signer();
        add(&world, "ann", &ann, "platform_admin").await.unwrap();
        let session = login(&world, &ann).await.unwrap().session;
        for (edit, repair, object) in [
            (
                "UPDATE operators SET platform_role = 'platform_owner' WHERE name = 'ann'",
                "UPDATE operators SET platform_role = 'platform_admin' WHERE name = 'ann'",
                "operator/",
            ),
            (
                "UPDATE platform_role_grants SET platform_role = 'platform_owner'",
                "UPDATE platform_role_grants SET platform_role = 'platform_admin' WHERE subject_key = \
                 (SELECT public_key FROM operators WHERE name = 'ann')",
                "platform_role_grants/",
            ),
        ] {
            sql(&world, edit).await;
            assert_eq!(status(&world, &session).await, Some(Reason::RowTampered), "{edit}");
            assert!(login(&world, &ann).await.is_err(), "{edit}");
            // The one whose rows are what was signed goes on.
            assert_eq!(owner_status(&world).await, None, "{edit}");
            assert_alarm(&world, Reason::RowTampered, object).await;
            sql(&world, repair).await;
            assert_eq!(status(&world, &session).await, None, "{repair}");
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn copied_grant_row_gives_nobody_anything() {
    for world in worlds().await {
        let (ann, intruder) = (signer(), signer());
        add(&world, "ann", &ann, "platform_admin").await.unwrap();
        // Ann's signed bytes under a digest, key and role of the intruder's choice.
        sql(
            &world,
            "INSERT INTO platform_role_grants (grant_digest, subject_key, platform_role, envelope) \
             SELECT sha256(grant_digest), sha256(subject_key), 'platform_owner', envelope \
             FROM platform_role_grants WHERE platform_role = 'platform_admin'",
        )
        .await;
        let session = login(&world, &ann).await.unwrap().session;
        assert_eq!(status(&world, &session).await, None, "the genuine row is still there");
        assert_alarm(&world, Reason::RowTampered, "platform_role_grants/").await;

        // A grant that the installation authority really signed, in a history that is not this one.
        let control = &world.running.control;
        let admitted = grants::current(control).await.unwrap();
        let owner = admitted.grants().of(&world.owner.public(), control.clock.now().wall).unwrap();
        let order = GrantOrder {
            subject: intruder.public(),
            name: "intruder".into(),
            role: PlatformRole::Owner,
            valid_for: None,
        };
        let scope = control.installation.grant_scope();
        let foreign = add_grant(&scope, admitted.grants(), owner, &order, control.clock.now().wall).unwrap();
        let mut transaction = control.store.system().begin().await.unwrap();
        let terms = &foreign.terms;
        rap_store::grant_insert(
            &mut transaction,
            terms.digest,
            terms.subject.as_bytes(),
            terms.role,
            &foreign.grant,
        )
        .await
        .unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(login(&world, &intruder).await.unwrap_err(), Reason::LoginRefused);
        assert_eq!(owner_status(&world).await, None);
        assert_alarm(&world, Reason::RowTampered, &format!("platform_role_grants/{}", terms.digest)).await;
        // And the next set does not take it up.
        add(&world, "bob", &signer(), "platform_admin").await.unwrap();
        assert_eq!(login(&world, &intruder).await.unwrap_err(), Reason::LoginRefused);

        // The row of a revoked grant, put back as it was, is worth nothing either.
        revoke(&world, "ann").await.unwrap();
        sql(&world, "UPDATE operators SET disabled_at = NULL").await;
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::LoginRefused);
        world.stop().await;
    }
}

#[tokio::test]
async fn old_consistent_copy_of_the_grant_tables_is_refused_alarmed_and_audited() {
    for world in worlds().await {
        let ann = signer();
        add(&world, "ann", &ann, "platform_owner").await.unwrap();
        let session = login(&world, &ann).await.unwrap().session;
        sql(
            &world,
            "CREATE SCHEMA stolen; \
             CREATE TABLE stolen.sets AS TABLE role_grant_sets; \
             CREATE TABLE stolen.grants AS TABLE platform_role_grants; \
             CREATE TABLE stolen.operators AS TABLE operators; \
             CREATE TABLE stolen.sessions AS TABLE operator_sessions",
        )
        .await;
        revoke(&world, "ann").await.unwrap();
        sql(
            &world,
            "CREATE TABLE stolen.new_sets AS TABLE role_grant_sets; \
             CREATE TABLE stolen.new_grants AS TABLE platform_role_grants; \
             DELETE FROM operator_sessions; DELETE FROM operators; DELETE FROM role_grant_sets; \
             DELETE FROM platform_role_grants; \
             INSERT INTO operators TABLE stolen.operators; \
             INSERT INTO operator_sessions TABLE stolen.sessions; \
             INSERT INTO platform_role_grants TABLE stolen.grants; \
             INSERT INTO role_grant_sets TABLE stolen.sets",
        )
        .await;
        assert_eq!(status(&world, &session).await, Some(Reason::FloorRollback));
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::FloorRollback);
        assert_eq!(owner_status(&world).await, Some(Reason::FloorRollback));
        assert_alarm(&world, Reason::FloorRollback, "role-grant-set").await;
        // Nothing is signed on top of it, by this replica or by one that starts now.
        let second = world.replica().await;
        let line = world.line_to(second.address).await;
        let refused =
            AdminClient::new(line.channel).status(world.request(v1::StatusRequest {})).await.unwrap_err();
        assert_eq!(reason(refused), Reason::FloorRollback);
        second.stop().await;
        assert_eq!(sets(&world).await.len(), 2);

        // Back as it was, all is well.
        sql(
            &world,
            "INSERT INTO platform_role_grants SELECT * FROM stolen.new_grants n WHERE NOT EXISTS \
                (SELECT 1 FROM platform_role_grants g WHERE g.grant_digest = n.grant_digest); \
             INSERT INTO role_grant_sets SELECT * FROM stolen.new_sets n WHERE NOT EXISTS \
                (SELECT 1 FROM role_grant_sets s WHERE s.sequence = n.sequence)",
        )
        .await;
        assert_eq!(owner_status(&world).await, None);
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::LoginRefused);
        world.stop().await;
    }
}

#[tokio::test]
async fn removed_and_exchanged_sets_and_rows_are_refused() {
    let world = World::dev().await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    revoke(&world, "ann").await.unwrap();
    sql(
        &world,
        "CREATE SCHEMA stolen; CREATE TABLE stolen.sets AS TABLE role_grant_sets; \
         CREATE TABLE stolen.grants AS TABLE platform_role_grants",
    )
    .await;
    for (edit, refusal) in [
        // What takes Ann's grant back.
        (
            "DELETE FROM platform_role_grants WHERE created_at = (SELECT max(created_at) FROM platform_role_grants)",
            Reason::ChainBroken,
        ),
        ("DELETE FROM role_grant_sets", Reason::FloorRollback),
        ("DELETE FROM role_grant_sets WHERE sequence = 3", Reason::FloorRollback),
        (
            "UPDATE role_grant_sets SET envelope = (SELECT envelope FROM stolen.sets WHERE sequence = 2) \
             WHERE sequence = 3",
            Reason::FloorRollback,
        ),
        (
            "UPDATE role_grant_sets SET envelope = set_byte(envelope, 100, get_byte(envelope, 100) # 1)",
            Reason::SignatureInvalid,
        ),
        (
            "UPDATE platform_role_grants SET envelope = set_byte(envelope, 100, get_byte(envelope, 100) # 1)",
            Reason::ChainBroken,
        ),
    ] {
        sql(&world, edit).await;
        assert_eq!(owner_status(&world).await, Some(refusal), "{edit}");
        assert_alarm(&world, refusal, "role-grant-set").await;
        sql(
            &world,
            "DELETE FROM role_grant_sets; DELETE FROM platform_role_grants; \
             INSERT INTO platform_role_grants TABLE stolen.grants; \
             INSERT INTO role_grant_sets TABLE stolen.sets",
        )
        .await;
        assert_eq!(owner_status(&world).await, None, "after {edit}");
    }
    // Another history, genuinely signed: the same sequence with another set.
    let control = &world.running.control;
    let other =
        first_grant(&control.installation.grant_scope(), "eve", ann.public(), control.clock.now().wall);
    let other = other.unwrap();
    sql(&world, "DELETE FROM role_grant_sets; DELETE FROM platform_role_grants").await;
    let mut transaction = control.store.system().begin().await.unwrap();
    grants::store_change(&mut transaction, &control.rows, &other, control.clock.now().wall).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(owner_status(&world).await, Some(Reason::FloorRollback));
    assert!(login(&world, &ann).await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn a_database_put_back_to_before_its_activation_is_not_activated_again() {
    let strict = activation::strict().await;
    let world = &strict.world;
    let manifest = activation::manifest(&strict, &strict.root, &world.owner);
    activation::activate(world, &manifest, &world.owner).await.unwrap();
    sql(
        world,
        "UPDATE installation_authority SET activation_manifest = NULL, activated_at = NULL; \
         DELETE FROM operator_sessions; DELETE FROM operators; DELETE FROM role_grant_sets; \
         DELETE FROM platform_role_grants",
    )
    .await;
    // A replica that starts now has not seen the activation, but it has the floor.
    let second = world.replica().await;
    let mut again = strict.world;
    let first = again.through(second);
    let refused = activation::activate(&again, &manifest, &again.owner).await.unwrap_err();
    assert_eq!(refused, Reason::FloorRollback);
    assert_alarm(&again, Reason::FloorRollback, "role-grant-set").await;
    first.stop().await;
    again.stop().await;
}

/// A replica with a data directory of its own: keys copied, floors not.
async fn stranger_replica(world: &World, directory: &std::path::Path, control_url: &str) -> Running {
    let mut config = world.running.control.config.clone();
    config.data_dir = directory.to_owned();
    config.control_urls = vec![control_url.to_owned()];
    for entry in std::fs::read_dir(&world.data_dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if path.is_file() && name != "floors.json" {
            std::fs::copy(&path, directory.join(name)).unwrap();
        }
    }
    serve::start(config, database(world)).await.unwrap()
}

fn database(world: &World) -> Database {
    Database { target: world.database.as_ref().unwrap().target().clone(), embedded: None }
}

async fn status_at(world: &World, replica: &Running) -> Option<Reason> {
    let line = world.line_to(replica.address).await;
    AdminClient::new(line.channel).status(world.request(v1::StatusRequest {})).await.map_err(reason).err()
}

async fn has_floor_soon(replica: &Running) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while floor(replica).is_none() {
        assert!(tokio::time::Instant::now() < deadline, "no floor in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_replica_without_floors_allows_nothing_until_its_host_confirms_the_printed_sequence() {
    for world in worlds().await {
        add(&world, "ann", &signer(), "platform_admin").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let replica = stranger_replica(&world, directory.path(), "https://127.0.0.1:1").await;
        assert_eq!(status_at(&world, &replica).await, Some(Reason::FloorMissing));
        let line = world.line_to(replica.address).await;
        let asked = GrantsClient::new(line.channel).newest_set(v1::GrantSetRequest {}).await.unwrap_err();
        assert_eq!(reason(asked), Reason::FloorMissing, "it tells no other replica what to believe");
        let mut elsewhere = world;
        let first = elsewhere.through(replica);
        assert_eq!(
            elsewhere.login().await.map_err(|refusal: Refusal| refusal.reason).unwrap_err(),
            Reason::FloorMissing
        );
        let replica = elsewhere.through(first);
        let world = elsewhere;

        let config = replica.control.config.clone();
        let data = DataDir::of(&config);
        let shown = confirm::show(&config, &data, &database(&world)).await.unwrap();
        assert!(shown.floors.is_none());
        let set = shown.newest_set.unwrap();
        assert_eq!((set.sequence, set.grants.len()), (2, 2));
        for wrong in [1, 3] {
            let refused =
                confirm::confirm(&config, &data, &database(&world), wrong, false).await.unwrap_err();
            assert_eq!(refused.reason, Reason::RequestConflict);
        }
        assert_eq!(status_at(&world, &replica).await, Some(Reason::FloorMissing));
        confirm::confirm(&config, &data, &database(&world), 2, false).await.unwrap();
        has_floor_soon(&replica).await;
        assert_eq!(status_at(&world, &replica).await, None);

        // After a restore the floor goes down by a person's word only.
        sql(
            &world,
            "DELETE FROM role_grant_sets WHERE sequence > 1; \
             DELETE FROM platform_role_grants WHERE platform_role <> 'platform_owner'",
        )
        .await;
        assert_eq!(status_at(&world, &replica).await, Some(Reason::FloorRollback));
        let refused = confirm::confirm(&config, &data, &database(&world), 1, false).await.unwrap_err();
        assert_eq!(refused.reason, Reason::FloorRollback);
        replica.stop().await;
        confirm::confirm(&config, &data, &database(&world), 1, true).await.unwrap();
        let replica = serve::start(config, database(&world)).await.unwrap();
        assert_eq!(status_at(&world, &replica).await, None);
        replica.stop().await;
        world.stop().await;
    }
}

#[tokio::test]
async fn a_replica_without_floors_takes_the_highest_set_from_another_replica() {
    let world = World::dev().await;
    for number in 0..3 {
        add(&world, &format!("operator-{number}"), &signer(), "platform_admin").await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let url = format!("https://{}", world.address());
    let replica = stranger_replica(&world, directory.path(), &url).await;
    has_floor_soon(&replica).await;
    assert_eq!(floor(&replica), Some(4));
    assert_eq!(status_at(&world, &replica).await, None);
    replica.stop().await;
    // Had the database been put back for it meanwhile, it would refuse it.
    sql(&world, "DELETE FROM role_grant_sets WHERE sequence = 4").await;
    let other = tempfile::tempdir().unwrap();
    let replica = stranger_replica(&world, other.path(), &url).await;
    assert_ne!(status_at(&world, &replica).await, None);
    replica.stop().await;
    world.stop().await;
}

/// Stores a set with the members of the newest one, signed `age` ago.
async fn age_set(world: &World, age: Duration) {
    let control = &world.running.control;
    let admitted = grants::current(control).await.unwrap();
    let set = admitted.grants().set();
    let issued_at = control.clock.now().wall.minus(age);
    let installation = control.installation.facts.id;
    let header = HeaderTerms {
        installation,
        cluster: ClusterId::ZERO,
        audience: Audience::Installation(installation),
        issuer: control.installation.authority.id(),
        incarnation: 0,
        sequence: set.sequence + 1,
        issued_at,
        expires_at: Some(issued_at.plus(GRANT_SET_LIFE)),
        critical: rap_authority::critical(control.installation.facts.dev),
    };
    let aged = v1::RoleGrantSet {
        header: Some(header.to_wire()),
        grant_digests: set.members.iter().map(|member| member.to_vec()).collect(),
        previous_set_digest: set.digest.to_vec(),
    };
    let envelope = sign(&aged, &[&control.installation.authority]);
    let digest = control.installation.grant_verifier().open_set(&envelope).unwrap().digest;
    let mut transaction = control.store.system().begin().await.unwrap();
    assert!(
        rap_store::grant_set_insert(&mut transaction, set.sequence + 1, digest, &envelope).await.unwrap()
    );
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_set_is_signed_again_in_time_with_the_same_members_by_one_replica() {
    let world = World::dev().await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    let before = grants::current(&world.running.control).await.unwrap().grants().set().members.clone();
    // Half of its life is over; and in the second round all of it, as after two days off.
    for (age, sequence) in [(Duration::from_secs(13 * 3600), 4), (Duration::from_secs(48 * 3600), 6)] {
        age_set(&world, age).await;
        let second = world.replica().await;
        let (one, two) =
            tokio::join!(grants::current(&world.running.control), grants::current(&second.control));
        for admitted in [one.unwrap(), two.unwrap()] {
            assert_eq!(admitted.at().sequence, sequence);
            assert_eq!(admitted.grants().set().members, before);
        }
        assert_eq!((floor(&world.running), floor(&second)), (Some(sequence), Some(sequence)));
        assert_eq!(sets(&world).await.len() as u64, sequence);
        assert_eq!(owner_status(&world).await, None);
        second.stop().await;
    }
    assert_eq!(audited(&world, "grant_set.renew").await, ["role-grant-set/4", "role-grant-set/6"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_race_over_two_replicas_make_one_chain() {
    let world = std::sync::Arc::new(World::dev().await);
    let second = world.replica().await;
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (world, address) =
            (world.clone(), if number % 2 == 0 { world.address() } else { second.address });
        racing.spawn(async move {
            let request = v1::GrantAddRequest {
                name: format!("operator-{number}"),
                subject_key: signer().public().to_vec(),
                platform_role: "platform_admin".into(),
                valid_for_ms: 0,
            };
            let mut client = GrantsClient::new(world.line_to(address).await.channel);
            client.add(world.request(request)).await.map_err(reason)
        });
    }
    // Calls that run meanwhile see one set or the next, and never a database that was put back.
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (world, address) =
            (world.clone(), if number % 2 == 0 { world.address() } else { second.address });
        calls.spawn(async move {
            let mut admin = AdminClient::new(world.line_to(address).await.channel);
            for _ in 0..25 {
                admin.status(world.request(v1::StatusRequest {})).await.map_err(reason)?;
            }
            Ok::<_, Reason>(())
        });
    }
    let mut added = 0;
    while let Some(outcome) = racing.join_next().await {
        match outcome.unwrap() {
            Ok(_) => added += 1,
            Err(reason) => assert_eq!(reason, Reason::RequestConflict),
        }
    }
    for outcome in calls.join_all().await {
        assert_eq!(outcome, Ok(()));
    }
    for replica in [&world.running, &second] {
        assert_eq!(replica.control.metrics.alarms(Reason::FloorRollback), 0);
    }
    assert!(added > 0);
    let admitted = grants::current(&world.running.control).await.unwrap();
    assert_eq!(admitted.at().sequence, 1 + added);
    assert_eq!(admitted.grants().live().len() as u64, 1 + added);
    assert_eq!(admitted.tampered(), [] as [Digest; 0]);
    let again = grants::current(&second.control).await.unwrap();
    assert_eq!(again.at(), admitted.at());
    second.stop().await;
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
    let admitted = grants::current(&world.running.control).await.unwrap();
    let end = rap_types::Wall(granted.expires_at_ms);
    assert!(end > Clock::new().now().wall);
    assert!(admitted.grants().of(&ann.public(), end).is_none());
    assert_eq!(admitted.operators(end).len(), 1);
    world.stop().await;
}
