//! Who this host is in one cluster: public facts in `identity.json`, private keys in the file that its
//! `credential_ref` names.
//!
//! Owns the fields, their order of writing and the match of key and fingerprint. Refuses to make keys
//! and to believe the signed bytes it keeps: readers verify those again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ed25519_dalek::SigningKey;
use rap_runtime::Secret;
use rap_runtime::files::FileError;
use rap_types::{ClusterId, Digest, IdentityStatus, InstallationId, JoinRequestId, KeyId, NodeId, TokenId};
use serde::{Deserialize, Serialize};

use crate::base64_text;
use crate::durable::{Durable, Record, Recovery, twin};
use crate::error::StateError;
use crate::layout::{MembershipDir, MembershipName};

/// Bytes of a signed object as received; base64 in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedBytes(#[serde(with = "base64_text")] pub Vec<u8>);

/// Public facts about this host in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Membership on this host.
    pub membership: MembershipName,
    /// Name the node asked for or was given, for people.
    pub name: String,
    /// Installation of the cluster.
    pub installation_id: InstallationId,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Id given at approval.
    pub node_id: Option<NodeId>,
    /// Where the identity is in its life.
    pub identity_status: IdentityStatus,
    /// SHA-256 of the node's public identity key. Always that of the key in `credential_ref`.
    pub node_fingerprint: KeyId,
    /// Join request that waits for a decision.
    pub pending_join_request_id: Option<JoinRequestId>,
    /// True if nothing may be accepted without a signature that leads to the pins below.
    pub authority_required: bool,
    /// File beside this one that holds the private keys. Set by [`IdentityStore`].
    pub credential_ref: String,
    /// Generation of the newest TLS key that was certified. Never falls.
    pub tls_key_generation: u64,
    /// Control plane URLs, in order of preference.
    pub control_urls: Vec<String>,
    /// SHA-256 of the SPKI of the installation's TLS CA.
    pub server_trust_pin: Digest,
    /// The installation authority, once the bootstrap contract named it.
    pub installation_authority_pin: Option<KeyId>,
    /// Cluster authorities that were accepted, newest last.
    pub cluster_authority_pins: Vec<KeyId>,
    /// Token used to join.
    pub token_id: Option<TokenId>,
    /// Join token envelope, kept until approval.
    pub join_token: Option<SignedBytes>,
    /// Bootstrap contract with activation manifest and authority record chain.
    pub bootstrap_contract: Option<SignedBytes>,
    /// Authority records accepted after the contract, oldest first.
    pub authority_records: Vec<SignedBytes>,
    /// True if the membership was made in development mode; never changes.
    pub dev: bool,
}

/// Private keys of one membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Ed25519 seed of the node identity key, 32 bytes.
    #[serde(with = "base64_text")]
    pub node_key: Secret,
    /// X25519 WireGuard key, 32 bytes.
    #[serde(with = "base64_text")]
    pub wireguard_key: Secret,
    /// Secret of the join token, kept until approval.
    #[serde(with = "base64_text::optional")]
    pub join_secret: Option<Secret>,
}

impl Record for Identity {
    const SCHEMA: &'static str = "rap.identity.v1";
}

impl Record for Credentials {
    const SCHEMA: &'static str = "rap.credentials.v1";
}

impl Credentials {
    /// Key id of the node identity key, or `None` if the seed has not 32 bytes.
    pub fn node_fingerprint(&self) -> Option<KeyId> {
        let seed: &[u8; 32] = self.node_key.expose().try_into().ok()?;
        Some(KeyId::of(SigningKey::from_bytes(seed).verifying_key().as_bytes()))
    }
}

/// Identity and keys of one membership, on disk. Calls block.
#[derive(Debug)]
pub struct IdentityStore {
    dir: MembershipDir,
    identity: Durable<Identity>,
    credentials: Durable<Credentials>,
}

impl IdentityStore {
    /// Reads a membership's identity; `None` if it has none.
    pub fn open(dir: &MembershipDir) -> Result<Option<(Self, Recovery)>, StateError> {
        let (identity, mut recovery) = Durable::<Identity>::open(&dir.join(IDENTITY))?;
        let Some(facts) = identity.value() else { return Ok(None) };
        let corrupt = |why: &str| StateError::Corrupt { path: dir.join(IDENTITY), why: why.to_owned() };
        if credential_number(&facts.credential_ref).is_none() {
            return Err(corrupt("credential_ref does not name a credential file"));
        }
        let path = dir.join(&facts.credential_ref);
        refuse_exposed(&path)?;
        refuse_exposed(&twin(&path))?;
        let (credentials, more) = Durable::<Credentials>::open(&path)?;
        let Some(keys) = credentials.value() else {
            return Err(corrupt("the file named by credential_ref is absent"));
        };
        if keys.node_fingerprint() != Some(facts.node_fingerprint) {
            return Err(corrupt("node_fingerprint is not that of the key in credential_ref"));
        }
        recovery.replaced.extend(more.replaced);
        recovery.unhealed = recovery.unhealed.or(more.unhealed);
        let store = Self { dir: dir.clone(), identity, credentials };
        store.remove_unnamed_credentials();
        Ok(Some((store, recovery)))
    }

    /// Private keys whose identity is lost: those of the newest credential file that reads. A file is newer
    /// only once everybody it is shown to knows its keys.
    pub fn salvage(dir: &MembershipDir) -> Result<Option<Credentials>, StateError> {
        let at = |source| FileError::Io { path: dir.path().to_owned(), source };
        let mut names: Vec<(u64, String)> = Vec::new();
        for entry in std::fs::read_dir(dir.path()).map_err(at)?.flatten() {
            let file = entry.file_name();
            let Some(name) = file.to_str().map(|name| name.strip_suffix(".twin").unwrap_or(name)) else {
                continue;
            };
            names.extend(credential_number(name).map(|number| (number, name.to_owned())));
        }
        names.sort_by(|one, other| other.cmp(one));
        for (_, name) in names {
            let path = dir.join(&name);
            refuse_exposed(&path)?;
            refuse_exposed(&twin(&path))?;
            let keys =
                Durable::<Credentials>::open(&path).ok().and_then(|(record, _)| record.value().cloned());
            if let Some(keys) = keys.filter(|keys| keys.node_fingerprint().is_some()) {
                return Ok(Some(keys));
            }
        }
        Ok(None)
    }

    /// Writes a new identity: keys first, then the file that names them. `credential_ref` and
    /// `node_fingerprint` are set from `credentials`.
    pub fn create(
        dir: &MembershipDir,
        mut facts: Identity,
        credentials: Credentials,
    ) -> Result<Self, StateError> {
        let (mut identity, _) = Durable::<Identity>::open(&dir.join(IDENTITY))?;
        if identity.value().is_some() {
            return Err(StateError::Exists(dir.path().to_owned()));
        }
        let credentials = write_credentials(dir, &mut facts, credentials)?;
        identity.store(facts)?;
        let store = Self { dir: dir.clone(), identity, credentials };
        store.remove_unnamed_credentials();
        Ok(store)
    }

    /// The public facts.
    pub fn identity(&self) -> &Identity {
        self.identity.value().unwrap_or_else(|| unreachable!("made only with a value"))
    }

    /// The private keys.
    pub fn credentials(&self) -> &Credentials {
        self.credentials.value().unwrap_or_else(|| unreachable!("made only with a value"))
    }

    /// Changes public facts; they are on disk when this returns. `credential_ref` and
    /// `node_fingerprint` cannot change here, `dev` not at all, `tls_key_generation` only upwards.
    pub fn update(&mut self, change: impl FnOnce(&mut Identity)) -> Result<&Identity, StateError> {
        let old = self.identity();
        let mut next = old.clone();
        change(&mut next);
        if next.tls_key_generation < old.tls_key_generation {
            return Err(StateError::Lowered {
                what: "TLS key generation",
                floor: old.tls_key_generation.to_string(),
                offered: next.tls_key_generation.to_string(),
            });
        }
        next.credential_ref.clone_from(&old.credential_ref);
        next.node_fingerprint = old.node_fingerprint;
        next.dev = old.dev;
        if next != *old {
            self.identity.store(next)?;
        }
        Ok(self.identity())
    }

    /// Replaces the private keys: new file, then the identity that names it, then the old file goes. A
    /// crash leaves the old keys or the new ones, whole.
    pub fn replace_credentials(&mut self, credentials: Credentials) -> Result<(), StateError> {
        let mut facts = self.identity().clone();
        let credentials = write_credentials(&self.dir, &mut facts, credentials)?;
        self.identity.store(facts)?;
        self.credentials = credentials;
        self.remove_unnamed_credentials();
        Ok(())
    }

    fn remove_unnamed_credentials(&self) {
        let named = &self.identity().credential_ref;
        for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let record = name.strip_suffix(".twin").unwrap_or(name);
            let unnamed = credential_number(record).is_some() && record != named;
            if unnamed && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(file = name, %error, "replaced credentials could not be removed");
            }
        }
    }
}

fn write_credentials(
    dir: &MembershipDir,
    facts: &mut Identity,
    credentials: Credentials,
) -> Result<Durable<Credentials>, StateError> {
    let path_of = |number: u64| format!("{CREDENTIALS}{number}.json");
    let fingerprint =
        credentials.node_fingerprint().filter(|_| credentials.wireguard_key.expose().len() == 32);
    let Some(fingerprint) = fingerprint else {
        return Err(StateError::Corrupt {
            path: dir.join(&path_of(0)),
            why: "a key has not 32 bytes".into(),
        });
    };
    // A number nobody used: also not one of an attempt that a crash cut off.
    let free = |number: &u64| {
        let path = dir.join(&path_of(*number));
        !path.exists() && !twin(&path).exists()
    };
    let name = path_of((1..).find(free).unwrap_or(u64::MAX));
    let (mut record, _) = Durable::<Credentials>::open(&dir.join(&name))?;
    record.store(credentials)?;
    facts.credential_ref = name;
    facts.node_fingerprint = fingerprint;
    Ok(record)
}

/// The number in the name of a credential file; `None` for another name.
fn credential_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(CREDENTIALS)?.strip_suffix(".json")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

fn refuse_exposed(path: &Path) -> Result<(), StateError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(|source| FileError::Io { path: path.to_owned(), source })?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 || !metadata.is_file() {
        return Err(StateError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

const IDENTITY: &str = "identity.json";
const CREDENTIALS: &str = "credentials-";
