//! How commands print documents, and the document of the configuration.
//!
//! Owns the form. Refuses to own what is printed.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_runtime::output::clean;
use rap_runtime::settings_layers::{Layers, Origin};
use rap_types::ExitCode;
use serde_json::Value;

use crate::config::{Config, Raw};
use crate::local::LocalClient;

pub(super) fn effective(config: &Config, layers: &Layers<Raw>) -> String {
    pretty(&effective_document(config, layers))
}

pub(super) fn effective_document(config: &Config, layers: &Layers<Raw>) -> Value {
    let mut values = config.effective();
    let mut origins = serde_json::Map::new();
    if let Value::Object(values) = &mut values {
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

/// Prints the document, if the form is one; false if the answer is for people.
pub(super) fn printed(form: Format, document: &Value) -> bool {
    let text = form.document(document);
    if let Some(text) = &text {
        print!("{text}");
    }
    text.is_some()
}

/// A document as it is printed.
pub(super) fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string())
}

/// A value in a line for people; `-` for none. Text is cleaned: what others wrote may hold any character.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// The entries of a list; none where the document has no list.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// By which way traffic to a peer goes, to be appended: nothing while none is known. A change is told for ten minutes.
pub(super) fn through(peer: &Value) -> String {
    let seconds = |key: &str| peer[key].as_u64().map(|ms| ms / 1000);
    let before = match (seconds("way_ms"), peer["way_before"].as_str()) {
        (Some(lasts), Some(before)) if lasts < 600 => format!(" for {lasts} s (before: {})", clean(before)),
        _ => String::new(),
    };
    let silent =
        seconds("unanswered_ms").map(|lasts| format!(", no answer for {lasts} s")).unwrap_or_default();
    let way = way(peer);
    if way.is_empty() { way } else { way + &before + &silent }
}

fn way(peer: &Value) -> String {
    let name =
        |relay: &Value| if relay["name"].is_null() { text(&relay["node_id"]) } else { text(&relay["name"]) };
    match peer["way"].as_str() {
        None => String::new(),
        Some("relayed") => {
            let names: Vec<String> = list(&peer["via"]).iter().map(name).collect();
            format!(", through {}", names.join(", "))
        }
        Some(way) => format!(", {}", clean(way)),
    }
}

/// Asks the running agent for its status and prints what `document` makes of it, for people each row of its list `key`
/// as `line` has it. Exit 0, 6 not running.
pub(super) async fn print_status(
    config: &Config,
    form: Format,
    key: &str,
    document: fn(&Value) -> Value,
    line: fn(&Value) -> String,
) -> Result<ExitCode, Fault> {
    let Some(mut client) = LocalClient::open(&config.socket, config.asked()).await? else {
        eprintln!("{}", not_running(config));
        return Ok(ExitCode::Unreachable);
    };
    let (status, _) = client.status().await?;
    let document = document(&status);
    if !printed(form, &document) {
        for row in list(&document[key]) {
            println!("{}", line(row));
        }
    }
    Ok(ExitCode::Ok)
}

/// What is said when no agent answers.
pub(super) fn not_running(config: &Config) -> String {
    format!("the agent is not running (nothing answers at {})", config.socket.display())
}
