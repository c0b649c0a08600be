//! Starts one membership: opens its state, makes its channels, starts its tasks.
//!
//! Owns which task gets which end of which channel. Refuses to own what runs: each task has a file of its own.

use std::sync::Arc;

use rap_node::Input;
use rap_runtime::service::Beat;
use rap_runtime::tls::CertificateCell;
use rap_runtime::{Clock, Fault, TaskGroup};
use rap_state::MembershipName;
use rap_trust::known_features;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::channels::Channels;
use super::disk::Disk;
use super::driver::{Driver, Receivers, Senders};
use super::key_ages::KeyAges;
use super::open::{Opened, open};
use super::persist::PersistTask;
use super::tasks::{ADDRESSES, CERTIFICATES, DATAPLANE, DRIVER, NAMES, PERSIST, UPLINK};
use crate::config::Config;
use crate::control_plane::{CertificateTask, ControlPlane, InForce, TrustedTime, UplinkTask, literal};
use crate::dataplane::{DataplaneCommand, DataplaneTask};
use crate::host::{HostHandle, OwnClaim, resolve_names, watch_addresses};
use crate::membership::{HostAllocation, Persister, PlaneStarts, listed_facts};
use crate::requests::Request;
use crate::status::{Contact, StatusFacts};

/// A membership that runs.
pub struct Started {
    /// Where to ask it.
    pub requests: mpsc::Sender<Request>,
    /// Where to ask its data plane.
    pub commands: mpsc::Sender<DataplaneCommand>,
    /// The tasks of the membership. A failure of one of them ends these and nothing else.
    pub tasks: TaskGroup,
    /// What it takes of the host.
    pub allocation: HostAllocation,
    /// Constant facts, for lists.
    pub facts: Map<String, Value>,
}

/// Starts the membership `name`. Its tasks are a group within `group`; `beat` reports their progress to the
/// systemd watchdog.
///
/// # Errors
/// An error of the membership or of its state; `overlay.overlap`.
pub async fn start(
    config: &Config,
    name: MembershipName,
    claim: OwnClaim,
    group: &TaskGroup,
    beat: Beat,
    host: HostHandle,
) -> Result<Started, Fault> {
    let opened = open(config, name, &claim).await?;
    let Opened { membership, found, cache, mut node, leaf, allocation, launch, addresses, boot_id } = opened;
    let mut contact = Contact::default();
    contact.found(&membership.closed, found);
    let listed = listed_facts(config, &membership, &allocation);
    let facts = StatusFacts::of(&membership, &boot_id, config.workload_supervision, &listed);
    let clock = Clock::new();
    let time = TrustedTime::new(clock, node.acceptor().clock().wall(clock.now()));
    let presented = CertificateCell::new();
    let control = ControlPlane::of(&membership, time.clone(), config)?;
    node.handle(Input::ControlResolved(literal(&control.urls)), clock.now());
    let proofs = CertificateTask::of(&membership, control.clone());
    let ages = KeyAges::of(&membership, host);
    let manifest = membership.bootstrap.contract.activation_manifest.clone();
    let carried = membership.bootstrap.chain.records().len();
    let listen = (launch.listen_link, launch.listen_wireguard);
    let valid = leaf.as_ref().map(InForce::of);
    let tasks = group.child();
    let channels = Channels::new(membership.contract_ca().to_vec(), addresses);
    let features = known_features(node.acceptor().pinned().accept_dev);
    let features = features.iter().map(ToString::to_string).collect();
    let (requests, commands) = (channels.requests.0, channels.commands.0);

    let driver = Driver {
        node,
        disk: Disk::new(channels.writes.0),
        cache: cache.clone(),
        receivers: Receivers {
            uplink: channels.uplink_events.1,
            dataplane: channels.dataplane_events.1,
            certificates: channels.certificates.1,
            certificate_failure: channels.certificate_failure.1,
            addresses: channels.addresses.1,
            resolved_names: channels.resolved_names.1,
            requests: channels.requests.1,
            ping_ends: channels.ping_ends.1,
            written: channels.written.1,
        },
        senders: Senders {
            tables: channels.tables.0,
            commands: commands.clone(),
            certificate_ready: channels.certificate_ready.0,
            doubts: channels.doubts.0,
            cluster_ca: channels.cluster_ca.0,
            pause: channels.pause.0,
            stale_head: channels.stale_head.0,
            wanted_names: channels.wanted_names.0,
            ping_ends: channels.ping_ends.0,
        },
        stream: None,
        certificate: presented.clone(),
        time,
        claim,
        ages,
        judged: None,
        time_stored: clock.now().mono,
        boot_id: boot_id.clone(),
        facts,
        contact,
        manifest,
        proofs: proofs.clone(),
        tasks: tasks.clone(),
        beat,
        clock,
    };
    let dir = membership.dir.clone();
    let persist = PersistTask {
        persister: Persister::new(membership.dir.clone(), cache, membership.floors, boot_id, carried),
        writes: channels.writes.1,
        written: channels.written.0,
    };
    let dataplane = DataplaneTask {
        starts: Arc::new(move |process| PlaneStarts::of(&dir, process)),
        launch,
        mode: config.dataplane,
        tables: channels.tables.1,
        commands: channels.commands.1,
        events: channels.dataplane_events.0,
        ended: false,
        served: None,
    };
    let uplink = UplinkTask {
        control,
        leaf: presented,
        ready: channels.certificate_ready.1,
        pause: channels.pause.1,
        stale_head: channels.stale_head.1,
        features,
    };

    DRIVER.spawn(&tasks, |end| driver.run(leaf, end));
    PERSIST.spawn(&tasks, |_| persist.run());
    DATAPLANE.spawn(&tasks, |end| dataplane.run(end));
    UPLINK.spawn(&tasks, |end| uplink.run(channels.uplink_events.0, end));
    CERTIFICATES.spawn(&tasks, |end| {
        let (issued, failed) = (channels.certificates.0, channels.certificate_failure.0);
        proofs.run(valid, channels.cluster_ca.1, issued, failed, channels.doubts.1, end)
    });
    NAMES.spawn(&tasks, |end| resolve_names(channels.wanted_names.1, channels.resolved_names.0, end));
    ADDRESSES.spawn(&tasks, |end| watch_addresses(listen, channels.addresses.0, end));
    Ok(Started { requests, commands, tasks, allocation, facts: listed })
}
