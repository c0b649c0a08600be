//! Every service behind its guard, on the two kinds of connection.
//!
//! Owns what a connection and a message of each service may be at most. Refuses to own when they are served.

use std::sync::Arc;
use std::time::Duration;

use rap_rpc::v1::admin_server::AdminServer;
use rap_rpc::v1::adoption_server::AdoptionServer;
use rap_rpc::v1::audit_server::AuditServer;
use rap_rpc::v1::authority_server::AuthorityServer;
use rap_rpc::v1::break_glass_server::BreakGlassServer;
use rap_rpc::v1::enrollment_server::EnrollmentServer;
use rap_rpc::v1::grants_server::GrantsServer;
use rap_rpc::v1::membership_server::MembershipServer;
use rap_rpc::v1::node_sync_server::NodeSyncServer;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::ServiceExt as _;

use crate::auth::source_rates::SourceRates;
use crate::grpc::admin::AdminService;
use crate::grpc::adoption::AdoptionService;
use crate::grpc::audit::AuditService;
use crate::grpc::authority::AuthorityService;
use crate::grpc::break_glass::BreakGlassService;
use crate::grpc::enrollment::EnrollmentService;
use crate::grpc::grants::GrantsService;
use crate::grpc::guard::{Guard, GuardRules, Offered};
use crate::grpc::membership::MembershipService;
use crate::grpc::sync::SyncService;
use crate::grpc::unknown::Unknown;
use crate::replica::Replica;

/// For operators and applicants.
pub fn operator_router(replica: &Arc<Replica>, rates: &Arc<SourceRates>) -> Router {
    let age = OPERATOR_AGE + OPERATOR_AGE.mul_f64(rand::random_range(0.0..0.25));
    server()
        // The guard refuses before, with a code.
        .timeout(replica.config.limits.request_timeout + 2 * GRACE)
        .max_connection_age(age)
        .max_connection_age_grace(replica.config.limits.request_timeout)
        .add_routes(services(replica, rates, Some(replica.config.limits.request_timeout + GRACE)))
}

/// For nodes.
pub fn node_router(replica: &Arc<Replica>, rates: &Arc<SourceRates>) -> Router {
    server().add_routes(services(replica, rates, None))
}

/// Every service on every kind of connection: the guard says where each is offered.
fn services(replica: &Arc<Replica>, rates: &Arc<SourceRates>, deadline: Option<Duration>) -> Routes {
    /// A service with the largest message it takes and the largest it gives.
    macro_rules! offered {
        ($server:ident, $service:ident, $takes:expr, $gives:expr, $whom:ident) => {{
            let service = $server::new($service::new(replica.clone()))
                .max_decoding_message_size($takes)
                .max_encoding_message_size($gives);
            Guard::new(service, rules(replica, rates, (Offered::$whom, deadline)))
        }};
    }
    let known =
        Routes::new(offered!(EnrollmentServer, EnrollmentService, STRANGER_CAP, ENROLLMENT_CAP, Operators))
            .add_service(offered!(
                AdminServer,
                AdminService,
                ENROLLMENT_CAP,
                rap_contract::EXPORT_CAP,
                Operators
            ))
            .add_service(offered!(AdoptionServer, AdoptionService, STRANGER_CAP, ENROLLMENT_CAP, Operators))
            .add_service(offered!(GrantsServer, GrantsService, STRANGER_CAP, SYNC_CAP, Operators))
            .add_service(offered!(MembershipServer, MembershipService, ENROLLMENT_CAP, SYNC_CAP, Operators))
            .add_service(offered!(AuditServer, AuditService, ENROLLMENT_CAP, AUDIT_CAP, Operators))
            .add_service(offered!(AuthorityServer, AuthorityService, ENROLLMENT_CAP, SYNC_CAP, Operators))
            .add_service(offered!(
                BreakGlassServer,
                BreakGlassService,
                ENROLLMENT_CAP,
                ENROLLMENT_CAP,
                Operators
            ))
            .add_service(offered!(NodeSyncServer, SyncService, SYNC_CAP, SYNC_CAP, Nodes));
    let unknown = Guard::new(Unknown, rules(replica, rates, (Offered::All, deadline)));
    let unknown = unknown.map_request(|request: http::Request<_>| request.map(Body::new));
    known.into_axum_router().fallback_service(unknown).into()
}

fn server() -> Server {
    Server::builder()
        .concurrency_limit_per_connection(CONCURRENT_CALLS)
        .load_shed(true)
        .max_concurrent_streams(2 * CONCURRENT_CALLS as u32)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE / 2))
        .http2_max_header_list_size(HEADER_LIST)
}

fn rules(
    replica: &Arc<Replica>,
    rates: &Arc<SourceRates>,
    (offered, deadline): (Offered, Option<Duration>),
) -> GuardRules {
    GuardRules {
        offered,
        rates: rates.clone(),
        known: replica.serving.known.clone(),
        session_key: replica.keys.session_key.clone(),
        metrics: replica.watch.metrics.clone(),
        body_timeout: replica.config.limits.body_timeout,
        // The message and its five-byte prefix.
        body_cap: STRANGER_CAP + 5,
        deadline,
        clock: replica.watch.clock,
    }
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
