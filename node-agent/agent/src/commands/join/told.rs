//! What the person at the terminal and the running agent are told of a join.
//!
//! Owns the text. Refuses to join.

use rap_contract::PublicKey;
use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_types::ExitCode;
use serde_json::json;

use super::prepared::{Prepared, cluster_name};
use super::session::JoinedNode;
use crate::commands::print::printed;
use crate::config::Config;
use crate::local::LocalClient;

/// Has a running agent load the membership, and says how it went. `was`: the node this host was before.
pub(super) async fn say_joined(
    config: &Config,
    node: &JoinedNode,
    form: Format,
    was: Option<Option<rap_types::NodeId>>,
) -> Result<ExitCode, Fault> {
    let loaded = tell_agent(config).await;
    let mut document = json!({
        "schema": "rap.join.v1",
        "membership": config.membership,
        "node_id": node.id,
        "name": node.name,
        "cluster": node.cluster,
        "authority_fingerprint": node.authority,
        "agent_loaded": loaded.as_ref().is_ok_and(|loaded| *loaded),
    });
    if let Some(was) = was {
        document["former_node_id"] = json!(was);
        document["kept_id"] = json!(was.map(|was| was == node.id));
    }
    if !printed(form, &document) {
        println!("joined: node {} ({}), membership {}", node.name, node.id, config.membership);
        match was.flatten() {
            Some(was) if was == node.id => println!("        the same node as before"),
            Some(was) => {
                println!("        another node than before ({was}): the operator did not keep the id")
            }
            None => {}
        }
    }
    match loaded {
        Ok(true) => {}
        Ok(false) => eprintln!("next: systemctl start rap-node-agent, or rap-node-agent run"),
        Err(fault) => eprintln!("the running agent did not load it: [{}] {}", fault.reason, fault.message),
    }
    Ok(ExitCode::Ok)
}

pub(super) async fn tell_agent(config: &Config) -> Result<bool, Fault> {
    match LocalClient::open(&config.socket, config.membership.as_str()).await? {
        None => Ok(false),
        Some(mut client) => client.load().await.map(|()| true),
    }
}

/// What the person compares: the cluster's key with what operators see, this host's with what they are asked.
pub(super) fn say_who(prepared: &Prepared) -> Result<(), Fault> {
    let token = &prepared.token;
    let authority = PublicKey::from_slice(&token.cluster_authority_key)?;
    eprintln!(
        "cluster      {} {}",
        cluster_name(token).unwrap_or_else(|| "-".to_owned()),
        token.header().cluster
    );
    eprintln!("authority    {}", authority.id());
    eprintln!("             {}", authority.id().words());
    eprintln!("this host    {}", prepared.store.identity().node_fingerprint);
    if token.header().is_dev() {
        eprintln!("warning      signed by a development installation");
    }
    Ok(())
}
