//! What an operator types about rows and floors, on a strict installation with its own PostgreSQL: the
//! program itself, beside a serving control plane, after tampering, and after a restore.

use std::path::{Path, PathBuf};
use std::process::Command;

use rap_authority::{Floor, FloorOf, RowKeys};
use rap_control_plane::config::settings::Config;
use rap_control_plane::database::opened::OpenDatabase;
use rap_control_plane::database::replica_floors::FloorFile;
use rap_control_plane::keys::key_ring::Stage;
use rap_control_plane::start;
use rap_control_plane::start::Running;

use rap_store::testing::TestDatabase;
use rap_types::Reason;
use serde_json::Value;

use crate::activation;
use crate::grants::audited;
use crate::host::Host;
use crate::world::World;

/// Exit code, the JSON document if there is one, and everything that was said.
pub struct Said {
    pub exit: Option<i32>,
    pub document: Value,
    pub text: String,
}

pub fn said(data: &Path, words: &[&str]) -> Said {
    let settings = ["--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:1"];
    let output = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"))
        .args(words)
        .args(settings)
        .args(["--control-url", "https://127.0.0.1:1"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .output()
        .unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    Said {
        exit: output.status.code(),
        document: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        text: String::from_utf8(text).unwrap(),
    }
}

pub fn config(world: &World) -> Config {
    world.running.replica.config.as_ref().clone()
}

/// Whoever owns the database of this configuration, while no control plane runs it.
async fn edit(config: &Config, tables: &[&'static str], statement: &'static str) {
    let database = OpenDatabase::open(config).await.unwrap();
    TestDatabase::at(database.target.clone()).tamper_all(tables, statement).await;
    database.stop().await;
}

/// The same while one does.
pub async fn edit_beside(world: &World, tables: &[&'static str], statement: &'static str) {
    let database = OpenDatabase::open_or_join(&config(world)).await.unwrap();
    TestDatabase::at(database.target).tamper_all(tables, statement).await;
}

pub async fn start(config: &Config) -> Running {
    start::start(config.clone(), OpenDatabase::open(config).await.unwrap()).await.unwrap()
}

/// A strict installation with two nodes.
pub async fn two_nodes() -> World {
    let world = activation::activated_embedded().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    for name in ["one", "two"] {
        Host::new(&token, name).enrol(&world).await;
    }
    world
}

pub fn names(document: &Value, list: &str) -> Vec<String> {
    let rows = document[list].as_array().unwrap().iter();
    rows.map(|row| row["table"].as_str().unwrap().to_owned()).collect()
}

const EVERY_TABLE: &[&str] = &[
    "clusters",
    "cluster_authorities",
    "cluster_cas",
    "cluster_policies",
    "join_tokens",
    "join_requests",
    "node_addresses",
    "nodes",
    "operators",
];
const WITHOUT_MACS: &str = "UPDATE clusters SET row_mac = NULL; UPDATE cluster_authorities SET row_mac = NULL; \
    UPDATE cluster_cas SET row_mac = NULL; UPDATE cluster_policies SET row_mac = NULL; \
    UPDATE join_tokens SET row_mac = NULL; UPDATE join_requests SET row_mac = NULL; \
    UPDATE node_addresses SET row_mac = NULL; UPDATE nodes SET row_mac = NULL; \
    UPDATE operators SET row_mac = NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_checked_beside_a_serving_control_plane_and_sealed_once_where_none_carries_a_mac() {
    let world = two_nodes().await;
    let (config, data) = (config(&world), world.data_dir.clone());
    let good = said(&data, &["rows", "check", "--json"]);
    assert_eq!(good.exit, Some(0), "{}", good.text);
    let sound = good.document["sound"].as_u64().unwrap();
    assert!(sound >= 10, "{}", good.text);
    assert_eq!(good.document["tampered"], Value::Array(Vec::new()));

    // One row altered: named, and neither sealed nor used.
    edit_beside(&world, &["nodes"], "UPDATE nodes SET region = 'elsewhere' WHERE name = 'one'").await;
    let found = said(&data, &["rows", "check", "--json"]);
    assert_eq!((found.exit, names(&found.document, "tampered")), (Some(7), vec!["nodes".to_owned()]));
    let shown = said(&data, &["rows", "check"]);
    assert!(
        shown.text.contains("tampered  nodes  ") && shown.text.contains("row.tampered"),
        "{}",
        shown.text
    );
    let sealed = said(&data, &["rows", "seal"]);
    assert_eq!(sealed.exit, Some(5), "{}", sealed.text);
    assert!(sealed.text.contains("resource.exists"), "{}", sealed.text);
    let _kept = world.stop_and_keep().await;

    // Without the record the rows themselves say that they were sealed.
    let marker = data.join("rows.sealed");
    std::fs::remove_file(&marker).unwrap();
    let sealed = said(&data, &["rows", "seal"]);
    assert!(sealed.exit == Some(7) && sealed.text.contains("row.tampered"), "{}", sealed.text);
    assert!(!marker.exists());
    edit(&config, &["nodes"], "UPDATE nodes SET row_mac = NULL WHERE name = 'one'").await;
    let sealed = said(&data, &["rows", "seal"]);
    assert!(sealed.exit == Some(7) && !marker.exists(), "{}", sealed.text);
    assert_eq!(names(&said(&data, &["rows", "check", "--json"]).document, "unsealed"), ["nodes"]);

    // A database of a release that knew no MACs.
    edit(&config, EVERY_TABLE, WITHOUT_MACS).await;
    let bare = said(&data, &["rows", "check", "--json"]);
    assert_eq!(bare.document["unsealed"].as_array().unwrap().len() as u64, sound, "{}", bare.text);
    let sealed = said(&data, &["rows", "seal"]);
    assert_eq!(sealed.exit, Some(0), "{}", sealed.text);
    assert!(sealed.text.contains(&format!("sealed {sound} rows")) && marker.exists(), "{}", sealed.text);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&marker).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let good = said(&data, &["rows", "check"]);
    assert!(good.exit == Some(0) && good.text.contains(&format!("{sound} rows")), "{}", good.text);
    assert_eq!(said(&data, &["rows", "seal"]).exit, Some(5));
    // A run that was cut off before it wrote its record is finished by the next one.
    std::fs::remove_file(&marker).unwrap();
    let again = said(&data, &["rows", "seal"]);
    assert!(again.exit == Some(0) && marker.exists(), "{}", again.text);
    let running = start(&config).await;
    assert!(running.replica.serving.clusters.named("prod").is_ok());
    assert_eq!(running.replica.watch.metrics.alarms(Reason::RowTampered), 0);
    running.stop().await;

    // Keys taken away, and a cluster that never had any: neither passes for an absent cluster.
    edit(
        &config,
        &["cluster_deks", "clusters"],
        "DELETE FROM cluster_deks; INSERT INTO clusters (cluster_id, name, incarnation, ipv4_pool, dev, \
         fresh_for_ms, refresh_every_ms, degraded_for_ms, leaf_lifetime_ms) VALUES \
         ('0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b', 'legacy', 1, '10.7.0.0/16', false, 20000, 5000, 60000, 600000)",
    )
    .await;
    let found = said(&data, &["rows", "check", "--json"]);
    assert_eq!(found.exit, Some(7), "{}", found.text);
    assert_eq!(found.document["shut_clusters"][0]["reason"], "secret.unseal");
    assert_eq!(found.document["bare_clusters"][0]["name"], "legacy");
    let shown = said(&data, &["rows", "check"]);
    assert!(shown.text.contains("no keys   clusters  0b0b0b0b") && shown.text.contains("shut      clusters"));
}

/// Puts a backup into a data directory that has nothing but the secret key, or lost its database.
pub fn restore(data: &Path, file: &Path) -> Said {
    let _ = std::fs::remove_dir_all(data.join("postgres"));
    said(data, &["backup", "restore", file.to_str().unwrap(), "--json"])
}

pub fn backup(world: &World, into: &Path) -> PathBuf {
    let made = said(&world.data_dir, &["backup", "create", "--json", "--out", into.to_str().unwrap()]);
    assert_eq!(made.exit, Some(0), "{}", made.text);
    PathBuf::from(made.document["file"].as_str().unwrap())
}

/// A data directory on a new host: the secret key alone.
fn new_host(from: &Path) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(home.path(), open).unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::copy(from.join("secret.key"), data.join("secret.key")).unwrap();
    (home, data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_verified_on_a_host_that_has_the_secret_key_and_nothing_else() {
    let world = two_nodes().await;
    let out = tempfile::tempdir().unwrap();
    let file = backup(&world, out.path());
    let (_home, data) = new_host(&world.data_dir);
    let verify = |key: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"))
            .args(["backup", "verify", "--json", file.to_str().unwrap(), "--data-dir"])
            .arg(&data)
            .args(["--secret-key-file", key])
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (exit, said) = verify(data.join("secret.key").to_str().unwrap());
    assert!(exit == Some(0) && said.contains("rap.backup.checked.v1"), "{said}");
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret.key"], "it changes nothing");
    let other = data.join("other.key");
    std::fs::write(&other, "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (exit, said) = verify(other.to_str().unwrap());
    assert!(exit == Some(7) && said.contains("backup."), "{exit:?} {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_blesses_no_tampered_row_and_the_first_start_serves_the_rest() {
    let world = two_nodes().await;
    let out = tempfile::tempdir().unwrap();
    let good = backup(&world, &out.path().join("good"));
    edit_beside(
        &world,
        &["nodes", "join_tokens"],
        "UPDATE nodes SET region = 'elsewhere' WHERE name = 'one'; UPDATE join_tokens SET max_uses = 1000",
    )
    .await;
    let bad = backup(&world, &out.path().join("bad"));
    let (old, kept) = (config(&world), world.data_dir.clone());
    let _kept = world.stop_and_keep().await;

    for (file, tampered) in [(&good, vec![]), (&bad, vec!["join_tokens", "nodes"])] {
        let (_home, data) = new_host(&kept);
        let restored = restore(&data, file);
        assert_eq!(restored.exit, Some(0), "{}", restored.text);
        let mut named = names(&restored.document, "rows_tampered");
        named.sort_unstable();
        assert_eq!(named, tampered);
        assert!(data.join("rows.sealed").exists());
        let sealed = said(&data, &["rows", "seal"]);
        assert!(sealed.text.contains("resource.exists"), "{}", sealed.text);
        let checked = said(&data, &["rows", "check", "--json"]);
        assert_eq!(checked.exit, Some(if tampered.is_empty() { 0 } else { 7 }), "{}", checked.text);
        let mut named = names(&checked.document, "tampered");
        named.sort_unstable();
        assert_eq!(named, tampered);
        assert_eq!(checked.document["unsealed"], Value::Array(Vec::new()));

        let config = Config { data_dir: data, root_key: None, ..old.clone() };
        let running = start(&config).await;
        let cluster = running.replica.serving.clusters.named("prod").unwrap();
        let mut transaction = running.replica.database.store.system().begin().await.unwrap();
        let node = rap_store::node_by_name(&mut transaction, &cluster.rows, "one").await;
        assert_eq!(node.is_ok(), tampered.is_empty(), "{node:?}");
        assert!(rap_store::node_by_name(&mut transaction, &cluster.rows, "two").await.unwrap().is_some());
        drop(transaction);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_older_than_a_revocation_is_confirmed_by_its_number_and_says_what_is_void() {
    let world = two_nodes().await;
    let out = tempfile::tempdir().unwrap();
    let file = backup(&world, out.path());
    world.revoke("one", false).await.unwrap();
    let (config, data) = (config(&world), world.data_dir.clone());
    let stopped = world.stop_and_keep().await;

    let restored = restore(&data, &file);
    assert_eq!(restored.exit, Some(0), "{}", restored.text);
    assert_eq!(restored.document["floors_kept"], true);
    let shown = said(&data, &["floors", "show", "--json"]);
    let revocations = &shown.document["clusters"][0]["revocations"];
    assert_eq!(revocations["floor"]["sequence"], 1, "{}", shown.text);
    assert_eq!((&revocations["newest"]["sequence"], &revocations["holds"]), (&0.into(), &false.into()));
    assert!(said(&data, &["floors", "show"]).text.contains("BELOW THE FLOOR"));

    // As it is, nothing new is signed.
    let running = start(&config).await;
    let cluster = running.replica.serving.clusters.named("prod").unwrap();
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while running.replica.watch.metrics.alarms(Reason::FloorRollback) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap();
    assert!(cluster.feed.newest().is_none());
    running.stop().await;

    let confirm = |words: &[&str]| {
        said(&data, &[&["floors", "confirm", "--json", "--cluster", "prod", "--sequence"], words].concat())
    };
    let other = confirm(&["1", "--lower"]);
    assert!(other.exit == Some(5) && other.text.contains("request.conflict"), "{}", other.text);
    let refused = confirm(&["0"]);
    assert!(refused.exit == Some(7) && refused.text.contains("floor.rollback"), "{}", refused.text);
    assert!(refused.text.contains("revocation 1 is void"), "{}", refused.text);
    let unknown = said(&data, &["floors", "confirm", "--cluster", "nobody", "--sequence", "0"]);
    assert_eq!(unknown.exit, Some(3), "{}", unknown.text);
    let lowered = confirm(&["0", "--lower"]);
    assert_eq!(lowered.exit, Some(0), "{}", lowered.text);
    assert_eq!(lowered.document["clusters"][0]["revocations"]["holds"], true);
    // Each floor has its own word: the authority's did not move.
    assert_eq!(lowered.document["clusters"][0]["authority"]["floor"]["sequence"], 1);

    let running = start(&config).await;
    let world = stopped.served_by(running);
    let replica = &world.running.replica;
    let cluster = replica.serving.clusters.named("prod").unwrap();
    let mut versions = cluster.feed.follow();
    let out = versions.wait_for(Option::is_some);
    tokio::time::timeout(std::time::Duration::from_secs(20), out).await.unwrap().unwrap();
    assert_eq!(replica.watch.metrics.alarms(Reason::FloorRollback), 0);
    assert!(replica.database.floors.current().unwrap().of(FloorOf::Revocations(cluster.id)).is_none());
    let object = format!("cluster/{}/revocations", cluster.id);
    assert_eq!(audited(&world, "floors.confirm").await, [object]);
    // The node is a member again, until it is revoked again.
    world.login().await.unwrap();
    assert_eq!(world.node("one").await.identity_status, "active");
    assert_eq!(world.revoke("one", false).await.unwrap().revocation_sequence, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_data_key_that_lies_in_the_database_again_counts_for_no_tool() {
    let world = two_nodes().await;
    let replica = world.running.replica.clone();
    let id = replica.serving.clusters.named("prod").unwrap().id;
    let old = crate::data_keys::stored(&replica, id).await;
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    let keys = replica.keys.keyring(&replica.database.floors).read(&mut transaction, id).await.unwrap();
    drop(transaction);
    crate::data_keys::go(&world, id, Stage::Retired).await.unwrap();
    let forged = RowKeys::of_data_keys(replica.keys.installation.facts.id, id, &keys, None);
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    rap_store::dek_insert(&mut transaction, &old[0]).await.unwrap();
    let body = serde_json::json!({ "by": "a thief" });
    rap_store::policy_upsert(&mut transaction, &forged, "forged", &body).await.unwrap();
    transaction.commit().await.unwrap();
    drop(replica);

    let (old_config, kept) = (config(&world), world.data_dir.clone());
    let found = said(&kept, &["rows", "check", "--json"]);
    assert_eq!(found.exit, Some(7), "{}", found.text);
    assert_eq!(names(&found.document, "tampered"), ["cluster_policies"]);
    let shown = said(&kept, &["floors", "show", "--json"]);
    assert_eq!(shown.document["clusters"][0]["refused"], Value::Null, "{}", shown.text);
    let out = tempfile::tempdir().unwrap();
    let file = backup(&world, &out.path().join("both"));
    let _kept = world.stop_and_keep().await;

    let below = Floor { sequence: 1, digest: rap_types::Digest::from_bytes([0; 32]) };
    for floor_before in [None, Some(below)] {
        let (_home, data) = new_host(&kept);
        let floors = |data: &Path| FloorFile::open(data.join("floors.json")).unwrap();
        if let Some(floor) = floor_before {
            floors(&data).confirm(FloorOf::DataKey(id), floor).await.unwrap();
            // What cannot be remembered is not restored either, and is restored once it can be.
            std::fs::create_dir(data.join("rows.sealed")).unwrap();
            let refused = restore(&data, &file);
            assert_ne!(refused.exit, Some(0), "{}", refused.text);
            std::fs::remove_dir(data.join("rows.sealed")).unwrap();
        }
        let restored = restore(&data, &file);
        assert_eq!(restored.exit, Some(0), "{}", restored.text);
        assert_eq!(names(&restored.document, "rows_tampered"), ["cluster_policies"]);
        let after = floors(&data).current().and_then(|floors| floors.of(FloorOf::DataKey(id)));
        assert_eq!(after.map(|floor| floor.sequence), floor_before.map(|_| 2));
        let running = start(&Config { data_dir: data, root_key: None, ..old_config.clone() }).await;
        let live = crate::data_keys::stored(&running.replica, id).await;
        assert_eq!(crate::data_keys::versions(&live), [2]);
        running.stop().await;
    }
}
