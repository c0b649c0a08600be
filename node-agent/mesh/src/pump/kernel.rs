//! What the kernel knows of a connection: how fast its line is, and whether the peer's kernel still answers.

use rap_link::{Input, Lane};
use rap_types::Mono;

use crate::pump::Pump;
use crate::socket::Handle;

impl Pump<'_> {
    /// Lets lane C send a little less than its line takes.
    pub(super) fn keep_pace(&mut self, now: Mono) {
        let (Some(pace), Some(socket)) = (&mut self.pace, &self.socket) else { return };
        if !pace.is_due(now) {
            return;
        }
        let limit = socket.bulk_sample().and_then(|sample| pace.observe(sample, now));
        if let Some(Err(error)) = limit.map(|rate| socket.limit(rate)) {
            tracing::debug!(%error, "the kernel limits no rate");
            self.pace = None;
        }
    }

    /// Tells lane A of data on the other lanes, and of the kernel of a peer that is silent.
    pub(super) fn notice(&mut self, now: Mono) {
        if self.connection.lane != Some(Lane::A) || self.connection.established_at.is_none() {
            return;
        }
        let carried = self.busy.as_ref().map(|busy| busy.latest()).filter(|latest| *latest > self.noticed);
        self.noticed = carried.unwrap_or(self.noticed);
        let watched = self.connection.link.is_watched();
        let ago = self.socket.as_ref().filter(|_| watched).and_then(Handle::last_ack);
        let acked =
            ago.map(|ago| Mono(now.0.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))));
        if carried.is_some() || acked.is_some() {
            let _counted =
                self.connection.link.handle(Input::Noticed { carried, acked }, self.connection.shared.now());
        }
    }
}
