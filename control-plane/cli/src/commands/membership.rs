//! The end of memberships: revoke a node, see the chain of revocations, how long things last.

use std::time::Duration;

use rap_contract::{AuthorityChain, PublicKey, RevocationChain, Standing};
use rap_rpc::Refusal;
use rap_runtime::Fault;
use rap_types::{ClusterId, Digest, InstallationId, NodeId, Reason};
use rap_wire::v1;
use serde_json::{Value, json};

use super::{missing_policies, node};
use crate::args::{DegradedWords, Global, Revoke};
use crate::client::Connection;
use crate::duration::show_duration;
use crate::output::{Answer, confirm, properties};

pub(super) async fn revoke(
    global: &Global,
    connection: &mut Connection,
    revoke: Revoke,
) -> anyhow::Result<()> {
    let verb = if revoke.evict { "Evict" } else { "Ban" };
    let question =
        format!("{verb} node {} of cluster {}? Its links close everywhere.", revoke.node, revoke.cluster);
    confirm(global, &question)?;
    let request = connection.request(v1::NodeRevokeRequest {
        cluster: revoke.cluster,
        node: revoke.node,
        evict: revoke.evict,
        reason: revoke.reason,
    })?;
    let answer = connection.membership.node_revoke(request).await.map_err(Refusal::from)?.into_inner();
    let shown = answer.node.unwrap_or_default();
    let mut body = json!({ "node": node::document(&shown) });
    body["revocation_sequence"] = json!(answer.revocation_sequence);
    body["version"] = json!(answer.version);
    body["already"] = json!(answer.already);
    let said =
        if answer.already { "it was so before".to_owned() } else { format!("version {}", answer.version) };
    let rows = properties(&[
        ("name", shown.name.clone()),
        ("id", id(&shown.node_id)),
        ("revocation", shown.revocation.clone()),
        ("chain length", answer.revocation_sequence.to_string()),
        ("published", said),
    ]);
    Answer::new("rap.node-revoke.v1", body).table(&["PROPERTY", "VALUE"], 0, rows).print(global)
}

/// Walks the whole chain and shows what it says of each node.
pub(super) async fn revocations(
    global: &Global,
    connection: &mut Connection,
    cluster: String,
) -> anyhow::Result<()> {
    let installation =
        connection.admin.installation(v1::InstallationRequest {}).await.map_err(Refusal::from)?.into_inner();
    let request = connection.request(v1::ClusterRef { cluster: cluster.clone() })?;
    let shown = connection.admin.cluster_show(request).await.map_err(Refusal::from)?.into_inner();
    let mut records: Vec<Vec<u8>> = Vec::new();
    let answer = loop {
        let after = records.len() as u64;
        let request = connection.request(v1::RevocationListRequest { cluster: cluster.clone(), after })?;
        let mut page =
            connection.membership.revocation_list(request).await.map_err(Refusal::from)?.into_inner();
        let complete = page.records.is_empty();
        records.append(&mut page.records);
        if complete || records.len() as u64 >= page.sequence {
            break page;
        }
    };
    let chain = verified(&installation, &shown, &answer, &records)?;
    let nodes = chain.revoked();
    let mut rows = Vec::new();
    let mut documents: Vec<Value> = Vec::new();
    for (node, generation) in &nodes {
        let (standing, key) = match chain.standing(*node) {
            Some(Standing::Gone(kind)) => (kind.as_str(), None),
            Some(Standing::Member(key)) => ("member", Some(key.to_string())),
            None => continue,
        };
        rows.push(vec![node.to_string(), standing.to_owned(), generation.to_string()]);
        documents.push(json!({
            "node_id": node.to_string(), "standing": standing, "revoked_generation": generation,
            "node_fingerprint": key,
        }));
    }
    let body = json!({
        "cluster_id": ClusterId::from_slice(&shown.cluster_id)?.to_string(),
        "sequence": chain.sequence(),
        "digest": chain.digest().map(|digest| digest.to_string()),
        "nodes": documents,
    });
    Answer::new("rap.revocations.v1", body)
        .table(&["NODE", "STANDING", "REVOKED GENERATION"], 0, rows)
        .print(global)
}

fn verified(
    installation: &v1::InstallationAnswer,
    cluster: &v1::Cluster,
    answer: &v1::RevocationListAnswer,
    records: &[Vec<u8>],
) -> anyhow::Result<RevocationChain> {
    let authority = PublicKey::from_slice(&installation.installation_authority_key)?;
    let id = InstallationId::from_slice(&installation.installation_id)?;
    let features: &[&str] = if installation.mode == "dev" { &[rap_contract::FEATURE_DEV] } else { &[] };
    let of = ClusterId::from_slice(&cluster.cluster_id)?;
    let authority = AuthorityChain::verify(&answer.authority_records, &authority, id, of, features)?;
    let chain = RevocationChain::verify(records, &authority, features)?;
    let digest = Digest::from_slice(&answer.digest).ok();
    if chain.sequence() != answer.sequence || chain.digest() != digest {
        let text = "the records are not those that the control plane says there are";
        return Err(Fault::new(Reason::ChainBroken, text).into());
    }
    Ok(chain)
}

/// What `cluster policy` changes; `None` leaves it.
pub(super) struct Wanted {
    pub(super) ephemeral_after: Option<Duration>,
    pub(super) wireguard_key_max_age: Option<Duration>,
    pub(super) identity_key_max_age: Option<Duration>,
    pub(super) keep_ids: Option<bool>,
    pub(super) degraded: DegradedWords,
    /// Instead of a change: write what is missing.
    pub(super) restore_missing: bool,
}

pub(super) async fn policy(
    global: &Global,
    connection: &mut Connection,
    cluster: String,
    wanted: Wanted,
) -> anyhow::Result<()> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let change = v1::MembershipPolicySetRequest {
        cluster: cluster.clone(),
        ephemeral_after_ms: wanted.ephemeral_after.map(millis),
        wireguard_key_max_age_ms: wanted.wireguard_key_max_age.map(millis),
        identity_key_max_age_ms: wanted.identity_key_max_age.map(millis),
        keep_ids: wanted.keep_ids,
        degraded_ends: list(wanted.degraded.degraded_ends, wanted.degraded.clear_degraded_ends),
        survive_forever_roles: list(
            wanted.degraded.survive_forever_roles,
            wanted.degraded.clear_survive_forever_roles,
        ),
    };
    if wanted.restore_missing {
        return missing_policies::restore(global, connection, change).await;
    }
    let nothing = v1::MembershipPolicySetRequest { cluster: cluster.clone(), ..Default::default() };
    let policy = if change == nothing {
        let request = connection.request(v1::ClusterRef { cluster })?;
        connection.membership.policy_show(request).await
    } else {
        let request = connection.request(change)?;
        connection.membership.policy_set(request).await
    };
    let policy = policy.map_err(Refusal::from)?.into_inner();
    let rows = [&age_rows(&policy)[..], &degraded_rows(&policy)].concat();
    Answer::new("rap.membership-policy.v1", document(&policy))
        .table(&["PROPERTY", "VALUE"], 0, properties(&rows))
        .print(global)
}

fn list(words: Option<Vec<String>>, clear: bool) -> Option<v1::Words> {
    if clear { Some(v1::Words::default()) } else { words.map(|words| v1::Words { words }) }
}

/// JSON form of a cluster's policy.
pub(super) fn document(policy: &v1::MembershipPolicy) -> Value {
    json!({
        "ephemeral_after_ms": policy.ephemeral_after_ms,
        "wireguard_key_max_age_ms": policy.wireguard_key_max_age_ms,
        "identity_key_max_age_ms": policy.identity_key_max_age_ms,
        "keep_ids": policy.keep_ids,
        "degraded_ends": policy.degraded_ends,
        "survive_forever_roles": policy.survive_forever_roles,
    })
}

/// What policy says of memberships and keys, for people.
pub(super) fn age_rows(policy: &v1::MembershipPolicy) -> [(&'static str, String); 4] {
    let age = |ms: u64| match ms {
        0 => "never".to_owned(),
        ms => show_duration(Duration::from_millis(ms)),
    };
    [
        ("ephemeral nodes go after", age(policy.ephemeral_after_ms)),
        ("WireGuard keys are replaced after", age(policy.wireguard_key_max_age_ms)),
        ("identity keys are replaced after", age(policy.identity_key_max_age_ms)),
        ("returning keys keep their node id", policy.keep_ids.to_string()),
    ]
}

/// What policy says of degraded mode, for people.
pub(super) fn degraded_rows(policy: &v1::MembershipPolicy) -> [(&'static str, String); 2] {
    let words = |words: &[String]| if words.is_empty() { "-".to_owned() } else { words.join(", ") };
    [
        ("ends when degraded", words(&policy.degraded_ends)),
        ("roles that outlast degraded mode", words(&policy.survive_forever_roles)),
    ]
}

fn id(bytes: &[u8]) -> String {
    NodeId::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}
