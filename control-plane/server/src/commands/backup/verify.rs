//! `backup verify`: is it whole and ours, and can it be put back?

use std::path::Path;

use rap_authority::{BackupKey, SealingKey};
use rap_store::postgres::{EmbeddedPostgres, EmbeddedSettings};
use rap_store::{
    DatabaseTarget, Dump, PoolSettings, Restore, Store, StoreError, cluster_names, migrate_to, migrate_up,
};
use rap_types::Reason;

use crate::commands::backup::altered;
use crate::commands::backup::file::{Hasher, Reader};
use crate::commands::backup::manifest::Manifest;
use crate::config::settings::{AuthorityMode, Config};
use crate::data_dir::{DataDir, root_keys};
use crate::failure::Failure;
use crate::keys::data_keys::DataKeyOpener;
use crate::keys::installation::Installation;
use crate::serve::cluster::Cluster;

/// How thoroughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The manifest's MAC and every digest.
    Digests,
    /// Also into a PostgreSQL of its own, read back, and every sealed key opened.
    Restored,
}

/// What was found.
#[derive(Debug, serde::Serialize)]
pub struct Checked {
    /// `rap.backup.checked.v1`.
    pub schema: &'static str,
    /// It was put back into a scratch database and read again.
    pub deep: bool,
    /// Rows in all.
    pub rows: u64,
    /// What the backup says of itself.
    pub manifest: Manifest,
}

/// Checks a backup; changes nothing.
///
/// # Errors
/// `backup.altered`, `secret.unseal`, `migration.unknown`.
pub async fn verify(config: &Config, file: &Path, depth: Depth) -> Result<Checked, Failure> {
    let kek = DataDir::of(config).sealing_key(config)?;
    let key = BackupKey::of(&kek);
    let mut reader = Reader::open(file, &key)?;
    while let Some(mut table) = reader.table() {
        while table.rows()?.is_some() {}
    }
    reader.at_the_end()?;
    let manifest = reader.manifest;
    if depth == Depth::Restored {
        let scratch = tempfile::Builder::new().prefix("rap-backup-").tempdir();
        let scratch =
            scratch.map_err(|error| Failure::new(Reason::StateIo, format!("scratch directory: {error}")))?;
        let mut settings = EmbeddedSettings::new(scratch.path().join("data"));
        settings.bin_dir = std::env::var_os("RAP_POSTGRES_BIN_DIR").map(Into::into);
        // The account of a private PostgreSQL passes through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(scratch.path(), open).map_err(Failure::of(Reason::StateIo))?;
        let postgres = EmbeddedPostgres::start(&settings).await?;
        let target = DatabaseTarget::embedded(&postgres);
        let outcome = deep(&target, file, &key, &kek, &manifest).await;
        postgres.stop().await;
        outcome?;
    }
    Ok(Checked {
        schema: "rap.backup.checked.v1",
        deep: depth == Depth::Restored,
        rows: manifest.tables.iter().map(|table| table.rows).sum(),
        manifest,
    })
}

async fn deep(
    target: &DatabaseTarget,
    file: &Path,
    key: &BackupKey,
    kek: &SealingKey,
    manifest: &Manifest,
) -> Result<(), Failure> {
    fill(target, file, key).await?.commit().await?;
    let mut dump = Dump::begin(target).await?;
    for table in &manifest.tables {
        let mut hasher = Hasher::default();
        let read = dump.table::<Failure>(&table.name, |bytes| {
            hasher.update(bytes);
            Ok(())
        });
        read.await?;
        if hasher.digest() != table.sha256 {
            return Err(altered(format!("{} reads back otherwise", table.name)));
        }
    }
    drop(dump);
    migrate_up(target).await?;
    let store = Store::open(target, &PoolSettings::default()).await?;
    let opened = keys_open(&store, kek, manifest).await;
    store.close().await;
    opened
}

/// Every sealed key opens under this key encryption key, and the records verify.
async fn keys_open(store: &Store, kek: &SealingKey, manifest: &Manifest) -> Result<(), Failure> {
    let roots = root_keys(manifest.product_root.as_bytes())?;
    let dev = manifest.mode == AuthorityMode::Dev.as_str();
    let mut transaction = store.system().begin().await?;
    let (installation, _) = Installation::load(&mut transaction, dev, kek, roots).await?;
    let keyring =
        DataKeyOpener::of_database(installation.facts.id, kek, &manifest.floors.clone().unwrap_or_default());
    for (id, _) in cluster_names(&mut transaction).await? {
        Cluster::load(&mut transaction, &installation.facts, &keyring, id).await?;
    }
    Ok(())
}

/// Migrates an empty database to the backup's schema and fills it; the caller commits.
pub(crate) async fn fill(target: &DatabaseTarget, file: &Path, key: &BackupKey) -> Result<Restore, Failure> {
    let mut reader = Reader::open(file, key)?;
    migrate_to(target, reader.manifest.schema_version).await?;
    let mut restore = Restore::begin(target).await.map_err(|error| match error {
        StoreError::Exists { .. } => Failure::new(
            Reason::ResourceExists,
            "the database has an installation; restore into an empty one",
        ),
        error => error.into(),
    })?;
    while let Some(mut table) = reader.table() {
        let mut rows = restore.table(&table.expected.name).await?;
        loop {
            match table.rows() {
                Ok(Some(piece)) => rows.send(&piece).await?,
                Ok(None) => break,
                Err(fault) => {
                    rows.abort().await;
                    return Err(fault);
                }
            }
        }
        if rows.finish().await? != table.expected.rows {
            return Err(altered(format!("rows of {}", table.expected.name)));
        }
    }
    reader.at_the_end()?;
    restore.counters().await?;
    Ok(restore)
}
