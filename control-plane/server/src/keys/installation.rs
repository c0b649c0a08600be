//! The installation this process serves: its keys, its Product Root, its activation.
//!
//! Owns the verified facts for the life of the process. Refuses to take authority from a row: the
//! manifest is verified again at every load, and who may operate is in the role-grant set.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rap_authority::{
    InstallationFacts, RoleGrantScope, RoleGrantVerifier, SealingKey, activation_request,
    create_installation, reopen_activation,
};
use rap_contract::{ActivationTerms, KeySet, PublicKey, Signer};
use rap_runtime::tls::spki_sha256;
use rap_store::{InstallationRow, NewInstallationRow, PgConnection, installation_read};
use rap_types::{Reason, Wall};
use rustls_pki_types::CertificateDer;

use crate::failure::Failure;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::seal_context::Sealed;

impl Installation {
    /// For whom and by what grants are signed.
    pub fn role_grant_scope(&self) -> RoleGrantScope<'_> {
        RoleGrantScope { installation: self.facts.id, dev: self.facts.dev, authority: &self.authority }
    }

    /// What verifies them.
    pub fn role_grant_verifier(&self) -> RoleGrantVerifier {
        RoleGrantVerifier {
            installation: self.facts.id,
            authority: self.facts.authority,
            dev: self.facts.dev,
        }
    }
}

/// The installation, unsealed.
#[derive(Debug)]
pub struct Installation {
    /// Ids, public keys, mode.
    pub facts: InstallationFacts,
    /// The installation authority key.
    pub authority: Signer,
    /// Where nodes and operators reach it.
    pub control_urls: Vec<String>,
    /// Product Root keys.
    pub roots: KeySet,
    activation: ArcSwapOption<Activation>,
}

/// A verified activation.
#[derive(Debug)]
pub struct Activation {
    /// The encoded manifest.
    pub manifest: Vec<u8>,
    /// What it binds.
    pub terms: ActivationTerms,
}

/// The first rows of a new installation.
#[derive(Debug)]
pub struct Birth {
    /// Row to insert.
    pub row: NewInstallationRow,
    /// SHA-256 of the activation request, for its file name.
    pub request_digest: rap_types::Digest,
}

impl Installation {
    /// Makes keys, TLS CA and activation request.
    pub fn create(
        dev: bool,
        control_urls: &[String],
        kek: &SealingKey,
        now: Wall,
        imported: Option<Signer>,
    ) -> Result<Birth, Failure> {
        let generator = &mut rand::rng();
        let mut new = create_installation(now, generator);
        new.authority = imported.unwrap_or(new.authority);
        let serial = rap_authority::ids::random(generator);
        let tls_ca = CertificateAuthority::generate(&format!("RAP installation {}", new.id), now, serial)?;
        let facts = InstallationFacts {
            id: new.id,
            authority: new.authority.public(),
            tls_ca_pin: tls_ca.pin()?,
            request_nonce: new.request_nonce,
            dev,
        };
        let request = activation_request(&facts, &new.authority, control_urls, now);
        let row = NewInstallationRow {
            installation: new.id,
            dev,
            public_key: *new.authority.public().as_bytes(),
            sealed_private_key: Sealed::InstallationAuthority.seal(
                kek,
                new.id,
                new.authority.seed().as_slice(),
            ),
            tls_ca_cert_der: tls_ca.certificate().to_vec(),
            sealed_tls_ca_key: Sealed::TlsAuthority.seal(kek, new.id, &tls_ca.private_key()),
            activation_request: request.clone(),
            activation_nonce: new.request_nonce,
            control_urls: control_urls.to_vec(),
        };
        Ok(Birth { row, request_digest: rap_types::Digest::of(&[&request]) })
    }

    /// Reads, unseals and verifies the stored installation and its TLS CA.
    pub async fn load(
        connection: &mut PgConnection,
        dev: bool,
        kek: &SealingKey,
        roots: KeySet,
    ) -> Result<(Self, CertificateAuthority), Failure> {
        let row = installation_read(connection).await?.ok_or_else(|| {
            Failure::new(Reason::ConfigInvalid, "the database has no installation; run init")
        })?;
        if row.installation.dev != dev {
            return Err(Failure::new(Reason::AuthorityModeFixed, "the database was made in another mode"));
        }
        Self::open(&row, kek, roots)
    }

    /// True if this key encryption key sealed the keys of the stored installation.
    pub fn is_sealed_by(row: &InstallationRow, kek: &SealingKey) -> bool {
        let stored = &row.installation;
        Sealed::InstallationAuthority.open32(kek, stored.installation, &stored.sealed_private_key).is_ok()
    }

    fn open(
        row: &InstallationRow,
        kek: &SealingKey,
        roots: KeySet,
    ) -> Result<(Self, CertificateAuthority), Failure> {
        let stored = &row.installation;
        let seed =
            Sealed::InstallationAuthority.open32(kek, stored.installation, &stored.sealed_private_key)?;
        let authority = Signer::from_seed(&seed);
        if authority.public() != PublicKey::from_slice(&stored.public_key)? {
            return Err(Failure::new(Reason::RowTampered, "installation authority key"));
        }
        let tls_key = Sealed::TlsAuthority.open(kek, stored.installation, &stored.sealed_tls_ca_key)?;
        let tls_ca = CertificateAuthority::open(&stored.tls_ca_cert_der, &tls_key)?;
        let facts = InstallationFacts {
            id: stored.installation,
            authority: authority.public(),
            tls_ca_pin: tls_ca.pin()?,
            request_nonce: stored.activation_nonce,
            dev: stored.dev,
        };
        let installation = Self {
            facts,
            authority,
            control_urls: stored.control_urls.clone(),
            roots,
            activation: ArcSwapOption::empty(),
        };
        if let Some(manifest) = &row.activation_manifest {
            installation.adopt_activation(manifest)?;
        }
        Ok((installation, tls_ca))
    }

    /// Whether this row says what was loaded. What is sealed in it is opened at the next start; an activation that
    /// another replica accepted is none that is missing here.
    pub fn is_in(&self, row: &InstallationRow) -> bool {
        let (stored, facts) = (&row.installation, &self.facts);
        let pin = spki_sha256(&CertificateDer::from(stored.tls_ca_cert_der.as_slice()));
        let manifest =
            self.activation().is_none_or(|known| Some(&known.manifest) == row.activation_manifest.as_ref());
        stored.installation == facts.id
            && stored.dev == facts.dev
            && &stored.public_key == facts.authority.as_bytes()
            && stored.activation_nonce == facts.request_nonce
            && pin.is_ok_and(|pin| pin == facts.tls_ca_pin)
            && manifest
    }

    /// The activation, if there was one.
    pub fn activation(&self) -> Option<Arc<Activation>> {
        self.activation.load_full()
    }

    /// The activation, required.
    ///
    /// # Errors
    /// `activation.required`.
    pub fn activated(&self) -> Result<Arc<Activation>, Failure> {
        self.activation()
            .ok_or_else(|| Failure::new(Reason::ActivationRequired, "the installation is not activated"))
    }

    /// Verifies a stored manifest and goes by it from now on.
    ///
    /// # Errors
    /// Those of verification: a manifest in the database that the Product Root did not sign for this
    /// installation is never used.
    pub fn adopt_activation(&self, manifest: &[u8]) -> Result<(), Failure> {
        let terms = reopen_activation(&self.facts, manifest, &self.roots)?;
        let activation = Activation { manifest: manifest.to_vec(), terms };
        self.activation.store(Some(Arc::new(activation)));
        Ok(())
    }

    /// Takes over an activation that another replica accepted meanwhile.
    pub async fn refresh_activation(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        if self.activation.load().is_some() {
            return Ok(());
        }
        match installation_read(connection).await?.and_then(|row| row.activation_manifest) {
            Some(manifest) => self.adopt_activation(&manifest),
            None => Ok(()),
        }
    }
}
