//! Ping between two nodes, asked of the first one through the control plane.

use rap_runtime::Fault;
use rap_runtime::probe_series::ProbeSeries;
use rap_types::{ExitCode, NodeId, Reason};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::args::{Global, Ping};
use crate::client::{Connection, ask};
use crate::output::{Answer, clean, complain, id_text};

pub(crate) async fn run(global: &Global, command: Ping) -> anyhow::Result<ExitCode> {
    not_itself(&command.from, &command.to)?;
    let mut connection = Connection::of_context(global).await?;
    let cluster = connection.cluster(None).await?;
    let answer = ask!(connection.admin.ping(v1::AdminPingRequest {
        cluster,
        from: command.from.clone(),
        to: command.to.clone(),
        count: command.count,
        interval_ms: u32::try_from(command.interval.as_millis()).unwrap_or(u32::MAX),
    }));
    let (overlay, link) = (series(&answer.overlay), series(&answer.link));
    let body = json!({
        "from": command.from, "to": command.to, "overlay_address": answer.overlay_address,
        "link_state": answer.link_state, "overlay": overlay.document(), "link": link.document(),
        "way": Some(&answer.way).filter(|way| !way.is_empty()), "via": answer.via.iter().map(relay).collect::<Value>(),
    });
    let way = [answer.overlay_address.clone(), way(&answer)].join(" ");
    let rows = [("overlay", &overlay, way.trim_end()), ("link", &link, answer.link_state.as_str())].map(
        |(name, series, note)| {
            let [sent, lost, lowest, median, highest] = cells(series);
            [name.to_owned(), sent, lost, lowest, median, highest, clean(note)]
        },
    );
    let headers = ["PATH", "SENT", "LOST", "MIN MS", "MEDIAN MS", "MAX MS", ""];
    Answer::new("rap.ping.v1", body).table(headers, 0, rows).print(global)?;
    if overlay.lost() == overlay.sent() {
        if !global.format().is_document() {
            complain("no answer over the overlay");
        }
        return Ok(ExitCode::Unreachable);
    }
    Ok(ExitCode::Ok)
}

/// Refuses to ask a node about itself: it is none of its own peers.
pub(super) fn not_itself(from: &str, to: &str) -> Result<(), Fault> {
    if from != to {
        return Ok(());
    }
    let text = format!("`{from}` is both ends: name two nodes; rapctl node list shows them");
    Err(Fault::new(Reason::RequestInvalid, text))
}

fn relay(relay: &v1::PingRelay) -> Value {
    let name = Some(&relay.name).filter(|name| !name.is_empty());
    json!({ "node_id": id_text(NodeId::from_slice(&relay.node_id)), "name": name })
}

/// `direct`, or through whom.
fn way(answer: &v1::AdminPingAnswer) -> String {
    let name = |relay: &v1::PingRelay| match relay.name.as_str() {
        "" => id_text(NodeId::from_slice(&relay.node_id)),
        name => name.to_owned(),
    };
    match answer.via.iter().map(name).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => answer.way.clone(),
        relays => format!("through {relays}"),
    }
}

fn series(samples: &[v1::AdminPingSample]) -> ProbeSeries {
    ProbeSeries::of(samples.iter().map(|sample| (sample.sequence, sample.rtt_ns)))
}

/// Sent, lost, and the spread of round trips.
fn cells(series: &ProbeSeries) -> [String; 5] {
    let [lowest, median, highest] = series
        .spread_ms()
        .map_or_else(|| ["-"; 3].map(str::to_owned), |spread| spread.map(|ms| format!("{ms:.3}")));
    [series.sent().to_string(), series.lost().to_string(), lowest, median, highest]
}
