//! From a configuration and a database to a listening control plane, and back down again.
//!
//! Owns the order of the start: mode, keys, database, installation, clusters; the port opens last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_authority::{AuditKey, RowKeys, SealingKey, SessionKey, ids};
use rap_contract::KeySet;
use rap_runtime::tls::CertificateCell;
use rap_runtime::{Clock, TaskGroup, Watchdog};
use rap_store::{AuditWriter, Store, installation_control_urls_set};
use rap_types::Reason;
use tokio::net::TcpListener;

use crate::audit::sequence::keep_audit;
use crate::auth::source_rates::SourceRates;
use crate::config::settings::{AuthorityMode, Config};
use crate::data_dir::DataDir;
use crate::database::handle::Database;
use crate::database::opened::{DRAIN, OpenDatabase};
use crate::database::replica_floors::{FLOORS_FILE, FloorFile};
use crate::database::signed_copies::{COPIES_FILE, SignedCopies};
use crate::failure::Failure;
use crate::grpc::router::{node_router, operator_router};
use crate::http::endpoint::serve_metrics;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::handle::Keys;
use crate::keys::installation::Installation;
use crate::keys::key_encryption_key;
use crate::replica::Replica;
use crate::serve::handle::Serving;
use crate::tasks::heartbeat::Heartbeat;
use crate::tasks::{
    absent, contacts, doorbell, hand_over, hints, housekeeping, keep_grants, look_at_rows, publishers,
    rotate_ca,
};
use crate::tls::accept::{AcceptSettings, Acceptor};
use crate::tls::listeners::Listeners;
use crate::tls::server_certificate::{issue_server_certificate, renew_server_certificate};
use crate::watch::alarm_log::Findings;
use crate::watch::alarms::Alarms;
use crate::watch::handle::Watch;
use crate::watch::readiness::Readiness;
use crate::watch::refusals::Refusals;

/// A control plane that listens.
pub struct Running {
    /// Where it listens; the first of several addresses.
    pub address: SocketAddr,
    /// What its handlers share.
    pub replica: Arc<Replica>,
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    tasks: TaskGroup,
    postgres: TaskGroup,
    store: Store,
}

/// Checks everything, then listens.
pub async fn start(config: Config, database: OpenDatabase) -> Result<Running, Failure> {
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    let roots = data.roots(&config)?;
    let keks = data.sealing_keys(&config)?;
    let floors = FloorFile::open(data.file(FLOORS_FILE))?;
    let copies = SignedCopies::open(data.file(COPIES_FILE));
    let store = database.store().await?;
    let OpenDatabase { target, embedded } = database;
    let postgres = TaskGroup::new();
    if let Some(embedded) = embedded {
        let shutdown = postgres.token();
        postgres.spawn("postgres", async move { embedded.supervise(shutdown).await });
    }

    let tasks = TaskGroup::new();
    let (replica, tls_ca) = open(config, roots, keks, (floors, copies), &store, &tasks).await?;
    replica.serving.load_clusters().await?;
    // Nodes that dial at once are not refused for want of a first heartbeat.
    let mut heartbeat = Heartbeat::new(target.clone(), replica.watch.replica);
    heartbeat.commit(&replica.watch).await;

    let listeners = Listeners::bind(&replica.config.listen).await?;
    let addresses = listeners.addresses();
    let addresses = addresses.map_err(Failure::of(Reason::ServerInternal))?;
    let address = addresses[0];
    let slot = CertificateCell::new();
    let hosts = hosts(&addresses, &replica.keys.installation.control_urls);
    let renew_after = issue_server_certificate(&tls_ca, &hosts, &slot, &replica.watch.clock)?;
    let limits = &replica.config.limits;
    let rates = Arc::new(SourceRates::new(limits.unauthenticated_per_second, limits.unauthenticated_burst));

    let settings = AcceptSettings {
        handshakes_total: limits.handshakes_total,
        handshakes_per_source: limits.handshakes_per_source,
        handshake_timeout: limits.handshake_timeout,
        connections: limits.connections,
        connections_per_source: limits.connections_per_source,
    };
    let (acceptor, operators, nodes) = Acceptor::new(
        listeners,
        &slot,
        &replica.serving.trust,
        &settings,
        replica.watch.metrics.clone(),
        tasks.clone(),
    )
    .map_err(Failure::of(Reason::ServerInternal))?;

    let metrics = listen_for_metrics(&replica, &tasks).await;
    let shutdown = tasks.token();
    let watchdog = Watchdog::default();
    tasks
        .spawn_critical("doorbell", doorbell::watch_outbox(replica.clone(), target, watchdog.part("outbox")));
    tasks.spawn_critical("publishers", publishers::keep_publishers(replica.clone()));
    tasks.spawn_critical("audit", keep_audit(replica.watch.clone(), replica.audit.clone(), tasks.token()));
    tasks.spawn_critical("contacts", contacts::record_contacts(replica.clone()));
    tasks.spawn_critical("dial hints", hints::tell_hints(replica.clone()));
    tasks.spawn_critical("housekeeping", housekeeping::keep_house(replica.clone(), rates.clone()));
    tasks.spawn_critical("absent nodes", absent::remove_absent(replica.clone()));
    tasks.spawn_critical("rotation of CAs", rotate_ca::carry_on(replica.clone()));
    tasks.spawn_critical(
        "server certificate",
        renew_server_certificate(tls_ca, hosts, slot, renew_after, shutdown.clone()),
    );
    let operator_server = operator_router(&replica, &rates)
        .serve_with_incoming_shutdown(operators, shutdown.clone().cancelled_owned());
    tasks.spawn_critical("operator server", operator_server);
    let node_server =
        node_router(&replica, &rates).serve_with_incoming_shutdown(nodes, shutdown.cancelled_owned());
    tasks.spawn_critical("node server", node_server);
    tasks.spawn_critical("accept", acceptor.run(watchdog.part("accept")));
    tasks.spawn_critical("heartbeat", heartbeat.keep(replica.clone(), watchdog.part("database")));
    tasks.spawn_critical("stream hand-over", hand_over::hand_over_streams(replica.clone()));
    tasks.spawn_critical("rows", look_at_rows::look_at_rows(replica.clone()));
    tasks.spawn_critical("role grants", keep_grants::keep_grants(replica.clone()));
    tasks.spawn("watchdog", watchdog.run(tasks.token()));
    Ok(Running { address, replica, metrics, tasks, postgres, store })
}

impl Running {
    /// Completes when a part that is needed failed.
    pub async fn failed(&self) -> Failure {
        self.tasks.token().cancelled().await;
        let text = self.tasks.failure().map_or_else(|| "cancelled".to_owned(), |failure| failure.to_string());
        Failure::new(Reason::ServerInternal, text)
    }

    /// Lets streams and calls end, then the pools, then the private PostgreSQL.
    pub async fn stop(self) {
        self.tasks.shutdown(DRAIN).await;
        self.store.close().await;
        self.postgres.shutdown(POSTGRES_STOP).await;
    }
}

/// What the handlers share, from the rows of the installation; and the CA of the server's own certificate.
async fn open(
    config: Config,
    roots: KeySet,
    keks: Vec<SealingKey>,
    (floors, copies): (FloorFile, SignedCopies),
    store: &Store,
    tasks: &TaskGroup,
) -> Result<(Arc<Replica>, CertificateAuthority), Failure> {
    let dev = config.mode == AuthorityMode::Dev;
    let mut transaction = store.system().begin().await?;
    // During a rotation there are two keys on disk, and one of them opens the database.
    let (kek, others) = key_encryption_key::of_database(&mut transaction, keks).await?;
    let (mut installation, tls_ca) = Installation::load(&mut transaction, dev, &kek, roots).await?;
    if installation.control_urls != config.control_urls {
        installation_control_urls_set(&mut transaction, &config.control_urls).await?;
        installation.control_urls.clone_from(&config.control_urls);
    }
    transaction.commit().await?;

    let keys = Arc::new(Keys {
        pen: AuditWriter::new(AuditKey::of(&kek, &others, installation.facts.id)),
        rows: RowKeys::of_installation(installation.facts.id, &kek),
        session_key: SessionKey::of(&kek),
        kek,
        installation,
    });
    let database = Arc::new(Database::new(store.clone(), floors, copies));
    let watch = Arc::new(Watch {
        keys: keys.clone(),
        database: database.clone(),
        replica: ids::random(&mut rand::rng()),
        clock: Clock::new(),
        alarms: Alarms::default(),
        findings: Findings::default(),
        refusals: Refusals::default(),
        readiness: Readiness::default(),
        metrics: Arc::default(),
    });
    let serving = Arc::new(Serving::new(watch.clone()));
    let (config, audit, tasks) = (Arc::new(config), Arc::default(), tasks.clone());
    let replica = Arc::new(Replica { config, keys, database, watch, serving, audit, tasks });
    Ok((replica, tls_ca))
}

/// Another control plane on this host may have the address; serving nodes matters more.
async fn listen_for_metrics(replica: &Arc<Replica>, tasks: &TaskGroup) -> Option<SocketAddr> {
    let address = replica.config.metrics?;
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let bound = listener.local_addr().ok();
            tasks.spawn("metrics", serve_metrics(replica.clone(), listener));
            bound
        }
        Err(error) => {
            tracing::warn!(%address, %error, "no metrics endpoint");
            None
        }
    }
}

/// Names for the server's own certificate: nodes and operators pin its CA, others look at names.
fn hosts(addresses: &[SocketAddr], control_urls: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = control_urls
        .iter()
        .filter_map(|url| url.parse::<http::Uri>().ok())
        .filter_map(|uri| uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()))
        .collect();
    let named = addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
    hosts.extend(named.map(|ip| ip.to_string()));
    hosts.push("localhost".to_owned());
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

const POSTGRES_STOP: Duration = Duration::from_secs(30);
