//! Policies whose rows are gone: which, what will be written for them, and the owner's word for it.

use rap_rpc::Refusal;
use rap_wire::v1;
use serde_json::json;

use super::membership::{age_rows, degraded_rows, document};
use crate::args::Global;
use crate::client::Connection;
use crate::output::{Answer, complain, confirm, properties};

pub(super) async fn restore(
    global: &Global,
    connection: &mut Connection,
    values: v1::MembershipPolicySetRequest,
) -> anyhow::Result<()> {
    let request = connection.request(values.clone())?;
    let look = connection.membership.policy_missing(request).await.map_err(Refusal::from)?.into_inner();
    if look.kinds.is_empty() {
        return answer(&look).print(global);
    }
    let listed = look.kinds.join(", ");
    complain(&format!(
        "Gone from the database: {listed}. If this control plane ever wrote them, somebody else"
    ));
    complain(
        "took them away, and may have changed what cannot be seen (docs/operate/tampered-rows.md). Will be written:",
    );
    for (property, value) in written(&look) {
        complain(&format!("  {property}: {value}"));
    }
    confirm(global, &format!("Write the missing policies of cluster {} anew?", values.cluster))?;
    let request = connection.request(v1::PolicyRestoreRequest { values: Some(values), kinds: look.kinds })?;
    let done = connection.membership.policy_restore(request).await.map_err(Refusal::from)?.into_inner();
    answer(&done).print(global)
}

/// The values of the kinds that are missing.
fn written(look: &v1::MissingPolicies) -> Vec<(&'static str, String)> {
    let policy = look.policy.clone().unwrap_or_default();
    let mut rows = Vec::new();
    for kind in &look.kinds {
        match kind.as_str() {
            "membership" => rows.extend(age_rows(&policy)),
            _ => rows.extend(degraded_rows(&policy)),
        }
    }
    rows
}

fn answer(done: &v1::MissingPolicies) -> Answer {
    let policy = done.policy.clone().unwrap_or_default();
    let mut body = document(&policy);
    body["restored"] = json!(done.kinds);
    let restored = match done.kinds.as_slice() {
        [] => "nothing: no policy is missing".to_owned(),
        kinds => kinds.join(", "),
    };
    let rows = [&age_rows(&policy)[..], &degraded_rows(&policy), &[("written anew", restored)]].concat();
    Answer::new("rap.membership-policy.v1", body).table(&["PROPERTY", "VALUE"], 0, properties(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_before_it_is_written_is_of_the_missing_kinds_only() {
        let policy = v1::MembershipPolicy { ephemeral_after_ms: 600_000, ..Default::default() };
        let shown = |kinds: &[&str]| {
            let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
            let rows = written(&v1::MissingPolicies { kinds, policy: Some(policy.clone()) });
            rows.into_iter().map(|(property, _)| property).collect::<Vec<_>>()
        };
        assert_eq!(shown(&["degraded"]), ["ends when degraded", "roles that outlast degraded mode"]);
        assert_eq!(shown(&["membership"]).len(), 4);
        assert_eq!(shown(&["membership", "degraded"]).len(), 6);
        assert!(shown(&[]).is_empty());
    }
}
