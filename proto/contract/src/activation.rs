//! Activation: the installation's request and the manifest that the Product Root signs for it.

use rap_types::{Digest, InstallationId, Reason, Wall};
use rap_wire::v1;

use crate::verify::verify_self_named;
use crate::{Expectation, HeaderTerms, KeySet, PublicKey, Reject, Signer, Verified, sign, verify};

/// What an activation manifest binds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationTerms {
    /// The installation vouched for.
    pub installation: InstallationId,
    /// Its authority key.
    pub installation_authority: PublicKey,
    /// SHA-256 of its TLS CA's SPKI.
    pub tls_ca_pin: Digest,
    /// Nonce of the request it answers.
    pub request_nonce: [u8; 32],
    /// First owner's name.
    pub owner_name: String,
    /// First owner's key.
    pub owner_key: PublicKey,
}

impl ActivationTerms {
    /// Verifies a manifest against the Product Root keys and reads its terms.
    ///
    /// # Errors
    /// Those of [`verify`], `key.invalid`, `payload.malformed`.
    pub fn open(
        bytes: &[u8],
        roots: &KeySet,
        expect: &Expectation<'_>,
    ) -> Result<(Verified<v1::ActivationManifest>, Self), Reject> {
        let manifest: Verified<v1::ActivationManifest> = verify(bytes, roots, expect)?;
        let terms = Self::read(manifest.header().installation, &manifest)?;
        Ok((manifest, terms))
    }

    /// Reads the terms of a manifest for this installation. Nothing is verified.
    ///
    /// # Errors
    /// `key.invalid`, `payload.malformed`.
    pub fn read(installation: InstallationId, manifest: &v1::ActivationManifest) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
        let terms = Self {
            installation,
            installation_authority: PublicKey::from_slice(&manifest.installation_authority_key)?,
            tls_ca_pin: Digest::from_slice(&manifest.tls_ca_spki_sha256)
                .map_err(|_| malformed("tls_ca_spki_sha256"))?,
            request_nonce: manifest
                .request_nonce
                .as_slice()
                .try_into()
                .map_err(|_| malformed("request_nonce"))?,
            owner_name: manifest.owner_name.clone(),
            owner_key: PublicKey::from_slice(&manifest.owner_key)?,
        };
        if terms.owner_name.is_empty() || terms.owner_name.len() > 256 {
            return Err(malformed("owner_name"));
        }
        Ok(terms)
    }
}

/// The manifest by which the Product Root vouches for the installation of a request, and names its owner.
pub fn sign_activation(
    request: &Verified<v1::ActivationRequest>,
    root: &Signer,
    (owner_name, owner): (&str, &PublicKey),
    now: Wall,
    expires_at: Option<Wall>,
) -> Vec<u8> {
    let header = HeaderTerms {
        expires_at,
        critical: request.header().critical.clone(),
        ..HeaderTerms::of_installation(request.header().installation, root.id(), now)
    };
    let manifest = v1::ActivationManifest {
        header: Some(header.to_wire()),
        installation_authority_key: request.installation_authority_key.clone(),
        tls_ca_spki_sha256: request.tls_ca_spki_sha256.clone(),
        request_nonce: request.nonce.clone(),
        owner_name: owner_name.to_owned(),
        owner_key: owner.to_vec(),
    };
    sign(&manifest, &[root])
}

/// Verifies an activation request against the authority key it names: proof that the installation
/// holds that key, and nothing more.
///
/// # Errors
/// Those of [`verify`].
pub fn open_activation_request(
    bytes: &[u8],
    expect: &Expectation<'_>,
) -> Result<Verified<v1::ActivationRequest>, Reject> {
    verify_self_named(bytes, expect, |request: &v1::ActivationRequest| &request.installation_authority_key)
}
