//! What nodes are asked about others: by this replica, or by the one that has the node's stream.

use std::time::Duration;

use prost::Message as _;
use rap_authority::ids;
use rap_store::{doorbell_tell, nodes_elsewhere};
use rap_types::{ClusterId, NodeId, Reason};
use rap_wire::v1;
use tokio::sync::oneshot;
use v1::diagnostic_request::Body;

use crate::failure::Failure;
use crate::serve::errands::Errand;
use crate::serve::handle::Serving;
use crate::serve::sessions::Command;

/// Why a node is not asked that has no stream to any replica.
fn offline() -> Failure {
    Failure::new(Reason::NodeOffline, "the node has no stream to this control plane")
}

impl Serving {
    /// Asks a node about another one and waits for the answer.
    ///
    /// # Errors
    /// `node.offline` without a stream here; `rate.limited`; `request.timeout`; what the stream or the node refuses.
    pub(crate) async fn ask(
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

    /// Asks a node to ping another one and waits for the answer.
    ///
    /// # Errors
    /// Those of [`Self::ask`].
    pub(crate) async fn ping(
        &self,
        cluster: ClusterId,
        nodes: (NodeId, NodeId),
        ping: v1::PingRequest,
    ) -> Result<v1::PingResult, Failure> {
        let body = Body::Ping(v1::PingRequest { node_id: nodes.1.to_vec(), ..ping });
        Ok(self.ask(cluster, nodes, body).await?.ping.unwrap_or_default())
    }

    /// Asks the replica that has a node's stream to have it ping another one, and waits for the answer.
    ///
    /// # Errors
    /// `node.offline` if no replica has it; those of [`Self::ping`].
    pub(crate) async fn ping_elsewhere(
        &self,
        cluster: ClusterId,
        nodes: (NodeId, NodeId),
        ping: &v1::PingRequest,
    ) -> Result<v1::PingResult, Failure> {
        let mut transaction = self.database.store.system().begin().await?;
        let this = self.watch.replica;
        let elsewhere = nodes_elsewhere(&mut transaction, cluster, this).await?;
        let found = elsewhere.into_iter().find(|one| one.node == nodes.0).ok_or_else(offline)?;
        let id = ids::random(&mut rand::rng());
        let replica = found.replica();
        let errand = Errand::Ping { id, replica, cluster, nodes, series: (ping.count, ping.interval_ms) };
        let text = errand.text(&self.keys).ok_or_else(offline)?;
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
        (count, interval_ms): (u32, u32),
    ) -> Result<(), Failure> {
        let ping = v1::PingRequest { node_id: Vec::new(), count, interval_ms };
        let result = self.ping(cluster, nodes, ping).await;
        let result = result.map(|result| result.encode_to_vec());
        let result =
            result.map_err(|failure| (failure.reason.code().to_owned(), failure.hearsay, failure.message));
        let long = || (Reason::RequestTooLarge.code().to_owned(), false, "the answer is too long".to_owned());
        let text = Errand::Answer { id, result }.text(&self.keys);
        let text = text.or_else(|| Errand::Answer { id, result: Err(long()) }.text(&self.keys));
        let mut transaction = self.database.store.system().begin().await?;
        doorbell_tell(&mut transaction, &text.unwrap_or_default()).await?;
        Ok(transaction.commit().await?)
    }
}

/// Of the node's answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of questions and answers between replicas.
const ON_THE_WAY: Duration = Duration::from_secs(2);
