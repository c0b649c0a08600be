//! Statistics of one connection, asked for a page at a time.
//!
//! Owns how pages become one report. Refuses to judge it.

use rap_runtime::Fault;
use rap_wire::v1;
use rap_wire::v1::{agent_message, dataplane_message};
use tokio::sync::oneshot;

use super::session::{Answer, Session};

/// The report that is on its way.
#[derive(Default)]
pub(super) struct Pages {
    asked: Option<oneshot::Receiver<Answer>>,
    /// Peers of the pages that came.
    peers: Vec<v1::PeerStats>,
}

impl Pages {
    /// Whether a report may be asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// Asks for a report.
    pub(super) async fn ask(&mut self, session: &mut Session) -> Result<(), Fault> {
        self.peers.clear();
        self.page(session, Vec::new()).await
    }

    /// Takes a page that came and asks for the next. The report once it is whole.
    pub(super) async fn answered(&mut self, session: &mut Session) -> Result<Option<v1::Stats>, Fault> {
        let Some(answer) = self.asked.as_mut().and_then(|asked| asked.try_recv().ok()) else {
            return Ok(None);
        };
        self.asked = None;
        let Ok(dataplane_message::Body::Stats(mut report)) = answer else { return Ok(None) };
        self.peers.append(&mut report.peers);
        let next = std::mem::take(&mut report.next);
        if next.is_empty() {
            let peers = std::mem::take(&mut self.peers);
            return Ok(Some(v1::Stats { peers, ..report }));
        }
        self.page(session, next).await?;
        Ok(None)
    }

    async fn page(&mut self, session: &mut Session, after: Vec<u8>) -> Result<(), Fault> {
        let body = agent_message::Body::Stats(v1::StatsRequest { after });
        self.asked = Some(session.request(body).await?);
        Ok(())
    }
}
