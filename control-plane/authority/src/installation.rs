//! The installation: its keys, its activation request, and the one activation that it accepts.
//!
//! Owns the binding of an installation to its Product Root. Refuses to own storage: the caller consumes an activation
//! atomically.

use rand_core::CryptoRng;
use rap_contract::{
    ActivationTerms, Audience, Expectation, FEATURE_DEV, HeaderTerms, KeySet, PublicKey, Reject, Signer,
    open_activation_request, sign, sign_activation,
};
use rap_types::{ClusterId, Digest, InstallationId, Reason, Wall};
use rap_wire::v1;

use crate::ids;

/// What an installation is, apart from its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationFacts {
    /// Its id.
    pub id: InstallationId,
    /// Public half of its authority key.
    pub authority: PublicKey,
    /// SHA-256 of its TLS CA's SPKI.
    pub tls_ca_pin: Digest,
    /// Nonce of its activation request.
    pub request_nonce: [u8; 32],
    /// True for a development installation.
    pub dev: bool,
}

/// The secrets and ids of an installation that was just made.
#[derive(Debug)]
pub struct NewInstallation {
    /// Its id.
    pub id: InstallationId,
    /// Its authority key.
    pub authority: Signer,
    /// Nonce of its activation request.
    pub request_nonce: [u8; 32],
}

/// Makes an installation's id, authority key and request nonce.
pub fn create_installation(now: Wall, generator: &mut dyn CryptoRng) -> NewInstallation {
    let mut request_nonce = [0; 32];
    generator.fill_bytes(&mut request_nonce);
    NewInstallation {
        id: InstallationId::from_parts(ids::millis(now), ids::random(generator)),
        authority: Signer::generate(generator),
        request_nonce,
    }
}

/// The request document that the Product Root answers; signed by the authority key it names.
pub fn activation_request(
    facts: &InstallationFacts,
    authority: &Signer,
    control_urls: &[String],
    now: Wall,
) -> Vec<u8> {
    let request = v1::ActivationRequest {
        header: Some(
            HeaderTerms {
                audience: Audience::Any,
                critical: critical(facts.dev),
                ..HeaderTerms::of_installation(facts.id, authority.id(), now)
            }
            .to_wire(),
        ),
        installation_authority_key: authority.public().to_vec(),
        tls_ca_spki_sha256: facts.tls_ca_pin.to_vec(),
        nonce: facts.request_nonce.to_vec(),
        control_urls: control_urls.to_vec(),
        dev: facts.dev,
    };
    sign(&request, &[authority])
}

/// The manifest with which a Product Root answers a request and names the first owner. Used by a
/// development installation, whose root is in its own data directory; an offline root does the same
/// in `rapctl`.
///
/// # Errors
/// Those of verifying the request.
pub fn answer_activation_request(
    request: &[u8],
    root: &Signer,
    owner_name: &str,
    owner: &PublicKey,
    now: Wall,
) -> Result<Vec<u8>, Reject> {
    let expect = Expectation { now: Some(now), features: &[FEATURE_DEV], ..Expectation::default() };
    let request = open_activation_request(request, &expect)?;
    Ok(sign_activation(&request, root, (owner_name, owner), now, None))
}

/// Decides on an activation manifest. `consumed` = an activation was accepted before.
///
/// # Errors
/// `activation.replayed`, `activation.mismatch`, and those of verification against `roots`.
pub fn decide_activation(
    facts: &InstallationFacts,
    consumed: bool,
    manifest: &[u8],
    roots: &KeySet,
    now: Wall,
) -> Result<ActivationTerms, Reject> {
    let terms = open_manifest(facts, manifest, roots, Some(now))?;
    Reject::when(consumed, Reason::ActivationReplayed, "activation manifest")?;
    Ok(terms)
}

/// Verifies a stored manifest again, at every start: the owner's authority comes from it alone.
///
/// # Errors
/// `activation.mismatch`, and those of verification against `roots`.
pub fn reopen_activation(
    facts: &InstallationFacts,
    manifest: &[u8],
    roots: &KeySet,
) -> Result<ActivationTerms, Reject> {
    open_manifest(facts, manifest, roots, None)
}

fn open_manifest(
    facts: &InstallationFacts,
    manifest: &[u8],
    roots: &KeySet,
    now: Option<Wall>,
) -> Result<ActivationTerms, Reject> {
    let audience = [Audience::Installation(facts.id)];
    let features: &[&str] = if facts.dev { &[FEATURE_DEV] } else { &[] };
    let within = Expectation::within(facts.id, ClusterId::ZERO, features);
    let expect = Expectation { now, ..within.for_one_of(&audience) };
    let mismatch = |what| Reject::new(Reason::ActivationMismatch, what);
    let (_, terms) = ActivationTerms::open(manifest, roots, &expect).map_err(|reject| {
        let of_another = matches!(reject.reason, Reason::HeaderInstallation | Reason::HeaderAudience);
        if of_another { mismatch(reject.what) } else { reject }
    })?;
    if terms.installation_authority != facts.authority {
        return Err(mismatch("installation_authority_key"));
    }
    if terms.tls_ca_pin != facts.tls_ca_pin {
        return Err(mismatch("tls_ca_spki_sha256"));
    }
    if terms.request_nonce != facts.request_nonce {
        return Err(mismatch("request_nonce"));
    }
    Ok(terms)
}

/// Critical features of everything an installation signs.
pub fn critical(dev: bool) -> Vec<String> {
    if dev { vec![FEATURE_DEV.to_owned()] } else { Vec::new() }
}

/// The features a control plane of this kind knows, for verifying what it signed itself.
pub fn known_features(dev: bool) -> &'static [&'static str] {
    if dev { &[FEATURE_DEV] } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    const NOW: Wall = Wall(1_800_000_000_000);

    struct World {
        facts: InstallationFacts,
        authority: Signer,
        root: Signer,
        owner: Signer,
    }

    fn world(dev: bool) -> World {
        let mut generator = rand::rngs::StdRng::seed_from_u64(1);
        let new = create_installation(NOW, &mut generator);
        let facts = InstallationFacts {
            id: new.id,
            authority: new.authority.public(),
            tls_ca_pin: Digest::of(&[b"ca"]),
            request_nonce: new.request_nonce,
            dev,
        };
        let root = Signer::generate(&mut generator);
        let owner = Signer::generate(&mut generator);
        World { facts, authority: new.authority, root, owner }
    }

    fn manifest(world: &World) -> Vec<u8> {
        let request = activation_request(&world.facts, &world.authority, &["https://h:1".into()], NOW);
        answer_activation_request(&request, &world.root, "owner@example.com", &world.owner.public(), NOW)
            .unwrap()
    }

    fn roots(world: &World) -> KeySet {
        KeySet::of::<v1::ActivationManifest>(world.root.public())
    }

    #[test]
    fn a_manifest_activates_once_and_names_the_owner() {
        let world = world(false);
        let manifest = manifest(&world);
        let terms = decide_activation(&world.facts, false, &manifest, &roots(&world), NOW).unwrap();
        assert_eq!(terms.owner_key, world.owner.public());
        let again = decide_activation(&world.facts, true, &manifest, &roots(&world), NOW).unwrap_err();
        assert_eq!(again.reason, Reason::ActivationReplayed);
        assert_eq!(reopen_activation(&world.facts, &manifest, &roots(&world)).unwrap(), terms);
    }

    #[test]
    fn another_root_installation_authority_ca_or_nonce_is_refused() {
        let world = world(false);
        let manifest = manifest(&world);
        let reason = |facts: InstallationFacts, roots: &KeySet| {
            decide_activation(&facts, false, &manifest, roots, NOW).unwrap_err().reason
        };
        let stranger = Signer::from_seed(&[9; 32]);
        let mine = roots(&world);
        let facts = || world.facts.clone();
        assert_eq!(
            reason(facts(), &KeySet::of::<v1::ActivationManifest>(stranger.public())),
            Reason::KeyUnknown
        );
        for other in [
            InstallationFacts { id: InstallationId::from_bytes([1; 16]), ..facts() },
            InstallationFacts { authority: stranger.public(), ..facts() },
            InstallationFacts { tls_ca_pin: Digest::of(&[b"another"]), ..facts() },
            InstallationFacts { request_nonce: [0; 32], ..facts() },
        ] {
            assert_eq!(reason(other, &mine), Reason::ActivationMismatch);
        }
    }

    #[test]
    fn a_strict_installation_refuses_a_dev_manifest() {
        let world = world(true);
        let manifest = manifest(&world);
        let strict = InstallationFacts { dev: false, ..world.facts.clone() };
        let reject = decide_activation(&strict, false, &manifest, &roots(&world), NOW).unwrap_err();
        assert_eq!(reject.reason, Reason::AuthorityDevRefused);
    }
}
