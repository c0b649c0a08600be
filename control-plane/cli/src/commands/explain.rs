//! Reason codes, explained.

use rap_runtime::Fault;
use rap_types::Reason;
use serde_json::{Value, json};

use crate::args::{Explain, Global};
use crate::output::{Answer, properties};

pub(crate) fn run(global: &Global, command: &Explain) -> anyhow::Result<()> {
    let Some(code) = &command.code else {
        let documents: Vec<Value> = Reason::ALL.iter().map(|reason| document(*reason)).collect();
        let rows = Reason::ALL
            .iter()
            .map(|reason| vec![reason.code().to_owned(), reason.row().text.to_owned()])
            .collect();
        return Answer::new("rap.reasons.v1", json!({ "reasons": documents }))
            .table(&["CODE", "MEANING"], 0, rows)
            .print(global);
    };
    let reason = Reason::from_code(code)
        .ok_or_else(|| Fault::new(Reason::ResourceNotFound, format!("no reason code `{code}`")))?;
    let row = reason.row();
    Answer::new("rap.reason.v1", document(reason))
        .properties(properties(&[
            ("code", row.code.to_owned()),
            ("meaning", row.text.to_owned()),
            ("gRPC status", format!("{:?} ({})", row.rpc, row.rpc.code())),
            ("HTTP status", row.rpc.http().to_string()),
            ("exit code", (row.exit as u8).to_string()),
            ("retry helps", if row.retryable { "yes" } else { "no" }.to_owned()),
        ]))
        .print(global)
}

fn document(reason: Reason) -> Value {
    let row = reason.row();
    json!({
        "code": row.code, "meaning": row.text, "grpc_status": row.rpc.code(),
        "http_status": row.rpc.http(), "exit_code": row.exit as u8, "retryable": row.retryable,
    })
}
