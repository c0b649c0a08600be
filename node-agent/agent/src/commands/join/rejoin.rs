//! `join --rejoin`: a host that was thrown out, or lost its state but not its key, asks with that key.
//!
//! Owns that nothing of the former membership goes before the new one is whole: it is made beside it,
//! under `.rejoin`, with its place, floors and evidence, and takes its place in one step. Refuses to
//! decide who may return: the control plane does.

use std::path::{Path, PathBuf};

use rap_contract::{Signer, Verified};
use rap_runtime::files::{create_private_dir, read_capped, write_atomic};
use rap_runtime::{Fault, Secret};
use rap_state::{FloorStore, Identity, IdentityStore, MembershipDir};
use rap_types::{ExitCode, IdentityStatus, NodeId, Reason, TokenId};
use rap_wire::v1;
use serde_json::Value;

use super::prepared::{Given, Prepared, checked, wished_name};
use super::session::Session;
use super::{TokenText, say_joined, say_who};
use crate::commands::leave::remove;
use crate::config::Config;
use crate::fault::state_fault;
use crate::local::LocalClient;
use crate::membership::{Membership, keys_of};
use crate::running::blocking;

/// Asks to be the node that this host was.
pub(super) async fn run(config: &Config, text: TokenText) -> Result<ExitCode, Fault> {
    let unloaded = unload(config).await?;
    let rejoined = rejoin(config, text).await;
    if rejoined.is_err() && unloaded {
        // What it was before goes on saying why it is out.
        let _ = super::tell_agent(config).await;
    }
    rejoined
}

async fn rejoin(config: &Config, text: TokenText) -> Result<ExitCode, Fault> {
    let (settings, json) = (config.clone(), text.json);
    let (former, begun) = blocking(move || {
        let former = Former::open(&settings)?;
        let begun = former.begin(&settings, checked(&settings, text.token)?)?;
        Ok((former, begun))
    })
    .await?;
    let node = former.node();
    let dir = match begun {
        Begun::Whole(dir) => dir,
        Begun::Asks(prepared) => {
            say_who(&prepared)?;
            let path = prepared.dir.path().to_owned();
            let ended = Session::start(config, *prepared, true)?.run().await;
            match ended {
                Ok((_, dir)) => dir,
                Err(failed) => {
                    if failed.refused {
                        // It has a copy of the key; the next attempt begins anew.
                        blocking(move || discard(&path)).await?;
                    }
                    return Err(failed.fault);
                }
            }
        }
    };
    let settings = config.clone();
    let joined = blocking(move || former.replace_by(&settings, dir)).await?;
    say_joined(config, &joined, json, Some(node)).await
}

/// Ends the membership in a running agent, if that knows that it is out. True if it ran there.
async fn unload(config: &Config) -> Result<bool, Fault> {
    let Some(mut client) = LocalClient::open(&config.socket, config.membership.as_str()).await? else {
        return Ok(false);
    };
    let text = match client.status().await {
        Err(fault) if fault.reason == Reason::MembershipAbsent => return Ok(false),
        status => status?.0,
    };
    let status: Value = serde_json::from_str(&text)
        .map_err(|_| Fault::new(Reason::RequestInvalid, "the agent's answer is not JSON"))?;
    let out = [Reason::NodeRevoked, Reason::NodeUnknown].iter().any(|reason| {
        status["degraded_reasons"].as_array().is_some_and(|all| all.iter().any(|one| one == reason.code()))
    });
    if !out && status["state"] != "stopped" {
        let text = "this host works there as a node; nothing was changed (rapctl node revoke --evict first, or \
                    stop the agent if it has not heard that it is out)";
        return Err(Fault::new(Reason::MembershipExists, text));
    }
    client.unload().await.map(|()| true)
}

/// What is left of the membership, held so that no agent starts on it.
struct Former {
    dir: MembershipDir,
    identity: Option<Identity>,
    signer: Signer,
}

enum Begun {
    /// Everything was verified and written before; only the exchange is left.
    Whole(MembershipDir),
    /// Asks, or asks on.
    Asks(Box<Prepared>),
}

impl Former {
    fn open(config: &Config) -> Result<Self, Fault> {
        let path = config.data_dir.join(config.membership.as_str());
        let nothing = || {
            let text =
                format!("no key of membership `{}` on this host; join without --rejoin", config.membership);
            Fault::new(Reason::MembershipAbsent, text)
        };
        let staged = staging(config).join(config.membership.as_str());
        if !path.is_dir() && !staged.is_dir() {
            return Err(nothing());
        }
        let dir = MembershipDir::open(&config.data_dir, &config.membership).map_err(state_fault)?;
        match IdentityStore::open(&dir) {
            Ok(Some((store, _))) if store.identity().identity_status == IdentityStatus::Pending => {
                let text = "this host was never a node there; run join without --rejoin to go on";
                Err(Fault::new(Reason::EnrollmentPending, text))
            }
            Ok(Some((store, _))) => {
                let (signer, _) = keys_of(&store)?;
                Ok(Self { dir, identity: Some(store.identity().clone()), signer })
            }
            damaged => {
                if let Err(error) = damaged {
                    eprintln!("warning      [{}] {error}", error.code());
                }
                let credentials = match IdentityStore::salvage(&dir).map_err(state_fault)? {
                    Some(credentials) => credentials,
                    // Cut off between going and coming: what comes is whole, and has the key.
                    None => whole(config)?.ok_or_else(nothing)?.1.credentials().clone(),
                };
                Ok(Self { dir, identity: None, signer: signer_of(&credentials.node_key)? })
            }
        }
    }

    fn node(&self) -> Option<NodeId> {
        self.identity.as_ref()?.node_id
    }

    fn begin(&self, config: &Config, given: Option<Given>) -> Result<Begun, Fault> {
        if let Some((dir, _)) = whole(config)? {
            return Ok(Begun::Whole(dir));
        }
        if let Some((_, token)) = &given {
            self.check(token)?;
        }
        let root = staging(config);
        create_private_dir(&root).map_err(|error| Fault::new(error.reason(), error.to_string()))?;
        let dir = MembershipDir::open(&root, &config.membership).map_err(state_fault)?;
        let stored = IdentityStore::open(&dir).ok().flatten();
        let dir = match (stored, &given) {
            (Some((store, _)), None) => return Ok(Begun::Asks(Prepared::resume(config, dir, store)?.into())),
            (Some((store, _)), Some((_, token)))
                if store.identity().token_id == TokenId::from_slice(&token.token_id).ok() =>
            {
                return Ok(Begun::Asks(Prepared::resume(config, dir, store)?.into()));
            }
            _ => {
                // Another token, or an attempt that was cut off before it asked.
                dir.destroy().map_err(state_fault)?;
                MembershipDir::open(&root, &config.membership).map_err(state_fault)?
            }
        };
        let Some(given) = given else {
            dir.destroy().map_err(state_fault)?;
            let text = "give a new token: --token-file FILE, or - for standard input";
            return Err(Fault::new(Reason::SecretMissing, text));
        };
        self.carry_over(&dir)?;
        let name = match (&config.name, &self.identity) {
            (None, Some(identity)) => identity.name.clone(),
            _ => wished_name(config),
        };
        let signer = Signer::from_seed(&self.signer.seed());
        Ok(Begun::Asks(Prepared::create(config, dir, given, signer, name)?.into()))
    }

    /// A token of another cluster makes this host no former node of it.
    fn check(&self, token: &Verified<v1::JoinToken>) -> Result<(), Fault> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let header = token.header();
        if (header.installation, header.cluster) == (identity.installation_id, identity.cluster_id) {
            return Ok(());
        }
        let text = "the token is of another cluster than this membership; join it as another membership";
        Err(Fault::new(Reason::TokenMalformed, text))
    }

    /// What a return must not take back: floors and evidence; and the place on the host.
    fn carry_over(&self, dir: &MembershipDir) -> Result<(), Fault> {
        let floors = match FloorStore::open(&self.dir) {
            Ok(_) => true,
            Err(error) => {
                eprintln!("warning      [{}] the floors are lost: {error}", error.code());
                false
            }
        };
        let io = |error: std::io::Error| Fault::new(Reason::StateIo, error.to_string());
        for entry in std::fs::read_dir(self.dir.path()).map_err(io)?.flatten() {
            let file = entry.file_name();
            let Some(name) = file.to_str() else { continue };
            let record = name.strip_suffix(".twin").unwrap_or(name);
            let kept = (record == "floors.json" && floors)
                || ["place.json", "checkpoint.json", "break-glass.json"].contains(&record)
                || (record.starts_with("evidence-") && record.ends_with(".json"));
            if kept {
                let file =
                    |error: rap_runtime::files::FileError| Fault::new(error.reason(), error.to_string());
                let bytes = read_capped(&entry.path(), RECORD_CAP).map_err(file)?;
                write_atomic(&dir.join(name), &bytes, 0o600).map_err(file)?;
            }
        }
        Ok(())
    }

    /// Verifies what is to come as a start would, and lets it take the place of what was.
    fn replace_by(self, config: &Config, dir: MembershipDir) -> Result<super::JoinedNode, Fault> {
        let membership = Membership::of_dir(dir, config.dev)?;
        let pin = self.identity.as_ref().and_then(|identity| identity.installation_authority_pin);
        if pin.is_some_and(|pin| pin != membership.bootstrap.installation_authority.id()) {
            let text = "the contract names another installation authority than this host pinned";
            return Err(Fault::new(Reason::PinMismatch, text));
        }
        let joined = super::JoinedNode {
            id: membership.node,
            name: membership.identity.name.clone(),
            cluster: membership.identity.cluster_id,
            authority: membership.chain.active().id(),
        };
        let staged: PathBuf = membership.dir.path().to_owned();
        drop(membership);
        let path = self.dir.path().to_owned();
        remove(&config.data_dir, &path, config.membership.as_str())?;
        let io = |error: std::io::Error| Fault::new(Reason::StateIo, format!("{}: {error}", path.display()));
        std::fs::rename(&staged, &path).map_err(io)?;
        for directory in [config.data_dir.as_path(), &staging(config)] {
            std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        }
        // Another membership may be returning.
        let _ = std::fs::remove_dir(staging(config));
        Ok(joined)
    }
}

/// A membership that was made and has not taken its place yet.
fn whole(config: &Config) -> Result<Option<(MembershipDir, IdentityStore)>, Fault> {
    let root = staging(config);
    if !root.join(config.membership.as_str()).is_dir() {
        return Ok(None);
    }
    let dir = MembershipDir::open(&root, &config.membership).map_err(state_fault)?;
    let stored = IdentityStore::open(&dir).ok().flatten();
    let active = |store: &IdentityStore| store.identity().identity_status == IdentityStatus::Active;
    Ok(stored.filter(|(store, _)| active(store)).map(|(store, _)| (dir, store)))
}

fn discard(path: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::new(Reason::StateIo, format!("{}: {error}", path.display())))
        }
        _ => {
            // Another membership may be returning.
            let _ = path.parent().map(std::fs::remove_dir);
            Ok(())
        }
    }
}

fn signer_of(secret: &Secret) -> Result<Signer, Fault> {
    let seed = <[u8; 32]>::try_from(secret.expose());
    let seed = seed.map(zeroize::Zeroizing::new);
    seed.map(|seed| Signer::from_seed(&seed))
        .map_err(|_| Fault::new(Reason::StateCorrupt, "a key has not 32 bytes"))
}

/// No membership name has a dot.
fn staging(config: &Config) -> PathBuf {
    config.data_dir.join(".rejoin")
}

const RECORD_CAP: usize = 8 << 20;
