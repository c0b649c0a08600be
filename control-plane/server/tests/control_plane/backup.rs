//! A backup is whole and ours or refused, and yesterday's database becomes a new life, not an old one.

use std::time::Duration;

use rap_control_plane::commands::backup::create::create;
use rap_control_plane::commands::backup::restore::restore;
use rap_control_plane::commands::backup::verify::{Depth, verify};
use rap_control_plane::config::settings::Config;
use rap_control_plane::database::opened::OpenDatabase;
use rap_control_plane::start;

use rap_runtime::Clock;
use rap_store::testing::TestDatabase;
use rap_store::{audit_list, restore_newest};
use rap_types::Reason;
use rap_wire::v1;

use crate::host::{Host, hello};
use crate::sync::{Kept, acknowledge};
use crate::world::{World, reason};

fn config(world: &World) -> Config {
    world.running.replica.config.as_ref().clone()
}

/// The database of this world, as the command line would open it.
fn database(world: &World) -> OpenDatabase {
    OpenDatabase { target: world.database.as_ref().unwrap().target().clone(), embedded: None }
}

#[tokio::test]
async fn every_altered_shortened_or_lengthened_backup_is_refused_and_so_is_another_key() {
    let world = World::dev().await;
    world.cluster("prod").await;
    Host::new(&world.token("prod", 1, true).await, "one").enrol(&world).await;
    let directory = tempfile::tempdir().unwrap();
    let made = create(&config(&world), &database(&world), directory.path()).await.unwrap();
    assert_eq!(made.clusters[0].name, "prod");
    let checked = verify(&config(&world), &made.file, Depth::Digests).await.unwrap();
    assert_eq!(checked.rows, made.rows);
    let again = create(&config(&world), &database(&world), &made.file).await.unwrap_err();
    assert_eq!(again.reason, Reason::ResourceExists);

    let bytes = std::fs::read(&made.file).unwrap();
    let copy = directory.path().join("copy");
    let mut copies: Vec<Vec<u8>> = (0..400)
        .map(|number| {
            let mut altered = bytes.clone();
            altered[number * bytes.len() / 400] ^= 1 << (number % 8);
            altered
        })
        .collect();
    copies.extend([0, 1, 40, bytes.len() / 2, bytes.len() - 1].map(|length| bytes[..length].to_vec()));
    copies.push([&bytes[..], b"\n"].concat());
    copies.push([&bytes[..], &bytes[..]].concat());
    for altered in copies {
        std::fs::write(&copy, altered).unwrap();
        let refused = verify(&config(&world), &copy, Depth::Digests).await.unwrap_err();
        assert_eq!(refused.reason, Reason::BackupAltered);
    }

    let other = directory.path().join("other.key");
    std::fs::write(&other, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let stranger = Config { secret_key_file: Some(other), ..config(&world) };
    let refused = verify(&stranger, &made.file, Depth::Digests).await.unwrap_err();
    assert_eq!(refused.reason, Reason::BackupAltered);
    world.stop().await;
}

#[tokio::test]
async fn no_secret_is_in_a_backup() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 1, false).await;
    let directory = tempfile::tempdir().unwrap();
    let made = create(&config(&world), &database(&world), directory.path()).await.unwrap();
    let bytes = std::fs::read(&made.file).unwrap();
    let key = std::fs::read_to_string(world.data_dir.join("secret.key")).unwrap();
    let owner = world.owner.seed();
    let secret = rap_contract::JoinTokenText::parse(&token.text).unwrap();
    for secret in [key.trim().as_bytes(), owner.as_slice(), secret.secret()] {
        for shown in [secret.to_vec(), hex::encode(secret).into_bytes()] {
            assert!(!bytes.windows(shown.len()).any(|window| window == shown));
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&made.file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_check_restores_reads_back_and_opens_every_key() {
    let world = World::embedded().await;
    world.cluster("prod").await;
    Host::new(&world.token("prod", 1, true).await, "one").enrol(&world).await;
    let directory = tempfile::tempdir().unwrap();
    // The private server belongs to the running control plane: the backup joins it.
    let joined = OpenDatabase::open_or_join(&config(&world)).await.unwrap();
    assert!(joined.embedded.is_none());
    let made = create(&config(&world), &joined, directory.path()).await.unwrap();
    let checked = verify(&config(&world), &made.file, Depth::Restored).await.unwrap();
    assert!(checked.deep && checked.rows > 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yesterdays_backup_begins_a_new_incarnation_and_no_node_goes_back() {
    let mut world = World::dev().await;
    let born = world.cluster("prod").await;
    let token = world.token("prod", 2, true).await;
    let one = Host::new(&token, "one");
    let bootstrap = one.enrol(&world).await;
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let began = clock.now().mono;
    let made = create(&config(&world), &database(&world), directory.path()).await.unwrap();
    let backed_up = clock.now().mono;

    // Life goes on: a second node, more versions, and a node that verified them.
    let two = Host::new(&token, "two");
    let second = two.enrol(&world).await;
    let (slot, _) = one.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = one.stream(&world, &slot, hello()).await;
    let mut kept = Kept::new(&bootstrap);
    let newest = loop {
        let update = stream.update().await;
        let snapshot = kept.apply(&update);
        acknowledge(&stream, &snapshot).await;
        if snapshot.contents().peers.contains_key(&second.node) {
            break (update.head, snapshot.head().order);
        }
    };
    drop(stream);

    // The database is lost; a new one gets yesterday's rows.
    let target = TestDatabase::empty().await;
    let empty = || OpenDatabase { target: target.target().clone(), embedded: None };
    let lost = clock.now().mono;
    let restored = restore(&config(&world), &empty(), &made.file).await.unwrap();
    let back = clock.now().mono;
    assert_eq!(restored.clusters[0].name, "prod");
    let incarnation = restored.clusters[0].incarnation;
    assert!(incarnation > born.incarnation && incarnation > newest.1.incarnation.0);
    assert_eq!(restored.tokens_revoked, 1);
    let twice = restore(&config(&world), &empty(), &made.file).await.unwrap_err();
    assert_eq!(twice.reason, Reason::ResourceExists);

    let second_life = start::start(config(&world), empty()).await.unwrap();
    let serving = clock.now().mono;
    println!(
        "backup of {} rows, {} bytes: {:?}; restore {:?}; serving again {:?} after the loss",
        made.rows,
        made.bytes,
        Duration::from_nanos(backed_up.0 - began.0),
        Duration::from_nanos(back.0 - lost.0),
        Duration::from_nanos(serving.0 - lost.0),
    );
    world.through(second_life).stop().await;

    // Sessions are not in a backup; the owner's key still is an owner's.
    let ended = world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap_err();
    assert_eq!(reason(ended), Reason::SessionMissing);
    world.login().await.unwrap();

    // The node that saw the newest head accepts what is signed now, because it is above.
    let (slot, _) = one.certificate(&world, &bootstrap).await.unwrap();
    let shown = v1::NodeHello { newest_head: newest.0, ..hello() };
    let mut stream = one.stream(&world, &slot, shown).await;
    let snapshot = kept.apply(&stream.update().await);
    assert!(snapshot.head().order > newest.1, "{} after {}", snapshot.head().order, newest.1);
    assert_eq!(snapshot.head().order.incarnation.0, incarnation, "one new incarnation, not two");
    assert!(!snapshot.contents().peers.contains_key(&second.node), "that node joined after the backup");
    acknowledge(&stream, &snapshot).await;

    // What the backup did not know is not admitted by what it did know.
    let unknown = two.certificate(&world, &second).await.unwrap_err();
    assert!([Reason::NodeUnknown, Reason::EnrollmentRefused].contains(&reason(unknown)));
    let third = Host::new(&token, "three").join(&world).await.unwrap_err();
    assert_eq!(reason(third), Reason::TokenRevoked);
    let rejoined = Host::new(&world.token("prod", 1, true).await, "two").enrol(&world).await;
    let snapshot = kept.apply(&stream.update().await);
    assert!(snapshot.contents().peers.contains_key(&rejoined.node));

    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    assert!(restore_newest(&mut transaction).await.unwrap().is_some());
    let entries = audit_list(&mut transaction, &rap_store::AuditFilter::default(), 100).await.unwrap();
    assert!(entries.iter().any(|row| row.entry.action == "backup.restore"));
    drop(transaction);
    world.stop().await;
}
