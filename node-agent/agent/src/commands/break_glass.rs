//! `break-glass`: apply a grant, end one, or see which hold.

use std::path::Path;

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_runtime::files::read_capped;
use rap_runtime::output::clean;
use rap_types::{ExitCode, Reason};
use serde_json::{Value, json};

use super::print::{not_running, printed};
use crate::cli::BreakGlass;
use crate::config::Config;
use crate::local::LocalClient;

/// Runs the subcommand.
pub(super) async fn run(config: &Config, command: BreakGlass, form: Format) -> Result<ExitCode, Fault> {
    let Some(mut client) = LocalClient::open(&config.socket, config.asked()).await? else {
        eprintln!("{}", not_running(config));
        return Ok(ExitCode::Unreachable);
    };
    match command {
        BreakGlass::Apply { file } => {
            let text = read(&file)?;
            let document = client.break_glass(&text).await?;
            if !printed(form, &document) {
                println!("applied: {}", line(&document));
            }
        }
        BreakGlass::Drop { digest } => {
            let document = client.drop_break_glass(&digest).await?;
            if !printed(form, &document) {
                println!("dropped: {}", line(&document));
            }
        }
        BreakGlass::List => {
            let (status, _) = client.status().await?;
            let listed = listed(&status);
            if printed(form, &json!({ "schema": "rap.break_glass.list.v1", "grants": listed })) {
            } else if listed.is_empty() {
                println!("no break-glass grants");
            } else {
                listed.iter().for_each(|grant| println!("{}", line(grant)));
            }
        }
    }
    Ok(ExitCode::Ok)
}

fn read(file: &Path) -> Result<String, Fault> {
    let bytes = read_capped(file, 64 * 1024)?;
    let malformed = || Fault::new(Reason::BreakGlassMalformed, "the file is not text");
    String::from_utf8(bytes).map_err(|_| malformed())
}

/// Grants of one status or of several.
fn listed(status: &Value) -> Vec<Value> {
    let statuses = match status["memberships"].as_array() {
        Some(all) => all.clone(),
        None => vec![status.clone()],
    };
    let grants = statuses.iter().flat_map(|status| {
        let membership = status["membership"].clone();
        let grants = status["break_glass"].as_array().cloned().unwrap_or_default();
        grants.into_iter().map(move |mut grant| {
            grant["membership"] = membership.clone();
            grant
        })
    });
    grants.collect()
}

/// A grant in one line. Its texts are cleaned: a signed file may hold any character.
pub(super) fn line(grant: &Value) -> String {
    let text = |key: &str| clean(grant[key].as_str().unwrap_or("-"));
    let ends = grant["ends_in_ms"].as_i64().unwrap_or_default();
    let clock = match ends {
        1.. => format!("ends in {} min", (ends + 59_999) / 60_000),
        _ => "ended".to_owned(),
    };
    let told = if grant["acknowledged"] == true { "reported" } else { "not reported yet" };
    format!(
        "{} {} by {} ({}): {}; {clock}, {told}",
        text("digest"),
        text("permit"),
        text("signer"),
        text("state"),
        text("reason")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reads_as_one_line_with_its_clock() {
        let grant = json!({
            "digest": "ab", "permit": "extend_degraded", "signer": "product-root", "state": "active",
            "reason": "x\u{1b}y", "ends_in_ms": 61_000, "acknowledged": false,
        });
        let text = line(&grant);
        assert!(text.contains("ends in 2 min, not reported yet") && text.contains("x\u{fffd}y"), "{text}");
        let status =
            json!({ "memberships": [{ "membership": "a", "break_glass": [grant] }, { "membership": "b" }] });
        assert_eq!(listed(&status)[0]["membership"], "a");
    }
}
