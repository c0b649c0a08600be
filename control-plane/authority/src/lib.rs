//! Installation, clusters, enrollment decisions, key custody.
//!
//! Owns what the control plane decides about trust, as functions of their inputs. Refuses to own a
//! clock, a generator, a socket or a table.

mod cluster;
mod custody;
mod enrollment;
pub mod ids;
mod installation;
mod overlay;
mod rows;
mod session;
mod token;

pub use cluster::{
    ClusterOrder, ClusterTiming, NewCluster, check_name, create_cluster, next_incarnation, reopen_cluster,
};
pub use custody::{SealPlace, SealPurpose, SealingKey, UnsealError};
pub use enrollment::{
    CONTRACT_LIFE, ContractTerms, Decision, OperatorGrant, ProofChannel, check_certificate_proof,
    check_endpoints, check_join_proof, check_poll_proof, check_wireguard_key, choose_node_name, decide_login,
    decide_request, sign_contract,
};
pub use installation::{
    InstallationFacts, NewInstallation, activation_request, answer_activation_request, create_installation,
    critical, decide_activation, known_features, reopen_activation,
};
pub use overlay::{DEFAULT_IPV4_POOL, check_pool};
pub use rows::{RowKey, row_mac};
pub use session::{IssuedSession, SessionClaim, SessionKey};
pub use token::{
    NewToken, TokenOrder, TokenRow, TokenScope, TokenTerms, check_tags, check_token_row, issue_token,
    open_token, refusal_of_row, reopen_token, token_state,
};
