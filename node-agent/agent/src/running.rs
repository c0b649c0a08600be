//! Starts one membership: opens its state, makes the queues, starts its tasks.
//!
//! Owns the wiring. Refuses to own what runs: each task has a file of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rap_contract::Signer;
use rap_node::{ContactFacts, Node, NodeSettings};
use rap_runtime::dial::ControlUrl;
use rap_runtime::tls::LeafSlot;
use rap_runtime::{Clock, Fault, TaskGroup, boot_id};
use rap_state::{Cache, CacheLimits, MembershipName};
use rap_trust::certificate::CertificateSubject;
use rap_types::{Capability, Reason};
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::control::{CertificateTask, Pause, TrustedTime, UplinkTask};
use crate::dataplane::{DataplaneTask, Launch};
use crate::driver::{Driver, Ears, Mouths, Request};
use crate::fault::state_fault;
use crate::interfaces::{own_endpoints, watch_addresses};
use crate::membership::{LeafStore, Membership, Persister, stored_snapshots};
use crate::status::{Contact, StatusFacts};

/// Starts the membership `name`, the `index`-th on this host. Its tasks belong to `group`.
///
/// # Errors
/// Those of the membership and its state.
pub async fn start(
    config: &Config,
    name: MembershipName,
    index: u16,
    group: &TaskGroup,
) -> Result<mpsc::Sender<Request>, Fault> {
    let (data, dev) = (config.data_dir.clone(), config.dev);
    let (membership, leaf_store) = blocking(move || {
        let membership = Membership::open(&data, &name, dev)?;
        let leaf_store = LeafStore::open(&membership.dir)?;
        Ok((membership, leaf_store))
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
    let launch = launch(config, &membership, index);
    let listen = (launch.listen_link, launch.listen_wireguard);
    let (link_hints, wireguard_hints) = own_endpoints(listen);
    let settings = NodeSettings {
        pinned: membership.pinned(),
        floors: membership.trust_floors(),
        wireguard_private_key: membership.wireguard_key.clone(),
        contact: ContactFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id.clone(),
            capabilities: capabilities(config),
            link_hints: link_hints.clone(),
            wireguard_hints: wireguard_hints.clone(),
        },
    };
    let leaf = leaf_store.leaf().cloned();
    let node = Node::start(settings, &stored, leaf.clone().map(Into::into), clock.now());
    let facts = StatusFacts::of(&membership, &boot_id, config.workload_supervision);
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
    let (address_events, addresses) = watch::channel((link_hints, wireguard_hints));
    let (requests, requests_in) = mpsc::channel(32);
    let (pings, ping_ends) = mpsc::channel(16);

    let time = TrustedTime::new(clock, membership.trust_floors().time);
    let slot = LeafSlot::new();
    let driver = Driver {
        persister: Persister::new(membership.dir.clone(), cache, membership.floors, boot_id),
        node,
        leaf_store: Some(leaf_store),
        facts,
        contact: Contact::default(),
        ears: Ears { uplink, dataplane, leaves, certificate_failure, addresses, requests: requests_in },
        mouths: Mouths {
            tables,
            commands,
            leaf: slot.clone(),
            leaf_ready,
            authority,
            pause,
            time: time.clone(),
        },
        clock,
        chain: (membership.bootstrap.contract.activation_manifest.clone(), membership.chain.envelopes()),
        pings,
        ping_ends,
        stream: None,
        tasks: tasks.clone(),
    };
    let certificates = CertificateTask {
        installation: membership.identity.installation_id,
        subject: CertificateSubject { cluster: membership.identity.cluster_id, node: membership.node },
        identity: Arc::new(Signer::from_seed(&membership.signer.seed())),
        pin: membership.identity.server_trust_pin,
        urls: urls.clone(),
        time: time.clone(),
        timeout: config.call_timeout,
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
    };
    let validity = leaf.as_ref().map(|leaf| (leaf.not_before, leaf.not_after));
    tasks.spawn_critical("driver", driver.run(leaf, token.clone()));
    tasks.spawn_critical("dataplane", dataplane_task.run(token.clone()));
    tasks.spawn_critical("uplink", uplink_task.run(uplink_events, token.clone()));
    let certificates =
        certificates.run(validity, authority_in, leaf_events, certificate_failed, token.clone());
    tasks.spawn_critical("certificates", certificates);
    tasks.spawn("addresses", watch_addresses(listen, address_events, token));
    Ok(requests)
}

/// Further memberships take the next ports and interfaces.
fn launch(config: &Config, membership: &Membership, index: u16) -> Launch {
    let shifted = |address: SocketAddr| match address.port() {
        0 => address,
        port => SocketAddr::new(address.ip(), port.saturating_add(index)),
    };
    let interface = match index {
        0 => config.interface.clone(),
        index => format!("{}{index}", config.interface.trim_end_matches(|c: char| c.is_ascii_digit())),
    };
    Launch {
        program: config.dataplane_bin.clone().map(absolute),
        membership: membership.dir.name().to_string(),
        run_dir: config.run_dir.clone(),
        listen_link: shifted(config.listen_link),
        listen_wireguard: shifted(config.listen_wireguard),
        interface,
        no_tun: config.no_tun,
        log: config.log.clone(),
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// The contract's URLs are signed; the identity's are a copy of them.
fn control_urls(membership: &Membership) -> Result<Vec<ControlUrl>, Fault> {
    let urls = &membership.bootstrap.contract.control_urls;
    let urls: Vec<ControlUrl> = urls.iter().filter_map(|url| ControlUrl::parse(url).ok()).collect();
    if urls.is_empty() {
        return Err(Fault::new(Reason::ContractMismatch, "the contract names no control URL"));
    }
    Ok(urls)
}

/// Facts about this host that the agent can tell without trying.
pub fn capabilities(config: &Config) -> Vec<String> {
    let mut capabilities = vec![Capability::RouteMesh];
    if !config.listen_link.ip().is_loopback() {
        capabilities.push(Capability::AcceptNodeIngress);
    }
    capabilities.iter().map(ToString::to_string).collect()
}

/// Runs blocking work off the async threads.
///
/// # Errors
/// Those of the work.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(Reason::StateIo, "work on local state was cut off")),
    }
}
