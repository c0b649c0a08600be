//! Which keys this membership had, has, and is about to have.
//!
//! Owns the record that makes a rotation survive a crash at any point: new keys are on disk before the
//! control plane hears of them, and stay there until they are the present ones. Refuses to make keys.

use rap_contract::{PublicKey, Signer};
use rap_runtime::{Fault, Secret};
use rap_state::{Credentials, IdentityStore, MembershipDir, Record, base64_text};
use rap_trust::FormerKeys;
use rap_types::{KeyId, Wall};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::records::Kept;
use super::wireguard_key::{stored_key, wireguard_public};

/// The record beside the credentials. Empty for a membership that never replaced a key.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyHistory {
    /// Identity key that the bootstrap contract is for; empty while it is the present one.
    #[serde(with = "base64_text")]
    pub contract_node_key: Vec<u8>,
    /// WireGuard key that the bootstrap contract is for; empty while it is the present one.
    #[serde(with = "base64_text")]
    pub contract_wireguard_key: Vec<u8>,
    /// Identity key before the last rotation.
    pub former_node_key: Option<KeyId>,
    /// WireGuard key before the last rotation.
    #[serde(with = "base64_text")]
    pub former_wireguard_key: Vec<u8>,
    /// Since when the identity key is in use; none since the join.
    pub identity_since: Option<Wall>,
    /// Since when the WireGuard key is in use; none since the join.
    pub wireguard_since: Option<Wall>,
    /// Keys that were made and are not the present ones yet.
    pub pending: Option<PendingKeys>,
}

/// New private keys; an empty one stays as it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingKeys {
    #[serde(with = "base64_text")]
    node_key: Zeroizing<Vec<u8>>,
    #[serde(with = "base64_text")]
    wireguard_key: Zeroizing<Vec<u8>>,
}

rap_types::debug_as!(KeyHistory, |history| "KeyHistory(pending {})", history.pending.is_some());

rap_types::debug_as!(PendingKeys, "PendingKeys(..)");

impl Record for KeyHistory {
    const SCHEMA: &'static str = "rap.keys.v1";
}

impl Kept for KeyHistory {
    const FILE: &'static str = "keys.json";
}

impl PendingKeys {
    /// New keys as they were made.
    pub fn new(node_key: Option<&Signer>, wireguard_key: Option<&Zeroizing<[u8; 32]>>) -> Self {
        let seed = node_key.map(|key| key.seed().to_vec()).unwrap_or_default();
        let wireguard = wireguard_key.map(|key| key.to_vec()).unwrap_or_default();
        Self { node_key: Zeroizing::new(seed), wireguard_key: Zeroizing::new(wireguard) }
    }

    /// The new identity key, if it changes.
    ///
    /// # Errors
    /// `state.corrupt`.
    pub fn identity(&self) -> Result<Option<Signer>, Fault> {
        Ok(key_of(&self.node_key)?.map(|seed| Signer::from_seed(&seed)))
    }

    /// The new WireGuard key, if it changes.
    ///
    /// # Errors
    /// `state.corrupt`.
    pub fn wireguard(&self) -> Result<Option<Zeroizing<[u8; 32]>>, Fault> {
        key_of(&self.wireguard_key)
    }
}

fn key_of(bytes: &[u8]) -> Result<Option<Zeroizing<[u8; 32]>>, Fault> {
    if bytes.is_empty() {
        return Ok(None);
    }
    stored_key(bytes).map(Some)
}

impl KeyHistory {
    /// The public keys that the contract is for, given the present ones.
    ///
    /// # Errors
    /// `key.invalid`, `state.corrupt`.
    pub fn of_contract(
        &self,
        node_key: PublicKey,
        wireguard_key: [u8; 32],
    ) -> Result<(PublicKey, [u8; 32]), Fault> {
        if self.contract_node_key.is_empty() {
            return Ok((node_key, wireguard_key));
        }
        let node_key = PublicKey::from_slice(&self.contract_node_key)?;
        Ok((node_key, *stored_key(&self.contract_wireguard_key)?))
    }

    /// The keys before the last rotation.
    pub fn former(&self) -> Option<FormerKeys> {
        let wireguard_key = self.former_wireguard_key.as_slice().try_into().ok()?;
        Some(FormerKeys { node_key: self.former_node_key?, wireguard_key })
    }

    /// Puts new keys on disk before anybody hears of them. Keys that wait there already go first.
    ///
    /// # Errors
    /// An error of local state.
    pub fn prepare(
        &mut self,
        dir: &MembershipDir,
        present: (&Signer, &Zeroizing<[u8; 32]>),
        new: PendingKeys,
    ) -> Result<(), Fault> {
        if self.pending.is_some() {
            return Ok(());
        }
        if self.contract_node_key.is_empty() {
            self.contract_node_key = present.0.public().to_vec();
            self.contract_wireguard_key = wireguard_public(present.1).to_vec();
        }
        self.pending = Some(new);
        self.clone().store(dir)
    }

    /// Makes the pending keys the present ones, now that the control plane has taken them. Again after a
    /// crash is the same.
    ///
    /// # Errors
    /// An error of local state.
    pub fn finish(&mut self, dir: &MembershipDir, store: &mut IdentityStore, now: Wall) -> Result<(), Fault> {
        let Some(pending) = self.pending.clone() else { return Ok(()) };
        let (signer, wireguard_key) = super::wireguard_key::keys_of(store)?;
        let (new_identity, new_wireguard) = (pending.identity()?, pending.wireguard()?);
        let replaced = new_identity.as_ref().is_none_or(|new| new.id() == signer.id())
            && new_wireguard.as_ref().is_none_or(|new| *new == wireguard_key);
        if !replaced {
            self.former_node_key = Some(signer.id());
            self.former_wireguard_key = wireguard_public(&wireguard_key).to_vec();
            self.identity_since = if new_identity.is_some() { Some(now) } else { self.identity_since };
            self.wireguard_since = if new_wireguard.is_some() { Some(now) } else { self.wireguard_since };
            self.clone().store(dir)?;
            let credentials = Credentials {
                node_key: Secret::new(new_identity.as_ref().unwrap_or(&signer).seed().to_vec()),
                wireguard_key: Secret::new(new_wireguard.unwrap_or(wireguard_key).to_vec()),
                join_secret: store.credentials().join_secret.clone(),
            };
            store.replace_credentials(credentials)?;
        }
        self.pending = None;
        self.clone().store(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_state::{Identity, MembershipName};
    use rap_types::{ClusterId, Digest, IdentityStatus, InstallationId};

    fn identity() -> Identity {
        Identity {
            membership: MembershipName::new("default").unwrap(),
            name: "web".into(),
            installation_id: InstallationId::from_bytes([1; 16]),
            cluster_id: ClusterId::from_bytes([2; 16]),
            node_id: None,
            identity_status: IdentityStatus::Active,
            node_fingerprint: KeyId::of(&[0; 32]),
            pending_join_request_id: None,
            authority_required: true,
            credential_ref: String::new(),
            tls_key_generation: 1,
            control_urls: Vec::new(),
            server_trust_pin: Digest::of(&[b"pin"]),
            installation_authority_pin: None,
            cluster_authority_pins: Vec::new(),
            token_id: None,
            join_token: None,
            bootstrap_contract: None,
            authority_records: Vec::new(),
            dev: false,
        }
    }

    /// Takes a rotation to its end after it was cut off at each of its writes.
    #[test]
    fn a_rotation_cut_off_at_any_write_ends_with_the_new_keys_and_the_contracts_in_the_record() {
        for cut in 0..3 {
            let data = tempfile::tempdir().unwrap();
            let dir = MembershipDir::open(data.path(), &MembershipName::new("default").unwrap()).unwrap();
            let (old, new) = (Signer::from_seed(&[3; 32]), Signer::from_seed(&[4; 32]));
            let old_wireguard = Zeroizing::new([5; 32]);
            let credentials = Credentials {
                node_key: Secret::new(old.seed().to_vec()),
                wireguard_key: Secret::new(old_wireguard.to_vec()),
                join_secret: None,
            };
            let mut store = IdentityStore::create(&dir, identity(), credentials).unwrap();
            let mut keys = KeyHistory::default();
            keys.prepare(&dir, (&old, &old_wireguard), PendingKeys::new(Some(&new), None)).unwrap();
            // Another wish while keys wait changes nothing.
            let other = Signer::from_seed(&[6; 32]);
            keys.prepare(&dir, (&old, &old_wireguard), PendingKeys::new(Some(&other), None)).unwrap();
            if cut > 0 {
                let waiting = keys.clone();
                keys.finish(&dir, &mut store, Wall(7)).unwrap();
                if cut == 1 {
                    // The record still says pending, the credentials are the new ones.
                    KeyHistory { pending: waiting.pending, ..keys.clone() }.store(&dir).unwrap();
                }
            }
            let mut keys = KeyHistory::read(&dir).unwrap().unwrap_or_default();
            let mut store = IdentityStore::open(&dir).unwrap().unwrap().0;
            keys.finish(&dir, &mut store, Wall(9)).unwrap();
            let keys = KeyHistory::read(&dir).unwrap().unwrap_or_default();
            let (signer, wireguard) = super::super::keys_of(&store).unwrap();
            assert_eq!((signer.id(), *wireguard), (new.id(), [5; 32]), "cut {cut}");
            assert!(keys.pending.is_none());
            let former = keys.former().unwrap();
            assert_eq!((former.node_key, former.wireguard_key), (old.id(), wireguard_public(&old_wireguard)));
            assert_eq!(keys.identity_since, Some(Wall(if cut == 0 { 9 } else { 7 })));
            let of_contract = keys.of_contract(signer.public(), wireguard_public(&wireguard)).unwrap();
            assert_eq!(of_contract, (old.public(), wireguard_public(&old_wireguard)));
        }
    }
}
