//! What each command does.

mod break_glass;
mod bundle;
mod check;
mod join;
mod key;
mod leave;
mod memberships;
mod paths;
mod peers;
mod ping;
mod print;
mod run;
mod snapshot;
mod status;

use rap_runtime::Fault;
use rap_runtime::settings_layers::Layers;
use rap_state::MembershipDir;
use rap_types::{ExitCode, Reason};

use self::print::{effective, effective_document};
use crate::blocking::blocking;
use crate::cli::{Cli, Command, Key, Path, Snapshot};
use crate::config::{Config, DEFAULT_FILE};

/// Runs the command of a parsed command line.
///
/// # Errors
/// The error of the command.
pub async fn run(cli: Cli) -> Result<ExitCode, Fault> {
    let form = match cli.command {
        Command::Memberships => cli.form.format(),
        _ => cli.form.format().without_names()?,
    };
    let layers = Layers::read(&cli.raw, cli.config.as_deref(), DEFAULT_FILE);
    let (raw, mut problems) = layers.merge();
    let resolved = Config::resolve(&raw);
    problems.extend(resolved.as_ref().err().into_iter().flatten().cloned());
    let wrong = || {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Fault::new(Reason::ConfigInvalid, lines.join("; "))
    };
    let mut config = resolved.ok().filter(|_| problems.is_empty()).ok_or_else(wrong)?;
    if matches!(cli.command, Command::Leave(_) | Command::Key(_) | Command::Load | Command::Unload) {
        config = of_one(config).await?;
    }
    match cli.command {
        Command::Join(join) => join::run(&config, join, form).await,
        Command::Run => run::run(config).await,
        Command::Status => status::run(&config, form).await,
        Command::Snapshot(Snapshot::Show) => snapshot::show(&config, form).await,
        Command::Snapshot(Snapshot::Verify(verify)) => snapshot::verify(&config, verify, form).await,
        Command::Snapshot(Snapshot::Export(export)) => snapshot::export(&config, &export).await,
        Command::Check => check::run(&config, form).await,
        Command::Config(_) => {
            println!("{}", effective(&config, &layers));
            Ok(ExitCode::Ok)
        }
        Command::Key(Key::Rotate(rotate)) => key::rotate(&config, &rotate, form).await,
        Command::Leave(leave) => leave::run(&config, &leave, form).await,
        Command::BreakGlass(command) => break_glass::run(&config, command, form).await,
        Command::Load => memberships::load(&config).await,
        Command::Unload => memberships::unload(&config).await,
        Command::Memberships => memberships::run(&config, form).await,
        Command::Paths => paths::run(&config, form).await,
        Command::Path(Path::Explain(explain)) => paths::explain(&config, &explain, form).await,
        Command::Peers => peers::run(&config, form).await,
        Command::Ping(ping) => ping::run(&config, ping, form).await,
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
    let names = blocking(move || MembershipDir::list(&data).map_err(Fault::from)).await?;
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
