//! The membership's directory with everything that must be on disk before anything is asked.
//!
//! Owns the order of the writes. Refuses to talk to anybody.

use std::path::Path;

use rap_contract::{
    Expectation, JoinTokenText, KeySet, PublicKey, Signer, Verified, VerifiedBootstrap, verify,
};
use rap_runtime::output::clean;
use rap_runtime::{Clock, Fault, Secret};
use rap_state::{Credentials, FloorStore, Identity, IdentityStore, MembershipDir, Raise, SignedBytes};
use rap_trust::{Application, PendingJoin, Pools, known_features};
use rap_types::{Digest, IdentityStatus, Incarnation, Now, Reason, TokenId, Wall};
use rap_wire::v1;
use zeroize::Zeroizing;

use super::host::HostTerms;
use crate::config::{Config, is_node_name};
use crate::membership::{Enrollment, HostAllocations, Kept as _, Nonce};

/// A token with its verified form.
pub(super) type Given = (JoinTokenText, Verified<v1::JoinToken>);

/// The membership's directory with everything that must be on disk before anything is asked.
pub(super) struct Prepared {
    pub(super) dir: MembershipDir,
    pub(super) store: IdentityStore,
    pub(super) enrollment: Enrollment,
    pub(super) token: Verified<v1::JoinToken>,
}

impl Prepared {
    pub(super) fn open(config: &Config, given: Option<JoinTokenText>) -> Result<Self, Fault> {
        let given = checked(config, given, Wall::default())?;
        let dir = MembershipDir::open(&config.data_dir, &config.membership)?;
        let stored = IdentityStore::open(&dir)?;
        let dir = match (stored, &given) {
            (Some((store, _)), _) if store.identity().identity_status != IdentityStatus::Pending => {
                let name = &store.identity().name;
                let text =
                    format!("this host is already node {name} there (join --rejoin if it was thrown out)");
                return Err(Fault::new(Reason::MembershipExists, text));
            }
            (Some((store, _)), given) => {
                let asked = store.identity().token_id;
                match given {
                    Some((_, token)) if asked != TokenId::from_slice(&token.token_id).ok() => {
                        // Another token: what was asked with the old one is given up, keys included.
                        drop(store);
                        dir.destroy()?;
                        MembershipDir::open(&config.data_dir, &config.membership)?
                    }
                    Some((text, _)) => return Self::resume(config, dir, with_secret(store, text)?),
                    None => return Self::resume(config, dir, store),
                }
            }
            (None, None) => {
                dir.destroy()?;
                let text = "give a token: --token-file FILE, or - for standard input";
                return Err(Fault::new(Reason::SecretMissing, text));
            }
            (None, Some(_)) => dir,
        };
        let Some((text, token)) = given else {
            return Err(Fault::new(Reason::SecretMissing, "a token is needed"));
        };
        Self::create(config, dir, (text, token), Signer::generate(&mut rand::rng()), wished_name(config))
    }

    /// Writes a pending membership that asks with this identity key and wishes this name.
    pub(super) fn create(
        config: &Config,
        dir: MembershipDir,
        (text, token): Given,
        signer: Signer,
        name: String,
    ) -> Result<Self, Fault> {
        let malformed = |_| Fault::new(Reason::TokenMalformed, "a field of the token has a wrong length");
        // Before anything is asked: a cluster whose addresses this host uses already burns no use.
        let allocations = HostAllocations::open(&config.data_dir)?;
        let pools = Pools::of_token(&token)?;
        if let Err(fault) = allocations.check(&config.membership, &pools) {
            // Nothing of use is in it yet.
            dir.destroy()?;
            return Err(fault);
        }
        let terms = HostTerms::of(config);
        let roomy = terms.check(&pools, &token.control_urls);
        if let Err(fault) = roomy.and_then(|()| terms.write_bounds(&config.membership, &pools)) {
            dir.destroy()?;
            return Err(fault);
        }
        allocations.give(&dir, None)?;
        drop(allocations);
        let enrollment =
            Enrollment { authority_key: token.cluster_authority_key.clone(), ..Enrollment::default() };
        enrollment.clone().store(&dir)?;
        let mut wireguard_key = Zeroizing::new([0; 32]);
        rand::Rng::fill_bytes(&mut rand::rng(), wireguard_key.as_mut_slice());
        let credentials = Credentials {
            node_key: Secret::new(signer.seed().to_vec()),
            wireguard_key: Secret::new(wireguard_key.to_vec()),
            join_secret: Some(Secret::new(text.secret().to_vec())),
        };
        let header = token.header();
        let authority = PublicKey::from_slice(&token.cluster_authority_key)?;
        let identity = Identity {
            membership: config.membership.clone(),
            name,
            installation_id: header.installation,
            cluster_id: header.cluster,
            node_id: None,
            identity_status: IdentityStatus::Pending,
            node_fingerprint: signer.id(),
            pending_join_request_id: None,
            authority_required: true,
            credential_ref: String::new(),
            tls_key_generation: 0,
            control_urls: token.control_urls.clone(),
            server_trust_pin: Digest::from_slice(&token.server_trust_pin).map_err(malformed)?,
            installation_authority_pin: None,
            cluster_authority_pins: vec![authority.id()],
            token_id: Some(TokenId::from_slice(&token.token_id).map_err(malformed)?),
            join_token: Some(SignedBytes(text.envelope().to_vec())),
            bootstrap_contract: None,
            authority_records: Vec::new(),
            dev: header.is_dev(),
        };
        let store = IdentityStore::create(&dir, identity, credentials)?;
        Ok(Self { dir, store, enrollment, token })
    }

    pub(super) fn resume(config: &Config, dir: MembershipDir, store: IdentityStore) -> Result<Self, Fault> {
        let enrollment = Enrollment::read(&dir)?.unwrap_or_default();
        let corrupt = |what: &str| Fault::new(Reason::StateCorrupt, what.to_owned());
        let envelope =
            store.identity().join_token.clone().ok_or_else(|| corrupt("the token is not stored"))?;
        let authority = PublicKey::from_slice(&enrollment.authority_key)?;
        config.pin.check(&authority)?;
        // The times of the token were checked when it was first used; an approval may take longer than the token lives.
        let (identity, features) = (store.identity(), known_features(config.dev));
        let expect = Expectation::within(identity.installation_id, identity.cluster_id, features);
        let token = verify(&envelope.0, &KeySet::of::<v1::JoinToken>(authority), &expect)?;
        eprintln!("resuming the join that was begun before");
        Ok(Self { dir, store, enrollment, token })
    }
}

/// A join that gave up before it had a request kept no secret: it is the token's that is given again.
fn with_secret(mut store: IdentityStore, token: &JoinTokenText) -> Result<IdentityStore, Fault> {
    let identity = store.identity();
    if identity.pending_join_request_id.is_none() && store.credentials().join_secret.is_none() {
        let secret = Some(Secret::new(token.secret().to_vec()));
        let credentials = Credentials { join_secret: secret, ..store.credentials().clone() };
        store.replace_credentials(credentials)?;
    }
    Ok(store)
}

/// The token, if it is one that this host may use now, which is not before `floor`.
pub(super) fn checked(
    config: &Config,
    given: Option<JoinTokenText>,
    floor: Wall,
) -> Result<Option<Given>, Fault> {
    let Some(text) = given else { return Ok(None) };
    let now = Clock::new().now().wall.max(floor);
    let token = Application::check_token(&text, &config.pin, config.dev, now)?;
    Ok(Some((text, token)))
}

pub(super) fn wished_name(config: &Config) -> String {
    config.name.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().split('.').next().unwrap_or_default();
        let name = tidied(host);
        if name != host.to_ascii_lowercase() {
            eprintln!(
                "name         {name}: the host name {} cannot be a node's; --name chooses another",
                clean(host)
            );
        }
        name
    })
}

/// The name of a node nearest to that of its host.
fn tidied(host: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = host.chars().map(letter).take(NAME).collect();
    let name = name.trim_matches('-').to_owned();
    if is_node_name(&name) { name } else { "node".to_owned() }
}

impl Prepared {
    pub(super) fn note(&mut self, pending: PendingJoin) -> Result<(), Fault> {
        self.enrollment.nonces = pending.nonces.into_iter().map(Nonce).collect();
        self.enrollment.request = pending.request;
        self.enrollment.clone().store(&self.dir)?;
        self.store.update(|identity| identity.pending_join_request_id = pending.request).map(drop)?;
        // The request is polled by the identity key: the secret has done its work.
        if pending.request.is_some() { self.forget_secret() } else { Ok(()) }
    }

    /// The token's secret leaves the disk. A join without a request needs the token again.
    pub(super) fn forget_secret(&mut self) -> Result<(), Fault> {
        if self.store.credentials().join_secret.is_none() {
            return Ok(());
        }
        let credentials = Credentials { join_secret: None, ..self.store.credentials().clone() };
        self.store.replace_credentials(credentials).map_err(Fault::from)
    }

    /// The contract goes last but one: a crash before it leaves a join that resumes; the token's secret
    /// goes last of all.
    pub(super) fn settle(
        &mut self,
        data: &Path,
        terms: &HostTerms,
        bootstrap: &VerifiedBootstrap,
        now: Now,
    ) -> Result<(), Fault> {
        let contract = &bootstrap.contract;
        // A token of an older control plane named no pools; the contract does.
        let (allocations, pools) = (HostAllocations::open(data)?, Pools::of_contract(contract)?);
        allocations.check(self.dir.name(), &pools)?;
        terms.write_bounds(self.dir.name(), &pools)?;
        allocations.give(&self.dir, Some(pools))?;
        drop(allocations);
        // From here on their absence is a loss and not a beginning.
        let mut floors = FloorStore::open(&self.dir)?.0;
        if floors.is_absent() {
            let chain = &bootstrap.chain;
            let authority = Some((chain.sequence(), chain.digest(), Incarnation(chain.incarnation())));
            floors.raise(&Raise { authority, ..Raise::default() })?;
        }
        self.enrollment.accepted_at = Some(now.wall.max(contract.header().issued_at));
        self.enrollment.clone().store(&self.dir)?;
        let pin = Digest::from_slice(&contract.server_trust_pin)
            .map_err(|_| Fault::new(Reason::ContractMismatch, "server_trust_pin"))?;
        let changed = self.store.update(|identity| {
            identity.name.clone_from(&contract.node_name);
            identity.node_id = Some(bootstrap.node);
            identity.identity_status = IdentityStatus::Active;
            identity.pending_join_request_id = None;
            identity.control_urls.clone_from(&contract.control_urls);
            identity.server_trust_pin = pin;
            identity.installation_authority_pin = Some(bootstrap.installation_authority.id());
            identity.cluster_authority_pins = bootstrap.chain.keys_ever().map(|key| key.id()).collect();
            identity.bootstrap_contract = Some(SignedBytes(contract.envelope().to_vec()));
            identity.join_token = None;
        });
        changed?;
        tracing::trace!(way = "the contract is on disk");
        self.forget_secret()
    }
}

/// The cluster's name as it may be shown; an older token has none.
pub(super) fn cluster_name(token: &v1::JoinToken) -> Option<String> {
    let name = clean(&token.cluster_name);
    (!name.is_empty()).then_some(name)
}

/// Longest name of a node, as in a label of DNS.
const NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_the_nearest_name_of_a_node() {
        for (host, name) in [
            ("web-01", "web-01"),
            ("web_01", "web-01"),
            ("WEB_01", "web-01"),
            ("_web 01_", "web-01"),
            ("caf\u{e9}", "caf"),
            ("___", "node"),
            ("", "node"),
        ] {
            assert_eq!(tidied(host), name, "{host:?}");
        }
        assert_eq!(tidied(&"a".repeat(70)), "a".repeat(63));
    }
}
