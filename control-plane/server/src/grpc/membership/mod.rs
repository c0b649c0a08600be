//! The service of ends and returns: one file per noun; this one only routes.

mod policy;
mod revocations;
mod revoke;

use std::sync::Arc;

use rap_authority::Permission;
use rap_wire::v1;
use rap_wire::v1::membership_server::Membership;
use tonic::{Request, Response, Status};

pub use policy::{MembershipPolicy, policy_of, read_policy};
pub use revoke::{Departure, Recorded, write_departure, write_record};

use super::{Call, authorize};
use crate::control::Control;

/// Membership of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct MembershipService(Arc<Control>);

impl MembershipService {
    /// Serves `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self(control)
    }
}

macro_rules! authorized {
    ($self:ident, $request:ident, $permission:ident, $handler:path) => {{
        let call = Call::of(&$request).map_err(|status| *status)?;
        let actor = authorize(&$self.0, &call, Permission::$permission)
            .await
            .map_err(|failure| failure.status(&$self.0.metrics, call.id))?;
        let answer = $handler(&$self.0, &actor, $request.into_inner()).await;
        answer.map(Response::new).map_err(|failure| failure.status(&$self.0.metrics, call.id))
    }};
}

#[tonic::async_trait]
impl Membership for MembershipService {
    async fn node_revoke(
        &self,
        request: Request<v1::NodeRevokeRequest>,
    ) -> Result<Response<v1::NodeRevokeAnswer>, Status> {
        authorized!(self, request, NodeRevoke, revoke::revoke)
    }

    async fn revocation_list(
        &self,
        request: Request<v1::RevocationListRequest>,
    ) -> Result<Response<v1::RevocationListAnswer>, Status> {
        authorized!(self, request, NodeRead, revocations::list)
    }

    async fn policy_show(
        &self,
        request: Request<v1::ClusterRef>,
    ) -> Result<Response<v1::MembershipPolicy>, Status> {
        authorized!(self, request, ClusterRead, policy::show)
    }

    async fn policy_set(
        &self,
        request: Request<v1::MembershipPolicySetRequest>,
    ) -> Result<Response<v1::MembershipPolicy>, Status> {
        authorized!(self, request, PolicyChange, policy::set)
    }
}
