//! What is left of the membership that a host returns to.
//!
//! Owns which tokens and which attempts are of that membership, and what of it a return must not take
//! back. Refuses to remove anything of it.

use rap_contract::{Signer, Verified};
use rap_runtime::Fault;
use rap_runtime::files::{read_capped, write_atomic};
use rap_state::{FloorStore, Identity, IdentityStore, MembershipDir};
use rap_types::{IdentityStatus, NodeId, Reason, Wall};
use rap_wire::v1;

use super::prepared::Given;
use crate::config::Config;
use crate::membership::{Enrollment, Kept as _, keys_of, staging, stored_key};

/// What is left of the membership, held so that no agent starts on it.
pub(super) struct Former {
    pub(super) dir: MembershipDir,
    pub(super) identity: Option<Identity>,
    pub(super) signer: Signer,
    /// True if the only copy of the key is in what is to take its place.
    pub(super) sole: bool,
    /// The authority that its token pinned, if that is still known.
    authority: Option<Vec<u8>>,
}

impl Former {
    pub(super) fn open(config: &Config) -> Result<Self, Fault> {
        let path = config.data_dir.join(config.membership.as_str());
        let nothing = || {
            let text =
                format!("no key of membership `{}` on this host; join without --rejoin", config.membership);
            Fault::new(Reason::MembershipAbsent, text)
        };
        let staged = staging(&config.data_dir).join(config.membership.as_str());
        if !path.is_dir() && !staged.is_dir() {
            return Err(nothing());
        }
        let dir = MembershipDir::open(&config.data_dir, &config.membership)?;
        let authority = Enrollment::read(&dir).ok().flatten().map(|enrollment| enrollment.authority_key);
        let authority = authority.filter(|key| !key.is_empty());
        match IdentityStore::open(&dir) {
            Ok(Some((store, _))) if store.identity().identity_status == IdentityStatus::Pending => {
                let text = "this host was never a node there; run join without --rejoin to go on";
                Err(Fault::new(Reason::EnrollmentPending, text))
            }
            Ok(Some((store, _))) => {
                let (signer, _) = keys_of(&store)?;
                Ok(Self { dir, identity: Some(store.identity().clone()), signer, sole: false, authority })
            }
            damaged => {
                if let Err(error) = damaged {
                    eprintln!("warning      [{}] {error}", error.code());
                }
                let salvaged = IdentityStore::salvage(&dir)?;
                let sole = salvaged.is_none();
                let credentials = match salvaged {
                    Some(credentials) => credentials,
                    // Cut off between going and coming: what comes is whole, and has the key.
                    None => whole(config)?.ok_or_else(nothing)?.credentials().clone(),
                };
                let signer = Signer::from_seed(&*stored_key(credentials.node_key.expose())?);
                Ok(Self { dir, identity: None, signer, sole, authority })
            }
        }
    }

    pub(super) fn node(&self) -> Option<NodeId> {
        self.identity.as_ref()?.node_id
    }

    /// The earliest that it can be.
    pub(super) fn time_floor(&self) -> Wall {
        FloorStore::open(&self.dir).map(|(floors, _)| floors.current().time_floor).unwrap_or_default()
    }

    /// A token of another cluster makes this host no former node of it.
    pub(super) fn check(&self, token: &Verified<v1::JoinToken>) -> Result<(), Fault> {
        let Some(identity) = &self.identity else {
            return self.check_authority(&token.cluster_authority_key);
        };
        let header = token.header();
        if (header.installation, header.cluster) == (identity.installation_id, identity.cluster_id) {
            return Ok(());
        }
        let text = "the token is of another cluster than this membership; join it as another membership";
        Err(Fault::new(Reason::TokenMalformed, text))
    }

    /// Without an identity only the authority tells whose floors and evidence these are. A key with
    /// nothing beside it has nothing to lose.
    fn check_authority(&self, key: &[u8]) -> Result<(), Fault> {
        let known = match &self.authority {
            Some(known) => known == key,
            None => self.records()?.iter().all(|name| name.starts_with("place.json")),
        };
        if known {
            return Ok(());
        }
        let text = "who this host was is lost, and the token is not of the authority that it joined under; \
                    leave (--force) and join anew";
        Err(Fault::new(Reason::PinMismatch, text))
    }

    /// True if an attempt in `dir` is one to return to this membership, and of the cluster of the token.
    pub(super) fn began(
        &self,
        attempt: &Identity,
        dir: &MembershipDir,
        given: Option<&Given>,
    ) -> Result<bool, Fault> {
        let scope = (attempt.installation_id, attempt.cluster_id);
        let asked =
            given.is_none_or(|(_, token)| (token.header().installation, token.header().cluster) == scope);
        if attempt.node_fingerprint != self.signer.id() || !asked {
            return Ok(false);
        }
        let Some(identity) = &self.identity else {
            let authority =
                Enrollment::read(dir).map(|enrollment| enrollment.unwrap_or_default().authority_key);
            return Ok(authority.is_ok_and(|key| self.check_authority(&key).is_ok()));
        };
        let pins = identity.installation_authority_pin.zip(attempt.installation_authority_pin);
        Ok(scope == (identity.installation_id, identity.cluster_id)
            && pins.is_none_or(|(pinned, named)| pinned == named))
    }

    /// What a return must not take back, as it is now: floors, evidence and grants; and the allocation on the
    /// host. Again is the same: what went on here in between is carried over, too.
    pub(super) fn carry_over(&self, dir: &MembershipDir) -> Result<(), Fault> {
        match FloorStore::open(&self.dir) {
            Ok((floors, _)) => {
                let (mut kept, _) = FloorStore::open(dir)?;
                kept.merge(floors.current())?;
            }
            Err(error) => eprintln!("warning      [{}] the floors are lost: {error}", error.code()),
        }
        let placed = dir.join("place.json").exists();
        for name in self.records()? {
            if name.starts_with("floors.json") || (placed && name.starts_with("place.json")) {
                continue;
            }
            write_atomic(&dir.join(&name), &read_capped(&self.dir.join(&name), RECORD_CAP)?, 0o600)?;
        }
        Ok(())
    }

    /// Names of the files that a return keeps.
    fn records(&self) -> Result<Vec<String>, Fault> {
        let entries = std::fs::read_dir(self.dir.path()).map_err(Fault::of(Reason::StateIo))?.flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let kept = |name: &String| {
            let record = name.strip_suffix(".twin").unwrap_or(name);
            ["floors.json", "place.json", "checkpoint.json", "break-glass.json"].contains(&record)
                || (record.starts_with("evidence-") && record.ends_with(".json"))
        };
        Ok(names.filter(kept).collect())
    }
}

/// The membership that was made and has not taken its place yet.
pub(super) fn whole(config: &Config) -> Result<Option<IdentityStore>, Fault> {
    let active = |store: &IdentityStore| store.identity().identity_status == IdentityStatus::Active;
    Ok(begun(config)?.filter(active))
}

/// What was begun, whole or not.
pub(super) fn begun(config: &Config) -> Result<Option<IdentityStore>, Fault> {
    let root = staging(&config.data_dir);
    if !root.join(config.membership.as_str()).is_dir() {
        return Ok(None);
    }
    let dir = MembershipDir::open(&root, &config.membership)?;
    Ok(IdentityStore::open(&dir).ok().flatten().map(|(store, _)| store))
}

const RECORD_CAP: usize = 8 << 20;
