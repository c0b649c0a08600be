//! `paths`, `path explain`: by which relays peers are reached, and why.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_types::ExitCode;
use serde_json::{Value, json};

use super::print::{list, not_running, print_status, printed, text};
use crate::cli::Explain;
use crate::config::Config;
use crate::local::LocalClient;

/// Prints the paths. Exit 0, 6 not running.
pub(super) async fn run(config: &Config, form: Format) -> Result<ExitCode, Fault> {
    print_status(config, form, "paths", document, line).await
}

/// Prints why the paths to a peer are what they are. Exit 0; 6 not running; that of `path.no_route` if there is none.
pub(super) async fn explain(config: &Config, asked: &Explain, form: Format) -> Result<ExitCode, Fault> {
    let Some(mut client) = LocalClient::open(&config.socket, config.asked()).await? else {
        eprintln!("{}", not_running(config));
        return Ok(ExitCode::Unreachable);
    };
    let document = client.explain(&asked.peer, asked.class, &asked.assumed_down).await?;
    if !printed(form, &document) {
        print!("{}", rap_runtime::path_text::explanation(&document));
    }
    Ok(ExitCode::Ok)
}

/// The paths of every membership in a status.
fn document(status: &Value) -> Value {
    let one = std::slice::from_ref(status);
    let memberships = status["memberships"].as_array().map_or(one, Vec::as_slice);
    let paths = memberships.iter().flat_map(|status| {
        list(&status["routes"]).iter().map(|route| {
            let mut path = route.clone();
            path["membership"] = status["membership"].clone();
            path["way"] = way_of(status, &route["destination"]);
            path
        })
    });
    json!({ "schema": "rap.paths.v1", "paths": paths.collect::<Vec<_>>() })
}

fn way_of(status: &Value, node: &Value) -> Value {
    let peers = ["active", "warm"].into_iter().flat_map(|tier| list(&status["peers"][tier]));
    peers.into_iter().find(|peer| peer["node_id"] == *node).map_or(Value::Null, |peer| peer["way"].clone())
}

fn line(path: &Value) -> String {
    let way = match path["way"].as_str() {
        Some("relayed") => format!("through {}", names(&path["via"])),
        Some(way) => way.to_owned(),
        None => "idle".to_owned(),
    };
    let planned = if path["direct_only"] == true {
        "no relay".to_owned()
    } else if list(&path["primary"]).is_empty() {
        "no path".to_owned()
    } else {
        format!("{}, then {}", names(&path["primary"]), names(&path["backup"]))
    };
    format!("{:<20} {way:<24} {planned}: {}", text(&path["name"]), text(&path["why_text"]))
}

fn names(relays: &Value) -> String {
    rap_runtime::path_text::names(relays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_what_carries_the_traffic_and_what_is_planned() {
        let relay = |name| json!([{ "node_id": name, "name": name }]);
        let status = json!({
            "membership": "default",
            "peers": { "active": [], "warm": [{ "node_id": "b", "way": "relayed" }, { "node_id": "c", "way": null }] },
            "routes": [
                { "destination": "b", "name": "b", "via": relay("r2"), "primary": relay("r1"), "backup": relay("r2"),
                  "why_text": "first" },
                { "destination": "c", "name": "c", "via": [], "primary": [], "backup": [], "why_text": "none" },
                { "destination": "d", "name": "d", "via": [], "primary": [], "backup": [], "direct_only": true,
                  "why_text": "directly" },
            ],
        });
        let document = document(&json!({ "memberships": [status] }));
        let lines: Vec<String> = list(&document["paths"]).iter().map(line).collect();
        assert!(lines[0].ends_with("through r2               r1, then r2: first"), "{}", lines[0]);
        assert!(lines[1].ends_with("idle                     no path: none"), "{}", lines[1]);
        assert!(lines[2].ends_with("idle                     no relay: directly"), "{}", lines[2]);
        assert_eq!(document["paths"][0]["membership"], "default");
    }
}
