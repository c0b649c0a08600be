//! The command line: `init | serve | check | migrate | backup | floors | config`.
//!
//! Owns what is printed and the exit code. Refuses to own what the commands do.

pub mod at_rest;
pub mod backup;
pub mod check;
pub mod floors;
pub mod init;
pub mod keys;
mod replace;
pub mod rows;
pub mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rap_runtime::command_line::{self, Build, Form, Format};
use rap_runtime::settings_layers::Origin;
use rap_runtime::{Fault, descriptors, exit, output, service, shutdown_signal};
use rap_store::{migrate_down, migrate_up, migration_applied, newest_migration};
use rap_types::Reason;
use serde_json::{Map, Value, json};

use crate::commands::backup::command;
use crate::commands::backup::command::BackupCommand;
use crate::commands::floors::clusters::Which;
use crate::commands::floors::confirm::{confirm, confirm_cluster, show};
use crate::commands::keys::KeysCommand;
use crate::commands::rows::RowsCommand;
use crate::commands::settings::{Settings, printed};
use crate::data_dir::DataDir;
use crate::database::opened::OpenDatabase;
use crate::failure::Failure;
use crate::start;

const EXAMPLES: &str = "Examples:
  rap-control-plane init --control-url https://cp.example.com:8443 --root-key product-root.pub
  rap-control-plane serve
  rap-control-plane check --json
  rap-control-plane backup create --out /var/backups/rap
  rap-control-plane backup verify --deep /var/backups/rap/NAME.backup";

/// The control plane of RAP Fabric Core.
#[derive(Debug, Parser)]
#[command(name = "rap-control-plane", about, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    form: Form,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the data directory, keys, database and activation request
    Init {
        #[command(flatten)]
        settings: Settings,
        /// Use this installation authority key file (rapctl authority key --installation --no-passphrase)
        #[arg(long, value_name = "FILE")]
        import_installation_key: Option<PathBuf>,
        /// Undo an earlier init that was not activated yet, and begin anew with these options
        #[arg(long)]
        replace: bool,
    },
    /// Serve
    Serve {
        #[command(flatten)]
        settings: Settings,
    },
    /// Check the configuration and the files it names, without starting anything
    Check {
        #[command(flatten)]
        settings: Settings,
    },
    /// What this replica has seen signed and never accepts less of
    #[command(subcommand)]
    Floors(Floors),
    /// Bring the database to the newest schema, or back
    Migrate {
        #[command(flatten)]
        settings: Settings,
        /// Undo every migration above this number; data in dropped tables is gone
        #[arg(long, value_name = "N")]
        down_to: Option<i64>,
    },
    /// Replace the key encryption key
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Make, check or put back a backup
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Look at the rows that carry a MAC
    #[command(subcommand)]
    Rows(RowsCommand),
    /// Print the configuration
    Config {
        #[command(flatten)]
        settings: Settings,
        /// Every option with the value in force and where it came from
        #[arg(long)]
        effective: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Floors {
    /// Show the floors beside the newest role-grant set of the database
    Show {
        #[command(flatten)]
        settings: Settings,
    },
    /// Take the newest role-grant set of the database, or a chain of one cluster, as the floor of this replica
    Confirm {
        #[command(flatten)]
        settings: Settings,
        /// Its sequence, as `floors show` and another replica show it (`rapctl grant set`)
        #[arg(long, value_name = "N")]
        sequence: u64,
        /// Go below the present floor, after a restore from backup
        #[arg(long)]
        lower: bool,
        /// The floor of this cluster, name or id, instead of the role-grant set's
        #[arg(long, value_name = "CLUSTER")]
        cluster: Option<String>,
        /// Which floor of the cluster
        #[arg(long, requires = "cluster", default_value = "revocations")]
        of: Which,
    },
}

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub async fn main(build: Build) -> ExitCode {
    let cli = match command_line::parse::<Cli>(build) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let json = cli.form.format().is_document();
    let outcome = match cli.form.format().without_names() {
        Ok(form) => run(cli.command, form).await,
        Err(fault) => Err(Failure::new(fault.reason, fault.message)),
    };
    match outcome {
        Ok(()) => output::finish(rap_types::ExitCode::Ok, json),
        Err(Failure { reason, message, .. }) => {
            eprintln!("{}", exit::complaint(&Fault::new(reason, message), json));
            exit::status(reason.exit())
        }
    }
}

async fn run(command: Command, form: Format) -> Result<(), Failure> {
    match command {
        Command::Init { settings, import_installation_key, replace } => {
            run_init(settings, import_installation_key.as_deref(), replace, form).await
        }
        Command::Serve { settings } => run_serve(settings).await,
        Command::Check { settings } => settings.resolve().and_then(|(config, _)| check::run(&config, form)),
        Command::Floors(command) => run_floors(command, form).await,
        Command::Migrate { settings, down_to } => run_migrate(settings, down_to).await,
        Command::Keys(command) => keys::run(command, form).await,
        Command::Backup(command) => command::run(command, form).await,
        Command::Rows(command) => rows::run(command, form).await,
        Command::Config { settings, effective } => run_config(settings, effective, form),
    }
}

async fn run_init(
    settings: Settings,
    import: Option<&Path>,
    replace: bool,
    form: Format,
) -> Result<(), Failure> {
    let config = settings.begin(replace)?;
    // Looked at before anything is made.
    config.listen.addresses().await?;
    let imported = import.map(init::imported_key).transpose()?;
    let made = init::run(&config, Path::new(""), imported, replace).await?;
    if printed(form, &made)? {
        return Ok(());
    }
    println!("installation  {}", made.installation_id);
    println!("mode          {}", made.mode);
    println!("authority     {}", made.installation_authority);
    println!("              {}", made.installation_authority_words);
    for root in &made.product_root {
        println!("product root  {root}");
    }
    println!("control urls  {}", made.control_urls.join(", "));
    if let Some(path) = &made.activation_request {
        println!("activation    {}", path.display());
    }
    if let (Some(manifest), Some(key)) = (&made.activation_manifest, &made.owner_key) {
        println!("activation    {} (signed by the root in the data directory)", manifest.display());
        println!("owner key     {}", key.display());
    }
    println!("next: {}", made.next);
    Ok(())
}

async fn run_serve(settings: Settings) -> Result<(), Failure> {
    let config = settings.start()?;
    descriptors::raise_limit();
    let signal = shutdown_signal().map_err(Failure::of(Reason::ServerInternal))?;
    let data = DataDir::of(&config);
    // Refused before the database starts, let alone a port opens.
    data.require_mode(config.mode)?;
    data.roots(&config)?;
    data.sealing_key(&config)?;
    let database = OpenDatabase::open(&config).await?;
    let running = start::start(config, database).await?;
    tracing::info!(address = %running.address, installation = %running.replica.keys.installation.facts.id, "serving");
    service::ready();
    let outcome = tokio::select! {
        name = signal => {
            tracing::info!(signal = name, "stopping");
            Ok(())
        }
        fault = running.failed() => Err(fault),
    };
    service::stopping();
    running.stop().await;
    outcome
}

async fn run_migrate(settings: Settings, down_to: Option<i64>) -> Result<(), Failure> {
    let config = settings.start()?;
    let database = OpenDatabase::open(&config).await?;
    let migrate = async |database: &OpenDatabase| {
        match down_to {
            Some(version) => migrate_down(&database.target, version).await?,
            None => migrate_up(&database.target).await?,
        }
        Ok(migration_applied(&database.target).await?)
    };
    let applied = database.during(migrate).await?;
    println!("schema {:06} of {:06}", applied, newest_migration());
    Ok(())
}

async fn run_floors(command: Floors, form: Format) -> Result<(), Failure> {
    let (settings, confirmed) = match command {
        Floors::Show { settings } => (settings, None),
        Floors::Confirm { settings, sequence, lower, cluster, of } => {
            (settings, Some((sequence, lower, cluster.map(|cluster| (cluster, of)))))
        }
    };
    let config = settings.start()?;
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    let database = OpenDatabase::open_or_join(&config).await?;
    let work = async |database: &OpenDatabase| match confirmed {
        Some((sequence, lower, None)) => confirm(&config, &data, database, sequence, lower).await,
        Some((sequence, lower, Some((cluster, of)))) => {
            confirm_cluster(&config, &data, database, (&cluster, of), sequence, lower).await
        }
        None => show(&config, &data, database).await,
    };
    let shown = database.during(work).await?;
    if !printed(form, &shown)? {
        print!("{shown}");
    }
    Ok(())
}

fn run_config(settings: Settings, effective: bool, form: Format) -> Result<(), Failure> {
    let (config, layers) = settings.resolve()?;
    let rows: Vec<_> = config
        .effective()
        .into_iter()
        .map(|(key, value)| (key, value, layers.origin(key)))
        .filter(|(_, _, origin)| effective || *origin != Origin::Default)
        .collect();
    let values: Map<String, Value> =
        rows.iter().map(|(key, value, _)| ((*key).into(), value.clone().into())).collect();
    let origins: Map<String, Value> =
        rows.iter().map(|(key, _, origin)| ((*key).into(), json!(origin))).collect();
    if printed(form, &json!({ "schema": "rap.config.v1", "values": values, "origins": origins }))? {
        return Ok(());
    }
    for (key, value, origin) in rows {
        println!("{key} = {value}  # {}", origin.as_str());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_page_of_commands_is_what_the_command_line_says() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate/reference-cli.md");
        assert_eq!(rap_runtime::reference::check(page.as_ref(), command_line::command::<Cli>()), Ok(()));
    }
}
