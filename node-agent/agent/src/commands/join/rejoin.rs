//! `join --rejoin`: a host that was thrown out, or lost its state but not its key, asks with that key.
//!
//! Owns that nothing of the former membership goes before the new one is whole: it is made beside it,
//! under `.rejoin`, with its host allocation, floors and evidence, and takes its place in one step. Refuses to
//! decide who may return: the control plane does.

use std::path::PathBuf;

use rap_contract::{JoinTokenText, Signer};
use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_runtime::files::create_private_dir;
use rap_state::{IdentityStore, MembershipDir};
use rap_types::{ExitCode, IdentityStatus, KeyId, Reason, TokenId};

use super::former::{Former, begun};
use super::prepared::{Given, Prepared, checked, wished_name};
use super::session::{JoinedNode, Session};
use super::told::{say_joined, say_who, tell_agent};
use crate::blocking::blocking;
use crate::config::Config;
use crate::local::LocalClient;
use crate::membership::{Membership, discard, remove, staging};

/// Asks to be the node that this host was.
pub(super) async fn run(
    config: &Config,
    token: Option<JoinTokenText>,
    form: Format,
) -> Result<ExitCode, Fault> {
    let unloaded = unload(config).await?;
    let rejoined = rejoin(config, token, form).await;
    if rejoined.is_err() && unloaded {
        // What it was before goes on saying why it is out.
        let _ = tell_agent(config).await;
    }
    rejoined
}

async fn rejoin(config: &Config, token: Option<JoinTokenText>, form: Format) -> Result<ExitCode, Fault> {
    let settings = config.clone();
    let (former, begun) = blocking(move || {
        let former = Former::open(&settings)?;
        let given = checked(&settings, token, former.time_floor())?;
        let begun = former.begin(&settings, given)?;
        Ok((former, begun))
    })
    .await?;
    let node = former.node();
    let dir = match begun {
        Begun::Whole(dir) => dir,
        Begun::Asks(prepared) => {
            say_who(&prepared)?;
            let ended = Session::start(config, *prepared, true)?.run().await;
            match ended {
                Ok((_, dir)) => dir,
                Err(failed) => {
                    if failed.refused {
                        // It has a copy of the key; the next attempt begins anew.
                        let (data, name) = (config.data_dir.clone(), config.membership.clone());
                        blocking(move || discard(&data, name.as_str())).await?;
                    }
                    return Err(failed.fault);
                }
            }
        }
    };
    let settings = config.clone();
    let joined = blocking(move || former.replace_by(&settings, dir)).await?;
    say_joined(config, &joined, form, Some(node)).await
}

/// Ends the membership in a running agent, if that knows that it is out. True if it ran there.
async fn unload(config: &Config) -> Result<bool, Fault> {
    let Some(mut client) = LocalClient::open(&config.socket, config.membership.as_str()).await? else {
        return Ok(false);
    };
    let status = match client.status().await {
        Err(fault) if fault.reason == Reason::MembershipAbsent => return Ok(false),
        status => status?.0,
    };
    let out = [Reason::NodeRevoked, Reason::NodeUnknown, Reason::NodeKeyNewer].iter().any(|reason| {
        status["degraded_reasons"].as_array().is_some_and(|all| all.iter().any(|one| one == reason.code()))
    });
    let out = out || !status["control"]["refusal"].is_null();
    let settings = config.clone();
    let begun = blocking(move || begun(&settings)).await?;
    // Approved meanwhile, it has a certificate again; but the control plane has the keys of what was begun.
    let goes_on = begun.is_some_and(|begun| {
        status["node_fingerprint"].as_str() == Some(begun.identity().node_fingerprint.to_string().as_str())
    });
    if !out && !goes_on && status["state"] != "stopped" {
        let text = "this host works there as a node; nothing was changed (rapctl node revoke --evict first, or \
                    stop the agent if it has not heard that it is out)";
        return Err(Fault::new(Reason::MembershipExists, text));
    }
    client.unload().await.map(|()| true)
}

enum Begun {
    /// Everything was verified and written before; only the exchange is left.
    Whole(MembershipDir),
    /// Asks, or asks on.
    Asks(Box<Prepared>),
}

impl Former {
    /// Goes on with what was begun if that is a return to this membership, or begins.
    fn begin(&self, config: &Config, given: Option<Given>) -> Result<Begun, Fault> {
        if let Some((_, token)) = &given {
            self.check(token)?;
        }
        let root = staging(&config.data_dir);
        create_private_dir(&root)?;
        let dir = MembershipDir::open(&root, &config.membership)?;
        match IdentityStore::open(&dir) {
            Ok(Some((store, _))) => {
                if let Some(begun) = self.resume(config, &dir, store, given.as_ref())? {
                    return Ok(begun);
                }
            }
            Err(error) if !judges(error.reason()) => return Err(error.into()),
            Ok(None) | Err(_) => {}
        }
        // Another token, another membership, or an attempt that was cut off before it asked.
        drop(dir);
        discard(&config.data_dir, config.membership.as_str())?;
        let Some(given) = given else {
            let text = "give a new token: --token-file FILE, or - for standard input";
            return Err(Fault::new(Reason::SecretMissing, text));
        };
        create_private_dir(&root)?;
        let dir = MembershipDir::open(&root, &config.membership)?;
        self.carry_over(&dir)?;
        let name = match (&config.name, &self.identity) {
            (None, Some(identity)) => identity.name.clone(),
            _ => wished_name(config),
        };
        let signer = Signer::from_seed(&self.signer.seed());
        Ok(Begun::Asks(Prepared::create(config, dir, given, signer, name)?.into()))
    }

    /// None if the attempt is to be given up.
    fn resume(
        &self,
        config: &Config,
        dir: &MembershipDir,
        store: IdentityStore,
        given: Option<&Given>,
    ) -> Result<Option<Begun>, Fault> {
        let attempt = store.identity();
        if !self.began(attempt, dir, given)? {
            if !self.sole {
                return Ok(None);
            }
            let text = "a return to another cluster was cut off, and only it has the key: go on without a \
                        token, or leave --force";
            return Err(Fault::new(Reason::TokenMalformed, text));
        }
        if attempt.identity_status == IdentityStatus::Active {
            return Ok(Some(Begun::Whole(dir.clone())));
        }
        let asked = attempt.token_id;
        if given.is_some_and(|(_, token)| asked != TokenId::from_slice(&token.token_id).ok()) {
            return Ok(None);
        }
        let resumed = self.carry_over(dir).and_then(|()| Prepared::resume(config, dir.clone(), store));
        if resumed.as_ref().is_err_and(|fault| judges(fault.reason)) {
            discard(&config.data_dir, config.membership.as_str())?;
        }
        resumed.map(|prepared| Some(Begun::Asks(prepared.into())))
    }

    /// As [`Self::exchange`]. What is refused is given up: with it, every later attempt would be.
    fn replace_by(self, config: &Config, dir: MembershipDir) -> Result<JoinedNode, Fault> {
        let sole = self.sole;
        let exchanged = self.exchange(config, dir);
        if !sole && exchanged.as_ref().is_err_and(|fault| judges(fault.reason)) {
            discard(&config.data_dir, config.membership.as_str())?;
        }
        exchanged
    }

    /// Verifies what is to come as a start would, and lets it take the place of what was.
    fn exchange(self, config: &Config, dir: MembershipDir) -> Result<JoinedNode, Fault> {
        let pin = self.identity.as_ref().and_then(|identity| identity.installation_authority_pin);
        let check = |named: Option<KeyId>| match pin.zip(named) {
            Some((pin, named)) if pin != named => {
                let text = "the contract names another installation authority than this host pinned";
                Err(Fault::new(Reason::PinMismatch, text))
            }
            _ => Ok(()),
        };
        let named = IdentityStore::open(&dir)?;
        check(named.and_then(|(store, _)| store.identity().installation_authority_pin))?;
        self.carry_over(&dir)?;
        let membership = Membership::with_records(dir, config.dev, &self.records_since(config))?;
        check(Some(membership.bootstrap.installation_authority.id()))?;
        let joined = JoinedNode {
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
        for directory in [config.data_dir.as_path(), &staging(&config.data_dir)] {
            std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        }
        // Another membership may be returning.
        let _ = std::fs::remove_dir(staging(&config.data_dir));
        Ok(joined)
    }

    /// Authority records that it accepted, if it still is a membership: one that ran in between may have
    /// heard of more than the contract names.
    fn records_since(&self, config: &Config) -> Vec<Vec<u8>> {
        let former = self.identity.as_ref().map(|_| Membership::of_dir(self.dir.clone(), config.dev));
        former.and_then(Result::ok).map(|former| former.chain.envelopes()).unwrap_or_default()
    }
}

/// True of a refusal that stays one; false of a disk, or of a setting.
fn judges(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::StateIo
            | Reason::StateNoSpace
            | Reason::StateReadOnly
            | Reason::StateLocked
            | Reason::StateFull
            | Reason::StateTimeout
            | Reason::StateSchema
            | Reason::SecretExposed
            | Reason::AuthorityDevRefused
    )
}
