//! The service of ends and returns: one file per noun; this one only routes.

mod missing;
mod policy;
mod revocations;
mod revoke;

use std::sync::Arc;

use rap_rpc::v1::membership_server::Membership;
use rap_wire::v1;
use tonic::{Request, Response, Status};

pub use policy::{first_policies, policies_of, read_policy};
pub use revoke::{Departure, Recorded, write_departure, write_record};

use super::authorized;
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

    async fn policy_missing(
        &self,
        request: Request<v1::MembershipPolicySetRequest>,
    ) -> Result<Response<v1::MissingPolicies>, Status> {
        authorized!(self, request, ClusterRead, missing::look)
    }

    async fn policy_restore(
        &self,
        request: Request<v1::PolicyRestoreRequest>,
    ) -> Result<Response<v1::MissingPolicies>, Status> {
        authorized!(self, request, PolicyRestore, missing::restore)
    }
}
