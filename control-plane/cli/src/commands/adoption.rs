//! A cluster whose row came from elsewhere: what it says, and the operator's word that it is theirs.

use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1;
use serde_json::json;

use super::cluster_view::{document, pairs};
use crate::args::Global;
use crate::client::{Connection, ask};
use crate::output::{Answer, complain, confirm};

pub(super) async fn run(
    global: &Global,
    connection: &mut Connection,
    cluster: String,
    reason: String,
    dry_run: bool,
) -> anyhow::Result<()> {
    let look = ask!(connection.adoption.adoption_look(v1::ClusterRef { cluster: cluster.clone() }));
    if dry_run {
        return shown(&look).print(global);
    }
    let row = look.cluster.clone().unwrap_or_default();
    if look.has_authority {
        return answer(&row, false).print(global);
    }
    if !look.refused.is_empty() {
        let reason = Reason::from_code(&look.refused).unwrap_or(Reason::ServerInternal);
        return Err(Fault::new(reason, look.why).into());
    }
    complain("The row of this cluster has no keys: something other than this installation wrote it.");
    for (property, value) in pairs(&row) {
        complain(&format!("{property}: {value}"));
    }
    confirm(global, &format!("Make keys for cluster {} and serve it?", row.name))?;
    let request = v1::EnsureAuthorityRequest { cluster, digest: look.digest, reason };
    let done = ask!(connection.adoption.ensure_authority(request));
    let cluster = done.cluster.unwrap_or_default();
    let hint = format!("rapctl token create --cluster {} --out {}.token", cluster.name, cluster.name);
    answer(&cluster, done.made).next(hint).print(global)
}

fn answer(row: &v1::Cluster, made: bool) -> Answer {
    let mut body = document(row);
    body["made"] = json!(made);
    let mut table = pairs(row);
    table.push(("keys", if made { "made now" } else { "there before" }.to_owned()));
    Answer::new("rap.cluster.v1", body).properties(table)
}

/// What would be adopted, and whether it would be admitted.
fn shown(look: &v1::AdoptionLookAnswer) -> Answer {
    let row = look.cluster.clone().unwrap_or_default();
    let lies_in = if look.lies_in_it.is_empty() { "-".to_owned() } else { look.lies_in_it.join(", ") };
    let verdict = match (look.has_authority, look.refused.as_str()) {
        (true, _) => "has an authority: nothing to do".to_owned(),
        (false, "") => "would be admitted".to_owned(),
        (false, reason) => format!("{reason}: {}", look.why),
    };
    let mut table = pairs(&row);
    table.extend([("lies in it", lies_in), ("verdict", verdict)]);
    let body = json!({
        "cluster": document(&row), "has_authority": look.has_authority, "lies_in_it": look.lies_in_it,
        "refused": look.refused, "why": look.why, "digest": hex::encode(&look.digest),
    });
    Answer::new("rap.adoption.v1", body).properties(table)
}
