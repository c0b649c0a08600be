//! From a configuration and a database to a listening control plane, and back down again.
//!
//! Owns the order of the start: mode, keys, database, installation, clusters; the port opens last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_authority::{AuditKey, RowKeys, SessionKey};
use rap_runtime::tls::{LeafSlot, TrustStore};
use rap_runtime::{Clock, Fault, TaskGroup, Watchdog};
use rap_store::{AuditPen, Store, StoreError, installation_control_urls_set};
use rap_types::Reason;
use rap_wire::v1::admin_server::AdminServer;
use rap_wire::v1::adoption_server::AdoptionServer;
use rap_wire::v1::audit_server::AuditServer;
use rap_wire::v1::authority_server::AuthorityServer;
use rap_wire::v1::break_glass_server::BreakGlassServer;
use rap_wire::v1::enrollment_server::EnrollmentServer;
use rap_wire::v1::grants_server::GrantsServer;
use rap_wire::v1::membership_server::MembershipServer;
use rap_wire::v1::node_sync_server::NodeSyncServer;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::ServiceExt as _;

use crate::alarms::Alarms;
use crate::audit::{AuditLog, keep_audit};
use crate::auth::{KnownSessions, SourceRates};
use crate::clusters::Clusters;
use crate::config::{AuthorityMode, Config};
use crate::control::Control;
use crate::database::{DRAIN, Database};
use crate::datadir::DataDir;
use crate::floors::{FLOORS_FILE, FloorFile};
use crate::grpc::admin::AdminService;
use crate::grpc::adoption::AdoptionService;
use crate::grpc::audit_service::AuditService;
use crate::grpc::authority::AuthorityService;
use crate::grpc::break_glass::BreakGlassService;
use crate::grpc::enrollment::EnrollmentService;
use crate::grpc::grants::GrantsService;
use crate::grpc::membership::MembershipService;
use crate::grpc::sync::SyncService;
use crate::grpc::{Failure, Guard, GuardRules, Offered, Unknown};
use crate::http::serve_metrics;
use crate::installation::Installation;
use crate::keys;
use crate::sync::{Directory, Sessions};
use crate::tasks::{self, ContactBook};
use crate::tls::{AcceptSettings, Acceptor, issue_server_leaf, renew_server_leaf};

/// A control plane that listens.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its handlers share.
    pub control: Arc<Control>,
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    tasks: TaskGroup,
    postgres: TaskGroup,
    store: Store,
}

/// Checks everything, then listens.
pub async fn start(config: Config, database: Database) -> Result<Running, Fault> {
    let data = DataDir::of(&config);
    data.require_mode(config.mode)?;
    let roots = data.roots(&config)?;
    let keks = data.sealing_keys(&config)?;
    let floors = FloorFile::open(data.file(FLOORS_FILE))?;
    let store = database.store().await?;
    let Database { target, embedded } = database;
    let postgres = TaskGroup::new();
    if let Some(embedded) = embedded {
        let shutdown = postgres.token();
        postgres.spawn("postgres", async move { embedded.supervise(shutdown).await });
    }

    let dev = config.mode == AuthorityMode::Dev;
    let mut transaction = store.system().begin().await.map_err(|error| fault(error.into()))?;
    // During a rotation there are two keys on disk, and one of them opens the database.
    let (kek, others) = keys::of_database(&mut transaction, keks).await.map_err(fault)?;
    let (mut installation, tls_ca) =
        Installation::load(&mut transaction, dev, &kek, roots).await.map_err(fault)?;
    if installation.control_urls != config.control_urls {
        installation_control_urls_set(&mut transaction, &config.control_urls)
            .await
            .map_err(|error| fault(error.into()))?;
        installation.control_urls.clone_from(&config.control_urls);
    }
    transaction.commit().await.map_err(|error| fault(StoreError::from(error).into()))?;

    let tasks = TaskGroup::new();
    let control = Arc::new(Control {
        clock: Clock::new(),
        store: store.clone(),
        audit: AuditLog::default(),
        pen: AuditPen::new(AuditKey::of(&kek, &others, installation.facts.id)),
        rows: RowKeys::of_installation(installation.facts.id, &kek),
        session_key: SessionKey::of(&kek),
        kek,
        installation,
        floors,
        grants: crate::grants::GrantMemory::default(),
        findings: crate::findings::Findings::default(),
        clusters: Clusters::default(),
        trust: TrustStore::new(),
        sessions: Arc::new(Sessions::default()),
        directory: Arc::new(Directory::default()),
        contacts: ContactBook::default(),
        absence: tokio::sync::Notify::new(),
        known: Arc::new(KnownSessions::default()),
        alarms: Alarms::default(),
        metrics: Arc::default(),
        tasks: tasks.clone(),
        config,
    });
    control.load_clusters().await.map_err(fault)?;

    let slot = LeafSlot::new();
    let hosts = hosts(&control.config, &control.installation.control_urls);
    let renew_after =
        issue_server_leaf(&tls_ca, &hosts, &slot, &control.clock).map_err(|error| fault(error.into()))?;
    let limits = &control.config.limits;
    let rates = Arc::new(SourceRates::new(limits.unauthenticated_per_second, limits.unauthenticated_burst));

    let listener = TcpListener::bind(control.config.listen).await.map_err(|error| {
        Fault::new(Reason::ConfigInvalid, format!("cannot listen on {}: {error}", control.config.listen))
    })?;
    let address =
        listener.local_addr().map_err(|error| Fault::new(Reason::ServerInternal, error.to_string()))?;
    let settings = AcceptSettings {
        handshakes_total: limits.handshakes_total,
        handshakes_per_source: limits.handshakes_per_source,
        handshake_timeout: limits.handshake_timeout,
        connections: limits.connections,
        connections_per_source: limits.connections_per_source,
    };
    let (acceptor, operators, nodes) =
        Acceptor::new(listener, &slot, &control.trust, &settings, control.metrics.clone(), tasks.clone())
            .map_err(|error| Fault::new(Reason::ServerInternal, error.to_string()))?;

    let mut metrics = None;
    if let Some(address) = control.config.metrics {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                metrics = listener.local_addr().ok();
                tasks.spawn("metrics", serve_metrics(control.clone(), listener));
            }
            // Another control plane on this host may have it; serving nodes matters more.
            Err(error) => tracing::warn!(%address, %error, "no metrics endpoint"),
        }
    }
    let shutdown = tasks.token();
    let watchdog = Watchdog::default();
    tasks.spawn_critical("doorbell", tasks::watch_outbox(control.clone(), target, watchdog.part("outbox")));
    tasks.spawn_critical("audit", keep_audit(control.clone()));
    tasks.spawn_critical("contacts", tasks::record_contacts(control.clone()));
    tasks.spawn_critical("housekeeping", tasks::keep_house(control.clone(), rates.clone()));
    tasks.spawn_critical("absent nodes", tasks::remove_absent(control.clone()));
    tasks.spawn_critical(
        "server certificate",
        renew_server_leaf(tls_ca, hosts, slot, renew_after, shutdown.clone()),
    );
    let operator_server = operator_router(&control, &rates)
        .serve_with_incoming_shutdown(operators, shutdown.clone().cancelled_owned());
    tasks.spawn_critical("operator server", operator_server);
    let node_server =
        node_router(&control, &rates).serve_with_incoming_shutdown(nodes, shutdown.cancelled_owned());
    tasks.spawn_critical("node server", node_server);
    tasks.spawn_critical("accept", acceptor.run(watchdog.part("accept")));
    tasks.spawn_critical("database watch", tasks::watch_database(control.clone(), watchdog.part("database")));
    tasks.spawn_critical("role grants", tasks::keep_grants(control.clone()));
    tasks.spawn("watchdog", watchdog.run(tasks.token()));
    Ok(Running { address, control, metrics, tasks, postgres, store })
}

impl Running {
    /// Completes when a part that is needed failed.
    pub async fn failed(&self) -> Fault {
        self.tasks.token().cancelled().await;
        let text = self.tasks.failure().map_or_else(|| "cancelled".to_owned(), |failure| failure.to_string());
        Fault::new(Reason::ServerInternal, text)
    }

    /// Lets streams and calls end, then the pools, then the private PostgreSQL.
    pub async fn stop(self) {
        self.tasks.shutdown(DRAIN).await;
        self.store.close().await;
        self.postgres.shutdown(POSTGRES_STOP).await;
    }
}

fn operator_router(control: &Arc<Control>, rates: &Arc<SourceRates>) -> Router {
    let age = OPERATOR_AGE + OPERATOR_AGE.mul_f64(rand::random_range(0.0..0.25));
    server(control)
        .timeout(control.config.limits.request_timeout + GRACE)
        .max_connection_age(age)
        .max_connection_age_grace(control.config.limits.request_timeout)
        .add_routes(services(control, rates))
}

fn node_router(control: &Arc<Control>, rates: &Arc<SourceRates>) -> Router {
    server(control).add_routes(services(control, rates))
}

/// Every service behind its guard, on every kind of connection: the guard says where each is offered.
fn services(control: &Arc<Control>, rates: &Arc<SourceRates>) -> Routes {
    let known = Routes::new(guarded_enrollment(control, rates))
        .add_service(guarded_admin(control, rates))
        .add_service(guarded_adoption(control, rates))
        .add_service(guarded_grants(control, rates))
        .add_service(guarded_membership(control, rates))
        .add_service(guarded_audit(control, rates))
        .add_service(guarded_authority(control, rates))
        .add_service(guarded_break_glass(control, rates))
        .add_service(guarded_sync(control, rates));
    let unknown = Guard::new(Unknown, rules(control, rates, Offered::ToAll));
    let unknown = unknown.map_request(|request: http::Request<_>| request.map(Body::new));
    known.into_axum_router().fallback_service(unknown).into()
}

fn server(_: &Arc<Control>) -> Server {
    Server::builder()
        .concurrency_limit_per_connection(CONCURRENT_CALLS)
        .load_shed(true)
        .max_concurrent_streams(2 * CONCURRENT_CALLS as u32)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE / 2))
        .http2_max_header_list_size(HEADER_LIST)
}

fn guarded_enrollment(
    control: &Arc<Control>,
    rates: &Arc<SourceRates>,
) -> Guard<EnrollmentServer<EnrollmentService>> {
    let service = EnrollmentServer::new(EnrollmentService::new(control.clone()))
        .max_decoding_message_size(STRANGER_CAP)
        .max_encoding_message_size(ENROLLMENT_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn guarded_admin(control: &Arc<Control>, rates: &Arc<SourceRates>) -> Guard<AdminServer<AdminService>> {
    let service = AdminServer::new(AdminService::new(control.clone()))
        .max_decoding_message_size(ENROLLMENT_CAP)
        .max_encoding_message_size(rap_contract::EXPORT_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn guarded_adoption(
    control: &Arc<Control>,
    rates: &Arc<SourceRates>,
) -> Guard<AdoptionServer<AdoptionService>> {
    let service = AdoptionServer::new(AdoptionService::new(control.clone()))
        .max_decoding_message_size(STRANGER_CAP)
        .max_encoding_message_size(ENROLLMENT_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn guarded_membership(
    control: &Arc<Control>,
    rates: &Arc<SourceRates>,
) -> Guard<MembershipServer<MembershipService>> {
    let service = MembershipServer::new(MembershipService::new(control.clone()))
        .max_decoding_message_size(ENROLLMENT_CAP)
        .max_encoding_message_size(SYNC_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn guarded_authority(
    control: &Arc<Control>,
    rates: &Arc<SourceRates>,
) -> Guard<AuthorityServer<AuthorityService>> {
    let service = AuthorityServer::new(AuthorityService::new(control.clone()))
        .max_decoding_message_size(ENROLLMENT_CAP)
        .max_encoding_message_size(SYNC_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn guarded_break_glass(
    control: &Arc<Control>,
    rates: &Arc<SourceRates>,
) -> Guard<BreakGlassServer<BreakGlassService>> {
    let service = BreakGlassServer::new(BreakGlassService::new(control.clone()))
        .max_decoding_message_size(ENROLLMENT_CAP)
        .max_encoding_message_size(ENROLLMENT_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn guarded_audit(control: &Arc<Control>, rates: &Arc<SourceRates>) -> Guard<AuditServer<AuditService>> {
    let service = AuditServer::new(AuditService::new(control.clone()))
        .max_decoding_message_size(ENROLLMENT_CAP)
        .max_encoding_message_size(AUDIT_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn guarded_sync(control: &Arc<Control>, rates: &Arc<SourceRates>) -> Guard<NodeSyncServer<SyncService>> {
    let service = NodeSyncServer::new(SyncService::new(control.clone()))
        .max_decoding_message_size(SYNC_CAP)
        .max_encoding_message_size(SYNC_CAP);
    Guard::new(service, rules(control, rates, Offered::ToNodes))
}

fn guarded_grants(control: &Arc<Control>, rates: &Arc<SourceRates>) -> Guard<GrantsServer<GrantsService>> {
    let service = GrantsServer::new(GrantsService::new(control.clone()))
        .max_decoding_message_size(STRANGER_CAP)
        .max_encoding_message_size(SYNC_CAP);
    Guard::new(service, rules(control, rates, Offered::ToOperators))
}

fn rules(control: &Arc<Control>, rates: &Arc<SourceRates>, offered: Offered) -> GuardRules {
    GuardRules {
        offered,
        rates: rates.clone(),
        known: control.known.clone(),
        session_key: control.session_key.clone(),
        metrics: control.metrics.clone(),
        body_timeout: control.config.limits.body_timeout,
        // The message and its five-byte prefix.
        body_cap: STRANGER_CAP + 5,
        clock: control.clock,
    }
}

/// Names for the server's own certificate: nodes and operators pin its CA, others look at names.
fn hosts(config: &Config, control_urls: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = control_urls
        .iter()
        .filter_map(|url| url.parse::<http::Uri>().ok())
        .filter_map(|uri| uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()))
        .collect();
    if !config.listen.ip().is_unspecified() {
        hosts.push(config.listen.ip().to_string());
    }
    hosts.push("localhost".to_owned());
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn fault(failure: Failure) -> Fault {
    Fault::new(failure.reason, failure.message)
}

const STRANGER_CAP: usize = 16 * 1024;
const ENROLLMENT_CAP: usize = 256 * 1024;
/// A thousand entries of the longest encoding.
const AUDIT_CAP: usize = 1000 * (rap_contract::ENTRY_CAP + 64);
const SYNC_CAP: usize = 4 * 1024 * 1024;
const HEADER_LIST: u32 = 16 * 1024;
const CONCURRENT_CALLS: usize = 64;
const KEEPALIVE: Duration = Duration::from_secs(30);
const OPERATOR_AGE: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(5);
const POSTGRES_STOP: Duration = Duration::from_secs(30);
