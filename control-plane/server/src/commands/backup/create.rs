//! `backup create`: one state of the database into one file, while everything goes on.

use std::path::{Path, PathBuf};

use rap_authority::BackupKey;
use rap_runtime::{Clock, files};
use rap_store::{Dump, installation_read, migration_applied, newest_migration};
use rap_types::{InstallationId, Reason, Wall};

use crate::commands::at_rest::clusters_at_rest;
use crate::commands::backup::file::Writer;
use crate::commands::backup::manifest::{ClusterAt, Manifest, SCHEMA};
use crate::config::settings::{AuthorityMode, Config};
use crate::data_dir::DataDir;
use crate::database::opened::OpenDatabase;
use crate::database::replica_floors::FloorFile;
use crate::failure::Failure;
use crate::keys::data_keys::DataKeyOpener;

/// What was made.
#[derive(Debug, serde::Serialize)]
pub struct Created {
    /// `rap.backup.created.v1`.
    pub schema: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// The installation.
    pub installation_id: InstallationId,
    /// Rows in all.
    pub rows: u64,
    /// Every cluster as it was.
    pub clusters: Vec<ClusterAt>,
}

/// Writes a backup to `out`, or into the directory `out`.
pub async fn create(config: &Config, database: &OpenDatabase, out: &Path) -> Result<Created, Failure> {
    let data = DataDir::of(config);
    data.require_mode(config.mode)?;
    let kek = data.sealing_key(config)?;
    let key = BackupKey::of(&kek);
    let root_file = config.root_key.clone().unwrap_or_else(|| data.file("product-root.pub"));
    data.roots(config)?;
    let product_root = files::read_capped(&root_file, 16 * 1024)?;
    let floors = FloorFile::open(data.file("floors.json"))?.current();

    let schema_version = migration_applied(&database.target).await?;
    if schema_version > newest_migration() {
        return Err(Failure::new(Reason::MigrationUnknown, "the database was migrated by a newer version"));
    }
    let mut dump = Dump::begin(&database.target).await?;
    let installation = installation_read(dump.connection()).await?;
    let installation = installation
        .ok_or_else(|| Failure::new(Reason::ConfigInvalid, "the database has no installation; run init"))?;
    let now = Clock::new().now().wall;
    let keyring = DataKeyOpener::of_database(
        installation.installation.installation,
        &kek,
        &floors.clone().unwrap_or_default(),
    );
    let clusters = clusters_at_rest(dump.connection(), &keyring);
    let clusters = clusters
        .await?
        .into_iter()
        .map(|cluster| cluster.row)
        .map(|row| ClusterAt {
            cluster_id: row.cluster.cluster,
            name: row.cluster.name,
            incarnation: row.cluster.incarnation,
            config_seq: row.config_seq,
        })
        .collect();
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        installation_id: installation.installation.installation,
        mode: if installation.installation.dev { AuthorityMode::Dev } else { AuthorityMode::Strict }
            .as_str()
            .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema_version,
        created_at_ms: now.0,
        product_root: String::from_utf8(product_root)
            .map_err(|_| Failure::new(Reason::KeyInvalid, "not a public key file"))?,
        clusters,
        floors,
        tables: Vec::new(),
    };
    let file = place(out, &name(&manifest.installation_id, now))?;
    let mut writer = Writer::create(&file)?;
    for table in dump.tables() {
        writer.table(&table);
        let written = dump.table::<Failure>(&table, |bytes| writer.rows(bytes));
        written.await?;
        writer.end()?;
    }
    let manifest = writer.finish(manifest, &key)?;
    let bytes = std::fs::metadata(&file).map(|metadata| metadata.len()).unwrap_or_default();
    Ok(Created {
        schema: "rap.backup.created.v1",
        file,
        bytes,
        installation_id: manifest.installation_id,
        rows: manifest.tables.iter().map(|table| table.rows).sum(),
        clusters: manifest.clusters,
    })
}

/// The file itself if its name ends with `.backup`, else a file in this directory, which is made if it is missing.
fn place(out: &Path, name: &str) -> Result<PathBuf, Failure> {
    if !out.is_dir() && out.extension().is_some_and(|extension| extension == "backup") {
        return Ok(out.to_owned());
    }
    if !out.exists() {
        files::create_private_dir(out)?;
    }
    Ok(if out.is_dir() { out.join(name) } else { out.to_owned() })
}

fn name(installation: &InstallationId, now: Wall) -> String {
    let text = installation.to_string();
    format!("rap-{}-{}.backup", &text[text.len() - 8..], now.0 / 1_000)
}
