//! The private server: first start, deaths, orphans, refusals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fixture::{cluster, id, keys};
use crate::postgres::{EmbeddedPostgres, EmbeddedSettings, PostgresState};
use crate::testing::throw_away;
use crate::*;

/// As in production, apart from where the binaries are looked for.
fn durable(directory: &Path) -> EmbeddedSettings {
    EmbeddedSettings { bin_dir: throw_away(directory).bin_dir, ..EmbeddedSettings::new(directory) }
}

fn pid_of(postgres: &EmbeddedPostgres) -> u32 {
    match *postgres.state().borrow() {
        PostgresState::Ready { pid, .. } => pid,
        state => panic!("{state:?}"),
    }
}

fn sigkill(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_comes_back_with_every_acknowledged_write() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = EmbeddedPostgres::start(&durable(directory.path())).await.unwrap();
    let target = DatabaseTarget::embedded(&postgres);
    migrate_up(&target).await.unwrap();
    let store = Store::open(&target, &PoolSettings::default()).await.unwrap();
    let mut transaction = store.system().begin().await.unwrap();
    cluster_insert(&mut transaction, &keys(), &cluster()).await.unwrap();
    transaction.commit().await.unwrap();

    let mut state = postgres.state();
    let first_pid = pid_of(&postgres);
    let shutdown = CancellationToken::new();
    let mut supervisor = JoinSet::new();
    supervisor.spawn(postgres.supervise(shutdown.clone()));

    let enough = CancellationToken::new();
    let mut writers = JoinSet::new();
    for _ in 0..4 {
        let (store, enough) = (store.clone(), enough.clone());
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            while !enough.is_cancelled() {
                let written: Result<u64, StoreError> = transact!(store.system(), |connection| {
                    let seq = config_seq_allocate(connection, id(1)).await?;
                    outbox_append(connection, id(1), seq, &[], false).await?;
                    Ok(seq)
                });
                match written {
                    Ok(seq) => acknowledged.push(seq),
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
            acknowledged
        });
    }
    let position = async |at_least: u64| {
        loop {
            if let Ok(mut transaction) = store.system().begin().await
                && let Ok(positions) = outbox_positions(&mut transaction).await
                && positions[0].config_seq >= at_least
            {
                return positions[0].config_seq;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    position(100).await;
    sigkill(first_pid);
    let recovered =
        state.wait_for(|state| matches!(state, PostgresState::Ready { restarts: 1, .. })).await.unwrap();
    assert!(matches!(*recovered, PostgresState::Ready { pid, .. } if pid != first_pid));
    drop(recovered);
    let after = position(101).await;
    position(after + 100).await;
    enough.cancel();
    let mut acknowledged: Vec<u64> = writers.join_all().await.concat();
    acknowledged.sort_unstable();

    let mut transaction = store.system().begin().await.unwrap();
    let stored: Vec<u64> = outbox_after(&mut transaction, id(1), 0, 1_000_000)
        .await
        .unwrap()
        .iter()
        .map(|row| row.seq)
        .collect();
    assert!(
        acknowledged.iter().all(|seq| stored.binary_search(seq).is_ok()),
        "an acknowledged write is lost"
    );
    assert_eq!(stored, (1..=stored.len() as u64).collect::<Vec<_>>(), "no gap, no double");
    assert!(acknowledged.len() >= 200);
    transaction.commit().await.unwrap();

    store.close().await;
    shutdown.cancel();
    supervisor.join_all().await;
    assert_eq!(*state.borrow(), PostgresState::Stopped);
    assert!(!directory.path().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn a_server_that_outlived_its_control_plane_is_stopped_and_its_data_kept() {
    let directory = tempfile::tempdir().unwrap();
    let settings = durable(directory.path());
    let postgres = EmbeddedPostgres::start(&settings).await.unwrap();
    migrate_up(&DatabaseTarget::embedded(&postgres)).await.unwrap();
    let orphan = pid_of(&postgres);
    let held = EmbeddedPostgres::start(&settings).await.unwrap_err();
    assert_eq!(held.reason().code(), "state.locked");

    postgres.abandon();
    let postgres = EmbeddedPostgres::start(&settings).await.unwrap();
    assert_ne!(pid_of(&postgres), orphan);
    let applied = migration_applied(&DatabaseTarget::embedded(&postgres)).await.unwrap();
    assert_eq!(applied, newest_migration());

    // Both killed: a stale pid file and shared memory that dying processes still hold.
    sigkill(pid_of(&postgres));
    postgres.abandon();
    let postgres = EmbeddedPostgres::start(&settings).await.unwrap();
    assert_eq!(migration_applied(&DatabaseTarget::embedded(&postgres)).await.unwrap(), newest_migration());
    postgres.stop().await;
}

#[tokio::test]
async fn data_of_another_major_version_is_refused_and_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let settings = throw_away(directory.path());
    EmbeddedPostgres::start(&settings).await.unwrap().stop().await;
    let version = directory.path().join("postgres/PG_VERSION");
    fs::write(&version, "9999\n").unwrap();
    let listing = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|e| (e.as_ref().unwrap().file_name(), e.unwrap().metadata().unwrap().modified().unwrap()))
            .collect();
        names.sort();
        names
    };
    let before = listing(&directory.path().join("postgres"));
    let refusal = EmbeddedPostgres::start(&settings).await.unwrap_err();
    assert_eq!(refusal.reason().code(), "postgres.version");
    assert!(refusal.to_string().contains("9999") && refusal.to_string().contains("pg_upgrade"), "{refusal}");
    assert_eq!(listing(&directory.path().join("postgres")), before);
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_starts_over() {
    let directory = tempfile::tempdir().unwrap();
    let half = directory.path().join("postgres.new");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    // Another start was killed a moment ago; its initdb was not.
    let busy = directory.path().join("postgres.new1");
    fs::create_dir(&busy).unwrap();
    let writer = std::thread::spawn({
        let busy = busy.clone();
        move || {
            (0..2_000_000).take_while(|number| fs::write(busy.join(number.to_string()), "x").is_ok()).count()
        }
    });
    let postgres = EmbeddedPostgres::start(&throw_away(directory.path())).await.unwrap();
    assert!(!half.exists() && !busy.exists());
    writer.join().unwrap();
    postgres.stop().await;
}

#[tokio::test]
async fn a_long_data_directory_gets_a_short_private_socket_and_nobody_else_gets_in() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("d".repeat(120));
    fs::create_dir(&long).unwrap();
    let postgres = EmbeddedPostgres::start(&throw_away(&long)).await.unwrap();
    let options = postgres.connect_options("rap_owner");
    let socket = options.get_socket().unwrap().clone();
    assert!(socket.join(".s.PGSQL.5432").as_os_str().len() < 100);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o700);
    let data = long.join("postgres");
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);

    use sqlx::Connection;
    let refused = PgConnection::connect_with(&postgres.connect_options("rap_bootstrap")).await.unwrap_err();
    let code = refused.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
    assert_eq!(code.as_deref(), Some("28000"), "no superuser behind the socket: {refused}");
    let mut owner = PgConnection::connect_with(&options).await.unwrap();
    let network: String =
        sqlx::query_scalar("SELECT current_setting('listen_addresses')").fetch_one(&mut owner).await.unwrap();
    assert_eq!(network, "", "no TCP port");
    let checksums: String =
        sqlx::query_scalar("SELECT current_setting('data_checksums')").fetch_one(&mut owner).await.unwrap();
    assert_eq!(checksums, "on");
    owner.close().await.unwrap();
    postgres.stop().await;
    let postgres = EmbeddedPostgres::start(&throw_away(&long)).await.unwrap();
    assert!(!socket.exists(), "the directory of an earlier start is gone");
    let again = postgres.connect_options("rap_owner").get_socket().unwrap().clone();
    assert_ne!(again, socket, "and its name is not used again");
    postgres.stop().await;
    fs::remove_dir_all(again).unwrap();
}

#[tokio::test]
async fn a_directory_that_the_account_cannot_enter_is_named() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    fs::create_dir_all(closed.join("data")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let refusal = EmbeddedPostgres::start(&throw_away(&closed.join("data"))).await.unwrap_err();
    assert_eq!(refusal.reason().code(), "config.invalid");
    assert!(refusal.to_string().contains(closed.to_str().unwrap()), "{refusal}");
}
