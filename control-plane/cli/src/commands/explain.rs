//! Reason codes, explained.

use rap_runtime::Fault;
use rap_types::Reason;
use serde_json::{Value, json};

use crate::args::{Explain, Global};
use crate::output::Answer;

/// The page whose tables say what to do about a code.
const TROUBLESHOOTING: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate/troubleshooting.md"));

pub(crate) fn run(global: &Global, command: &Explain) -> anyhow::Result<()> {
    let Some(code) = &command.code else {
        let row = |reason: &Reason| [reason.code().to_owned(), reason.row().text.to_owned()];
        return Answer::list("rap.reasons.v1", "reasons", Reason::ALL, |reason| document(*reason))
            .table(["CODE", "MEANING"], 0, Reason::ALL.iter().map(row))
            .print(global);
    };
    let reason = Reason::from_code(&code.to_ascii_lowercase()).ok_or_else(|| unknown(code))?;
    let row = reason.row();
    let mut rows = vec![("code", row.code.to_owned()), ("meaning", row.text.to_owned())];
    let page = match advice(row.code) {
        Some(Advice { cause, action }) => {
            rows.extend([("cause", cause), ("what to do", action)]);
            "docs/operate/troubleshooting.md"
        }
        None if ["path.", "relay."].iter().any(|family| row.code.starts_with(family)) => {
            "docs/operate/paths.md"
        }
        None => "docs/ERRORS.md",
    };
    rows.extend([
        ("gRPC status", format!("{:?} ({})", row.rpc, row.rpc.code())),
        ("HTTP status", row.rpc.http().to_string()),
        ("exit code", (row.exit as u8).to_string()),
        ("retry helps", if row.retryable { "yes" } else { "no" }.to_owned()),
        ("page", page.to_owned()),
    ]);
    Answer::new("rap.reason.v1", document(reason)).properties(rows).print(global)
}

fn document(reason: Reason) -> Value {
    let row = reason.row();
    let advice = advice(row.code);
    json!({
        "code": row.code, "meaning": row.text, "grpc_status": row.rpc.code(),
        "http_status": row.rpc.http(), "exit_code": row.exit as u8, "retryable": row.retryable,
        "cause": advice.as_ref().map(|advice| &advice.cause), "action": advice.as_ref().map(|advice| &advice.action),
    })
}

/// What the page says about one code.
#[derive(Debug, PartialEq, Eq)]
struct Advice {
    cause: String,
    action: String,
}

/// The row of the page whose first cell names the code.
fn advice(code: &str) -> Option<Advice> {
    let marked = format!("`{code}`");
    TROUBLESHOOTING.lines().find_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [codes, cause, action] = cells[..] else { return None };
        let plain = |cell: &str| without_links(cell).replace('`', "");
        codes
            .split(", ")
            .any(|one| one == marked)
            .then(|| Advice { cause: plain(cause), action: plain(action) })
    })
}

/// Markdown links become their text, with the page in brackets.
fn without_links(text: &str) -> String {
    let Some((before, rest)) = text.split_once('[') else { return text.to_owned() };
    let parts = rest.split_once("](").and_then(|(words, rest)| Some((words, rest.split_once(')')?)));
    match parts {
        Some((words, (target, after))) => {
            let page = target.split('#').next().unwrap_or_default();
            format!("{before}{words} (docs/operate/{page}){}", without_links(after))
        }
        None => text.to_owned(),
    }
}

fn unknown(code: &str) -> Fault {
    let mut near: Vec<(f64, &str)> =
        Reason::ALL.iter().map(|reason| (strsim::jaro_winkler(code, reason.code()), reason.code())).collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0));
    let near: Vec<&str> = near.iter().take_while(|one| one.0 > 0.8).take(3).map(|one| one.1).collect();
    let hint = match near.as_slice() {
        [] => "; rapctl explain lists all".to_owned(),
        near => format!("; did you mean {}?", near.join(", ")),
    };
    Fault::new(Reason::ResourceNotFound, format!("no reason code `{code}`{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_to_do_about_a_code() {
        let advice = advice("token.exhausted").unwrap();
        assert!(advice.action.contains("another token"), "{advice:?}");
        let linked = super::advice("activation.required").unwrap();
        assert!(linked.action.contains("install (docs/operate/install.md)"), "{linked:?}");
        assert_eq!(super::advice("no.such"), None);
    }

    #[test]
    fn a_code_with_a_slip_is_answered_with_the_near_ones() {
        assert!(unknown("token.expird").message.contains("token.expired"));
        assert!(unknown("xyz").message.contains("lists all"));
    }
}
