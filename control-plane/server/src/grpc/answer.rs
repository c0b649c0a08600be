//! From a failure to the gRPC status that a caller gets.
//!
//! Owns which details leave the process: the reason and a fixed text, never a row, a path or a secret.

use rap_rpc::refuse;
use rap_types::{Reason, RequestId};
use tonic::Status;

use crate::failure::Failure;
use crate::watch::metrics::Metrics;

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

/// A call of an operators' service: who calls, whether the permission is there, the answer or its refusal.
macro_rules! authorized {
    ($self:ident, $request:ident, $permission:ident, $handler:path) => {
        $crate::grpc::answer::authorized!($self, $request, (rap_authority::Permission::$permission), $handler)
    };
    ($self:ident, $request:ident, ($permission:expr), $handler:path) => {{
        let call = $crate::auth::call::Call::of(&$request).map_err(|status| *status)?;
        let fail = |failure: $crate::failure::Failure| failure.status(&$self.0.watch.metrics, call.id);
        let permission = $permission;
        let actor =
            $crate::auth::authorize::authorize(&$self.0.serving, &call, permission).await.map_err(fail)?;
        let answer = $handler(&$self.0, &actor, $request.into_inner()).await;
        answer.map(tonic::Response::new).map_err(fail)
    }};
}
pub(crate) use authorized;
