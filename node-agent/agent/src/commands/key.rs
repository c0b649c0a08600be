//! `key rotate`: by the running agent, or here if none runs.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_types::ExitCode;
use serde_json::json;

use super::print::printed;
use crate::cli::Rotate;
use crate::config::Config;
use crate::local::LocalClient;
use crate::membership::Wanted;
use crate::run;

/// Replaces keys. Exit 0 once the new ones are in force.
pub(super) async fn rotate(config: &Config, rotate: &Rotate, form: Format) -> Result<ExitCode, Fault> {
    let both = !rotate.identity && !rotate.wireguard;
    let wanted = Wanted { identity: rotate.identity || both, wireguard: rotate.wireguard || both };
    let generation = match LocalClient::open(&config.socket, config.membership.as_str()).await? {
        Some(mut client) => client.rotate(wanted).await?,
        None => run::rotate(config, &config.membership, wanted).await?,
    };
    let body = json!({
        "schema": "rap.key-rotate.v1", "membership": config.membership,
        "identity": wanted.identity, "wireguard": wanted.wireguard, "key_generation": generation,
    });
    if !printed(form, &body) {
        println!("membership {}: keys replaced, key generation {generation}", config.membership);
    }
    Ok(ExitCode::Ok)
}
