//! From a failure to the gRPC status that a caller gets.
//!
//! Owns which details leave the process: the reason and a fixed text, never a row, a path or a secret.

use rap_authority::Permission;
use rap_rpc::{refuse, warn};
use rap_types::{Reason, RequestId};
use tonic::{Response, Status};

use crate::auth::actor::Actor;
use crate::auth::call::Call;
use crate::database::change::Acting;
use crate::database::claim::Claim;
use crate::failure::Failure;
use crate::watch::handle::Watch;
use crate::watch::metrics::Metrics;
use crate::watch::raise::tell_refusal;

impl Failure {
    /// The gRPC status of this failure for one call. Faults of ours are logged here, once.
    pub fn status(self, metrics: &Metrics, request_id: RequestId) -> Status {
        metrics.rejected(self.reason);
        if self.hearsay {
            return refuse(self.reason, self.message, request_id);
        }
        if matches!(self.reason, Reason::RowTampered | Reason::StateNoSpace) {
            metrics.alarmed(self.reason);
            tracing::error!(alarm = true, reason = %self.reason, %request_id, "{}", self.message);
        } else if matches!(self.reason, Reason::ServerInternal | Reason::SecretUnseal) {
            tracing::error!(reason = %self.reason, %request_id, "{}", self.message);
        }
        refuse(self.reason, self.message, request_id)
    }
}

/// The answer of one call, or its refusal. An answer has a warning if something that follows from it could not be done.
pub(crate) fn answered<T>(
    metrics: &Metrics,
    call: &Call,
    answer: Result<T, Failure>,
) -> Result<Response<T>, Status> {
    let mut response = Response::new(answer.map_err(|failure| failure.status(metrics, call.id))?);
    if call.pending.is_set() {
        warn(&mut response);
    }
    Ok(response)
}

/// It shows what an act would do, and writes nothing.
const DRY_RUN: &str = "/ShowPlanDiff";

/// The answer; the refusal of an act is in the audit log.
pub(crate) async fn told<T>(
    watch: &Watch,
    call: &Call,
    actor: &Actor,
    permission: Permission,
    answer: Result<T, Failure>,
) -> Result<T, Failure> {
    if let Err(failure) = &answer
        && !permission.name().ends_with(".read")
        && !call.method.ends_with(DRY_RUN)
    {
        let acting = Acting { claim: Claim::default(), ..actor.acting("") };
        tell_refusal(watch, &acting, &call.method, failure).await;
    }
    answer
}

/// What a handler gives.
pub(crate) type Answer<T> = Result<T, Failure>;

/// Declares a service over the replica:
///
/// ```text
/// service! {
///     /// Membership of `rap.fabric.v1`.
///     MembershipService: Membership {
///         node_revoke(NodeRevokeRequest) -> NodeRevokeAnswer: NodeRevoke revoke_node;
///     }
/// }
/// ```
///
/// Each line has the method, its messages, what the caller needs, and the handler. A caller needs a permission; it is
/// named, or a function in parentheses gives it from the message. `open` needs no session.
macro_rules! service {
    ($(#[$doc:meta])* $name:ident: $service:ident {
        $($method:ident($message:ident) -> $answer:ident: $needs:tt $handler:path;)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(std::sync::Arc<$crate::replica::Replica>);

        impl $name {
            /// Serves `replica`.
            pub fn new(replica: std::sync::Arc<$crate::replica::Replica>) -> Self {
                Self(replica)
            }
        }

        #[tonic::async_trait]
        impl $service for $name {
            $(
                async fn $method(
                    &self,
                    request: tonic::Request<rap_wire::v1::$message>,
                ) -> Result<tonic::Response<rap_wire::v1::$answer>, tonic::Status> {
                    $crate::grpc::answer::called!(self, request, $needs, $handler)
                }
            )+
        }
    };
}
pub(crate) use service;

/// One call: who calls, whether what is needed is there, the answer or its refusal.
macro_rules! called {
    ($self:ident, $request:ident, open, $handler:path) => {{
        let call = $crate::auth::call::Call::of(&$request).map_err(|status| *status)?;
        let answer = $handler(&$self.0, &call, $request.into_inner()).await;
        $crate::grpc::answer::answered(&$self.0.watch.metrics, &call, answer)
    }};
    ($self:ident, $request:ident, ($permission:path), $handler:path) => {{
        let permission = $permission($request.get_ref());
        $crate::grpc::answer::called!($self, $request, permission, $handler, authorized)
    }};
    ($self:ident, $request:ident, $permission:ident, $handler:path) => {{
        let permission = rap_authority::Permission::$permission;
        $crate::grpc::answer::called!($self, $request, permission, $handler, authorized)
    }};
    ($self:ident, $request:ident, $permission:ident, $handler:path, authorized) => {{
        let call = $crate::auth::call::Call::of(&$request).map_err(|status| *status)?;
        let actor = $crate::auth::authorize::authorize(&$self.0.serving, &call, $permission).await;
        let answer = match actor {
            Ok(mut actor) => {
                let (serving, message) = (&$self.0.serving, $request.into_inner());
                actor.claim = $crate::grpc::once::claim_of(&call, &actor, &message);
                let answer = match $crate::grpc::once::replayed(serving, &actor.claim).await {
                    Ok(Some(first)) => Ok(first),
                    Ok(None) => {
                        let answer = $handler(&$self.0, &actor, message).await;
                        $crate::grpc::once::kept(serving, &actor.claim, answer).await
                    }
                    Err(failure) => Err(failure),
                };
                $crate::grpc::answer::told(&$self.0.watch, &call, &actor, $permission, answer).await
            }
            Err(failure) => Err(failure),
        };
        $crate::grpc::answer::answered(&$self.0.watch.metrics, &call, answer)
    }};
}
pub(crate) use called;
