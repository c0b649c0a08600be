//! `backup create | verify | restore` as they are typed.

use std::path::PathBuf;

use clap::Subcommand;
use rap_runtime::command_line::Format;

use crate::commands::backup::create::create;
use crate::commands::backup::restore::{prepare, restore};
use crate::commands::backup::verify::{Depth, verify};
use crate::commands::settings::{Settings, printed};
use crate::database::opened::OpenDatabase;
use crate::failure::Failure;

/// Backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write every row to one file while the control plane goes on; the secret key is not in it
    Create {
        #[command(flatten)]
        settings: Settings,
        /// File to write, its name ends with .backup, or a directory to write it into, made if it is missing
        #[arg(long, value_name = "FILE|DIR")]
        out: PathBuf,
    },
    /// Check that a backup is whole and of this installation's secret key
    Verify {
        #[command(flatten)]
        settings: Settings,
        /// The backup
        file: PathBuf,
        /// Also restore it into a PostgreSQL of its own, read it back and open every sealed key
        #[arg(long)]
        deep: bool,
    },
    /// Put a backup into an empty database; every cluster begins a new incarnation
    Restore {
        #[command(flatten)]
        settings: Settings,
        /// The backup
        file: PathBuf,
    },
}

/// Runs one of them.
pub(crate) async fn run(command: BackupCommand, form: Format) -> Result<(), Failure> {
    match command {
        BackupCommand::Create { settings, out } => {
            let config = settings.start()?;
            let database = OpenDatabase::open_or_join(&config).await?;
            let created = database.during(async |database| create(&config, database, &out).await).await?;
            if printed(form, &created)? {
                return Ok(());
            }
            println!("backup   {} ({} bytes, {} rows)", created.file.display(), created.bytes, created.rows);
            for cluster in &created.clusters {
                println!("cluster  {} at {}.{}", cluster.name, cluster.incarnation, cluster.config_seq);
            }
            println!("next: rap-control-plane backup verify --deep {}", created.file.display());
        }
        BackupCommand::Verify { settings, file, deep } => {
            let config = settings.start_without_address()?;
            let depth = if deep { Depth::Restored } else { Depth::Digests };
            let checked = verify(&config, &file, depth).await?;
            if printed(form, &checked)? {
                return Ok(());
            }
            let how = if deep { "restored, read back, keys opened" } else { "manifest and digests" };
            println!("ok       {} ({} rows; {how})", file.display(), checked.rows);
            println!("of       installation {}", checked.manifest.installation_id);
        }
        BackupCommand::Restore { settings, file } => {
            let config = settings.start()?;
            let (data, _) = prepare(&config, &file)?;
            data.create()?;
            let database = OpenDatabase::open(&config).await?;
            let restored = database.during(async |database| restore(&config, database, &file).await).await?;
            if printed(form, &restored)? {
                return Ok(());
            }
            println!("restored installation {} ({} rows)", restored.installation_id, restored.rows);
            for cluster in &restored.clusters {
                println!("cluster  {} begins incarnation {}", cluster.name, cluster.incarnation);
            }
            println!("tokens   {} still valid ones revoked", restored.tokens_revoked);
            println!("floors   {}", if restored.floors_kept { "kept" } else { "none on this replica" });
            for row in &restored.rows_tampered {
                println!("tampered {} {} (already so when the backup was made)", row.table, row.key);
            }
            println!("next: rap-control-plane floors show, then serve");
        }
    }
    Ok(())
}
