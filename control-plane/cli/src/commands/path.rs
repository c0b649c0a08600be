//! The path from one node to another, asked of the first one through the control plane.

use anyhow::Context as _;
use rap_runtime::command_line::Format;
use rap_runtime::path_text;
use rap_wire::v1;
use serde_json::Value;

use crate::args::{Global, Path};
use crate::client::{Connection, ask};
use crate::output::{Answer, print};

pub(crate) async fn run(global: &Global, command: Path) -> anyhow::Result<()> {
    let Path::Explain(asked) = command;
    super::ping::not_itself(&asked.from, &asked.to)?;
    let mut connection = Connection::of_context(global).await?;
    let cluster = connection.cluster(None).await?;
    let answer = ask!(connection.admin.path_explain(v1::AdminPathExplainRequest {
        cluster,
        from: asked.from,
        to: asked.to.clone(),
        class: asked.class.as_str().to_owned(),
        down: asked.assumed_down,
    }));
    let mut document: Value = serde_json::from_str(&answer.json).context("the node's answer is not JSON")?;
    // The node was asked by id.
    document["to"] = asked.to.into();
    if matches!(global.format(), Format::Table | Format::Wide) {
        return print(&path_text::explanation(&document));
    }
    Answer::new("rap.path-explain.v1", document).print(global)
}
