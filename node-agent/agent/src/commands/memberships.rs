//! `memberships`: what this host belongs to, from the running agent or from its disk.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_state::{Durable, Identity, MembershipDir, MembershipName};
use rap_types::{ExitCode, Reason};
use serde_json::{Value, json};

use super::print::{list, not_running, printed, text};
use crate::blocking::blocking;
use crate::config::Config;
use crate::local::{LocalClient, memberships_document};
use crate::membership::{allocation_facts, read_allocation};

/// Prints the list. Exit 0, also if a membership is stopped: `status` judges.
pub(super) async fn run(config: &Config, form: Format) -> Result<ExitCode, Fault> {
    let document = match LocalClient::open(&config.socket, "").await? {
        Some(mut client) => client.memberships().await?,
        None => {
            let config = config.clone();
            blocking(move || on_disk(&config)).await?
        }
    };
    if form == Format::Name {
        for membership in list(&document["memberships"]) {
            println!("{}", text(&membership["membership"]));
        }
    } else if !printed(form, &document) {
        print!("{}", for_people(&document));
    }
    Ok(ExitCode::Ok)
}

/// Starts the named membership in the running agent.
pub(super) async fn load(config: &Config) -> Result<ExitCode, Fault> {
    running(config).await?.load().await?;
    println!("membership {} runs", config.membership);
    Ok(ExitCode::Ok)
}

/// Ends the named membership in the running agent.
pub(super) async fn unload(config: &Config) -> Result<ExitCode, Fault> {
    running(config).await?.unload().await?;
    println!("membership {} and its data plane ended", config.membership);
    Ok(ExitCode::Ok)
}

async fn running(config: &Config) -> Result<LocalClient, Fault> {
    let client = LocalClient::open(&config.socket, config.membership.as_str()).await?;
    client.ok_or_else(|| Fault::new(Reason::ServerUnreachable, not_running(config)))
}

/// Reads names, host allocations and public facts; nothing is locked, verified or changed.
fn on_disk(config: &Config) -> Result<Value, Fault> {
    let names = MembershipDir::list(&config.data_dir)?;
    let listed = names.iter().map(|name| match one(config, name) {
        Ok(document) => document,
        Err(fault) => json!({
            "membership": name, "state": "unreadable", "reason": fault.reason, "text": fault.message,
        }),
    });
    Ok(memberships_document("disk", listed.collect()))
}

fn one(config: &Config, name: &MembershipName) -> Result<Value, Fault> {
    let directory = config.data_dir.join(name.as_str());
    let mut document = read_allocation(&directory)?
        .map(|allocation| allocation_facts(config, &allocation))
        .unwrap_or_default();
    let (identity, _) = Durable::<Identity>::open(&directory.join("identity.json"))?;
    document.insert("membership".into(), json!(name));
    document.insert("state".into(), "not_running".into());
    if let Some(identity) = identity.value() {
        document.insert("cluster".into(), json!(identity.cluster_id));
        document.insert("node_id".into(), json!(identity.node_id));
        document.insert("node_name".into(), json!(identity.name));
        document.insert("identity_status".into(), json!(identity.identity_status));
    }
    Ok(Value::Object(document))
}

fn for_people(document: &Value) -> String {
    let memberships = list(&document["memberships"]);
    if memberships.is_empty() {
        return "no memberships; run rap-node-agent join\n".to_owned();
    }
    let mut lines = format!(
        "{:<16} {:<12} {:<20} {:<10} {:<22} {}\n",
        "MEMBERSHIP", "STATE", "CLUSTER", "INTERFACE", "LINKS", "WIREGUARD"
    );
    for membership in memberships {
        let cluster = match &membership["cluster_name"] {
            Value::Null => &membership["cluster"],
            name => name,
        };
        lines.push_str(&format!(
            "{:<16} {:<12} {:<20} {:<10} {:<22} {}\n",
            text(&membership["membership"]),
            text(&membership["state"]),
            text(cluster),
            text(&membership["interface"]),
            text(&membership["listen_link"]),
            text(&membership["listen_wireguard"]),
        ));
        if !membership["reason"].is_null() {
            let (reason, why) = (text(&membership["reason"]), text(&membership["text"]));
            lines.push_str(&format!("{:<16} [{reason}] {why}\n", ""));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_membership_is_listed_with_its_reason() {
        let document = memberships_document(
            "running agent",
            vec![
                json!({ "membership": "b", "state": "stopped", "reason": "overlay.overlap", "text": "x\u{1b}y" }),
            ],
        );
        let text = for_people(&document);
        assert!(text.contains("[overlay.overlap] x\u{fffd}y"), "{text}");
    }
}
