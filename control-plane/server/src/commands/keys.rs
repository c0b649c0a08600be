//! `keys rotate-kek` and `keys retire-kek`: another key encryption key, without a moment in which a
//! secret cannot be read.
//!
//! Order: the new key is on disk beside the old one; one transaction seals everything anew; the files
//! change places; the old key goes last, and only when nothing needs it. A control plane that starts in
//! between takes the key that opens the database. Refuses to keep a copy of a key in the database.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use rap_authority::{AuditKey, FloorOf, ReplicaFloors, RowKeys, SealingKey};
use rap_runtime::Clock;
use rap_runtime::command_line::Format;
use rap_store::{
    AuditPen, Store, SystemTransaction, dek_rewrap, deks_delete_older, installation_hold, installation_read,
    installation_rewrap, installation_rows_reseal, log_key_rewrap, log_keys_sealed,
};
use rap_types::Reason;
use serde_json::json;

use crate::commands::settings::{Settings, printed};
use crate::config::settings::Config;
use crate::data_dir::{DataDir, KekStage};
use crate::database::change::{Acting, Change};
use crate::database::handle::transact;
use crate::database::opened::OpenDatabase;
use crate::database::replica_floors::{FLOORS_FILE, FloorFile};
use crate::failure::Failure;
use crate::keys::key_encryption_key::{choose, data_key, live_deks, opens_all, shut};
use crate::keys::seal_context::Sealed;

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
        Some(file) => rotate(&config, &data, store, file.as_deref(), KekStage::Done).await.map(|()| true),
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
    until: KekStage,
) -> Result<(), Failure> {
    let new = data.next_sealing_key(new_key_file)?;
    if until == KekStage::Kept {
        return Ok(());
    }
    let keys = data.sealing_keys(config)?;
    let floors = floors(data)?;
    transact!(store, |connection| seal_anew(connection, &keys, &new, &floors).await)?;
    if until == KekStage::Sealed || !data.keeps_own_key(config) {
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
    let again = |place: Sealed, sealed: &[u8]| -> Result<Vec<u8>, Failure> {
        Ok(place.seal(new, id, &place.open(old, id, sealed)?))
    };
    let stored = &row.installation;
    let authority = again(Sealed::InstallationAuthority, &stored.sealed_private_key)?;
    let tls = again(Sealed::TlsAuthority, &stored.sealed_tls_ca_key)?;
    installation_rewrap(transaction, &authority, &tls).await?;
    for dek in live_deks(transaction, floors).await? {
        // Those below the floor were retired, and would be left under the key that goes.
        if let Some(floor) = floors.of(FloorOf::DataKey(dek.cluster)) {
            deks_delete_older(transaction, dek.cluster, floor.sequence).await?;
        }
        let wrapped = again(data_key(&dek)?, &dek.wrapped_dek).map_err(|_| shut(&dek))?;
        dek_rewrap(transaction, dek.cluster, dek.key_version, &wrapped).await?;
    }
    let (before, after) = (RowKeys::of_installation(id, old), RowKeys::of_installation(id, new));
    installation_rows_reseal(transaction, &before, &after).await?;
    for (generation, sealed) in log_keys_sealed(transaction).await? {
        let sealed = again(Sealed::LogKey(generation), &sealed)?;
        log_key_rewrap(transaction, generation, &sealed).await?;
    }
    let now = Clock::new().now().wall;
    let acting = Acting::alone("system", AuditPen::new(AuditKey::of(new, [old], id)), now);
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
    opens_all(&mut transaction, &key, &floors(data)?).await?;
    drop(transaction);
    data.forget_sealing_keys()
}

pub(crate) fn floors(data: &DataDir) -> Result<ReplicaFloors, Failure> {
    Ok(FloorFile::open(data.file(FLOORS_FILE))?.current().unwrap_or_default())
}
