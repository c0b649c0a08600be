//! Join tokens.

use std::collections::BTreeMap;

use rap_contract::AuditEntry;
use rap_runtime::Fault;
use rap_types::{Reason, Role, TokenId};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::args::{Global, Token as Command};
use crate::client::{Connection, ask};
use crate::duration::milliseconds;
use crate::files;
use crate::output::{Answer, all_hold, confirm, id_text, print, time};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    match command {
        Command::Create { roles, uses, ttl, auto_approve, tags, ephemeral, out } => {
            let file = out.as_deref().map(|path| files::Reserved::new(path, 0o600)).transpose()?;
            let cluster = connection.cluster(None).await?;
            let answer = ask!(connection.admin.token_create(v1::TokenCreateRequest {
                cluster,
                roles,
                uses,
                ttl_ms: milliseconds(ttl),
                auto_approve,
                tags,
                ephemeral,
                profile: String::new(),
                organization: String::new(),
            }));
            created(global, answer, out.as_deref().zip(file))
        }
        Command::List => {
            let cluster = connection.cluster(None).await?;
            let tokens =
                ask!(connection.admin.token_list(v1::TokenListRequest { cluster: cluster.clone() })).tokens;
            let creators = creators(&mut connection, cluster).await;
            let rows = tokens.iter().map(|token| {
                [
                    id(token),
                    if token.refused.is_empty() { &token.state } else { &token.refused }.clone(),
                    format!("{}/{}", token.uses, token.max_uses),
                    token.roles.join(","),
                    token.approval.clone(),
                    time(token.expires_at_ms),
                    time(token.created_at_ms),
                    creators.get(&id(token)).cloned().unwrap_or_else(|| "-".to_owned()),
                ]
            });
            let document = |token: &v1::Token| {
                let mut body = document(token);
                body["created_by"] = json!(creators.get(&id(token)));
                body
            };
            Answer::list("rap.tokens.v1", "tokens", &tokens, document)
                .table(
                    ["ID", "STATE", "USES", "ROLES", "APPROVAL", "EXPIRES", "CREATED", "CREATED BY"],
                    2,
                    rows,
                )
                .print(global)?;
            all_hold(tokens.iter().filter(|token| !token.refused.is_empty()).map(id))
        }
        Command::Revoke { token, with_nodes, reason } => {
            let id: TokenId =
                token.parse().map_err(|_| Fault::new(Reason::RequestInvalid, "a token id is a UUID"))?;
            if with_nodes {
                confirm(global, &format!("Revoke token {id} and evict every node that it admitted?"))?;
            }
            let token = ask!(connection.admin.token_revoke(v1::TokenRevokeRequest {
                token_id: id.to_vec(),
                with_nodes,
                reason
            }));
            let gone: Vec<String> = token.nodes_revoked.iter().map(|node| node_id(node)).collect();
            let (mut body, mut table) = (document(&token), rows(&token));
            body["nodes_revoked"] = json!(gone);
            table.extend(gone.into_iter().map(|node| ("evicted", node)));
            Answer::new("rap.token.v1", body).properties(table).print(global)
        }
    }
}

/// Who created which token, by the newest entries of the audit log. Empty for a caller who may not read it.
async fn creators(connection: &mut Connection, cluster: String) -> BTreeMap<String, String> {
    let entries = created_entries(connection, cluster).await.unwrap_or_default();
    let entries = entries.iter().filter_map(|listed| AuditEntry::decode(&listed.entry).ok());
    entries.map(|entry| (last_word(&entry.object).to_owned(), entry.actor)).collect()
}

async fn created_entries(
    connection: &mut Connection,
    cluster: String,
) -> anyhow::Result<Vec<v1::AuditListed>> {
    let action = "token.create".to_owned();
    let request = v1::AuditListRequest { cluster, action, limit: CREATORS, ..Default::default() };
    Ok(ask!(connection.audit.list(request)).entries)
}

/// The id in an object of the audit log, such as `token:0198...`.
fn last_word(object: &str) -> &str {
    object.rsplit([':', '/']).next().unwrap_or(object)
}

/// Entries that are looked at for creators.
const CREATORS: u32 = 500;

fn created(
    global: &Global,
    answer: v1::TokenCreateAnswer,
    out: Option<(&std::path::Path, files::Reserved)>,
) -> anyhow::Result<()> {
    let token = answer.token.unwrap_or_default();
    let Some((out, file)) = out else {
        // The token is the answer: alone on standard output, so that it can be piped.
        if global.format().is_document() {
            let mut body = document(&token);
            body["token"] = Value::String(answer.text);
            return Answer::new("rap.token.v1", body).print(global);
        }
        return print(&format!("{}\n", answer.text));
    };
    file.fill(format!("{}\n", answer.text).as_bytes())?;
    let mut body = document(&token);
    body["file"] = json!(files::shown(out));
    let mut table = rows(&token);
    table.insert(0, ("file", files::shown(out)));
    Answer::new("rap.token.v1", body)
        .properties(table)
        .next(format!("on the host: rap-node-agent join --token-file {}", files::shown(out)))
        .print(global)
}

fn rows(token: &v1::Token) -> Vec<(&'static str, String)> {
    vec![
        ("id", id(token)),
        ("state", token.state.clone()),
        ("uses", format!("{} of {}", token.uses, token.max_uses)),
        ("roles", roles(token)),
        ("approval", token.approval.clone()),
        ("ephemeral", if token.ephemeral { "yes" } else { "no" }.to_owned()),
        ("expires", time(token.expires_at_ms)),
    ]
}

/// The roles that a token gives, and what those mean that make a relay.
fn roles(token: &v1::Token) -> String {
    let relays = |role: &String| [Role::Core, Role::RelayNode].iter().any(|one| one.as_str() == role);
    match token.roles.join(",") {
        none if none.is_empty() => "none".to_owned(),
        roles if token.roles.iter().any(relays) => format!("{roles} (relays for other nodes)"),
        roles => roles,
    }
}

fn document(token: &v1::Token) -> Value {
    json!({
        "token_id": id(token), "state": token.state, "uses": token.uses, "max_uses": token.max_uses,
        "roles": token.roles, "approval": token.approval, "expires_at_ms": token.expires_at_ms,
        "revoked_at_ms": token.revoked_at_ms, "created_at_ms": token.created_at_ms,
        "ephemeral": token.ephemeral, "refused": token.refused,
    })
}

fn node_id(bytes: &[u8]) -> String {
    id_text(rap_types::NodeId::from_slice(bytes))
}

fn id(token: &v1::Token) -> String {
    id_text(TokenId::from_slice(&token.token_id))
}
