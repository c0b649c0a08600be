//! The installation and its alarms.

use rap_store::DoubtedNode;
use rap_wire::v1;

use crate::config::settings::Config;
use crate::keys::handle::Keys;
use crate::watch::alarms::Alarm;

pub(crate) fn alarm(alarm: Alarm) -> v1::Alarm {
    v1::Alarm {
        cluster_id: alarm.cluster.map(|cluster| cluster.to_vec()).unwrap_or_default(),
        reason: alarm.reason.to_string(),
        what: alarm.what,
        since_ms: alarm.since.0,
    }
}

/// An alarm of every replica for as long as the doubt lasts.
pub(crate) fn doubt(doubted: DoubtedNode) -> v1::Alarm {
    v1::Alarm {
        cluster_id: doubted.cluster.to_vec(),
        what: format!("node {} ({}): its identity is doubted", doubted.name, doubted.node),
        reason: doubted.doubt,
        since_ms: doubted.doubted_at.0,
    }
}

pub(crate) fn installation(keys: &Keys, config: &Config, ready: bool) -> v1::InstallationAnswer {
    let facts = &keys.installation.facts;
    let activation = keys.installation.activation();
    v1::InstallationAnswer {
        installation_id: facts.id.to_vec(),
        mode: config.mode.as_str().to_owned(),
        state: if activation.is_some() { "active" } else { "awaiting_activation" }.to_owned(),
        installation_authority_key: facts.authority.to_vec(),
        tls_ca_spki_sha256: facts.tls_ca_pin.to_vec(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        activation_manifest: activation.map(|activation| activation.manifest.clone()).unwrap_or_default(),
        ready,
    }
}
