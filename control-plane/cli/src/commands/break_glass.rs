//! Break-glass grants: signed offline, or by the control plane; and which of them nodes have used.

use std::path::{Path, PathBuf};

use rap_contract::{BreakGlassOrder, BreakGlassSigner, FEATURE_DEV, KeyFile, Signer, sign_break_glass};
use rap_runtime::{Clock, Fault};
use rap_types::{ClusterId, Digest, InstallationId, NodeId, Reason, Wall};
use rap_wire::v1;
use serde::Deserialize;
use serde_json::{Value, json};
use v1::break_glass_grant::Permit;
use v1::break_glass_issue_request::Permit as Asked;
use zeroize::Zeroizing;

use crate::args::{BreakGlass as Command, BreakGlassTerms, Global, Protect};
use crate::client::{Connection, ask};
use crate::duration::milliseconds;
use crate::output::{Answer, clean, id_text, time};
use crate::{files, key_store};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Sign { keys, installation, dev, grant, protect } => {
            let file = files::Reserved::new(&grant.out, 0o644)?;
            let (signers, by) = signers(&keys, &protect)?;
            let now = Clock::new().now().wall;
            let order = BreakGlassOrder {
                installation: id::<InstallationId>(&installation, "an installation id is a UUID")?,
                cluster: id::<ClusterId>(
                    global.cluster.as_deref().unwrap_or_default(),
                    "offline --cluster is needed, and it is the cluster's id, a UUID",
                )?,
                node: node(&grant)?,
                reason: grant.reason.clone(),
                ttl: grant.ttl,
                permit: permit(&grant, now)?,
                nonce: rand::random(),
                critical: if dev { vec![FEATURE_DEV.to_owned()] } else { Vec::new() },
            };
            let signers: Vec<&Signer> = signers.iter().collect();
            let (text, signed) = sign_break_glass(&order, &signers, by, now).map_err(Fault::from)?;
            let (digest, expires_at_ms) = (signed.digest().to_string(), signed.expires_at().0);
            file.fill(format!("{}\n", text.text()).as_bytes())?;
            answer(&grant.out, &digest, signed.permit(), by, expires_at_ms).print(global)
        }
        Command::Issue { grant } => {
            let file = files::Reserved::new(&grant.out, 0o644)?;
            let mut connection = Connection::of_context(global).await?;
            let permit = match permit(&grant, Clock::new().now().wall)? {
                Permit::ExtendDegraded(extend) => Asked::ExtendDegraded(extend),
                Permit::PermitPeer(permit) => Asked::PermitPeer(permit),
            };
            let cluster = connection.cluster(None).await?;
            let issued = ask!(connection.break_glass.issue(v1::BreakGlassIssueRequest {
                cluster,
                node_id: node(&grant)?.map(NodeId::to_vec).unwrap_or_default(),
                reason: grant.reason.clone(),
                ttl_ms: milliseconds(grant.ttl),
                permit: Some(permit),
            }));
            file.fill(format!("{}\n", issued.text).as_bytes())?;
            let digest = id_text(Digest::from_slice(&issued.digest));
            let permit = if grant.extend.is_some() { "extend_degraded" } else { "permit_peer" };
            let by = BreakGlassSigner::ClusterAuthority;
            answer(&grant.out, &digest, permit, by, issued.expires_at_ms).print(global)
        }
        Command::Uses => uses(global).await,
    }
}

async fn uses(global: &Global) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let cluster = connection.cluster(None).await?;
    let uses = ask!(connection.break_glass.uses(v1::BreakGlassUsesRequest { cluster })).uses;
    let rows = uses.iter().map(|row| {
        [
            id_text(NodeId::from_slice(&row.node_id)),
            row.permit.clone(),
            row.signer.clone(),
            clean(&row.reason),
            time(row.applied_at_ms),
            time(row.recorded_at_ms),
        ]
    });
    Answer::list("rap.break_glass.uses.v1", "uses", &uses, document)
        .table(["NODE", "PERMIT", "SIGNER", "REASON", "APPLIED", "RECORDED"], 0, rows)
        .print(global)
}

/// The Product Root's keys, all of them, or one of a cluster authority: the files say which.
fn signers(keys: &[PathBuf], protect: &Protect) -> anyhow::Result<(Vec<Signer>, BreakGlassSigner)> {
    let mut by = None;
    let mut signers = Vec::new();
    for path in keys {
        let text = Zeroizing::new(files::read_text(path, 16 * 1024)?);
        let purpose = KeyFile::parse(&text).map_err(|reject| files::rejected(path, reject))?.purpose;
        let own = match purpose.as_str() {
            PRODUCT_ROOT => BreakGlassSigner::ProductRoot,
            CLUSTER_AUTHORITY => BreakGlassSigner::ClusterAuthority,
            other => {
                let wanted = format!("{PRODUCT_ROOT} or {CLUSTER_AUTHORITY}");
                let text = format!("{}: a key for {other}, not for {wanted}", path.display());
                return Err(Fault::new(Reason::KeyPurpose, text).into());
            }
        };
        if by.is_some_and(|by| by != own) || (own == BreakGlassSigner::ClusterAuthority && keys.len() > 1) {
            let text = "all of the Product Root's keys, or one of the cluster authority";
            return Err(Fault::new(Reason::KeyPurpose, text).into());
        }
        by = Some(own);
        signers.push(key_store::open(path, protect)?);
    }
    let by = by.ok_or_else(|| Fault::new(Reason::SecretMissing, "give --key-file"))?;
    Ok((signers, by))
}

/// A peer as `rap-node-agent snapshot show --json` prints it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    node_id: String,
    name: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    region: String,
    overlay_ipv4: String,
    overlay_ipv6: String,
    #[serde(default)]
    link_endpoints: Vec<String>,
    #[serde(default)]
    wireguard_endpoints: Vec<String>,
    wireguard_public_key: String,
    node_key_sha256: String,
    key_generation: u64,
}

fn permit(grant: &BreakGlassTerms, now: Wall) -> anyhow::Result<Permit> {
    if let Some(extend) = grant.extend {
        return Ok(Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: now.plus(extend).0 }));
    }
    let path = grant.peer.as_deref();
    let path = path.ok_or_else(|| Fault::new(Reason::RequestInvalid, "give --extend or --peer"))?;
    let invalid = |what: String| Fault::new(Reason::RequestInvalid, format!("{}: {what}", path.display()));
    let text = files::read_text(path, 64 * 1024)?;
    let peer: Peer = serde_json::from_str(&text).map_err(|error| {
        // Without the value that is wrong: the file may be another one, with a secret in it.
        let at = format!("line {} column {}", error.line(), error.column());
        invalid(format!("not a peer as `rap-node-agent snapshot show --json` prints it, at {at}"))
    })?;
    let bytes = |text: &str, what: &str| hex::decode(text).map_err(|_| invalid(format!("{what} is not hex")));
    let record = v1::PeerRecord {
        node_id: id::<NodeId>(&peer.node_id, "node_id is a UUID")?.to_vec(),
        name: peer.name,
        node_key_sha256: bytes(peer.node_key_sha256.trim_start_matches("SHA256:"), "node_key_sha256")?,
        wireguard_public_key: bytes(&peer.wireguard_public_key, "wireguard_public_key")?,
        overlay_ipv4: peer.overlay_ipv4,
        overlay_ipv6: peer.overlay_ipv6,
        roles: peer.roles,
        region: peer.region,
        link_endpoints: peer.link_endpoints,
        wireguard_endpoints: peer.wireguard_endpoints,
        organization_id: Vec::new(),
        key_generation: peer.key_generation,
    };
    Ok(Permit::PermitPeer(v1::PermitPeer { peer: Some(record) }))
}

fn answer(out: &Path, digest: &str, permit: &str, by: BreakGlassSigner, expires_at_ms: i64) -> Answer {
    let body = json!({
        "file": files::shown(out), "digest": digest, "permit": permit, "signer": by.as_str(),
        "expires_at_ms": expires_at_ms,
    });
    let rows = [
        ("file", out.display().to_string()),
        ("grant", digest.to_owned()),
        ("permits", permit.to_owned()),
        ("signed by", by.as_str().to_owned()),
        ("expires", time(expires_at_ms)),
    ];
    let next = format!("on each node: rap-node-agent break-glass apply {}", out.display());
    Answer::new("rap.break_glass.v1", body).properties(rows).next(next)
}

fn document(row: &v1::BreakGlassUseRow) -> Value {
    json!({
        "node_id": id_text(NodeId::from_slice(&row.node_id)),
        "digest": id_text(Digest::from_slice(&row.digest)),
        "permit": row.permit, "signer": row.signer, "reason": row.reason, "expires_at_ms": row.expires_at_ms,
        "applied_at_ms": row.applied_at_ms, "recorded_at_ms": row.recorded_at_ms,
    })
}

fn node(grant: &BreakGlassTerms) -> anyhow::Result<Option<NodeId>> {
    grant.node.as_deref().map(|text| id::<NodeId>(text, "a node id is a UUID")).transpose()
}

fn id<T: std::str::FromStr>(text: &str, what: &'static str) -> anyhow::Result<T> {
    text.parse().map_err(|_| Fault::new(Reason::RequestInvalid, what).into())
}

const PRODUCT_ROOT: &str = "product-root";
const CLUSTER_AUTHORITY: &str = "cluster-authority";
