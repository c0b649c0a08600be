//! `ping`: probes a peer through the running agent.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_types::ExitCode;
use serde_json::Value;

use super::print::{list, not_running, printed, through};
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
    let overlay = summary(&document["overlay"]["samples"]);
    let link = summary(&document["link"]["samples"]);
    if !printed(form, &document) {
        let address = document["overlay_address"].as_str().unwrap_or_default();
        println!("overlay {address}{}: {}", through(&document), overlay.text);
        println!("link ({}): {}", document["link_state"].as_str().unwrap_or("-"), link.text);
    }
    Ok(if overlay.answered + link.answered > 0 { ExitCode::Ok } else { ExitCode::Timeout })
}

struct Summary {
    answered: usize,
    text: String,
}

fn summary(samples: &Value) -> Summary {
    let samples = list(samples);
    let times: Vec<f64> = samples.iter().filter_map(|sample| sample["rtt_ms"].as_f64()).collect();
    let (answered, sent) = (times.len(), samples.len());
    let lowest = times.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = times.iter().copied().fold(0.0, f64::max);
    let text = match answered {
        0 => format!("{sent} sent, none answered"),
        _ => format!(
            "{sent} sent, {answered} answered, min/mean/max {lowest:.3}/{:.3}/{highest:.3} ms",
            times.iter().sum::<f64>() / answered as f64
        ),
    };
    Summary { answered, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_probes_count_as_sent() {
        let samples = serde_json::json!([{ "rtt_ms": 1.0 }, { "rtt_ms": null }, { "rtt_ms": 3.0 }]);
        let summary = summary(&samples);
        assert_eq!(summary.answered, 2);
        assert_eq!(summary.text, "3 sent, 2 answered, min/mean/max 1.000/2.000/3.000 ms");
    }
}
