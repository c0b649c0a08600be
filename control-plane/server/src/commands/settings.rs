//! The settings that every command takes, and the log it starts.

use std::path::PathBuf;

use clap::Args;
use rap_runtime::command_line::Format;
use rap_runtime::settings_layers::Problem;
use rap_runtime::telemetry;
use rap_runtime::telemetry::LogFormat;
use rap_types::Reason;

use crate::config::layers::{self, Layers};
use crate::config::raw::Raw;
use crate::config::settings::Config;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Configuration file [default: /etc/rap/control-plane.toml if it exists]
    #[arg(long, env = "RAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    raw: Raw,
}

impl Settings {
    pub(crate) fn resolve(self) -> Result<(Config, Layers), Failure> {
        self.resolve_from(false)
    }

    /// `anew` leaves out what an earlier `init` recorded, but for where the database is.
    fn resolve_from(&self, anew: bool) -> Result<(Config, Layers), Failure> {
        let layers = layers::read(&self.raw, self.config.as_deref(), anew);
        let (raw, mut problems) = layers.merge();
        match Config::resolve(&raw) {
            Ok(config) if problems.is_empty() => return Ok((config, layers)),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        Err(invalid(&problems))
    }

    /// The configuration, by which the log goes from now on.
    pub(crate) fn start(self) -> Result<Config, Failure> {
        self.begin(false)
    }

    /// As [`Self::start`]; `anew` leaves out what an earlier `init` recorded, but for where the database is.
    pub(crate) fn begin(self, anew: bool) -> Result<Config, Failure> {
        let (config, _) = self.resolve_from(anew)?;
        start_log(&config)?;
        Ok(config)
    }

    /// The same for a command that serves nothing and signs no address: nobody asks how nodes reach this host.
    pub(crate) fn start_without_address(mut self) -> Result<Config, Failure> {
        self.raw.control_urls.get_or_insert_with(|| vec!["https://localhost".to_owned()]);
        self.start()
    }
}

/// Prints the answer as one document, if the form is one; false if it is for people.
pub(crate) fn printed(form: Format, answer: &impl serde::Serialize) -> Result<bool, Failure> {
    let document = serde_json::to_value(answer).map_err(Failure::of(Reason::ServerInternal))?;
    let text = form.document(&document);
    if let Some(text) = &text {
        print!("{text}");
    }
    Ok(text.is_some())
}

fn start_log(config: &Config) -> Result<(), Failure> {
    let format = if config.log_json { LogFormat::Json } else { LogFormat::Text };
    telemetry::init(format, &config.log).map_err(Failure::of(Reason::ConfigInvalid))
}

fn invalid(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    let dev_address = problems.len() == 1 && problems[0].text.starts_with(Reason::AuthorityDevAddress.code());
    let reason = if dev_address { Reason::AuthorityDevAddress } else { Reason::ConfigInvalid };
    Failure::new(reason, format!("the configuration has problems:{}", lines.concat()))
}
