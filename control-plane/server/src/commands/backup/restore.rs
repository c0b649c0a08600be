//! `backup restore`: an empty database becomes the installation again, as a new life of every cluster.
//!
//! Owns what a restore must change so that nothing rolls back: incarnations rise above everything that
//! was ever signed, tokens whose uses went back are revoked, nobody is logged in.

use std::collections::BTreeSet;
use std::path::Path;

use rap_authority::{AuditKey, BackupKey, Floor, FloorOf, RowKeys, SealingKey, next_incarnation};
use rap_contract::KeySet;
use rap_runtime::Clock;
use rap_store::{
    AuditWriter, Restore, RowName, StoreError, deks_delete_older, incarnation_raise, restore_insert,
    rows_look, token_revoke, tokens_live,
};
use rap_types::{ClusterId, Incarnation, InstallationId, Reason, Wall};

use crate::commands::at_rest::{ClusterAtRest, clusters_at_rest};
use crate::commands::backup::file::Reader;
use crate::commands::backup::manifest::{ClusterAt, Manifest};
use crate::commands::backup::verify::fill;
use crate::config::layers::SETTINGS_FILE;
use crate::config::settings::{AuthorityMode, Config};
use crate::data_dir::{DataDir, root_keys};
use crate::database::change::{Acting, Change};
use crate::database::opened::OpenDatabase;
use crate::database::replica_floors::FloorFile;
use crate::failure::Failure;
use crate::keys::data_keys::DataKeyOpener;

/// What was put back.
#[derive(Debug, serde::Serialize)]
pub struct Restored {
    /// `rap.backup.restored.v1`.
    pub schema: &'static str,
    /// The installation.
    pub installation_id: InstallationId,
    /// When the backup was made.
    pub created_at_ms: i64,
    /// Rows in all.
    pub rows: u64,
    /// Every cluster with its new incarnation.
    pub clusters: Vec<ClusterAt>,
    /// Tokens that were still valid and are revoked now.
    pub tokens_revoked: u64,
    /// Whether this replica has floors of its own.
    pub floors_kept: bool,
    /// Rows that were not as they were written when the backup was made; they stay so, and are not used.
    pub rows_tampered: Vec<RowName>,
}

/// Looks at everything before the database is touched: key, mode, root.
pub(crate) fn prepare(config: &Config, file: &Path) -> Result<(DataDir, Manifest), Failure> {
    let data = DataDir::of(config);
    let manifest = Reader::open(file, &BackupKey::of(&data.sealing_key(config)?))?.manifest;
    if manifest.mode != config.mode.as_str() {
        let text = format!("the backup is of {} mode; give --authority-mode {0}", manifest.mode);
        return Err(Failure::new(Reason::AuthorityModeFixed, text));
    }
    if data.mode()?.is_some() {
        data.require_mode(config.mode)?;
    }
    let named = config.root_key.is_some() || data.file("product-root.pub").exists();
    let ids = |keys: &KeySet| keys.ids().collect::<BTreeSet<_>>();
    if named && ids(&data.roots(config)?) != ids(&root_keys(manifest.product_root.as_bytes())?) {
        return Err(Failure::new(Reason::KeyUnknown, "the backup belongs to another Product Root"));
    }
    Ok((data, manifest))
}

/// Puts a backup back.
///
/// # Errors
/// `backup.altered`, `resource.exists` for a database that has an installation.
pub async fn restore(config: &Config, database: &OpenDatabase, file: &Path) -> Result<Restored, Failure> {
    let (data, manifest) = prepare(config, file)?;
    let kek = data.sealing_key(config)?;
    let mut restore = fill(&database.target, file, &BackupKey::of(&kek)).await?;
    let now = Clock::new().now().wall;
    let renewed = renew(&mut restore, &manifest, &kek, now).await?;
    // Before the commit: what is cut off here is restored again, what is cut off after it serves.
    data.create()?;
    if !data.file("product-root.pub").exists() {
        data.write("product-root.pub", manifest.product_root.as_bytes(), 0o644)?;
    }
    let floors_kept = lift_floors(&data, &manifest).await?;
    // What carries no MAC in this database was not written by us: nobody is to seal it here.
    data.write(crate::data_dir::MARKER, crate::data_dir::MARKED, 0o600)?;
    if floors_kept {
        accept_data_keys(&data, &renewed.data_keys).await?;
    }
    data.fix_mode(if manifest.mode == "dev" { AuthorityMode::Dev } else { AuthorityMode::Strict })?;
    if !data.file(SETTINGS_FILE).exists() {
        data.write_settings(config)?;
    }
    restore.commit().await?;
    Ok(Restored {
        schema: "rap.backup.restored.v1",
        installation_id: manifest.installation_id,
        created_at_ms: manifest.created_at_ms,
        rows: manifest.tables.iter().map(|table| table.rows).sum(),
        clusters: renewed.clusters,
        tokens_revoked: renewed.tokens,
        floors_kept,
        rows_tampered: renewed.tampered,
    })
}

struct Renewed {
    clusters: Vec<ClusterAt>,
    tokens: u64,
    tampered: Vec<RowName>,
    data_keys: Vec<(ClusterId, Floor)>,
}

async fn renew(
    restore: &mut Restore,
    manifest: &Manifest,
    kek: &SealingKey,
    now: Wall,
) -> Result<Renewed, Failure> {
    let transaction = restore.transaction();
    let acting =
        Acting::alone("system", AuditWriter::new(AuditKey::of(kek, [], manifest.installation_id)), now);
    let mut renewed =
        Renewed { clusters: Vec::new(), tokens: 0, tampered: Vec::new(), data_keys: Vec::new() };
    let mut scopes = Vec::new();
    let keyring = DataKeyOpener::of_database(
        manifest.installation_id,
        kek,
        &manifest.floors.clone().unwrap_or_default(),
    );
    for ClusterAtRest { keys, rows, row } in clusters_at_rest(transaction, &keyring).await? {
        let (id, stored) = (row.cluster.cluster, row.cluster.incarnation);
        let incarnation = next_incarnation(stored, now);
        if !incarnation_raise(transaction, &rows, incarnation).await? {
            return Err(Failure::new(Reason::ServerInternal, "the incarnation did not rise"));
        }
        // Their uses went back with the database: one use would be two.
        for token in tokens_live(transaction, id, now).await? {
            match token_revoke(transaction, &rows, token).await {
                Ok(_) => renewed.tokens += 1,
                // It admits nobody as it is, and nothing is written over it.
                Err(StoreError::Tampered { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let reason = format!("restored from a backup; incarnation {stored} becomes {incarnation}");
        let change = Change::of("backup.restore", format!("cluster/{id}")).inside(id);
        change.because(reason).record(transaction, &acting).await?;
        // Whoever made the backup knew them retired; they were in its database nevertheless.
        deks_delete_older(transaction, id, keys.oldest_version().into()).await?;
        scopes.push(rows);
        renewed.data_keys.push((id, keys.floor()));
        renewed.clusters.push(ClusterAt {
            cluster_id: id,
            name: row.cluster.name,
            incarnation: Incarnation(incarnation).0,
            config_seq: row.config_seq,
        });
    }
    let own = RowKeys::of_installation(manifest.installation_id, kek);
    for keys in std::iter::once(own).chain(scopes) {
        let seen = rows_look(transaction, &keys).await?;
        renewed.tampered.extend(seen.tampered.into_iter().chain(seen.unsealed));
    }
    restore_insert(transaction, Wall(manifest.created_at_ms), now).await?;
    Ok(renewed)
}

/// The one floor that a restore lowers: whoever puts a backup back by hand wants its data keys, also those
/// that were replaced since. It does not fall below what the backup was made with: keys that were retired
/// then are not among `live`.
async fn accept_data_keys(data: &DataDir, live: &[(ClusterId, Floor)]) -> Result<(), Failure> {
    let own = FloorFile::open(data.file("floors.json"))?;
    for (cluster, floor) in live {
        let of = FloorOf::DataKey(*cluster);
        if own.current().unwrap_or_default().of(of) != Some(*floor) {
            own.confirm(of, *floor).await?;
        }
    }
    Ok(())
}

/// What this replica has seen signed stays; the backup's floors can only lift it. A replica without
/// floors gets none from a backup: they would be as old as the backup.
async fn lift_floors(data: &DataDir, manifest: &Manifest) -> Result<bool, Failure> {
    let own = FloorFile::open(data.file("floors.json"))?;
    if !own.exists() {
        return Ok(false);
    }
    let Some(backed) = &manifest.floors else { return Ok(true) };
    let revocations = backed.revocations.keys().map(|cluster| FloorOf::Revocations(*cluster));
    let authorities = backed.authorities.keys().map(|cluster| FloorOf::Authority(*cluster));
    let clusters = revocations.chain(authorities);
    for of in [FloorOf::GrantSet, FloorOf::Checkpoint].into_iter().chain(clusters) {
        let Some(floor) = backed.of(of) else { continue };
        match own.raise(of, floor).await {
            Ok(()) => {}
            Err(failure) if failure.reason == Reason::FloorRollback => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(true)
}
