//! `join`: from a token to a membership on disk, in the foreground, resumable at every step.
//!
//! Owns the conversation with the person. Refuses to decide: `rap_trust::Applicant` does.

mod former;
mod prepared;
mod rejoin;
mod session;

use std::io::Read as _;

use rap_contract::{JoinTokenText, PublicKey};
use rap_runtime::{Fault, Secret};
use rap_types::{ExitCode, Reason};
use rap_wire::v1;
use serde_json::json;
use zeroize::Zeroizing;

use self::prepared::Prepared;
use self::session::{JoinedNode, Session};
use super::pretty;
use crate::cli::Join;
use crate::config::Config;
use crate::fault::refused;
use crate::local::LocalClient;
use crate::running::blocking;

/// Joins, or resumes a join; with `--rejoin` as the node that this host was.
pub(super) async fn run(config: &Config, join: Join) -> Result<ExitCode, Fault> {
    let rejoin = join.rejoin;
    let text = blocking(move || read_token(&join)).await?;
    if rejoin {
        return rejoin::run(config, text).await;
    }
    let json = text.json;
    let settings = config.clone();
    let prepared = blocking(move || Prepared::open(&settings, text.token)).await?;
    say_who(&prepared)?;
    let (node, dir) = Session::start(config, prepared, false)?.run().await.map_err(|failed| failed.fault)?;
    drop(dir);
    say_joined(config, &node, json, None).await
}

/// Has a running agent load the membership, and says how it went. `was`: the node this host was before.
async fn say_joined(
    config: &Config,
    node: &JoinedNode,
    json: bool,
    was: Option<Option<rap_types::NodeId>>,
) -> Result<ExitCode, Fault> {
    let loaded = tell_agent(config).await;
    if json {
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
        println!("{}", pretty(&document));
    } else {
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

async fn tell_agent(config: &Config) -> Result<bool, Fault> {
    match LocalClient::open(&config.socket, config.membership.as_str()).await? {
        None => Ok(false),
        Some(mut client) => client.load().await.map(|()| true),
    }
}

struct TokenText {
    token: Option<JoinTokenText>,
    json: bool,
}

fn read_token(join: &Join) -> Result<TokenText, Fault> {
    let text = match (&join.token, &join.token_file) {
        (Some(dash), _) if dash == "-" => {
            let mut text = Zeroizing::new(String::new());
            let read = std::io::stdin().take(TOKEN_CAP).read_to_string(&mut text);
            read.map_err(|error| Fault::new(Reason::TokenMalformed, format!("standard input: {error}")))?;
            Some(text)
        }
        (Some(token), _) => Some(Zeroizing::new(token.clone())),
        (None, Some(path)) => {
            let secret =
                Secret::read("join token", path).map_err(|e| Fault::new(e.reason(), e.to_string()))?;
            let text = secret.expose_text().map(|text| Zeroizing::new(text.to_owned()));
            Some(text.ok_or(Fault::new(Reason::TokenMalformed, "the token file is not text"))?)
        }
        (None, None) => Secret::load_optional("RAP_JOIN_TOKEN")
            .map_err(|error| Fault::new(error.reason(), error.to_string()))?
            .and_then(|secret| secret.expose_text().map(|text| Zeroizing::new(text.to_owned()))),
    };
    let token = text.map(|text| JoinTokenText::parse(&text)).transpose().map_err(refused)?;
    Ok(TokenText { token, json: join.json })
}

/// What the person compares: the cluster's key with what operators see, this host's with what they are asked.
fn say_who(prepared: &Prepared) -> Result<(), Fault> {
    let token = &prepared.token;
    let authority = PublicKey::from_slice(&token.cluster_authority_key).map_err(refused)?;
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

/// The cluster's name as the token has it, without control characters; an older token has none.
fn cluster_name(token: &v1::JoinToken) -> Option<String> {
    let name: String = token.cluster_name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!name.is_empty()).then_some(name)
}

const TOKEN_CAP: u64 = 64 * 1024;
