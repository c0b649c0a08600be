//! `rows check | seal`: which rows are not as they were written, and the one sealing of a database that
//! a release without row MACs left behind.
//!
//! Owns the marker that a sealing was done: a file in the data directory, where a writer of the database
//! cannot reach. Refuses to seal a database in which any row carries a MAC already.

use clap::Subcommand;
use rap_authority::{AuditKey, RowKeys, ids};
use rap_runtime::{Clock, Fault};
use rap_store::{
    AuditPen, PgConnection, RowName, RowsSeen, audit_insert, installation_read, rows_look, rows_seal_unsealed,
};
use rap_types::{Reason, RequestId};
use serde_json::json;

use crate::cli::{Settings, start_log};
use crate::clusters::cluster_row_keys;
use crate::database::Database;
use crate::datadir::DataDir;
use crate::grpc::{Failure, audit};

/// Says that rows were sealed for this data directory, by `init` or by `rows seal`.
pub(crate) const MARKER: &str = "rows.sealed";

/// Rows that carry a MAC.
#[derive(Debug, Subcommand)]
pub(crate) enum RowsCommand {
    /// List every row that is not as this installation wrote it
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Once, after an upgrade from a release without row MACs: vouch for every row as it is
    Seal {
        #[command(flatten)]
        settings: Settings,
    },
}

/// Runs one of them.
pub(crate) async fn run(command: RowsCommand) -> Result<(), Fault> {
    match command {
        RowsCommand::Check { settings, json } => check(settings, json).await,
        RowsCommand::Seal { settings } => seal(settings).await,
    }
}

async fn check(settings: Settings, as_json: bool) -> Result<(), Fault> {
    let (config, _) = settings.resolve()?;
    start_log(&config)?;
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    let kek = data.sealing_key(&config)?;
    let database = Database::open_or_join(&config).await?;
    let looked = async {
        let store = database.store().await?;
        let mut transaction = store.system().begin_snapshot().await.map_err(fault)?;
        let mut all = RowsSeen::default();
        for keys in scopes(&mut transaction, &kek).await? {
            let seen = rows_look(&mut transaction, &keys).await.map_err(fault)?;
            all.sound += seen.sound;
            all.under_older_key += seen.under_older_key;
            all.unsealed.extend(seen.unsealed);
            all.tampered.extend(seen.tampered);
        }
        drop(transaction);
        store.close().await;
        Ok::<_, Fault>(all)
    };
    let looked = looked.await;
    database.stop().await;
    let all = looked?;
    let named = |rows: &[RowName]| -> Vec<_> {
        rows.iter().map(|row| json!({ "table": row.table, "key": row.key })).collect()
    };
    if as_json {
        let document = json!({
            "schema": "rap.rows.v1", "sound": all.sound, "under_older_key": all.under_older_key,
            "unsealed": named(&all.unsealed), "tampered": named(&all.tampered),
        });
        println!("{document}");
    } else {
        for row in &all.tampered {
            println!("tampered  {}  {}", row.table, row.key);
        }
        for row in &all.unsealed {
            println!("no MAC    {}  {}", row.table, row.key);
        }
        println!("{} rows are as they were written", all.sound);
    }
    match all.tampered.len() + all.unsealed.len() {
        0 => Ok(()),
        wrong => Err(Fault::new(Reason::RowTampered, format!("{wrong} rows are not as they were written"))),
    }
}

async fn seal(settings: Settings) -> Result<(), Fault> {
    let (config, _) = settings.resolve()?;
    start_log(&config)?;
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    if data.file(MARKER).exists() {
        let text = format!(
            "{}: rows were sealed before; one without a MAC was not written by this control plane",
            data.file(MARKER).display()
        );
        return Err(Fault::new(Reason::ResourceExists, text));
    }
    let kek = data.sealing_key(&config)?;
    let database = Database::open(&config).await?;
    let sealed = async {
        let store = database.store().await?;
        let mut transaction = store.system().begin().await.map_err(fault)?;
        let count = seal_all(&mut transaction, &kek).await?;
        transaction.commit().await.map_err(|error| fault(rap_store::StoreError::from(error)))?;
        store.close().await;
        Ok::<_, Fault>(count)
    };
    let sealed = sealed.await;
    database.stop().await;
    let sealed = sealed?;
    data.write(MARKER, b"rows carry MACs\n", 0o600)?;
    println!("sealed {sealed} rows");
    Ok(())
}

async fn seal_all(connection: &mut PgConnection, kek: &rap_authority::SealingKey) -> Result<usize, Fault> {
    let mut sealed = 0;
    for keys in scopes(connection, kek).await? {
        let seen = rows_seal_unsealed(connection, &keys).await.map_err(fault)?;
        if seen.sound > 0 || !seen.tampered.is_empty() {
            let text = "some rows carry a MAC already: a release without MACs did not leave this database";
            return Err(Fault::new(Reason::RowTampered, text));
        }
        sealed += seen.unsealed.len();
    }
    let installation = installation_read(connection).await.map_err(fault)?.ok_or_else(absent)?;
    let now = Clock::new().now().wall;
    let call = RequestId::from_parts(ids::millis(now), ids::random(&mut rand::rng()));
    let reason = format!("{sealed} rows of a release without row MACs");
    let entry = audit("system", "rows.seal", "installation".into(), None, None, &reason, call);
    let pen = AuditPen::new(AuditKey::of(kek, [], installation.installation.installation));
    audit_insert(connection, &pen, &entry).await.map_err(fault)?;
    Ok(sealed)
}

/// The keys of every scope: the installation's own rows, then each cluster's.
async fn scopes(
    connection: &mut PgConnection,
    kek: &rap_authority::SealingKey,
) -> Result<Vec<RowKeys>, Fault> {
    let row = installation_read(connection).await.map_err(fault)?.ok_or_else(absent)?;
    let installation = row.installation.installation;
    let mut all = vec![RowKeys::of_installation(installation, kek)];
    let clusters = cluster_row_keys(connection, installation, kek).await;
    all.extend(clusters.map_err(|failure: Failure| Fault::new(failure.reason, failure.message))?);
    Ok(all)
}

fn absent() -> Fault {
    Fault::new(Reason::ConfigInvalid, "the database has no installation; run init")
}

fn fault(error: rap_store::StoreError) -> Fault {
    Fault::new(error.reason(), error.to_string())
}
