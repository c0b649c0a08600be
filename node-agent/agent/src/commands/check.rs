//! `check`: what would keep the agent from working, without changing anything.

use rap_runtime::Fault;
use rap_runtime::clock::Clock;
use rap_runtime::command_line::Format;
use rap_state::MembershipDir;
use rap_trust::Acceptor;
use rap_types::{ExitCode, Reason};
use serde_json::json;

use super::print::printed;
use crate::blocking::blocking;
use crate::config::{Config, DataplaneMode};
use crate::local::LocalClient;

/// What was looked at, and how it is.
type Finding = (String, Result<String, Fault>);

/// Prints every finding. Exit 0 if all are good, else the exit code of the first that is not.
pub(super) async fn run(config: &Config, form: Format) -> Result<ExitCode, Fault> {
    let findings = findings(config).await;
    let failed = failed(&findings);
    if !printed(form, &as_json(&findings)) {
        for (id, result) in &findings {
            match result {
                Ok(text) => println!("ok    {id}: {text}"),
                Err(fault) => println!("FAIL  {id}: [{}] {}", fault.reason, fault.message),
            }
        }
    }
    Ok(failed.map_or(ExitCode::Ok, Reason::exit))
}

/// The same findings as a document.
pub(super) async fn document(config: &Config) -> serde_json::Value {
    as_json(&findings(config).await)
}

async fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![("configuration".into(), Ok("valid".into())), data_dir(config)];
    findings.push(dataplane(config));
    let running = LocalClient::open(&config.socket, config.asked()).await;
    match running {
        Ok(Some(client)) => {
            findings.push(("agent".into(), Ok("running".into())));
            findings.extend(running_memberships(config, client).await);
        }
        Ok(None) => {
            findings.push(("agent".into(), Ok("not running".into())));
            findings.extend(memberships(config).await);
        }
        Err(fault) => findings.push(("agent".into(), Err(fault))),
    }
    findings
}

/// The reason of the first finding that is not good.
fn failed(findings: &[Finding]) -> Option<Reason> {
    findings.iter().find_map(|(_, result)| result.as_ref().err().map(|fault| fault.reason))
}

fn as_json(findings: &[Finding]) -> serde_json::Value {
    let check = |(id, result): &Finding| match result {
        Ok(text) => json!({ "id": id, "ok": true, "text": text }),
        Err(fault) => json!({ "id": id, "ok": false, "reason": fault.reason, "text": fault.message }),
    };
    let checks: Vec<_> = findings.iter().map(check).collect();
    json!({ "schema": "rap.check.v1", "ok": failed(findings).is_none(), "checks": checks })
}

fn data_dir(config: &Config) -> Finding {
    let path = &config.data_dir;
    let result = if path.is_dir() {
        rap_state::space::probe(path)
            .map(|space| format!("{} writable, {} MiB free", path.display(), space.available >> 20))
            .map_err(Fault::from)
    } else {
        Ok(format!("{} does not exist yet; join makes it", path.display()))
    };
    ("data-dir".into(), result)
}

fn dataplane(config: &Config) -> Finding {
    let id = "dataplane".to_owned();
    match config.dataplane {
        DataplaneMode::Spawn => {}
        DataplaneMode::Systemd => return (id, Ok("started as a unit of its own".into())),
        DataplaneMode::External => return (id, Ok("started by somebody else".into())),
    }
    let beside = std::env::current_exe().map(|own| own.with_file_name("rap-dataplane"));
    let program = config.dataplane_bin.clone().or(beside.ok());
    let result = match program {
        Some(program) if program.is_file() => Ok(program.display().to_string()),
        Some(program) => {
            let text = format!("{} does not exist; give --dataplane-bin", program.display());
            Err(Fault::new(Reason::DataplaneUnavailable, text))
        }
        None => Err(Fault::new(Reason::DataplaneUnavailable, "give --dataplane-bin")),
    };
    (id, result)
}

/// Asks the running agent why a membership does not run; one that runs was verified by it.
async fn running_memberships(config: &Config, mut client: LocalClient) -> Vec<Finding> {
    let document = match client.memberships().await {
        Ok(document) => document,
        Err(fault) => return vec![("memberships".into(), Err(fault))],
    };
    let listed = document["memberships"].as_array().cloned().unwrap_or_default();
    let asked = listed
        .into_iter()
        .filter(|entry| config.asked().is_empty() || entry["membership"].as_str() == Some(config.asked()));
    let findings = asked.map(|entry| {
        let id = format!("membership {}", entry["membership"].as_str().unwrap_or_default());
        let text = entry["text"].as_str().unwrap_or_default().to_owned();
        let result = match entry["reason"].as_str() {
            None => Ok("running".to_owned()),
            Some(code) => Err(Fault::new(Reason::from_code(code).unwrap_or(Reason::StateIo), text)),
        };
        (id, result)
    });
    findings.collect()
}

/// Opens every membership and verifies its chain and stored snapshot again.
async fn memberships(config: &Config) -> Vec<Finding> {
    let names = match MembershipDir::list(&config.data_dir).map_err(Fault::from) {
        Ok(names) => names,
        Err(fault) => return vec![("memberships".into(), Err(fault))],
    };
    let mut findings = Vec::new();
    let asked = |name: &rap_state::MembershipName| !config.membership_given || *name == config.membership;
    for name in names.into_iter().filter(asked) {
        let id = format!("membership {name}");
        let (data, dev) = (config.data_dir.clone(), config.dev);
        let opened = blocking(move || crate::membership::Membership::open(&data, &name, dev)).await;
        let result = match opened {
            Err(fault) => Err(fault),
            Ok(membership) => {
                let stored = super::snapshot::stored(config, &membership).await;
                stored.and_then(|stored| {
                    let (pinned, floors) = (membership.pinned(), membership.trust_floors());
                    let acceptor = Acceptor::start(pinned, floors, &stored, Clock::new().now());
                    match (acceptor.newest(), acceptor.rejects().last()) {
                        (Some(newest), _) => Ok(format!("chain and snapshot {} verify", newest.head().order)),
                        (None, None) => Ok("chain verifies; no snapshot stored yet".to_owned()),
                        (None, Some((reason, _))) => {
                            Err(Fault::new(reason, "no stored snapshot verifies; it will be fetched again"))
                        }
                    }
                })
            }
        };
        findings.push((id, result));
    }
    findings
}
