//! Starts one membership: opens its state, makes the queues, starts its tasks.
//!
//! Owns the wiring. Refuses to own what runs: each task has a file of its own.

use std::path::PathBuf;

use rap_node::{ContactFacts, Node, NodeSettings};
use rap_runtime::service::Beat;
use rap_runtime::tls::LeafSlot;
use rap_runtime::{Clock, Fault, TaskGroup, boot_id};
use rap_state::{Cache, CacheLimits, MembershipName};
use rap_trust::{AuthorityPin, Pools};
use rap_types::Reason;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use super::driver::{Driver, Ears, Mouths};
use super::key_ages::KeyAges;
use crate::blocking::blocking;
use crate::config::Config;
use crate::control_plane::{Pause, TrustedTime, UplinkTask, certificate_task, control_urls};
use crate::dataplane::{DataplaneCommand, DataplaneTask, Launch};
use crate::fault::{refused, state_fault};
use crate::host::{HostHandle, OwnClaim, capabilities, own_endpoints, watch_addresses};
use crate::membership::{
    GrantStore, LeafStore, Membership, Persister, Place, listed_facts, place_of, stored_snapshots,
};
use crate::requests::Request;
use crate::status::{Contact, StatusFacts};

/// A membership that runs.
pub struct Started {
    /// Where to ask it.
    pub requests: mpsc::Sender<Request>,
    /// Where to ask its data plane.
    pub commands: mpsc::Sender<DataplaneCommand>,
    /// Its tasks. A failure of one of them ends these and nothing else.
    pub tasks: TaskGroup,
    /// What it takes of the host.
    pub place: Place,
    /// Constant facts, for lists.
    pub facts: Map<String, Value>,
}

/// Starts the membership `name`. Its tasks are a group within `group`; `beat` is its word
/// to the watchdog.
///
/// # Errors
/// Those of the membership and its state; `overlay.overlap`.
pub async fn start(
    config: &Config,
    name: MembershipName,
    claim: OwnClaim,
    group: &TaskGroup,
    beat: Beat,
    host: HostHandle,
) -> Result<Started, Fault> {
    let (data, dev) = (config.data_dir.clone(), config.dev);
    // The operator's pin is of one cluster; further memberships are in others.
    let pin = if name == config.membership { config.pin.clone() } else { AuthorityPin::default() };
    let (membership, leaf_store, grant_store, place) = blocking(move || {
        let membership = Membership::open(&data, &name, dev)?;
        pin.check_chain(&membership.chain).map_err(refused)?;
        let leaf_store = LeafStore::open(&membership.dir)?;
        let pools = Pools::of_contract(&membership.bootstrap.contract).map_err(refused)?;
        let place = place_of(&data, &membership, pools)?;
        let grant_store = GrantStore::open(&membership.dir)?;
        Ok((membership, leaf_store, grant_store, place))
    })
    .await?;
    let boot_id = boot_id().map_err(|error| Fault::new(Reason::StateIo, error.to_string()))?;
    let clock = Clock::new();
    let limits = CacheLimits { max_bytes: config.cache_bytes, ..CacheLimits::default() };
    let cache = Cache::open(&membership.dir, membership.identity.cluster_id, limits);
    let cache = cache.await.map_err(state_fault)?;
    let stored = stored_snapshots(&cache).await.unwrap_or_else(|fault| {
        // What cannot be read is fetched again.
        tracing::warn!(reason = %fault.reason, error = %fault, "stored snapshots are not readable");
        Vec::new()
    });
    let launch = launch(config, &membership, &place);
    let listen = (launch.listen_link, launch.listen_wireguard);
    let (link_hints, wireguard_hints) = own_endpoints(listen);
    let settings = NodeSettings {
        pinned: membership.pinned(),
        floors: membership.trust_floors(),
        grants: (membership.grant_pins(), grant_store.stored()),
        wireguard_private_key: membership.wireguard_key.clone(),
        contact: ContactFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id.clone(),
            capabilities: capabilities(config),
            link_hints: link_hints.clone(),
            wireguard_hints: wireguard_hints.clone(),
        },
        audit: membership.audit.clone(),
    };
    let leaf = leaf_store.leaf().cloned();
    let node = Node::start(settings, &stored, leaf.clone().map(Into::into), clock.now());
    // The addresses are taken before anything of this membership runs.
    claim.take(match node.acceptor().newest() {
        Some(snapshot) => Pools::of_snapshot(snapshot).map_err(refused)?,
        None => place.pools.clone(),
    })?;
    let listed = listed_facts(config, &membership, &place);
    let facts = StatusFacts::of(&membership, &boot_id, config.workload_supervision, &listed);
    let urls = control_urls(&membership)?;
    let tasks = group.child();
    let token = tasks.token();

    let (tables, tables_in) = watch::channel(None);
    let (commands, commands_in) = mpsc::channel(16);
    let (dataplane_events, dataplane) = mpsc::channel(64);
    let (uplink_events, uplink) = mpsc::channel(64);
    let (leaf_events, leaves) = mpsc::channel(1);
    let (certificate_failed, certificate_failure) = watch::channel(None);
    let (leaf_ready, leaf_is_ready) = watch::channel(false);
    let (authority, authority_in) = watch::channel(membership.contract_ca().to_vec());
    let (pause, pause_in) = watch::channel(Pause::default());
    let (doubts, doubts_in) = watch::channel(0);
    let (address_events, addresses) = watch::channel((link_hints, wireguard_hints));
    let (requests, requests_in) = mpsc::channel(32);
    let (pings, ping_ends) = mpsc::channel(16);

    let time = TrustedTime::new(clock, membership.trust_floors().time);
    let slot = LeafSlot::new();
    let carried = membership.bootstrap.chain.records().len();
    let certificates = certificate_task(&membership, urls.clone(), time.clone(), config.call_timeout);
    let ages = KeyAges {
        host,
        name: membership.dir.name().to_string(),
        identity_since: membership.keys.identity_since.unwrap_or(membership.joined_at),
        wireguard_since: membership.keys.wireguard_since.unwrap_or(membership.joined_at),
        unfinished: membership.keys.pending.is_some(),
    };
    let driver = Driver {
        ages,
        claim,
        persister: Persister::new(membership.dir.clone(), cache, membership.floors, boot_id, carried),
        node,
        grant_store: Some(grant_store),
        leaf_store: Some(leaf_store),
        facts,
        contact: Contact::default(),
        ears: Ears { uplink, dataplane, leaves, certificate_failure, addresses, requests: requests_in },
        mouths: Mouths {
            tables,
            commands: commands.clone(),
            leaf: slot.clone(),
            leaf_ready,
            doubts,
            authority,
            pause,
            time: time.clone(),
        },
        clock,
        manifest: membership.bootstrap.contract.activation_manifest.clone(),
        pings,
        ping_ends,
        stream: None,
        judged: None,
        certificates: certificates.clone(),
        tasks: tasks.clone(),
        beat,
    };
    let uplink_task = UplinkTask {
        urls,
        pin: membership.identity.server_trust_pin,
        leaf: slot,
        time,
        timeout: config.call_timeout,
        ready: leaf_is_ready,
        pause: pause_in,
    };
    let dataplane_task = DataplaneTask {
        launch,
        mode: config.dataplane,
        tables: tables_in,
        commands: commands_in,
        events: dataplane_events,
        ended: false,
    };
    let validity = leaf.as_ref().map(|leaf| (leaf.not_before, leaf.not_after));
    tasks.spawn_critical("driver", driver.run(leaf, token.clone()));
    tasks.spawn_critical("dataplane", dataplane_task.run(token.clone()));
    tasks.spawn_critical("uplink", uplink_task.run(uplink_events, token.clone()));
    let certificates =
        certificates.run(validity, authority_in, leaf_events, certificate_failed, doubts_in, token.clone());
    tasks.spawn_critical("certificates", certificates);
    tasks.spawn("addresses", watch_addresses(listen, address_events, token));
    Ok(Started { requests, commands, tasks, place, facts: listed })
}

/// How to start the data plane at this place.
fn launch(config: &Config, membership: &Membership, place: &Place) -> Launch {
    Launch {
        program: config.dataplane_bin.clone().map(absolute),
        membership: membership.dir.name().to_string(),
        run_dir: config.run_dir.clone(),
        listen_link: place.link(config),
        listen_wireguard: place.wireguard(config),
        interface: place.interface(config),
        no_tun: config.no_tun,
        log: config.log.clone(),
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
