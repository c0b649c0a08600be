//! Values that the key encryption key sealed, read and replaced during its rotation.
//!
//! Owns the statements. The caller runs them in one transaction, so either everything is sealed under the new key or
//! nothing is.

use rap_types::ClusterId;

use super::data_keys::DekRow;
use crate::counted::one_row;
use crate::query::{all, one, statements};

statements! {
    /// Keeps every other rotation, and every new cluster, waiting until the transaction ends.
    pub async fn installation_hold() -> () = one "SELECT 1 AS held FROM installation_authority FOR UPDATE";
    /// Replaces the sealed key of the installation authority.
    pub async fn installation_authority_rewrap(sealed_private_key: &[u8]) -> () = one_row
        "UPDATE installation_authority SET sealed_private_key = $1, row_version = row_version + 1";
    /// Replaces the sealed key of the installation's TLS CA.
    pub async fn installation_tls_rewrap(sealed_tls_ca_key: &[u8]) -> () = one_row
        "UPDATE installation_authority SET sealed_tls_ca_key = $1, row_version = row_version + 1";
    /// The data keys of every cluster, retired ones included.
    pub async fn deks_all() -> Vec<DekRow> = all
        "SELECT cluster_id, key_version, wrapped_dek FROM cluster_deks ORDER BY cluster_id, key_version";
    /// Replaces one wrapped data key.
    pub async fn dek_rewrap(cluster: ClusterId, key_version: u64, wrapped_dek: &[u8]) -> () = one_row
        "UPDATE cluster_deks SET wrapped_dek = $3 WHERE cluster_id = $1 AND key_version = $2";
    /// The sealed key of every generation of the audit log.
    pub async fn log_keys_sealed() -> Vec<(u64, Vec<u8>)> = all
        "SELECT generation, sealed_private_key FROM audit_log_keys ORDER BY generation";
    /// Replaces one sealed key of the audit log.
    pub async fn log_key_rewrap(generation: u64, sealed_private_key: &[u8]) -> () = one_row
        "UPDATE audit_log_keys SET sealed_private_key = $2 WHERE generation = $1";
}
