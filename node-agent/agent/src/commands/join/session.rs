//! One run of the applicant: its calls, its writes, its words.
//!
//! Owns carrying out what `rap_trust::Applicant` asks for. Refuses to decide.

use std::path::PathBuf;

use rap_rpc::dial::ControlUrl;
use rap_runtime::{Clock, Fault};
use rap_state::{FloorStore, MembershipDir};
use rap_trust::{
    Applicant, ApplicantInput, ApplicantOutput, Application, NodeFacts, Patience, PendingJoin, Phase, Wait,
};
use rap_types::{JoinRequestId, KeyId, NodeId, Reason};

use super::host::HostTerms;
use super::prepared::{Prepared, cluster_name};
use super::progress::{Progress, Said};
use crate::blocking::on;
use crate::config::Config;
use crate::control_plane::{ControlPlane, EnrollmentLine, TrustedTime};
use crate::host::capabilities;
use crate::membership::{keys_of, read_allocation, wireguard_public};

/// A run that did not end in a membership.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// The control plane's last word: asking the same again has the same answer.
    pub(super) refused: bool,
}

impl<E: Into<Fault>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { fault: error.into(), refused: false }
    }
}

/// What a join ends with.
pub(super) struct JoinedNode {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) cluster: rap_types::ClusterId,
    pub(super) authority: KeyId,
}

/// One run of the applicant: its calls, files and words.
pub(super) struct Session {
    applicant: Applicant,
    prepared: Option<Prepared>,
    control: ControlPlane,
    line: Option<EnrollmentLine>,
    progress: Progress,
    /// Why the last call failed, in the words of whoever refused it.
    failure: Option<Fault>,
    clock: Clock,
    data: PathBuf,
    terms: HostTerms,
    /// Name or id, as an operator calls it.
    cluster: String,
    joined: Option<JoinedNode>,
    returns: bool,
}

impl Session {
    /// Starts, or resumes what is on disk. `returns`: it asks to be the node that it was.
    pub(super) fn start(config: &Config, prepared: Prepared, returns: bool) -> Result<Self, Fault> {
        let clock = Clock::new();
        let (signer, wireguard_key) = keys_of(&prepared.store)?;
        let secret = prepared.store.credentials().join_secret.as_ref();
        let secret = secret.and_then(|secret| <[u8; 32]>::try_from(secret.expose()).ok());
        let allocation = read_allocation(prepared.dir.path())?;
        let allocation = allocation
            .ok_or(Fault::new(Reason::StateCorrupt, "the membership has no allocation on this host"))?;
        let (link_endpoints, wireguard_endpoints) = allocation.advertised(config);
        let facts = NodeFacts {
            name: prepared.store.identity().name.clone(),
            capabilities: capabilities(config),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            link_endpoints,
            wireguard_endpoints,
            region: config.region.clone(),
        };
        let token = prepared.token.clone();
        let urls: Vec<ControlUrl> =
            token.control_urls.iter().filter_map(|url| ControlUrl::parse(url).ok()).collect();
        if urls.is_empty() {
            return Err(Fault::new(Reason::TokenMalformed, "the token names no usable control URL"));
        }
        let pin = prepared.store.identity().server_trust_pin;
        // A host that returns has a floor of before.
        let floors = FloorStore::open(&prepared.dir)?.0;
        let time = TrustedTime::new(clock, token.header().issued_at.max(floors.current().time_floor));
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
        let (interval, timeout) = (config.poll_interval, config.poll_timeout);
        let patience = Patience { interval, timeout, unreached: config.poll_unreached };
        let applicant = Applicant::start(application?, pending, patience, clock.now());
        Ok(Self {
            applicant: applicant?,
            prepared: Some(prepared),
            control: ControlPlane { urls, pin, time, timeout: config.call_timeout },
            line: None,
            failure: None,
            progress: Progress::new(clock.now().mono),
            clock,
            data: config.data_dir.clone(),
            terms: HostTerms::of(config),
            cluster,
            joined: None,
            returns,
        })
    }

    pub(super) async fn run(mut self) -> Result<(JoinedNode, MembershipDir), Failed> {
        loop {
            while let Some(output) = self.applicant.poll_output() {
                if let Some(input) = self.carry_out(output).await? {
                    self.applicant.handle(input, self.clock.now())?;
                }
            }
            match self.applicant.phase() {
                Phase::Joined(_) => break,
                Phase::Refused(reason) => {
                    let reason = *reason;
                    let refused = reason != Reason::RequestTimeout;
                    // Nobody waits any more: what is left on the disk asks nothing by itself.
                    on(&mut self.prepared, Prepared::forget_secret).await?;
                    return Err(Failed { fault: self.refusal(reason), refused });
                }
                _ => {}
            }
            let Some(due) = self.applicant.poll_timeout() else { continue };
            tokio::time::sleep(due.since(self.clock.now().mono)).await;
            self.applicant.handle(ApplicantInput::TimedOut, self.clock.now())?;
        }
        let dir = self.prepared.map(|prepared| prepared.dir);
        let unwritten = || Fault::new(Reason::StateIo, "the membership was not written").into();
        self.joined.zip(dir).ok_or_else(unwritten)
    }

    fn refusal(&self, reason: Reason) -> Fault {
        match reason {
            Reason::RequestTimeout if self.request().is_some() => {
                Fault::new(reason, "gave up waiting; run join again to resume, nothing is asked twice")
            }
            Reason::RequestTimeout => {
                let text = format!(
                    "gave up after {} attempts before the control plane had the request; {}; then run join again with the token",
                    self.progress.attempts(),
                    self.route()
                );
                Fault::new(reason, text)
            }
            _ => Fault::new(reason, self.words_of(reason)),
        }
    }

    /// What the last failed call said, if it failed for this reason, else what the reason means.
    fn words_of(&self, reason: Reason) -> String {
        let said = self.failure.as_ref().filter(|fault| fault.reason == reason && !fault.message.is_empty());
        said.map_or_else(|| reason.row().text.to_owned(), |fault| fault.message.clone())
    }

    async fn carry_out(&mut self, output: ApplicantOutput) -> Result<Option<ApplicantInput>, Fault> {
        Ok(Some(match output {
            ApplicantOutput::Connect => match self.control.line().await {
                Ok((line, index)) => {
                    // The one that answered is the first to be asked again.
                    self.control.urls.swap(0, index);
                    let (nonce, exporter, server_time) =
                        (line.nonce.clone(), line.exporter, line.server_time);
                    self.line = Some(line);
                    ApplicantInput::Challenged { nonce, exporter, server_time }
                }
                Err(fault) => self.failed(fault),
            },
            ApplicantOutput::SendJoin(join) => match self.line.take() {
                None => ApplicantInput::CallFailed(Reason::ServerUnreachable),
                Some(mut line) => match self.control.answer(line.client.join(*join)).await {
                    Ok(answer) => ApplicantInput::JoinAnswered(answer),
                    Err(fault) => self.failed(fault),
                },
            },
            ApplicantOutput::SendPoll(poll) => match self.line.take() {
                None => ApplicantInput::CallFailed(Reason::ServerUnreachable),
                Some(mut line) => match self.control.answer(line.client.bootstrap(*poll)).await {
                    Ok(answer) => ApplicantInput::BootstrapAnswered(answer),
                    Err(fault) => self.failed(fault),
                },
            },
            ApplicantOutput::PersistPending(id, pending) => {
                on(&mut self.prepared, move |prepared| prepared.note(pending)).await?;
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
                let terms = self.terms.clone();
                on(&mut self.prepared, move |prepared| prepared.settle(&data, &terms, &bootstrap, now))
                    .await?;
                ApplicantInput::Persisted(id)
            }
            ApplicantOutput::Waiting(why) => {
                self.say(why);
                return Ok(None);
            }
        }))
    }

    fn failed(&mut self, fault: Fault) -> ApplicantInput {
        ApplicantInput::CallFailed(self.failure.insert(fault).reason)
    }

    /// What to look at while nothing answers.
    fn route(&self) -> String {
        let urls: Vec<&str> = self.control.urls.iter().map(ControlUrl::as_str).collect();
        format!("check that this host reaches {} (address, route, firewall: TCP)", urls.join(", "))
    }

    fn request(&self) -> Option<JoinRequestId> {
        self.prepared.as_ref()?.enrollment.request
    }

    fn say(&mut self, why: Wait) {
        match self.progress.waits(why, self.clock.now().mono) {
            Said::New => {}
            Said::Before => return,
            Said::Still { elapsed, attempts } => {
                let hint = match why {
                    Wait::Failure(_) => self.route(),
                    Wait::Approval => "an operator has to approve".to_owned(),
                    Wait::ClockSkew(_) => "the clocks differ".to_owned(),
                };
                eprintln!("  still waiting after {} s, {attempts} attempts: {hint}", elapsed.as_secs());
                return;
            }
        }
        match why {
            Wait::Approval => match self.request().filter(|_| self.returns) {
                Some(request) => eprintln!(
                    "waiting for approval: rapctl node approve {request} --cluster {} --keep-id makes it the node it was",
                    self.cluster
                ),
                None => {
                    eprintln!(
                        "waiting for approval: rapctl node approve --all-pending --cluster {}",
                        self.cluster
                    );
                }
            },
            Wait::ClockSkew(ms) => {
                eprintln!("the server's clock differs by {} s: check both clocks", ms / 1000)
            }
            Wait::Failure(reason) => eprintln!("waiting: [{reason}] {}", self.words_of(reason)),
        }
    }
}
