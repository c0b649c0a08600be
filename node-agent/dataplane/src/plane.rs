//! The table in force and the devices that obey it.
//!
//! Owns the order of an apply and the rule that a refused table changes nothing. The deadlines are in
//! the tables of the devices, which keep them by themselves.

use std::sync::Arc;
use std::time::Duration;

use rap_mesh::{Mesh, MeshConfig};
use rap_runtime::service::Beat;
use rap_runtime::{Fault, TaskGroup};
use rap_types::{NodeId, Reason};
use rap_wire::v1::{ForwardingTable, TableDelta, TableRevoked};
use rap_wireguard::{Device, TunConfig, Way};
use tokio::sync::{Mutex, RwLockReadGuard, watch};

use crate::args::Settings;
use crate::bounds::Bounds;
use crate::device_slot::DeviceSlot;
use crate::path_book::PathBook;
use crate::table::{self, KnownTable, LearnedRevocations, Member, PathsInForce, PeerFacts, Plan};

/// The data plane of one membership.
pub(crate) struct Plane {
    settings: Settings,
    bounds: Bounds,
    instance: [u8; 16],
    group: TaskGroup,
    /// Held while something is applied.
    state: Mutex<State>,
    device: Arc<DeviceSlot>,
    paths: Arc<PathBook>,
    /// Held while the device is told of paths, so that it hears of them in their order.
    telling: Arc<Mutex<()>>,
    mesh: watch::Sender<Option<Mesh>>,
    facts: watch::Sender<Arc<Facts>>,
}

/// What the table in force says, for those who look.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// 0: no table yet.
    pub(crate) version: u64,
    pub(crate) peers: Vec<PeerFacts>,
    /// Why peers of the table are left out.
    pub(crate) unusable: Vec<Fault>,
}

/// The table in force and what was revoked beside it.
#[derive(Default)]
struct State {
    table: Option<KnownTable>,
    learned: LearnedRevocations,
}

impl Plane {
    /// A plane without a table: nothing is open yet. `tun`: the interface to make.
    pub(crate) fn new(settings: &Settings, bounds: Bounds, tun: Option<TunConfig>, group: TaskGroup) -> Self {
        let mut instance = [0; 16];
        rand::fill(&mut instance);
        let paths = Arc::new(PathBook::default());
        Self {
            settings: settings.clone(),
            bounds,
            instance,
            group,
            state: Mutex::default(),
            device: Arc::new(DeviceSlot::new(settings.wireguard_listen, tun, paths.clone())),
            paths,
            telling: Arc::default(),
            mesh: watch::Sender::default(),
            facts: watch::Sender::default(),
        }
    }

    pub(crate) fn membership(&self) -> &str {
        &self.settings.membership
    }

    /// Name of the overlay interface, if there is or will be one.
    pub(crate) fn interface(&self) -> Option<&str> {
        self.device.interface()
    }

    /// Random per process.
    pub(crate) fn instance(&self) -> [u8; 16] {
        self.instance
    }

    pub(crate) fn group(&self) -> &TaskGroup {
        &self.group
    }

    pub(crate) fn facts(&self) -> Arc<Facts> {
        self.facts.borrow().clone()
    }

    /// The mesh, from the first table on.
    pub(crate) fn mesh(&self) -> watch::Receiver<Option<Mesh>> {
        self.mesh.subscribe()
    }

    /// The device, if there is one. Hold it for a short time: a new key waits for it.
    pub(crate) async fn device(&self) -> Option<RwLockReadGuard<'_, Device>> {
        self.device.device().await
    }

    /// Puts a whole table in force and returns its version. A table that is malformed or not newer changes
    /// nothing. Unchanged peers keep their sessions.
    pub(crate) async fn apply(&self, table: ForwardingTable) -> Result<u64, Fault> {
        let mut state = self.state.lock().await;
        let next = KnownTable::whole(table, &self.bounds)?;
        self.put_in_force(&mut state, next).await
    }

    /// Applies a change to the table in force and returns the new version; or changes nothing.
    pub(crate) async fn change(&self, delta: TableDelta) -> Result<u64, Fault> {
        let mut state = self.state.lock().await;
        let no_base = || Fault::new(Reason::DataplaneTableBase, "no table is in force");
        let next = state.table.as_ref().ok_or_else(no_base)?.changed(delta, &self.bounds)?;
        self.put_in_force(&mut state, next).await
    }

    /// Ends links and tunnels of these key generations and remembers them, with or without a table.
    pub(crate) async fn revoke(&self, revoked: &[TableRevoked]) -> Result<(), Fault> {
        tracing::trace!(way = "revocations are in force");
        let mut state = self.state.lock().await;
        let State { table, learned } = &mut *state;
        learned.learn(revoked, |node| table.as_ref().is_some_and(|table| table.is_peer(node)));
        tracing::info!(nodes = revoked.len(), "revocations in force");
        let Some(table) = table else { return Ok(()) };
        let plan = table.plan(learned);
        let mesh = self.mesh_for(&plan)?;
        mesh.apply(plan.links.clone());
        let done = self.apply_to_device(&plan).await;
        self.set_paths(&mesh, plan.paths);
        self.facts.send_replace(Arc::new(Facts {
            version: plan.version,
            peers: plan.peers,
            unusable: plan.unusable,
        }));
        done
    }

    async fn put_in_force(&self, state: &mut State, next: KnownTable) -> Result<u64, Fault> {
        let current = state.table.as_ref().map_or(0, KnownTable::version);
        if next.version() <= current {
            return Err(table::refused(format!("version {} is not above {current}", next.version())));
        }
        if state.table.as_ref().is_some_and(|table| table.member() != next.member()) {
            return Err(table::refused("another node's table; end this process first"));
        }
        let plan = next.plan(&state.learned);
        let mesh = self.mesh_for(&plan)?;
        if let Some(leaf) = &plan.leaf {
            let (chain, key) = leaf.credentials();
            mesh.identify(chain, key).map_err(|error| table::refused(format!("identity: {error}")))?;
        }
        self.apply_to_device(&plan).await?;
        let Plan { version, links, peers, unusable, paths, .. } = plan;
        mesh.apply(links);
        self.set_paths(&mesh, paths);
        state.learned.forget(next.revoked());
        state.table = Some(next);
        tracing::info!(version, peers = peers.len(), "table in force");
        tracing::trace!(way = "the table is in force");
        self.facts.send_replace(Arc::new(Facts { version, peers, unusable }));
        Ok(version)
    }

    /// Ends the process's group with a failure if the device ends by itself, for example because
    /// somebody removed its interface: a supervisor then starts afresh. A turn is progress: the device
    /// answered and no apply holds it.
    pub(crate) async fn watch(self: Arc<Self>, beat: Beat) -> Result<(), String> {
        let token = self.group.token();
        loop {
            beat.turned();
            let facts = self.facts();
            beat.say(match facts.version {
                0 => "waiting for a table".to_owned(),
                version => format!("table {version}, {} peers", facts.peers.len()),
            });
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(WATCH) => {}
            }
            let failure = self.device().await.and_then(|device| device.failure());
            if let Some(failure) = failure {
                return Err(failure.to_string());
            }
        }
    }

    /// Fails if no table is in force in time.
    pub(crate) async fn expect_table(self: Arc<Self>, within: Duration) -> Result<(), String> {
        let token = self.group.token();
        let mut facts = self.facts.subscribe();
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            first = tokio::time::timeout(within, facts.wait_for(|facts| facts.version > 0)) => {
                if !matches!(first, Ok(Ok(_))) {
                    return Err(format!("no table within {} s", within.as_secs()));
                }
            }
        }
        token.cancelled().await;
        Ok(())
    }

    /// The way in words, and the relays on it. Empty: nothing carries the traffic now.
    pub(crate) fn told_way(&self, way: Option<Way>) -> (String, Vec<Vec<u8>>) {
        match way {
            None => (String::new(), Vec::new()),
            Some(Way::Udp(_)) => ("direct".to_owned(), Vec::new()),
            Some(Way::Path(end)) => {
                ("relayed".to_owned(), self.paths.relays(end).iter().map(|relay| relay.to_vec()).collect())
            }
        }
    }

    /// Closes socket and interface.
    pub(crate) async fn stop(&self) {
        self.device.stop().await;
    }

    /// Gives the device its configuration, and tells it again which paths stand: it may be another one now, or have
    /// other keys of peers.
    async fn apply_to_device(&self, plan: &Plan) -> Result<(), Fault> {
        let _in_order = self.telling.lock().await;
        self.paths.know(&plan.peers);
        self.device.apply(plan, &self.group).await?;
        if let Some(device) = self.device().await {
            for path in self.paths.standing() {
                device.path_event(path).await;
            }
        }
        Ok(())
    }

    fn set_paths(&self, mesh: &Mesh, paths: PathsInForce) {
        let PathsInForce { terms, plans, relays, attachments } = paths;
        mesh.set_relays(relays);
        mesh.limit_attachments(attachments.unwrap_or(usize::MAX));
        mesh.set_paths(terms, plans);
    }

    /// Tells the device what happens to paths, until the mesh ends.
    fn carry_path_events(&self, mesh: &Mesh) {
        let Some(mut events) = mesh.path_events() else { return };
        let (paths, device, telling) = (self.paths.clone(), self.device.clone(), self.telling.clone());
        let token = self.group.token();
        self.group.spawn("path-events", async move {
            let mut batch = Vec::with_capacity(PATH_EVENTS);
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    count = events.recv_many(&mut batch, PATH_EVENTS) => if count == 0 { return },
                }
                let _in_order = telling.lock().await;
                let device = device.device().await;
                for event in batch.drain(..) {
                    if let (Some(event), Some(device)) = (paths.take(event), &device) {
                        device.path_event(event).await;
                    }
                }
            }
        });
    }

    /// The mesh; the first table starts it.
    fn mesh_for(&self, plan: &Plan) -> Result<Mesh, Fault> {
        if let Some(mesh) = self.mesh.borrow().clone() {
            return Ok(mesh);
        }
        let Member { node, cluster, .. } = plan.member;
        let queued_max = usize::from(self.settings.queued_max) << 20;
        let config = MeshConfig { queued_max, ..MeshConfig::new(node, cluster, self.settings.link_listen) };
        let address = config.listen;
        let mesh = Mesh::start(config, self.group.clone())
            .map_err(|error| unavailable(format!("link-listen {address}: {error}")))?;
        self.paths.use_mesh(mesh.clone());
        self.carry_path_events(&mesh);
        self.mesh.send_replace(Some(mesh.clone()));
        Ok(mesh)
    }
}

impl Facts {
    pub(crate) fn peer(&self, node: NodeId) -> Option<&PeerFacts> {
        self.peers.iter().find(|peer| peer.node == node)
    }
}

fn unavailable(message: String) -> Fault {
    Fault::new(Reason::DataplaneUnavailable, message)
}

/// Path events that are told in one go.
const PATH_EVENTS: usize = 256;
const WATCH: Duration = Duration::from_secs(1);
