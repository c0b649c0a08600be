//! How commands print documents, and the document of the configuration.
//!
//! Owns the form. Refuses to own what is printed.

use rap_runtime::settings_layers::{Layers, Origin};

use crate::config::{Config, Raw};

pub(super) fn effective(config: &Config, layers: &Layers<Raw>) -> String {
    pretty(&effective_document(config, layers))
}

pub(super) fn effective_document(config: &Config, layers: &Layers<Raw>) -> serde_json::Value {
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
pub(super) fn pretty(document: &serde_json::Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string())
}
