//! `snapshot show | verify | export`: from the running agent, or from its disk when none runs.

use std::path::Path;

use prost::Message as _;
use rap_contract::{
    ExportSummary, KeySet, PublicKey, PublicKeyFile, VerifiedSnapshot, encode_export, open_export,
};
use rap_runtime::Fault;
use rap_runtime::clock::Clock;
use rap_runtime::command_line::Format;
use rap_runtime::files::{create_new, read_capped, write_atomic};
use rap_runtime::output::clean;
use rap_state::{Cache, CacheLimits, MembershipDir, MembershipName};
use rap_trust::{Acceptor, Freshness, StoredSnapshot};
use rap_types::{ExitCode, Reason};
use rap_wire::v1;
use serde_json::{Value, json};

use super::print::printed;
use crate::blocking::blocking;
use crate::cli::{Export, Verify};
use crate::config::Config;
use crate::local::LocalClient;
use crate::membership::{Membership, stored_snapshots};

/// A snapshot that was verified again just now.
struct Found {
    snapshot: VerifiedSnapshot,
    export: Vec<u8>,
    source: &'static str,
    authority: PublicKey,
    dev: bool,
}

/// Prints what the snapshot of each asked membership says.
pub(super) async fn show(config: &Config, form: Format) -> Result<ExitCode, Fault> {
    each(config, form, "rap.snapshot.all.v1", |found| {
        if !form.is_document() {
            print_contents(&found);
        }
        Ok(contents_json(&found))
    })
    .await
}

/// Verifies the snapshot of each asked membership; with a Product Root key, the whole chain from it.
pub(super) async fn verify(config: &Config, verify: Verify, form: Format) -> Result<ExitCode, Fault> {
    each(config, form, "rap.snapshot.verify.all.v1", |found| {
        let chain = verify.root.as_deref().map(|path| verify_chain(path, &found)).transpose()?;
        if !form.is_document() {
            print_head(&found);
            match &chain {
                Some(summary) => {
                    println!("verified     from the Product Root to every chunk (leaf {})", summary.leaf)
                }
                None => println!("verified     from the pinned cluster authority to every chunk"),
            }
        }
        let mut document = head_json(&found);
        document["schema"] = "rap.snapshot.verify.v1".into();
        document["verified"] = true.into();
        document["product_root_checked"] = chain.is_some().into();
        Ok(document)
    })
    .await
}

/// Writes the snapshot with its chain.
pub(super) async fn export(config: &Config, export: &Export) -> Result<ExitCode, Fault> {
    let names = asked(config).await?;
    let [name] = names.as_slice() else {
        return Err(Fault::new(Reason::RequestInvalid, "several memberships; give --membership"));
    };
    let found = find(config, name).await?;
    let file = &export.file;
    let write = if export.force { write_atomic } else { create_new };
    write(file, &found.export, 0o644)?;
    println!("{} bytes written to {}", found.export.len(), file.display());
    eprintln!("next: rapctl verify {} --root product-root.pub", file.display());
    Ok(ExitCode::Ok)
}

/// The memberships that a command concerns: the named one, or every one of this host.
async fn asked(config: &Config) -> Result<Vec<MembershipName>, Fault> {
    if config.membership_given {
        return Ok(vec![config.membership.clone()]);
    }
    let data = config.data_dir.clone();
    let names = blocking(move || MembershipDir::list(&data).map_err(Fault::from)).await?;
    Ok(if names.is_empty() { vec![config.membership.clone()] } else { names })
}

/// Does `work` for each asked membership. One alone is a document or an error of its own; of several, one
/// that fails hides no other, and the first failure gives the exit code.
async fn each(
    config: &Config,
    form: Format,
    schema: &str,
    work: impl Fn(Found) -> Result<Value, Fault>,
) -> Result<ExitCode, Fault> {
    let names = asked(config).await?;
    if let [name] = names.as_slice() {
        let document = work(find(config, name).await?)?;
        printed(form, &document);
        return Ok(ExitCode::Ok);
    }
    let (mut documents, mut exit) = (Vec::new(), ExitCode::Ok);
    for name in &names {
        if !form.is_document() {
            println!("membership   {name}");
        }
        match find(config, name).await.and_then(&work) {
            Ok(mut document) => {
                document["membership"] = json!(name);
                documents.push(document);
            }
            Err(fault) => {
                if !form.is_document() {
                    println!("failed       [{}] {}", fault.reason, fault.message);
                }
                exit = if exit == ExitCode::Ok { fault.reason.exit() } else { exit };
                documents.push(json!({ "membership": name, "reason": fault.reason, "text": fault.message }));
            }
        }
    }
    printed(form, &json!({ "schema": schema, "memberships": documents }));
    Ok(exit)
}

fn print_contents(found: &Found) {
    print_head(found);
    let contents = found.snapshot.contents();
    let assignment = &contents.assignment;
    println!(
        "own          {} {} {}",
        clean(&assignment.name),
        assignment.overlay_ipv4,
        assignment.overlay_ipv6
    );
    println!("roles        {}", assignment.roles.join(" "));
    for peer in contents.peers.values() {
        println!(
            "peer         {} {} {}",
            clean(&peer.name),
            peer.overlay_ipv4,
            peer.link_endpoints.join(" ")
        );
    }
}

/// What the snapshot of a membership says, as a document.
pub(super) async fn document(config: &Config, name: &MembershipName) -> Result<Value, Fault> {
    find(config, name).await.map(|found| contents_json(&found))
}

fn contents_json(found: &Found) -> Value {
    let (snapshot, contents) = (&found.snapshot, found.snapshot.contents());
    let assignment = &contents.assignment;
    let peers: Vec<Value> =
        contents.peers.iter().map(|(id, peer)| peer_json(&id.to_string(), peer)).collect();
    let slots: Vec<Value> = snapshot
        .manifest()
        .to_wire()
        .iter()
        .map(|slot| json!({ "key": slot.key, "chunk": hex::encode(&slot.chunk_id) }))
        .collect();
    let mut document = head_json(found);
    document["schema"] = "rap.snapshot.v1".into();
    document["assignment"] = json!({
        "name": assignment.name,
        "roles": assignment.roles,
        "tags": assignment.tags,
        "overlay_ipv4": assignment.overlay_ipv4,
        "overlay_ipv6": assignment.overlay_ipv6,
        "key_generation": assignment.key_generation,
    });
    document["policy"] = json!({
        "degraded_for_ms": contents.policy.degraded_for_ms,
        "leaf_lifetime_ms": contents.policy.leaf_lifetime_ms,
        "mtu": contents.policy.mtu,
        "overlay_ipv4_pool": contents.policy.overlay_ipv4_pool,
        "overlay_ipv6_prefix": contents.policy.overlay_ipv6_prefix,
        "link_probe_interval_ms": contents.policy.link_probe_interval_ms,
        "wireguard_keepalive_s": contents.policy.wireguard_keepalive_s,
        "cluster_name": contents.policy.cluster_name,
    });
    document["revoked"] = json!(contents.trust.revoked.len());
    document["peers"] = json!(peers);
    document["slots"] = json!(slots);
    document
}

/// Raw stored snapshots of a membership that no agent runs.
pub(super) async fn stored(config: &Config, membership: &Membership) -> Result<Vec<StoredSnapshot>, Fault> {
    let limits = CacheLimits { max_bytes: config.cache_bytes, ..CacheLimits::default() };
    let cache = Cache::open(&membership.dir, membership.identity.cluster_id, limits).await;
    let cache = cache?;
    let stored = stored_snapshots(&cache).await;
    if let Err(error) = cache.close().await {
        tracing::debug!(%error, "the cache did not close cleanly");
    }
    stored
}

async fn find(config: &Config, name: &MembershipName) -> Result<Found, Fault> {
    match LocalClient::open(&config.socket, name.as_str()).await? {
        Some(client) => from_agent(client).await,
        None => from_disk(config, name).await,
    }
}

/// The agent names its pins; everything below the pinned authority is verified here again.
async fn from_agent(mut client: LocalClient) -> Result<Found, Fault> {
    let (status, _) = client.status().await?;
    let export = client.export().await?;
    let malformed = || Fault::new(Reason::RequestInvalid, "the agent's status lacks its pins");
    let text = |key: &str| status[key].as_str().ok_or_else(malformed);
    // Right after a rotation the head in use is still one of the key before.
    let key = status["active"]["authority_public_key"].as_str().ok_or_else(malformed)?;
    let key = hex::decode(key).map_err(|_| malformed())?;
    let authority = PublicKey::from_slice(&key)?;
    let dev = status["dev"].as_bool().ok_or_else(malformed)?;
    let decoded = v1::SnapshotExport::decode(export.as_slice())
        .map_err(|_| Fault::new(Reason::SnapshotMalformed, "the agent's export does not decode"))?;
    let stored = StoredSnapshot::of_export(decoded)?;
    let snapshot = stored.verify(
        authority,
        text("installation")?.parse().map_err(|_| malformed())?,
        text("cluster")?.parse().map_err(|_| malformed())?,
        text("node_id")?.parse().map_err(|_| malformed())?,
        dev,
    );
    Ok(Found { snapshot: snapshot?, export, source: "running agent", authority, dev })
}

async fn from_disk(config: &Config, name: &MembershipName) -> Result<Found, Fault> {
    let (data, name, dev) = (config.data_dir.clone(), name.clone(), config.dev);
    let membership = blocking(move || Membership::open(&data, &name, dev)).await?;
    let stored = stored(config, &membership).await?;
    let pinned = membership.pinned();
    let acceptor = Acceptor::start(pinned, membership.trust_floors(), &stored, Clock::new().now());
    let Some(snapshot) = acceptor.newest() else {
        let reason = acceptor.rejects().last().map_or(Reason::SnapshotAbsent, |(reason, _)| reason);
        return Err(Fault::new(reason, "no stored snapshot verifies"));
    };
    let manifest = &membership.bootstrap.contract.activation_manifest;
    let incarnation = snapshot.head().order.incarnation.0;
    let export = encode_export(manifest, &membership.chain.envelopes_until(incarnation), snapshot);
    let authority = membership.chain.key_at(incarnation).unwrap_or(membership.chain.active());
    let dev = membership.identity.dev;
    Ok(Found { snapshot: snapshot.as_ref().clone(), export, source: "disk", authority, dev })
}

fn verify_chain(path: &Path, found: &Found) -> Result<ExportSummary, Fault> {
    let bytes = read_capped(path, 64 * 1024)?;
    let roots: KeySet = PublicKeyFile::parse(&String::from_utf8_lossy(&bytes))
        .and_then(|file| file.key_set::<v1::ActivationManifest>())?;
    open_export(&found.export, &roots, found.dev).map(|export| export.summary()).map_err(Fault::from)
}

fn head_json(found: &Found) -> Value {
    let snapshot = &found.snapshot;
    let (head, freshness) = (snapshot.head(), Freshness::of(snapshot));
    json!({
        "source": found.source,
        "cluster": snapshot.cluster(),
        "node_id": snapshot.node(),
        "incarnation": head.order.incarnation,
        "sequence": head.order.version,
        "refresh": head.order.refresh,
        "issued_at_ms": head.issued_at,
        "fresh_until_ms": freshness.fresh_until,
        "degraded_until_ms": freshness.degraded_until,
        "head_digest": snapshot.head_document().digest(),
        "root": head.root,
        "tree_size": head.tree_size,
        "leaf": snapshot.leaf_hash(),
        "manifest_digest": snapshot.manifest().root(),
        "authority_fingerprint": found.authority.id(),
        "dev": found.dev,
    })
}

fn print_head(found: &Found) {
    let snapshot = &found.snapshot;
    println!("snapshot     {} from the {}", snapshot.head().order, found.source);
    println!("cluster      {} {}", clean(&snapshot.contents().policy.cluster_name), snapshot.cluster());
    println!("node         {}", snapshot.node());
    println!("authority    {}", found.authority.id());
    println!("manifest     {} ({} slots)", snapshot.manifest().root(), snapshot.manifest().len());
    if found.dev {
        println!("warning      signed by a development installation");
    }
}

fn peer_json(id: &str, peer: &v1::PeerRecord) -> Value {
    json!({
        "node_id": id,
        "name": peer.name,
        "roles": peer.roles,
        "region": peer.region,
        "overlay_ipv4": peer.overlay_ipv4,
        "overlay_ipv6": peer.overlay_ipv6,
        "link_endpoints": peer.link_endpoints,
        "wireguard_endpoints": peer.wireguard_endpoints,
        "wireguard_public_key": hex::encode(&peer.wireguard_public_key),
        "node_key_sha256": hex::encode(&peer.node_key_sha256),
        "key_generation": peer.key_generation,
    })
}
