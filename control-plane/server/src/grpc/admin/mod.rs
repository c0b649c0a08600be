//! The service of operators: one file per noun; this one only routes.

mod clusters;
mod login;
pub(super) mod nodes;
mod status;
mod tokens;

use std::sync::Arc;

use rap_rpc::v1::admin_server::Admin;
use rap_wire::v1;
use tonic::{Request, Response, Status};

use crate::grpc::answer::{authorized, open};
use crate::replica::Replica;

/// Admin of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct AdminService(Arc<Replica>);

impl AdminService {
    /// Serves `replica`.
    pub fn new(replica: Arc<Replica>) -> Self {
        Self(replica)
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn installation(
        &self,
        request: Request<v1::InstallationRequest>,
    ) -> Result<Response<v1::InstallationAnswer>, Status> {
        open!(self, request, status::installation)
    }

    async fn login_challenge(
        &self,
        request: Request<v1::LoginChallengeRequest>,
    ) -> Result<Response<v1::LoginChallengeAnswer>, Status> {
        open!(self, request, login::challenge)
    }

    async fn activate(
        &self,
        request: Request<v1::ActivateRequest>,
    ) -> Result<Response<v1::LoginAnswer>, Status> {
        open!(self, request, login::activate)
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::LoginAnswer>, Status> {
        open!(self, request, login::login)
    }

    async fn logout(
        &self,
        request: Request<v1::LogoutRequest>,
    ) -> Result<Response<v1::LogoutAnswer>, Status> {
        authorized!(self, request, SessionEnd, login::logout)
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusAnswer>, Status> {
        authorized!(self, request, StatusRead, status::status)
    }

    async fn cluster_create(
        &self,
        request: Request<v1::ClusterCreateRequest>,
    ) -> Result<Response<v1::Cluster>, Status> {
        authorized!(self, request, ClusterCreate, clusters::create)
    }

    async fn cluster_list(
        &self,
        request: Request<v1::ClusterListRequest>,
    ) -> Result<Response<v1::ClusterListAnswer>, Status> {
        authorized!(self, request, ClusterRead, clusters::list)
    }

    async fn cluster_show(&self, request: Request<v1::ClusterRef>) -> Result<Response<v1::Cluster>, Status> {
        authorized!(self, request, ClusterRead, clusters::show)
    }

    async fn token_create(
        &self,
        request: Request<v1::TokenCreateRequest>,
    ) -> Result<Response<v1::TokenCreateAnswer>, Status> {
        authorized!(self, request, TokenCreate, tokens::create)
    }

    async fn token_list(
        &self,
        request: Request<v1::TokenListRequest>,
    ) -> Result<Response<v1::TokenListAnswer>, Status> {
        authorized!(self, request, TokenRead, tokens::list)
    }

    async fn token_revoke(
        &self,
        request: Request<v1::TokenRevokeRequest>,
    ) -> Result<Response<v1::Token>, Status> {
        authorized!(self, request, TokenRevoke, tokens::revoke)
    }

    async fn node_list(
        &self,
        request: Request<v1::NodeListRequest>,
    ) -> Result<Response<v1::NodeListAnswer>, Status> {
        authorized!(self, request, NodeRead, nodes::list)
    }

    async fn node_show(&self, request: Request<v1::NodeRef>) -> Result<Response<v1::Node>, Status> {
        authorized!(self, request, NodeRead, nodes::show)
    }

    async fn node_approve(
        &self,
        request: Request<v1::NodeDecideRequest>,
    ) -> Result<Response<v1::NodeDecideAnswer>, Status> {
        authorized!(self, request, NodeDecide, nodes::approve)
    }

    async fn node_deny(
        &self,
        request: Request<v1::NodeDecideRequest>,
    ) -> Result<Response<v1::NodeDecideAnswer>, Status> {
        authorized!(self, request, NodeDecide, nodes::deny)
    }

    async fn node_update(
        &self,
        request: Request<v1::NodeUpdateRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        authorized!(self, request, NodeUpdate, nodes::update)
    }

    async fn node_export(
        &self,
        request: Request<v1::NodeRef>,
    ) -> Result<Response<v1::NodeExportAnswer>, Status> {
        authorized!(self, request, NodeExport, nodes::export)
    }

    async fn node_accept(&self, request: Request<v1::NodeRef>) -> Result<Response<v1::Node>, Status> {
        authorized!(self, request, NodeDecide, nodes::accept)
    }

    async fn ping(
        &self,
        request: Request<v1::AdminPingRequest>,
    ) -> Result<Response<v1::AdminPingAnswer>, Status> {
        authorized!(self, request, NodeDiagnose, status::ping)
    }
}
