//! `keys rotate-kek` and `keys retire-kek`: another key encryption key, without a moment in which a
//! secret cannot be read.
//!
//! Order: the new key is on disk beside the old one; one transaction seals everything anew; the files
//! change places; the old key goes last, and only when nothing needs it. A control plane that starts in
//! between takes the key that opens the database. Refuses to keep a copy of a key in the database.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use rap_authority::{AuditKey, ReplicaFloors, RowKeys, SealingKey};
use rap_runtime::Clock;
use rap_runtime::command_line::Format;
use rap_store::{
    AuditWriter, Resealing, Store, SystemTransaction, deks_delete_older, installation_hold,
    installation_read, rows_look, rows_reseal_next,
};
use rap_types::Reason;
use serde_json::json;

use crate::commands::settings::{Settings, printed};
use crate::config::settings::Config;
use crate::data_dir::DataDir;
use crate::database::change::{Acting, Change};
use crate::database::handle::transact;
use crate::database::opened::OpenDatabase;
use crate::database::replica_floors::{FLOORS_FILE, FloorFile};
use crate::failure::Failure;
use crate::keys::key_encryption_key::choose;
use crate::keys::key_ring::{KeyRing, Stage};
use crate::keys::secrets::Secrets;

/// What an operator may do with the key encryption key.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Seal every secret with another key encryption key; restart every control plane afterwards
    RotateKek {
        #[command(flatten)]
        settings: Settings,
        /// File with the new key, base64 of 32 bytes [default: a key that is made now]
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
    /// Remove the replaced key from the data directory, once nothing needs it
    RetireKek {
        #[command(flatten)]
        settings: Settings,
    },
}

pub(crate) async fn run(command: KeysCommand, form: Format) -> Result<(), Failure> {
    let (settings, rotation) = match command {
        KeysCommand::RotateKek { settings, new_key_file } => (settings, Some(new_key_file)),
        KeysCommand::RetireKek { settings } => (settings, None),
    };
    let config = settings.start()?;
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    let database = OpenDatabase::open(&config).await?;
    let work = async |store: &Store| match &rotation {
        Some(file) => rotate(&config, &data, store, file.as_deref(), Stage::Retired).await.map(|()| true),
        None => retire(&config, &data, store).await,
    };
    let changed = database.during(async |database| database.with_store(work).await).await?;
    let (action, next) = match rotation {
        None if !changed => ("not retired: none was kept", ""),
        Some(_) if data.keeps_own_key(&config) => {
            ("rotated", "restart every control plane, then rap-control-plane keys retire-kek")
        }
        Some(_) => (
            "rotated",
            "configure secret.key.next of the data directory as the secret key, restart, then keys retire-kek",
        ),
        None => ("retired", ""),
    };
    let done = if changed { action } else { "none" };
    if !printed(form, &json!({ "schema": "rap.kek.v1", "action": done, "next": next }))? {
        println!("key encryption key {action}");
        if !next.is_empty() {
            println!("next: {next}");
        }
    }
    Ok(())
}

/// Replaces the key encryption key, up to `until`. Run again it goes on where it stopped.
///
/// # Errors
/// `secret.unseal` if no key opens the database; `secret.missing` for a bad new key.
pub async fn rotate(
    config: &Config,
    data: &DataDir,
    store: &Store,
    new_key_file: Option<&Path>,
    until: Stage,
) -> Result<(), Failure> {
    let new = data.next_sealing_key(new_key_file)?;
    if until == Stage::Added {
        return Ok(());
    }
    let keys = data.sealing_keys(config)?;
    let floors = floors(data)?;
    transact!(store, |transaction| seal_anew(transaction, &keys, &new, &floors).await)?;
    if until <= Stage::Rows || !data.keeps_own_key(config) {
        return Ok(());
    }
    data.place_sealing_key(&new, until)
}

async fn seal_anew(
    transaction: &mut SystemTransaction,
    keys: &[SealingKey],
    new: &SealingKey,
    floors: &ReplicaFloors,
) -> Result<(), Failure> {
    installation_hold(transaction).await?;
    let row = installation_read(transaction)
        .await?
        .ok_or_else(|| Failure::new(Reason::ConfigInvalid, "the database has no installation; run init"))?;
    let id = row.installation.installation;
    let old = choose(keys, id, &row.installation.sealed_private_key)?;
    if old.expose() == new.expose() {
        return Ok(());
    }
    let (ring, rows) = ([new.clone(), old.clone()], RowKeys::of_installation(id, new).and_older(old));
    let secrets = Secrets::of_installation(transaction, floors).await?;
    for (cluster, floor) in &floors.data_keys {
        // Those below the floor were retired, and would be left under the key that goes.
        deks_delete_older(transaction, *cluster, floor.sequence).await?;
    }
    secrets.reseal(transaction, KeyRing::KeyEncryption(&ring), &rows).await?;
    let mut at = Resealing::default();
    while let Some(next) = rows_reseal_next(transaction, &rows, &at).await? {
        at = next;
    }
    if let Some(row) = rows_look(transaction, &rows).await?.first_under_older_key {
        let text = format!("row {} of table {} changed meanwhile; run it again", row.key, row.table);
        return Err(Failure::new(Reason::RequestConflict, text));
    }
    let now = Clock::new().now().wall;
    let acting = Acting::alone("system", AuditWriter::new(AuditKey::of(new, [old], id)), now);
    Change::of("keys.rotate-kek", "installation").record(transaction, &acting).await?;
    Ok(())
}

/// Removes what a rotation left, if the configured key alone opens everything. False if nothing was left.
///
/// # Errors
/// `secret.unseal` while another key is needed.
pub async fn retire(config: &Config, data: &DataDir, store: &Store) -> Result<bool, Failure> {
    let key = data.sealing_key(config)?;
    let mut transaction = store.system().begin_snapshot().await?;
    Secrets::of_installation(&mut transaction, &floors(data)?).await?.open_all((&key).into())?;
    drop(transaction);
    data.forget_sealing_keys()
}

pub(crate) fn floors(data: &DataDir) -> Result<ReplicaFloors, Failure> {
    Ok(FloorFile::open(data.file(FLOORS_FILE))?.current().unwrap_or_default())
}
