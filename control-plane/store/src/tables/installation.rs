//! The installation's one row.

use rap_types::{InstallationId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::Result;
use crate::columns::{bound, read};
use crate::counted::{may_conflict, one_row};
use crate::query::{Readable, optional, statements};

/// What `init` writes.
#[derive(Debug, Clone)]
pub struct NewInstallationRow {
    /// Id of the installation.
    pub installation: InstallationId,
    /// True for a development installation. Never changes.
    pub dev: bool,
    /// Public half of the installation authority key.
    pub public_key: [u8; 32],
    /// Its private half, sealed for (`installation_authority`, `sealed_private_key`).
    pub sealed_private_key: Vec<u8>,
    /// DER certificate of the TLS CA.
    pub tls_ca_cert_der: Vec<u8>,
    /// Its key, sealed for (`installation_authority`, `sealed_tls_ca_key`).
    pub sealed_tls_ca_key: Vec<u8>,
    /// Encoded activation request.
    pub activation_request: Vec<u8>,
    /// Nonce of that request.
    pub activation_nonce: [u8; 32],
    /// Where nodes and operators reach the control plane.
    pub control_urls: Vec<String>,
}

/// The installation as stored.
#[derive(Debug, Clone)]
pub struct InstallationRow {
    /// As written by `init`.
    pub installation: NewInstallationRow,
    /// Encoded activation manifest, once activated.
    pub activation_manifest: Option<Vec<u8>>,
    /// When it was activated.
    pub activated_at: Option<Wall>,
    /// When `init` ran.
    pub created_at: Wall,
}

impl Readable for InstallationRow {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            installation: NewInstallationRow {
                installation: read(row, "installation_id")?,
                dev: row.try_get::<&str, _>("mode")? == "dev",
                public_key: read(row, "public_key")?,
                sealed_private_key: read(row, "sealed_private_key")?,
                tls_ca_cert_der: read(row, "tls_ca_cert_der")?,
                sealed_tls_ca_key: read(row, "sealed_tls_ca_key")?,
                activation_request: read(row, "activation_request")?,
                activation_nonce: read(row, "activation_nonce")?,
                control_urls: read(row, "control_urls")?,
            },
            activation_manifest: read(row, "activation_manifest")?,
            activated_at: read(row, "activated_at")?,
            created_at: read(row, "created_at")?,
        })
    }
}

statements! {
    async fn row_insert(arguments) -> () = one_row "INSERT INTO installation_authority \
        (installation_id, mode, public_key, sealed_private_key, tls_ca_cert_der, sealed_tls_ca_key, \
         activation_request, activation_nonce, control_urls) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    /// The installation; `None` before `init`.
    pub async fn installation_read() -> Option<InstallationRow> = optional "SELECT * FROM installation_authority";
    /// Stores the manifest that answers the request with `nonce`. False if one was stored before, or the
    /// nonce is another: of fifty racing calls exactly one returns true.
    pub async fn installation_activate(manifest: &[u8], nonce: &[u8; 32]) -> bool = may_conflict
        "UPDATE installation_authority \
        SET activation_manifest = $1, activated_at = clock_timestamp(), row_version = row_version + 1 \
        WHERE activation_manifest IS NULL AND activation_nonce = $2";
    /// Replaces the control URLs that later tokens and contracts carry.
    pub async fn installation_control_urls_set(urls: &[String]) -> () = may_conflict "UPDATE installation_authority \
        SET control_urls = $1, row_version = row_version + 1 WHERE control_urls <> $1";
}

/// Writes the installation's row. A second one is refused with [`StoreError::Exists`].
pub async fn installation_insert(connection: &mut PgConnection, new: &NewInstallationRow) -> Result<()> {
    let arguments = bound!(
        new.installation.uuid(),
        if new.dev { "dev" } else { "strict" },
        new.public_key.as_slice(),
        &new.sealed_private_key,
        &new.tls_ca_cert_der,
        &new.sealed_tls_ca_key,
        &new.activation_request,
        new.activation_nonce.as_slice(),
        &new.control_urls,
    );
    row_insert(connection, arguments).await
}
