//! Installation, clusters, enrollment decisions, key custody.
//!
//! Owns what the control plane decides about trust, as functions of their inputs. Refuses to own a
//! clock, a generator, a socket or a table.

#![cfg_attr(
    not(test),
    warn(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::await_holding_lock)
)]

mod absence;
mod admission;
mod audit;
mod backup;
mod bootstrap;
mod ca_rotation;
mod cluster;
mod custody;
mod data_keys;
mod enrollment;
mod floors;
pub mod ids;
mod installation;
mod lifecycle;
mod overlay;
mod permissions;
mod policy;
mod proofs;
mod role_grants;
mod rotation;
mod rows;
mod session;
mod token;

pub use absence::{Absence, Look, Presence};
pub use admission::{AdmittedRoleGrants, RoleGrantVerifier, StoredRoleGrant};
pub use audit::AuditKey;
pub use backup::BackupKey;
pub use bootstrap::{CONTRACT_LIFE, ContractTerms, sign_contract};
pub use ca_rotation::{CaFollower, CaStage, CaStep};
pub use cluster::{
    ClusterOrder, ClusterTiming, LONGEST_CERTIFICATE, LONGEST_FRESH, NewCluster, adopt_cluster, check_name,
    check_order, create_cluster, create_cluster_of, next_incarnation, reopen_cluster,
};
pub use custody::{SealContext, SealPurpose, SealingKey, UnsealError, sealed_version};
pub use data_keys::{DataKeys, OpensDataKeys};
pub use enrollment::{Decision, check_endpoints, check_wireguard_key, choose_node_name, decide_request};
pub use floors::{Floor, FloorOf, ReplicaFloors};
pub use installation::{
    InstallationFacts, NewInstallation, activation_request, answer_activation_request, create_installation,
    critical, decide_activation, known_features, reopen_activation,
};
pub use lifecycle::{AuthorityLife, AuthorityStep};
pub use overlay::DEFAULT_IPV4_POOL;
pub use permissions::Permission;
pub use policy::{DegradedPolicy, NodeLifecyclePolicy, PolicyError};
pub use proofs::{
    KeyRotation, OperatorGrant, ProofChannel, check_certificate_proof, check_join_proof, check_leave_proof,
    check_poll_proof, check_rotation_proof, decide_login,
};
pub use role_grants::{
    RoleGrantChange, RoleGrantOrder, RoleGrantScope, SignedRoleGrantSet, add_role_grant, first_role_grant,
    permission_to_grant, renew_role_grant_set, renewal_is_due, revoke_role_grant,
};
pub use rotation::{Extended, Succession, extend_chain};
pub use rows::{Columns, RowKeys};
pub use session::{IssuedSession, SessionClaim, SessionKey};
pub use token::{
    NewToken, TokenOrder, TokenRow, TokenScope, TokenTerms, check_tags, check_token_row, issue_token,
    open_token, refusal_of_row, reopen_token, token_state,
};
