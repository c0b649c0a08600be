//! `check`: whether this host could serve as it is configured, without starting anything.
//!
//! Owns what is looked at, and that every finding is told, not only the first. Refuses to touch the
//! database.

use rap_runtime::command_line::Format;
use rap_types::Reason;
use serde_json::json;

use crate::commands::settings::printed;
use crate::config::settings::Config;
use crate::data_dir::DataDir;
use crate::failure::Failure;

/// One thing that was looked at.
struct CheckFinding {
    id: &'static str,
    result: Result<String, Failure>,
}

/// Looks and prints.
///
/// # Errors
/// The first finding that is not good; all of them are printed.
pub(crate) fn run(config: &Config, form: Format) -> Result<(), Failure> {
    let findings = findings(config);
    let good = findings.iter().all(|finding| finding.result.is_ok());
    let checks: Vec<_> = findings.iter().map(document).collect();
    if !printed(form, &json!({ "schema": "rap.check.v1", "ok": good, "checks": checks }))? {
        for finding in &findings {
            match &finding.result {
                Ok(text) => println!("ok    {:<12} {text}", finding.id),
                Err(fault) => println!("FAIL  {:<12} [{}] {}", finding.id, fault.reason, fault.message),
            }
        }
    }
    findings.into_iter().try_for_each(|finding| finding.result.map(drop))
}

fn findings(config: &Config) -> Vec<CheckFinding> {
    let data = DataDir::of(config);
    let folder = config.data_dir.display();
    let mode = match data.mode() {
        Ok(Some(_)) => data.require_mode(config.mode).map(|()| Some(format!("{folder} is initialised"))),
        Ok(None) => Ok(None),
        Err(fault) => Err(fault),
    };
    let initialised = !matches!(mode, Ok(None));
    let mode = mode.map(|said| said.unwrap_or_else(|| format!("{folder} is not initialised yet")));
    let mut all = vec![
        CheckFinding { id: "config", result: Ok("reads, and its values fit together".to_owned()) },
        CheckFinding { id: "data_dir", result: mode },
    ];
    if initialised {
        let roots = data.roots(config).map(|_| "the Product Root key is a key".to_owned());
        let secret = data.sealing_key(config).map(|_| "the key encryption key reads".to_owned());
        all.extend([
            CheckFinding { id: "product_root", result: roots },
            CheckFinding { id: "secret_key", result: secret },
        ]);
    }
    all
}

fn document(finding: &CheckFinding) -> serde_json::Value {
    match &finding.result {
        Ok(text) => json!({ "id": finding.id, "ok": true, "text": text }),
        Err(Failure { reason, message, .. }) => {
            let reason: &Reason = reason;
            json!({ "id": finding.id, "ok": false, "reason": reason, "text": message })
        }
    }
}
