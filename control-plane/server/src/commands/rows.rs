//! `rows check | seal`: which rows are not as they were written, and the one sealing of a database that
//! a release without row MACs left behind.
//!
//! Owns the marker that a sealing was done: a file in the data directory, where a writer of the database
//! cannot reach. Refuses to seal a database in which any row carries a MAC already.

use clap::Subcommand;
use rap_authority::{AuditKey, ReplicaFloors, RowKeys, SealingKey};
use rap_runtime::Clock;
use rap_runtime::command_line::Format;
use rap_store::{
    AuditWriter, BareClusterRow, PgConnection, RowName, RowsInCluster, RowsSeen, Store, SystemTransaction,
    bare_clusters, cluster_names, installation_read, rows_in_cluster, rows_look, rows_seal_unsealed,
};
use rap_types::{ClusterId, Reason};
use serde_json::json;

use crate::acts::policy::first_policies;
use crate::commands::keys::floors;
use crate::commands::settings::{Settings, printed};
use crate::config::settings::AuthorityMode;
use crate::data_dir::{DataDir, MARKED, MARKER};
use crate::database::change::{Acting, Change};
use crate::database::opened::OpenDatabase;
use crate::failure::Failure;
use crate::keys::data_keys::DataKeyOpener;
use crate::keys::installation::Installation;

/// Rows that carry a MAC.
#[derive(Debug, Subcommand)]
pub(crate) enum RowsCommand {
    /// List every row that is not as this installation wrote it
    Check {
        #[command(flatten)]
        settings: Settings,
    },
    /// Once, after an upgrade from a release without row MACs: vouch for every row as it is
    Seal {
        #[command(flatten)]
        settings: Settings,
    },
}

/// Runs one of them.
pub(crate) async fn run(command: RowsCommand, form: Format) -> Result<(), Failure> {
    match command {
        RowsCommand::Check { settings } => check(settings, form).await,
        RowsCommand::Seal { settings } => seal(settings).await,
    }
}

/// What all rows are like.
#[derive(Debug, Default)]
struct Looked {
    seen: RowsSeen,
    /// Clusters without keys, and how many rows of other tables belong to each.
    bare: Vec<(BareClusterRow, Vec<RowsInCluster>)>,
    /// Clusters whose keys do not open: none of their rows can be looked at.
    shut: Vec<(ClusterId, String, Failure)>,
}

impl Looked {
    fn wrong(&self) -> usize {
        self.seen.tampered.len() + self.seen.unsealed.len() + self.bare.len() + self.shut.len()
    }

    fn document(&self) -> serde_json::Value {
        let bare = |(row, rows_in_it): &(BareClusterRow, Vec<RowsInCluster>)| {
            let rows_in_it: Vec<String> = rows_in_it.iter().map(ToString::to_string).collect();
            json!({ "cluster_id": row.cluster, "name": row.name, "lies_in_it": rows_in_it })
        };
        let shut = |(id, name, failure): &(ClusterId, String, Failure)| json!({ "cluster_id": id, "name": name, "reason": failure.reason });
        json!({
            "schema": "rap.rows.v1", "sound": self.seen.sound, "under_older_key": self.seen.under_older_key,
            "unsealed": self.seen.unsealed, "tampered": self.seen.tampered,
            "bare_clusters": self.bare.iter().map(bare).collect::<Vec<_>>(),
            "shut_clusters": self.shut.iter().map(shut).collect::<Vec<_>>(),
        })
    }

    fn print(&self) {
        for row in &self.seen.tampered {
            println!("tampered  {}  {}", row.table, row.key);
        }
        for row in &self.seen.unsealed {
            println!("no MAC    {}  {}", row.table, row.key);
        }
        for (row, rows_in_it) in &self.bare {
            println!("no keys   clusters  {}  {}", row.cluster, row.name);
            for one in rows_in_it {
                println!("no MAC    {}  {} of that cluster", one.table, one.rows);
            }
        }
        for (id, name, failure) in &self.shut {
            println!("shut      clusters  {id}  {name}: {} {}", failure.reason, failure.message);
        }
        println!("{} rows are as they were written", self.seen.sound);
    }
}

async fn check(settings: Settings, form: Format) -> Result<(), Failure> {
    let config = settings.start()?;
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    let (kek, floors) = (data.sealing_key(&config)?, floors(&data)?);
    let database = OpenDatabase::open_or_join(&config).await?;
    let roots = data.roots(&config)?;
    let look = async |store: &Store| {
        let mut transaction = store.system().begin_snapshot().await?;
        let mut all = look(&mut transaction, &kek, &floors).await?;
        // It has no MAC: its keys are sealed, its activation is signed.
        let dev = config.mode == AuthorityMode::Dev;
        if let Err(failure) = Installation::load(&mut transaction, dev, &kek, roots.clone()).await {
            let key = format!("{} {}", failure.reason, failure.message);
            all.seen.tampered.push(RowName { table: "installation_authority", key });
        }
        Ok(all)
    };
    let all = database.during(async |database| database.with_store(look).await).await?;
    if !printed(form, &all.document())? {
        all.print();
    }
    match all.wrong() {
        0 => Ok(()),
        wrong => Err(Failure::new(Reason::RowTampered, format!("not as they were written: {wrong}"))),
    }
}

async fn look(
    connection: &mut PgConnection,
    kek: &SealingKey,
    floors: &ReplicaFloors,
) -> Result<Looked, Failure> {
    let mut all = Looked::default();
    for keys in scopes(connection, kek, floors, &mut all).await? {
        let seen = rows_look(connection, &keys).await?;
        all.seen.sound += seen.sound;
        all.seen.under_older_key += seen.under_older_key;
        all.seen.unsealed.extend(seen.unsealed);
        all.seen.tampered.extend(seen.tampered);
    }
    for row in bare_clusters(connection).await? {
        let rows_in_it = rows_in_cluster(connection, row.cluster).await?;
        all.bare.push((row, rows_in_it));
    }
    Ok(all)
}

async fn seal(settings: Settings) -> Result<(), Failure> {
    let config = settings.start()?;
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    if data.file(MARKER).exists() {
        let text = format!(
            "{}: rows were sealed before; one without a MAC was not written by this control plane",
            data.file(MARKER).display()
        );
        return Err(Failure::new(Reason::ResourceExists, text));
    }
    let (kek, floors) = (data.sealing_key(&config)?, floors(&data)?);
    let database = OpenDatabase::open(&config).await?;
    let seal = async |store: &Store| {
        let mut transaction = store.system().begin().await?;
        let count = seal_all(&mut transaction, &kek, &floors).await?;
        transaction.commit().await?;
        Ok(count)
    };
    let sealed = database.during(async |database| database.with_store(seal).await).await?;
    data.write(MARKER, MARKED, 0o600)?;
    match sealed {
        0 => println!("no row is without a MAC; recorded in {}", data.file(MARKER).display()),
        sealed => println!("sealed {sealed} rows"),
    }
    Ok(())
}

/// Seals every row where none carries a MAC; 0 if every row carries one that holds, as after a run whose
/// record was lost.
async fn seal_all(
    transaction: &mut SystemTransaction,
    kek: &SealingKey,
    floors: &ReplicaFloors,
) -> Result<usize, Failure> {
    let before = look(transaction, kek, floors).await?;
    if let Some((_, name, failure)) = before.shut.into_iter().next() {
        return Err(Failure::new(failure.reason, format!("cluster {name}: {}", failure.message)));
    }
    let RowsSeen { sound, unsealed, tampered, .. } = before.seen;
    if unsealed.is_empty() && tampered.is_empty() {
        return Ok(0);
    }
    if sound > 0 || !tampered.is_empty() {
        let text = "some rows carry a MAC already: a release without MACs did not leave this database";
        return Err(Failure::new(Reason::RowTampered, text));
    }
    for keys in scopes(transaction, kek, floors, &mut Looked::default()).await? {
        rows_seal_unsealed(transaction, &keys).await?;
        if keys.cluster() != ClusterId::ZERO {
            first_policies(transaction, &keys).await?;
        }
    }
    let after = look(transaction, kek, floors).await?.seen;
    if !after.unsealed.is_empty() || !after.tampered.is_empty() {
        return Err(Failure::new(Reason::RowTampered, "the rows changed while they were sealed"));
    }
    let installation = installation_read(transaction).await?.ok_or_else(absent)?;
    let now = Clock::new().now().wall;
    let reason = format!("{} rows of a release without row MACs", unsealed.len());
    let acting = Acting::alone(
        "system",
        AuditWriter::new(AuditKey::of(kek, [], installation.installation.installation)),
        now,
    );
    let change = Change::of("rows.seal", "installation").because(reason);
    change.record(transaction, &acting).await?;
    Ok(unsealed.len())
}

/// The keys of every scope: the installation's own rows, then each cluster's. Clusters whose keys do not
/// open are named in `all`; those that have none yet are no scope.
async fn scopes(
    connection: &mut PgConnection,
    kek: &SealingKey,
    floors: &ReplicaFloors,
    all: &mut Looked,
) -> Result<Vec<RowKeys>, Failure> {
    let installation = installation_read(connection).await?.ok_or_else(absent)?.installation.installation;
    let keyring = DataKeyOpener::of_database(installation, kek, floors);
    let mut scopes = vec![RowKeys::of_installation(installation, kek)];
    for (id, name) in cluster_names(connection).await? {
        match keyring.read(connection, id).await {
            Ok(keys) => scopes.push(keyring.rows(id, &keys)),
            Err(failure) if failure.reason == Reason::ClusterNoAuthority => {}
            Err(failure) if SHUT.contains(&failure.reason) => all.shut.push((id, name, failure)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(scopes)
}

/// Why no key of a cluster opens its rows.
const SHUT: [Reason; 3] = [Reason::SecretUnseal, Reason::FloorRollback, Reason::FloorEquivocation];

fn absent() -> Failure {
    Failure::new(Reason::ConfigInvalid, "the database has no installation; run init")
}
