//! The settings that every command takes, and the log it starts.

use std::path::PathBuf;

use clap::Args;
use rap_runtime::settings_layers::Problem;
use rap_runtime::telemetry::LogFormat;
use rap_runtime::{Fault, telemetry};
use rap_types::Reason;

use crate::config::layers::{self, Layers};
use crate::config::raw::Raw;
use crate::config::settings::Config;

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Configuration file [default: /etc/rap/control-plane.toml if it exists]
    #[arg(long, env = "RAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    raw: Raw,
}

impl Settings {
    pub(crate) fn resolve(self) -> Result<(Config, Layers), Fault> {
        let layers = layers::read(&self.raw, self.config.as_deref());
        let (raw, mut problems) = layers.merge();
        match Config::resolve(&raw) {
            Ok(config) if problems.is_empty() => return Ok((config, layers)),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        Err(invalid(&problems))
    }
}

pub(crate) fn start_log(config: &Config) -> Result<(), Fault> {
    let format = if config.log_json { LogFormat::Json } else { LogFormat::Text };
    telemetry::init(format, &config.log).map_err(|error| Fault::new(Reason::ConfigInvalid, error.to_string()))
}

fn invalid(problems: &[Problem]) -> Fault {
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    let dev_address = problems.len() == 1 && problems[0].text.starts_with(Reason::AuthorityDevAddress.code());
    let reason = if dev_address { Reason::AuthorityDevAddress } else { Reason::ConfigInvalid };
    Fault::new(reason, format!("the configuration has problems:{}", lines.concat()))
}
