//! The service of operators: one file per noun; this one only routes.

mod clusters;
mod diagnose;
mod login;
pub(super) mod nodes;
mod status;
mod tokens;

use rap_rpc::v1::admin_server::Admin;

use crate::grpc::answer::service;

service! {
    /// Admin of `rap.fabric.v1`.
    AdminService: Admin {
        installation(InstallationRequest) -> InstallationAnswer: open status::installation;
        login_challenge(LoginChallengeRequest) -> LoginChallengeAnswer: open login::challenge;
        activate(ActivateRequest) -> LoginAnswer: open login::activate;
        login(LoginRequest) -> LoginAnswer: open login::login;
        logout(LogoutRequest) -> LogoutAnswer: SessionEnd login::logout;
        status(StatusRequest) -> StatusAnswer: StatusRead status::status;
        cluster_create(ClusterCreateRequest) -> Cluster: ClusterCreate clusters::create;
        cluster_list(ClusterListRequest) -> ClusterListAnswer: ClusterRead clusters::list;
        cluster_show(ClusterRef) -> Cluster: ClusterRead clusters::show;
        token_create(TokenCreateRequest) -> TokenCreateAnswer: TokenCreate tokens::create;
        token_list(TokenListRequest) -> TokenListAnswer: TokenRead tokens::list;
        token_revoke(TokenRevokeRequest) -> Token: TokenRevoke tokens::revoke;
        node_list(NodeListRequest) -> NodeListAnswer: NodeRead nodes::list;
        node_show(NodeRef) -> Node: NodeRead nodes::show;
        node_approve(NodeDecideRequest) -> NodeDecideAnswer: NodeDecide nodes::approve;
        node_deny(NodeDecideRequest) -> NodeDecideAnswer: NodeDecide nodes::deny;
        node_update(NodeUpdateRequest) -> Node: NodeUpdate nodes::update;
        node_export(NodeRef) -> NodeExportAnswer: NodeExport nodes::export;
        node_accept(NodeRef) -> Node: NodeDecide nodes::accept;
        ping(AdminPingRequest) -> AdminPingAnswer: NodeDiagnose diagnose::ping;
        path_explain(AdminPathExplainRequest) -> AdminPathExplainAnswer: NodeDiagnose diagnose::path_explain;
    }
}
