//! What each command does.

mod break_glass;
mod bundle;
mod check;
mod join;
mod key;
mod leave;
mod memberships;
mod ping;
mod run;
mod snapshot;
mod status;

use rap_runtime::Fault;
use rap_state::MembershipDir;
use rap_types::{ExitCode, Reason};

use crate::cli::{Cli, Command, Key, Snapshot};
use crate::config::{Config, Layers, Origin};
use crate::fault::state_fault;
use crate::running::blocking;

/// Runs the command of a parsed command line.
///
/// # Errors
/// Those of the command.
pub async fn run(cli: Cli) -> Result<ExitCode, Fault> {
    let (layers, mut problems) = Layers::read(&cli.raw, cli.config.as_deref());
    let mut config = match Config::resolve(&layers.raw) {
        Ok(config) if problems.0.is_empty() => config,
        Ok(_) => return Err(problems.into()),
        Err(more) => {
            problems.0.extend(more.0);
            return Err(problems.into());
        }
    };
    if matches!(cli.command, Command::Leave(_) | Command::Key(_) | Command::Load | Command::Unload) {
        config = of_one(config).await?;
    }
    match cli.command {
        Command::Join(join) => join::run(&config, join).await,
        Command::Run => run::run(config).await,
        Command::Status(form) => status::run(&config, form.json).await,
        Command::Snapshot(Snapshot::Show(form)) => snapshot::show(&config, form.json).await,
        Command::Snapshot(Snapshot::Verify(verify)) => snapshot::verify(&config, verify).await,
        Command::Snapshot(Snapshot::Export(export)) => snapshot::export(&config, &export).await,
        Command::Check(form) => check::run(&config, form.json).await,
        Command::Config(_) => {
            println!("{}", effective(&config, &layers));
            Ok(ExitCode::Ok)
        }
        Command::Key(Key::Rotate(rotate)) => key::rotate(&config, &rotate).await,
        Command::Leave(leave) => leave::run(&config, &leave).await,
        Command::BreakGlass(command) => break_glass::run(&config, command).await,
        Command::Load => memberships::load(&config).await,
        Command::Unload => memberships::unload(&config).await,
        Command::Memberships(form) => memberships::run(&config, form.json).await,
        Command::Ping(ping) => ping::run(&config, ping).await,
        Command::Bundle(command) => bundle::run(&config, effective_document(&config, &layers), command).await,
    }
}

/// The configuration with the membership that a command acts on: the named one, else the only one here.
/// Nothing is guessed where there are several, for what follows may remove one.
async fn of_one(config: Config) -> Result<Config, Fault> {
    if config.membership_given {
        return Ok(config);
    }
    let data = config.data_dir.clone();
    let names = blocking(move || MembershipDir::list(&data).map_err(state_fault)).await?;
    match names.as_slice() {
        [] => Ok(config),
        [only] => Ok(Config { membership: only.clone(), membership_given: true, ..config }),
        several => {
            let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            let text =
                format!("several memberships are on this host: {}; give --membership", names.join(", "));
            Err(Fault::new(Reason::RequestInvalid, text))
        }
    }
}

fn effective(config: &Config, layers: &Layers) -> String {
    pretty(&effective_document(config, layers))
}

fn effective_document(config: &Config, layers: &Layers) -> serde_json::Value {
    let mut values = config.effective();
    let mut origins = serde_json::Map::new();
    if let serde_json::Value::Object(values) = &mut values {
        for key in values.keys() {
            let origin = match (layers.origin(key), key.as_str()) {
                (_, "cluster_authority_pinned") => {
                    let key = layers.origin("cluster_authority_public_key");
                    if key == Origin::Default { layers.origin("cluster_authority_fingerprint") } else { key }
                }
                (origin, _) => origin,
            };
            origins.insert(key.clone(), serde_json::json!(origin));
        }
    }
    serde_json::json!({ "schema": "rap.config.v1", "values": values, "origins": origins })
}

/// A document as it is printed.
fn pretty(document: &serde_json::Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string())
}
