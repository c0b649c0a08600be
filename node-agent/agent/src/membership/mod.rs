//! One membership on this host: its directory, keys and pins, verified again at every start.
//!
//! Owns what is read before anything runs. Refuses to believe parsed state: contract and chain are
//! verified from their signed bytes.

mod aside;
mod break_glass;
mod host_allocation;
mod keys;
mod keys_to_replace;
mod persist;
mod plane_starts;
mod records;
mod stored_time;
mod wireguard_key;

use std::path::Path;
use std::sync::Arc;

use rap_contract::{
    AuthorityChain, BootstrapExpectation, PublicKey, Signer, VerifiedBootstrap, open_bootstrap,
};
use rap_runtime::Fault;
use rap_state::{
    Closed, Credentials, FloorStore, Identity, IdentityStore, MembershipDir, MembershipName, Raise,
    SignedBytes, inspect,
};
use rap_trust::{
    BreakGlassPins, Floors, HeadFloor, KeptAudit, OwnAddresses, Pinned, RevocationFloor, known_features,
};
use rap_types::{IdentityStatus, Incarnation, NodeId, Reason, Wall};
use zeroize::Zeroizing;

pub use aside::{discard, remove, staging, sweep};
pub use break_glass::{store_grants, stored_grants};
pub use host_allocation::{
    HostAllocation, HostAllocations, allocation_facts, allocation_of, listed_facts, overlap_fault,
    read as read_allocation,
};
pub use keys::{KeyHistory, PendingKeys};
pub use keys_to_replace::Wanted;
pub use persist::{Persister, stored_snapshots};
pub use plane_starts::PlaneStarts;
pub use records::{Enrollment, Kept, KeptCheckpoint, Nonce, StoredCertificate};
pub use stored_time::StoredTime;
pub use wireguard_key::{keys_of, stored_key, wireguard_public};

/// A membership that is complete and whose chain verifies.
pub struct Membership {
    /// The locked directory of the membership.
    pub dir: MembershipDir,
    /// Public facts.
    pub identity: Identity,
    /// Node identity key.
    pub signer: Signer,
    /// WireGuard private key.
    pub wireguard_key: Zeroizing<[u8; 32]>,
    /// Id given by the contract.
    pub node: NodeId,
    /// Contract, chain and pins.
    pub bootstrap: VerifiedBootstrap,
    /// The cluster's authority records, those accepted after the contract included.
    pub chain: AuthorityChain,
    /// Floors, open for raising.
    pub floors: FloorStore,
    /// Keys before, and keys to come.
    pub keys: KeyHistory,
    /// When its keys came into use, if it never replaced any.
    pub joined_at: Wall,
    /// What it keeps of the audit log.
    pub audit: KeptAudit,
    /// Files that others could reach until now.
    pub closed: Vec<Closed>,
}

impl Membership {
    /// Locks and opens a membership and verifies its chain. Blocks.
    ///
    /// # Errors
    /// `membership.absent`, `enrollment.pending`, `authority.dev_refused`, and those of state and chain.
    pub fn open(data: &Path, name: &MembershipName, accept_dev: bool) -> Result<Self, Fault> {
        let path = data.join(name.as_str()).join("identity.json");
        if !path.exists() && !rap_state::durable::twin(&path).exists() {
            return Err(if has_files(&data.join(name.as_str())) {
                missing("identity.json")
            } else {
                absent(name)
            });
        }
        let dir = MembershipDir::open(data, name)?;
        Self::of_dir(dir, accept_dev)
    }

    /// As [`Self::open`], for a directory that is locked already.
    ///
    /// # Errors
    /// The errors of [`Self::open`].
    pub fn of_dir(dir: MembershipDir, accept_dev: bool) -> Result<Self, Fault> {
        Self::with_records(dir, accept_dev, &[])
    }

    /// As [`Self::of_dir`], with authority records that this host accepted elsewhere: they are kept.
    ///
    /// # Errors
    /// The errors of [`Self::open`]; `chain.broken` if they are of another chain.
    pub fn with_records(dir: MembershipDir, accept_dev: bool, records: &[Vec<u8>]) -> Result<Self, Fault> {
        let closed = inspect(&dir)?;
        for Closed { path, mode } in &closed {
            tracing::warn!(path = %path.display(), "was open to others (mode {mode:03o}) and is closed now");
        }
        let (mut store, recovery) = IdentityStore::open(&dir)?.ok_or_else(|| absent(dir.name()))?;
        for (path, why) in &recovery.replaced {
            tracing::warn!(path = %path.display(), %why, "a damaged copy of a state file was replaced");
        }
        if store.identity().dev && !accept_dev {
            let text = "the membership was made by a development installation; start the agent with --dev";
            return Err(Fault::new(Reason::AuthorityDevRefused, text));
        }
        strip_join_secret(&mut store);
        let (signer, wireguard_key) = keys_of(&store)?;
        let joined = store.identity().identity_status == IdentityStatus::Active;
        let enrollment = match Enrollment::read(&dir)? {
            None if joined => return Err(missing(Enrollment::FILE)),
            enrollment => enrollment.unwrap_or_default(),
        };
        let keys = KeyHistory::read(&dir)?.unwrap_or_default();
        let contract_keys = keys.of_contract(signer.public(), wireguard_public(&wireguard_key))?;
        let bootstrap = reopen(store.identity(), contract_keys, &enrollment)?;
        let mut chain = chain_of(store.identity(), &bootstrap)?;
        if !records.is_empty() {
            let features = known_features(store.identity().dev);
            chain = chain.extended(records, &bootstrap.installation_authority, features)?;
            keep_records(&mut store, &chain, bootstrap.chain.records().len())?;
        }
        let identity = store.identity().clone();
        let mut floors = FloorStore::open(&dir)?.0;
        if floors.is_absent() {
            return Err(missing("floors.json"));
        }
        let authority = Some((chain.sequence(), chain.digest(), Incarnation(chain.incarnation())));
        floors.raise(&Raise { authority, ..Raise::default() })?;
        let audit = KeptCheckpoint::open(&dir);
        let (node, joined_at) = (bootstrap.node, enrollment.accepted_at.unwrap_or_default());
        Ok(Self {
            dir,
            node,
            identity,
            signer,
            wireguard_key,
            bootstrap,
            chain,
            floors,
            keys,
            joined_at,
            audit,
            closed,
        })
    }

    /// What the acceptor pins.
    pub fn pinned(&self) -> Pinned {
        Pinned {
            installation: self.identity.installation_id,
            cluster: self.identity.cluster_id,
            node: self.node,
            node_key: self.signer.id(),
            wireguard_key: wireguard_public(&self.wireguard_key),
            installation_authority: self.bootstrap.installation_authority,
            chain: Arc::new(self.chain.clone()),
            former: self.keys.former(),
            addresses: OwnAddresses::of_contract(&self.bootstrap.contract).ok(),
            accept_dev: self.identity.dev,
        }
    }

    /// What break-glass grants are verified with.
    pub fn break_glass_pins(&self) -> BreakGlassPins {
        BreakGlassPins {
            installation: self.identity.installation_id,
            cluster: self.identity.cluster_id,
            node: self.node,
            authority: self.chain.active(),
            activation_manifest: self.bootstrap.contract.activation_manifest.clone(),
            accept_dev: self.identity.dev,
        }
    }

    /// Floors on disk, as the acceptor reads them.
    pub fn trust_floors(&self) -> Floors {
        let floors = self.floors.current();
        Floors {
            head: HeadFloor {
                incarnation: floors.incarnation,
                version: floors.version,
                root: floors.head_digest,
            },
            time: floors.time_floor,
            frozen: floors.frozen,
            revocations: floors.revocations.map(|told| RevocationFloor {
                incarnation: told.incarnation,
                sequence: told.sequence,
                digest: told.digest,
            }),
        }
    }

    /// The cluster's CA as the contract names it, for use until a snapshot does.
    pub fn contract_ca(&self) -> &[u8] {
        &self.bootstrap.contract.cluster_ca
    }
}

/// The identity with the records that the contract does not carry, which are those after `carried`.
fn keep_records(store: &mut IdentityStore, chain: &AuthorityChain, carried: usize) -> Result<(), Fault> {
    let changed = store.update(|identity| {
        identity.authority_records = chain.envelopes().into_iter().skip(carried).map(SignedBytes).collect();
        identity.cluster_authority_pins = chain.keys_ever().map(|key| key.id()).collect();
    });
    changed.map(drop).map_err(Fault::from)
}

/// A join that was cut off at its very end leaves the token's secret, which has no use any more.
fn strip_join_secret(store: &mut IdentityStore) {
    let active = store.identity().identity_status == IdentityStatus::Active;
    if !active || store.credentials().join_secret.is_none() {
        return;
    }
    let credentials = Credentials { join_secret: None, ..store.credentials().clone() };
    if let Err(error) = store.replace_credentials(credentials) {
        // A disk that cannot be written keeps no node from running.
        tracing::warn!(%error, "the secret of the join token could not be removed");
    }
}

fn reopen(
    identity: &Identity,
    (node_key, wireguard_key): (PublicKey, [u8; 32]),
    enrollment: &Enrollment,
) -> Result<VerifiedBootstrap, Fault> {
    let pending =
        || Fault::new(Reason::EnrollmentPending, "the join is not finished; run join again to resume");
    let contract = identity.bootstrap_contract.as_ref().ok_or_else(pending)?;
    let (Some(request), Some(token), Some(now)) =
        (enrollment.request, identity.token_id, enrollment.accepted_at)
    else {
        return Err(pending());
    };
    let authority = PublicKey::from_slice(&enrollment.authority_key)?;
    let mut refusal = Fault::new(Reason::ContractMismatch, "nonce");
    for nonce in &enrollment.nonces {
        let known = BootstrapExpectation {
            installation: identity.installation_id,
            cluster: identity.cluster_id,
            authority,
            server_trust_pin: identity.server_trust_pin.as_bytes(),
            node_key,
            wireguard_key: &wireguard_key,
            token,
            request,
            nonce: &nonce.0,
            // A contract is short-lived; its times were checked when it was accepted.
            now,
            features: known_features(identity.dev),
        };
        match open_bootstrap(&contract.0, &known) {
            Ok(bootstrap) => return Ok(bootstrap),
            Err(reject) => refusal = reject.into(),
        }
    }
    Err(refusal)
}

fn chain_of(identity: &Identity, bootstrap: &VerifiedBootstrap) -> Result<AuthorityChain, Fault> {
    let later = identity.authority_records.iter().map(|SignedBytes(bytes)| bytes.clone());
    let records: Vec<Vec<u8>> = bootstrap.chain.envelopes().into_iter().chain(later).collect();
    AuthorityChain::verify(
        &records,
        &bootstrap.installation_authority,
        identity.installation_id,
        identity.cluster_id,
        known_features(identity.dev),
    )
    .map_err(Fault::from)
}

/// True if a directory holds more than a lock.
fn has_files(path: &Path) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name() != "lock")
}

/// A joined membership lost a file that nothing else replaces.
fn missing(file: &str) -> Fault {
    let text =
        format!("{file} and its twin are gone; put one back, or join --rejoin goes on with the same key");
    Fault::new(Reason::StateMissing, text)
}

fn absent(name: &MembershipName) -> Fault {
    Fault::new(Reason::MembershipAbsent, format!("no membership `{name}` on this host; run join first"))
}
