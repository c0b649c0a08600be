//! `join`: from a token to a membership on disk, in the foreground, resumable at every step.
//!
//! Owns the conversation with the person and the files. Refuses to decide: `rap_trust::Applicant` does.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rap_contract::{JoinTokenText, KeySet, PublicKey, Signer, Verified, VerifiedBootstrap, verify};
use rap_runtime::dial::ControlUrl;
use rap_runtime::{Clock, Fault, Secret};
use rap_state::{Credentials, Identity, IdentityStore, MembershipDir, SignedBytes};
use rap_trust::{
    Applicant, ApplicantInput, ApplicantOutput, Application, NodeFacts, Patience, PendingJoin, Phase, Pools,
    Wait, known_features,
};
use rap_types::{Digest, ExitCode, IdentityStatus, KeyId, NodeId, Now, Reason, TokenId};
use rap_wire::v1;
use serde_json::json;
use zeroize::Zeroizing;

use super::pretty;
use crate::cli::Join;
use crate::config::{Config, is_node_name};
use crate::control::{EnrollmentLine, TrustedTime};
use crate::fault::{refused, state_fault};
use crate::local::LocalClient;
use crate::membership::{Enrollment, Nonce, Places, keys_of, wireguard_public};
use crate::running::{blocking, capabilities};

/// Joins, or resumes a join.
pub(super) async fn run(config: &Config, join: Join) -> Result<ExitCode, Fault> {
    let text = blocking(move || read_token(&join)).await?;
    let json = text.json;
    let settings = config.clone();
    let prepared = blocking(move || Prepared::open(&settings, text.token)).await?;
    say_who(&prepared)?;
    let (node, dir) = Session::start(config, prepared)?.run().await?;
    drop(dir);
    let loaded = tell_agent(config).await;
    if json {
        let document = json!({
            "schema": "rap.join.v1",
            "membership": config.membership,
            "node_id": node.id,
            "name": node.name,
            "cluster": node.cluster,
            "authority_fingerprint": node.authority,
            "agent_loaded": loaded.as_ref().is_ok_and(|loaded| *loaded),
        });
        println!("{}", pretty(&document));
    } else {
        println!("joined: node {} ({}), membership {}", node.name, node.id, config.membership);
    }
    match loaded {
        Ok(true) => {}
        Ok(false) => eprintln!("next: systemctl start rap-node-agent, or rap-node-agent run"),
        Err(fault) => eprintln!("the running agent did not load it: [{}] {}", fault.reason, fault.message),
    }
    Ok(ExitCode::Ok)
}

async fn tell_agent(config: &Config) -> Result<bool, Fault> {
    match LocalClient::open(&config.socket, config.membership.as_str()).await? {
        None => Ok(false),
        Some(mut client) => client.load().await.map(|()| true),
    }
}

struct TokenText {
    token: Option<JoinTokenText>,
    json: bool,
}

fn read_token(join: &Join) -> Result<TokenText, Fault> {
    let text = match (&join.token, &join.token_file) {
        (Some(dash), _) if dash == "-" => {
            let mut text = Zeroizing::new(String::new());
            let read = std::io::stdin().take(TOKEN_CAP).read_to_string(&mut text);
            read.map_err(|error| Fault::new(Reason::TokenMalformed, format!("standard input: {error}")))?;
            Some(text)
        }
        (Some(token), _) => Some(Zeroizing::new(token.clone())),
        (None, Some(path)) => {
            let secret =
                Secret::read("join token", path).map_err(|e| Fault::new(e.reason(), e.to_string()))?;
            let text = secret.expose_text().map(|text| Zeroizing::new(text.to_owned()));
            Some(text.ok_or(Fault::new(Reason::TokenMalformed, "the token file is not text"))?)
        }
        (None, None) => Secret::load_optional("RAP_JOIN_TOKEN")
            .map_err(|error| Fault::new(error.reason(), error.to_string()))?
            .and_then(|secret| secret.expose_text().map(|text| Zeroizing::new(text.to_owned()))),
    };
    let token = text.map(|text| JoinTokenText::parse(&text)).transpose().map_err(refused)?;
    Ok(TokenText { token, json: join.json })
}

/// The membership's directory with everything that must be on disk before anything is asked.
struct Prepared {
    dir: MembershipDir,
    store: IdentityStore,
    enrollment: Enrollment,
    token: Verified<v1::JoinToken>,
}

impl Prepared {
    fn open(config: &Config, given: Option<JoinTokenText>) -> Result<Self, Fault> {
        let given = given
            .map(|text| {
                let now = Clock::new().now().wall;
                Application::check_token(&text, &config.pin, config.dev, now).map(|token| (text, token))
            })
            .transpose()
            .map_err(refused)?;
        let dir = MembershipDir::open(&config.data_dir, &config.membership).map_err(state_fault)?;
        let stored = IdentityStore::open(&dir).map_err(state_fault)?;
        let dir = match (stored, &given) {
            (Some((store, _)), _) if store.identity().identity_status != IdentityStatus::Pending => {
                let text = format!("this host is already node {} there", store.identity().name);
                return Err(Fault::new(Reason::MembershipExists, text));
            }
            (Some((store, _)), given) => {
                let asked = store.identity().token_id;
                match given {
                    Some((_, token)) if asked != TokenId::from_slice(&token.token_id).ok() => {
                        // Another token: what was asked with the old one is given up, keys included.
                        drop(store);
                        dir.destroy().map_err(state_fault)?;
                        MembershipDir::open(&config.data_dir, &config.membership).map_err(state_fault)?
                    }
                    _ => return Self::resume(config, dir, store),
                }
            }
            (None, None) => {
                dir.destroy().map_err(state_fault)?;
                let text = "give a token: --token-file FILE, or - for standard input";
                return Err(Fault::new(Reason::SecretMissing, text));
            }
            (None, Some(_)) => dir,
        };
        let Some((text, token)) = given else {
            return Err(Fault::new(Reason::SecretMissing, "a token is needed"));
        };
        Self::create(config, dir, &text, token)
    }

    fn create(
        config: &Config,
        dir: MembershipDir,
        text: &JoinTokenText,
        token: Verified<v1::JoinToken>,
    ) -> Result<Self, Fault> {
        let malformed = |_| Fault::new(Reason::TokenMalformed, "a field of the token has a wrong length");
        // Before anything is asked: a cluster whose addresses this host uses already burns no use.
        let places = Places::open(&config.data_dir)?;
        let pools = Pools::of_token(&token).map_err(refused)?;
        if let Err(fault) = places.check(&config.membership, &pools) {
            // Nothing is in it yet.
            dir.destroy().map_err(state_fault)?;
            return Err(fault);
        }
        places.give(&dir, None)?;
        drop(places);
        let enrollment =
            Enrollment { authority_key: token.cluster_authority_key.clone(), ..Enrollment::default() };
        enrollment.clone().store(&dir)?;
        let signer = Signer::generate(&mut rand::rng());
        let mut wireguard_key = Zeroizing::new([0; 32]);
        rand::Rng::fill_bytes(&mut rand::rng(), wireguard_key.as_mut_slice());
        let credentials = Credentials {
            node_key: Secret::new(signer.seed().to_vec()),
            wireguard_key: Secret::new(wireguard_key.to_vec()),
            join_secret: Some(Secret::new(text.secret().to_vec())),
        };
        let header = token.header();
        let authority = PublicKey::from_slice(&token.cluster_authority_key).map_err(refused)?;
        let identity = Identity {
            membership: config.membership.clone(),
            name: wished_name(config),
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
        let store = IdentityStore::create(&dir, identity, credentials).map_err(state_fault)?;
        Ok(Self { dir, store, enrollment, token })
    }

    fn resume(config: &Config, dir: MembershipDir, store: IdentityStore) -> Result<Self, Fault> {
        let enrollment = Enrollment::open(&dir)?;
        let corrupt = |what: &str| Fault::new(Reason::StateCorrupt, what.to_owned());
        let envelope =
            store.identity().join_token.clone().ok_or_else(|| corrupt("the token is not stored"))?;
        let authority = PublicKey::from_slice(&enrollment.authority_key).map_err(refused)?;
        config.pin.check(&authority).map_err(refused)?;
        let expect = rap_contract::Expectation {
            installation: Some(store.identity().installation_id),
            cluster: Some(store.identity().cluster_id),
            // Its times were checked when it was first used; an approval may take longer than it lives.
            now: None,
            features: known_features(config.dev),
            ..rap_contract::Expectation::default()
        };
        let token = verify(&envelope.0, &KeySet::of::<v1::JoinToken>(authority), &expect).map_err(refused)?;
        eprintln!("resuming the join that was begun before");
        Ok(Self { dir, store, enrollment, token })
    }
}

fn wished_name(config: &Config) -> String {
    config.name.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = host.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
        if is_node_name(&name) { name } else { "node".to_owned() }
    })
}

/// What the person compares: the cluster's key with what operators see, this host's with what they are asked.
fn say_who(prepared: &Prepared) -> Result<(), Fault> {
    let token = &prepared.token;
    let authority = PublicKey::from_slice(&token.cluster_authority_key).map_err(refused)?;
    eprintln!(
        "cluster      {} {}",
        cluster_name(token).unwrap_or_else(|| "-".to_owned()),
        token.header().cluster
    );
    eprintln!("authority    {}", authority.id());
    eprintln!("             {}", authority.id().words());
    eprintln!("this host    {}", prepared.store.identity().node_fingerprint);
    if token.header().is_dev() {
        eprintln!("warning      signed by a development installation");
    }
    Ok(())
}

/// The cluster's name as the token has it, without control characters; an older token has none.
fn cluster_name(token: &v1::JoinToken) -> Option<String> {
    let name: String = token.cluster_name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!name.is_empty()).then_some(name)
}

/// What a join ends with.
struct JoinedNode {
    id: NodeId,
    name: String,
    cluster: rap_types::ClusterId,
    authority: KeyId,
}

/// One run of the applicant: its calls, files and words.
struct Session {
    applicant: Applicant,
    prepared: Option<Prepared>,
    urls: Vec<ControlUrl>,
    pin: Digest,
    time: TrustedTime,
    timeout: std::time::Duration,
    line: Option<EnrollmentLine>,
    said: Option<Wait>,
    clock: Clock,
    data: PathBuf,
    /// Name or id, as an operator calls it.
    cluster: String,
    joined: Option<JoinedNode>,
}

impl Session {
    fn start(config: &Config, prepared: Prepared) -> Result<Self, Fault> {
        let clock = Clock::new();
        let (signer, wireguard_key) = keys_of(&prepared.store)?;
        let secret = prepared.store.credentials().join_secret.as_ref();
        let secret = secret.and_then(|secret| <[u8; 32]>::try_from(secret.expose()).ok());
        let facts = NodeFacts {
            name: prepared.store.identity().name.clone(),
            capabilities: capabilities(config),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            link_endpoints: config.advertise.clone(),
            wireguard_endpoints: config.advertise_wireguard.clone(),
            region: config.region.clone(),
        };
        let token = prepared.token.clone();
        let urls: Vec<ControlUrl> =
            token.control_urls.iter().filter_map(|url| ControlUrl::parse(url).ok()).collect();
        if urls.is_empty() {
            return Err(Fault::new(Reason::TokenMalformed, "the token names no usable control URL"));
        }
        let pin = prepared.store.identity().server_trust_pin;
        let time = TrustedTime::new(clock, token.header().issued_at);
        let cluster = cluster_name(&token).unwrap_or_else(|| token.header().cluster.to_string());
        let application = Application::new(
            token,
            secret,
            signer,
            wireguard_public(&wireguard_key),
            prepared.store.identity().dev,
            facts,
        );
        let pending = PendingJoin {
            request: prepared.enrollment.request,
            nonces: prepared.enrollment.nonces.iter().map(|nonce| nonce.0.clone()).collect(),
        };
        let patience = Patience { interval: config.poll_interval, timeout: config.poll_timeout };
        let applicant = Applicant::start(application.map_err(refused)?, pending, patience, clock.now());
        Ok(Self {
            applicant: applicant.map_err(refused)?,
            prepared: Some(prepared),
            urls,
            pin,
            time,
            timeout: config.call_timeout,
            line: None,
            said: None,
            clock,
            data: config.data_dir.clone(),
            cluster,
            joined: None,
        })
    }

    async fn run(mut self) -> Result<(JoinedNode, MembershipDir), Fault> {
        loop {
            while let Some(output) = self.applicant.poll_output() {
                if let Some(input) = self.carry_out(output).await? {
                    self.applicant.handle(input, self.clock.now()).map_err(refused)?;
                }
            }
            match self.applicant.phase() {
                Phase::Joined(_) => break,
                Phase::Refused(reason) => return Err(self.refusal(*reason)),
                _ => {}
            }
            let Some(due) = self.applicant.poll_timeout() else { continue };
            tokio::time::sleep(due.since(self.clock.now().mono)).await;
            self.applicant.handle(ApplicantInput::TimedOut, self.clock.now()).map_err(refused)?;
        }
        let dir = self.prepared.map(|prepared| prepared.dir);
        self.joined.zip(dir).ok_or(Fault::new(Reason::StateIo, "the membership was not written"))
    }

    fn refusal(&self, reason: Reason) -> Fault {
        let text = reason.row().text;
        match reason {
            Reason::RequestTimeout => {
                Fault::new(reason, "gave up waiting; run join again to resume, nothing is asked twice")
            }
            _ => Fault::new(reason, text),
        }
    }

    async fn carry_out(&mut self, output: ApplicantOutput) -> Result<Option<ApplicantInput>, Fault> {
        Ok(Some(match output {
            ApplicantOutput::Connect => match self.connect().await {
                Ok(line) => {
                    let (nonce, exporter, server_time) = line.challenge();
                    self.line = Some(line);
                    ApplicantInput::Challenged { nonce, exporter, server_time }
                }
                Err(fault) => self.failed(&fault),
            },
            ApplicantOutput::SendJoin(join) => match self.line.take() {
                None => ApplicantInput::CallFailed(Reason::ServerUnreachable),
                Some(mut line) => match line.join(*join).await {
                    Ok(answer) => ApplicantInput::JoinAnswered(answer),
                    Err(fault) => self.failed(&fault),
                },
            },
            ApplicantOutput::SendPoll(poll) => match self.line.take() {
                None => ApplicantInput::CallFailed(Reason::ServerUnreachable),
                Some(mut line) => match line.bootstrap(*poll).await {
                    Ok(answer) => ApplicantInput::BootstrapAnswered(answer),
                    Err(fault) => self.failed(&fault),
                },
            },
            ApplicantOutput::PersistPending(id, pending) => {
                self.on_disk(move |prepared| prepared.note(pending)).await?;
                ApplicantInput::Persisted(id)
            }
            ApplicantOutput::PersistMembership(id, membership) => {
                let now = self.clock.now();
                let bootstrap = membership.bootstrap;
                let authority = bootstrap.chain.active().id();
                self.joined = Some(JoinedNode {
                    id: bootstrap.node,
                    name: bootstrap.contract.node_name.clone(),
                    cluster: bootstrap.contract.header().cluster,
                    authority,
                });
                let data = self.data.clone();
                self.on_disk(move |prepared| prepared.settle(&data, &bootstrap, now)).await?;
                ApplicantInput::Persisted(id)
            }
            ApplicantOutput::Waiting(why) => {
                self.say(why);
                return Ok(None);
            }
        }))
    }

    fn failed(&self, fault: &Fault) -> ApplicantInput {
        if self.said != Some(Wait::Failure(fault.reason)) {
            eprintln!("  [{}] {}", fault.reason, fault.message);
        }
        ApplicantInput::CallFailed(fault.reason)
    }

    /// Tries every URL; the last failure stands for all.
    async fn connect(&mut self) -> Result<EnrollmentLine, Fault> {
        let mut last = Fault::new(Reason::ServerUnreachable, "no control URL");
        for index in 0..self.urls.len() {
            let time = Arc::new(self.time.clone());
            match EnrollmentLine::open(&self.urls[index], self.pin, time, self.timeout).await {
                Ok(line) => {
                    self.urls.swap(0, index);
                    return Ok(line);
                }
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn on_disk(
        &mut self,
        work: impl FnOnce(&mut Prepared) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let lost = || Fault::new(Reason::StateIo, "the membership is not open");
        let mut prepared = self.prepared.take().ok_or_else(lost)?;
        let prepared = blocking(move || work(&mut prepared).map(|()| prepared)).await?;
        self.prepared = Some(prepared);
        Ok(())
    }

    fn say(&mut self, why: Wait) {
        if self.said == Some(why) {
            return;
        }
        self.said = Some(why);
        match why {
            Wait::Approval => {
                eprintln!(
                    "waiting for approval: rapctl node approve --all-pending --cluster {}",
                    self.cluster
                );
            }
            Wait::ClockSkew(ms) => {
                eprintln!("the server's clock differs by {} s: check both clocks", ms / 1000)
            }
            Wait::Failure(reason) => eprintln!("waiting: [{reason}] {}", reason.row().text),
        }
    }
}

impl Prepared {
    fn note(&mut self, pending: PendingJoin) -> Result<(), Fault> {
        self.enrollment.nonces = pending.nonces.into_iter().map(Nonce).collect();
        self.enrollment.request = pending.request;
        self.enrollment.clone().store(&self.dir)?;
        self.store
            .update(|identity| identity.pending_join_request_id = pending.request)
            .map(drop)
            .map_err(state_fault)
    }

    /// The contract goes last but one: a crash before it leaves a join that resumes; the token's secret
    /// goes last of all.
    fn settle(&mut self, data: &Path, bootstrap: &VerifiedBootstrap, now: Now) -> Result<(), Fault> {
        let contract = &bootstrap.contract;
        // A token of an older control plane named no pools; the contract does.
        let (places, pools) = (Places::open(data)?, Pools::of_contract(contract).map_err(refused)?);
        places.check(self.dir.name(), &pools)?;
        places.give(&self.dir, Some(pools))?;
        drop(places);
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
        changed.map_err(state_fault)?;
        let credentials = Credentials { join_secret: None, ..self.store.credentials().clone() };
        self.store.replace_credentials(credentials).map_err(state_fault)
    }
}

const TOKEN_CAP: u64 = 64 * 1024;
