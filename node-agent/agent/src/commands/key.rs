//! `key rotate`: by the running agent, or here if none runs.

use rap_runtime::Fault;
use rap_types::ExitCode;
use serde_json::json;

use super::print::pretty;
use crate::cli::Rotate;
use crate::config::Config;
use crate::local::LocalClient;
use crate::membership::Wanted;
use crate::run;

/// Replaces keys. Exit 0 once the new ones are in force.
pub(super) async fn rotate(config: &Config, rotate: &Rotate) -> Result<ExitCode, Fault> {
    let both = !rotate.identity && !rotate.wireguard;
    let wanted = Wanted { identity: rotate.identity || both, wireguard: rotate.wireguard || both };
    let generation = match LocalClient::open(&config.socket, config.membership.as_str()).await? {
        Some(mut client) => client.rotate(wanted).await?,
        None => run::rotate(config, &config.membership, wanted).await?,
    };
    if rotate.json {
        let body = json!({
            "schema": "rap.key-rotate.v1", "membership": config.membership,
            "identity": wanted.identity, "wireguard": wanted.wireguard, "key_generation": generation,
        });
        println!("{}", pretty(&body));
    } else {
        println!("membership {}: keys replaced, key generation {generation}", config.membership);
    }
    Ok(ExitCode::Ok)
}
