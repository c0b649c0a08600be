//! `bundle`: everything that helps somebody else to help, in one file without secrets.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use rap_runtime::Fault;
use rap_runtime::clock::Clock;
use rap_runtime::files::{create_new, read_capped};
use rap_state::{MembershipDir, MembershipName};
use rap_types::{ExitCode, Reason};
use serde_json::{Value, json};

use super::{check, snapshot};
use crate::bundle::Bundle;
use crate::bundle::anonymize::Pseudonyms;
use crate::cli;
use crate::config::Config;
use crate::local::LocalClient;

/// Writes the bundle, readable by its owner alone.
pub(super) async fn run(config: &Config, effective: Value, command: cli::Bundle) -> Result<ExitCode, Fault> {
    if command.out.exists() {
        let text = format!("{} exists; a bundle does not overwrite", command.out.display());
        return Err(Fault::new(Reason::ResourceExists, text));
    }
    let now = Clock::new().now();
    let mut bundle = Bundle::default();
    bundle.host();
    bundle.json("config.json", effective);
    bundle.json("checks.json", check::document(config).await);
    let support = support(config).await;
    let (running, log, metrics) = match &support {
        Ok(support) => (true, text_of(&support["log"]), support["metrics"].as_str().unwrap_or_default()),
        Err(_) => (false, String::new(), ""),
    };
    bundle.text("agent.log", log);
    bundle.text("metrics.txt", metrics);
    let said = support.as_ref().err().map(ToString::to_string);
    let listed = support.as_ref().ok().map(|support| support["listed"].clone());
    bundle.json("agent.json", json!({ "running": running, "text": said, "memberships": listed }));
    for name in MembershipDir::list(&config.data_dir)? {
        let status = support.as_ref().ok().and_then(|support| status_of(support, &name));
        membership(&mut bundle, config, &name, status).await;
    }
    if command.anonymize {
        let mut pseudonyms = Pseudonyms::new(rand::random());
        bundle.anonymize(&mut pseudonyms);
    }
    let at = u64::try_from(now.wall.0 / 1000).unwrap_or(0);
    let archive = bundle.archive(command.anonymize, at);
    create_new(&command.out, &archive, 0o600)?;
    println!("{} bytes written to {}", archive.len(), command.out.display());
    if !command.anonymize {
        eprintln!("next: it names nodes and addresses; --anonymize replaces them. Look at it: tar xf FILE");
    }
    Ok(ExitCode::Ok)
}

async fn support(config: &Config) -> Result<Value, Fault> {
    let mut client = LocalClient::open(&config.socket, "").await?.ok_or_else(|| {
        Fault::new(Reason::ServerUnreachable, format!("nothing answers at {}", config.socket.display()))
    })?;
    client.support().await
}

fn status_of(support: &Value, name: &MembershipName) -> Option<Value> {
    let memberships = support["memberships"].as_array()?;
    let found = memberships.iter().find(|membership| membership["membership"] == name.as_str())?;
    Some(found["status"].clone())
}

/// What one membership's directory and data plane show. Files with keys are named, not read.
async fn membership(bundle: &mut Bundle, config: &Config, name: &MembershipName, status: Option<Value>) {
    let folder = config.data_dir.join(name.as_str());
    let below = |file: &str| format!("memberships/{name}/{file}");
    let dataplane = status.as_ref().map_or(Value::Null, |status| {
        json!({ "dataplane": status["dataplane"], "links": status["links"], "peers": status["peers"] })
    });
    bundle.json(below("status.json"), status.unwrap_or(Value::Null));
    bundle.json(below("dataplane.json"), dataplane);
    let summary = match snapshot::document(config, name).await {
        Ok(summary) => summary,
        Err(fault) => json!({ "reason": fault.reason, "text": fault.message }),
    };
    bundle.json(below("snapshot.json"), summary);
    bundle.json(below("floors.json"), floors(&folder.join("floors.json")));
    bundle.json(below("files.json"), Value::Array(listing(&folder, &folder)));
    let log = config.run_dir.join(name.as_str()).join("dataplane.log");
    bundle.text(below("dataplane.log"), tail(&log));
}

/// The record as it is on disk. It holds orders and digests, no keys.
fn floors(path: &Path) -> Value {
    let bytes = match read_capped(path, FLOORS_CAP) {
        Ok(bytes) => bytes,
        Err(error) => return json!({ "text": error.to_string() }),
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| json!({ "text": error.to_string() }))
}

/// Path, length and mode of every file, for seeing what is missing or exposed.
fn listing(top: &Path, folder: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(facts)) = (entry.path(), entry.metadata()) else { continue };
        let mode = std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o7777;
        let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
        found.push(json!({ "path": name, "bytes": facts.len(), "mode": format!("{mode:04o}") }));
        if facts.is_dir() && found.len() < LISTED {
            found.extend(listing(top, &path));
        }
    }
    found
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(LOG_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn text_of(lines: &Value) -> String {
    let lines = lines.as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.map(|line| format!("{line}\n")).collect()
}

const FLOORS_CAP: usize = 1 << 20;
const LISTED: usize = 1000;
const LOG_BYTES: u64 = 128 * 1024;
