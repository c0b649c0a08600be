//! What nodes are asked about others: by this replica, or by the one that has the node's stream.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message as _;
use rap_authority::ids;
use rap_store::{doorbell_tell, nodes_elsewhere};
use rap_types::{ClusterId, NodeId, Reason};
use rap_wire::v1;
use tokio::sync::oneshot;
use v1::diagnostic_request::Body;

use crate::failure::Failure;
use crate::serve::errands::{Errand, Part};
use crate::serve::handle::Serving;
use crate::serve::sessions::Command;

/// Why a node is not asked that has no stream to any replica.
fn offline() -> Failure {
    Failure::new(Reason::NodeOffline, "the node has no stream to this control plane")
}

impl Serving {
    /// Asks a node about another one and waits for the answer; by way of the replica that has its stream.
    ///
    /// # Errors
    /// `node.offline` without a stream to any; `rate.limited`; `request.timeout`; what the stream or the node refuses.
    pub(crate) async fn ask(
        &self,
        cluster: ClusterId,
        nodes: (NodeId, NodeId),
        body: Body,
    ) -> Result<v1::DiagnosticResult, Failure> {
        match self.sessions.commands(cluster, nodes.0) {
            Some(_) => self.ask_here(cluster, nodes, body).await,
            None => self.ask_elsewhere(cluster, nodes, body).await,
        }
    }

    async fn ask_here(
        &self,
        cluster: ClusterId,
        (node, target): (NodeId, NodeId),
        body: Body,
    ) -> Result<v1::DiagnosticResult, Failure> {
        let commands = self.sessions.commands(cluster, node).ok_or_else(offline)?;
        let (reply, answer) = oneshot::channel();
        let diagnostic_id = ids::random::<16>(&mut rand::rng()).to_vec();
        let request = v1::DiagnosticRequest { diagnostic_id, body: Some(body) };
        commands.try_send(Command::Diagnose { request, target, reply }).map_err(|_| {
            Failure::new(Reason::RateLimited, "this node is asked too much; try again in a second")
        })?;
        let result = tokio::time::timeout(DEADLINE, answer)
            .await
            .map_err(|_| Failure::new(Reason::RequestTimeout, "the node did not answer in time"))?
            .map_err(|_| offline())?
            .map_err(|reason| match reason {
                Reason::LinkPeerUnknown => Failure::new(reason, "the other node is no peer of the asked one"),
                reason => Failure::new(reason, "the node's stream refused"),
            })?;
        if !result.reason.is_empty() {
            let reason = Reason::from_code(&result.reason).unwrap_or(Reason::ServerInternal);
            return Err(Failure::said(reason, "the node answered with a refusal"));
        }
        Ok(result)
    }

    /// Asks the replica that has a node's stream to ask it about another one, and waits for the answer.
    async fn ask_elsewhere(
        &self,
        cluster: ClusterId,
        nodes: (NodeId, NodeId),
        body: Body,
    ) -> Result<v1::DiagnosticResult, Failure> {
        let mut transaction = self.database.store.system().begin().await?;
        let this = self.watch.replica;
        let elsewhere = nodes_elsewhere(&mut transaction, cluster, this).await?;
        let found = elsewhere.into_iter().find(|one| one.node == nodes.0).ok_or_else(offline)?;
        let id = ids::random(&mut rand::rng());
        let request = v1::DiagnosticRequest { diagnostic_id: id.to_vec(), body: Some(body) };
        let question = BASE64.encode(request.encode_to_vec());
        let errand = Errand::Ask { id, replica: found.replica(), cluster, nodes, question };
        let long = || Failure::new(Reason::RequestTooLarge, "the question is too long to be passed on");
        let text = errand.text(&self.keys).ok_or_else(long)?;
        let (_waiting, answer) = self.errands.begin(id)?;
        doorbell_tell(&mut transaction, &text).await?;
        transaction.commit().await?;
        let answer = tokio::time::timeout(DEADLINE + ON_THE_WAY, answer).await;
        answer
            .map_err(|_| {
                Failure::new(Reason::RequestTimeout, "the replica with the node's stream did not answer")
            })?
            .map_err(|_| offline())?
    }

    /// Does what another replica asks for, and answers.
    ///
    /// # Errors
    /// Those of the database; the answer is lost then.
    pub(crate) async fn run_errand(
        &self,
        id: [u8; 16],
        cluster: ClusterId,
        nodes: (NodeId, NodeId),
        question: &str,
    ) -> Result<(), Failure> {
        let result = match read(question) {
            Some(body) => self.ask_here(cluster, nodes, body).await,
            None => Err(Failure::new(Reason::RequestInvalid, "another release of the control plane asks")),
        };
        let parts = result.and_then(|result| {
            let long = || Failure::new(Reason::RequestTooLarge, "the answer is too long");
            Part::all(&result.encode_to_vec()).ok_or_else(long)
        });
        let results = match parts {
            Ok(parts) => parts.into_iter().map(Ok).collect(),
            Err(failure) => {
                vec![Err((failure.reason.code().to_owned(), failure.hearsay, failure.message))]
            }
        };
        let mut transaction = self.database.store.system().begin().await?;
        for result in results {
            let text = Errand::Answer { id, result }.text(&self.keys).unwrap_or_default();
            doorbell_tell(&mut transaction, &text).await?;
        }
        Ok(transaction.commit().await?)
    }
}

fn read(question: &str) -> Option<Body> {
    let bytes = BASE64.decode(question).ok()?;
    v1::DiagnosticRequest::decode(bytes.as_slice()).ok()?.body
}

/// Of the node's answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of questions and answers between replicas.
const ON_THE_WAY: Duration = Duration::from_secs(2);
