//! `ping`: probes a peer through the running agent.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_types::ExitCode;
use serde_json::Value;

use super::print::{not_running, printed, through};
use crate::cli::Ping;
use crate::config::Config;
use crate::local::LocalClient;

/// Prints the outcome. Exit 0 if any probe came back, 10 if none did.
pub(super) async fn run(config: &Config, ping: Ping, form: Format) -> Result<ExitCode, Fault> {
    let Some(mut client) = LocalClient::open(&config.socket, config.asked()).await? else {
        eprintln!("{}", not_running(config));
        return Ok(ExitCode::Unreachable);
    };
    let document = client.ping(&ping.peer, ping.count, ping.interval).await?;
    let (overlay_answered, overlay) = summary(&document["overlay"]);
    let (link_answered, link) = summary(&document["link"]);
    if !printed(form, &document) {
        let address = document["overlay_address"].as_str().unwrap_or_default();
        println!("overlay {address}{}: {}", through(&document), overlay);
        println!("link ({}): {}", document["link_state"].as_str().unwrap_or("-"), link);
    }
    Ok(if overlay_answered + link_answered > 0 { ExitCode::Ok } else { ExitCode::Timeout })
}

/// How many probes were answered, and the series in words.
fn summary(series: &Value) -> (u64, String) {
    let count = |key: &str| series[key].as_u64().unwrap_or_default();
    let (sent, answered) = (count("sent"), count("sent").saturating_sub(count("lost")));
    let spread = ["rtt_ms_min", "rtt_ms_median", "rtt_ms_max"].map(|key| series[key].as_f64());
    let [Some(lowest), Some(median), Some(highest)] = spread else {
        return (0, format!("{sent} sent, none answered"));
    };
    let times = format!("min/median/max {lowest:.3}/{median:.3}/{highest:.3} ms");
    (answered, format!("{sent} sent, {answered} answered, {times}"))
}

#[cfg(test)]
mod tests {
    use rap_runtime::probe_series::ProbeSeries;

    use super::*;

    #[test]
    fn lost_probes_count_as_sent() {
        let series = ProbeSeries::of([(1, 1_000_000), (2, 0), (3, 3_000_000), (4, 2_000_000)]).document();
        let words = "4 sent, 3 answered, min/median/max 1.000/2.000/3.000 ms".to_owned();
        assert_eq!(summary(&series), (3, words));
        assert_eq!(summary(&ProbeSeries::of([(1, 0)]).document()), (0, "1 sent, none answered".to_owned()));
    }
}
