//! Policies of a cluster: show them, change them, and write those anew whose rows are missing.

use std::time::Duration;

use rap_wire::v1;
use serde_json::{Value, json};
use v1::plan_diff_request::Act;

use super::plan_diff;
use crate::args::{ClusterPolicy, Global};
use crate::client::{Connection, ask};
use crate::duration::{milliseconds, show_duration};
use crate::output::{Answer, complain, confirm};

pub(super) async fn run(
    global: &Global,
    connection: &mut Connection,
    wanted: ClusterPolicy,
) -> anyhow::Result<()> {
    let cluster = connection.cluster(wanted.name).await?;
    let change = v1::MembershipPolicySetRequest {
        cluster: cluster.clone(),
        ephemeral_after_ms: wanted.ephemeral_after.map(milliseconds),
        wireguard_key_max_age_ms: wanted.wireguard_key_max_age.map(milliseconds),
        identity_key_max_age_ms: wanted.identity_key_max_age.map(milliseconds),
        keep_ids: wanted.keep_ids,
        degraded_ends: list(wanted.degraded.degraded_ends, wanted.degraded.clear_degraded_ends),
        survive_forever_roles: list(
            wanted.degraded.survive_forever_roles,
            wanted.degraded.clear_survive_forever_roles,
        ),
    };
    if wanted.restore_missing {
        return restore(global, connection, change).await;
    }
    if wanted.dry_run.is_wanted() {
        return plan_diff::show(global, connection, Act::PolicySet(change)).await;
    }
    let nothing = v1::MembershipPolicySetRequest { cluster: cluster.clone(), ..Default::default() };
    let policy = match change == nothing {
        true => ask!(connection.membership.policy_show(v1::ClusterRef { cluster })),
        false => ask!(connection.membership.policy_set(change)),
    };
    let rows = [&age_rows(&policy)[..], &degraded_rows(&policy)].concat();
    Answer::new("rap.membership-policy.v1", document(&policy)).properties(rows).print(global)
}

fn list(words: Option<Vec<String>>, clear: bool) -> Option<v1::Words> {
    if clear { Some(v1::Words::default()) } else { words.map(|words| v1::Words { words }) }
}

/// JSON form of a cluster's policy.
pub(super) fn document(policy: &v1::MembershipPolicy) -> Value {
    json!({
        "ephemeral_after_ms": policy.ephemeral_after_ms,
        "wireguard_key_max_age_ms": policy.wireguard_key_max_age_ms,
        "identity_key_max_age_ms": policy.identity_key_max_age_ms,
        "keep_ids": policy.keep_ids,
        "degraded_ends": policy.degraded_ends,
        "survive_forever_roles": policy.survive_forever_roles,
    })
}

/// What policy says of memberships and keys, for people.
fn age_rows(policy: &v1::MembershipPolicy) -> [(&'static str, String); 4] {
    let age = |ms: u64| match ms {
        0 => "never".to_owned(),
        ms => show_duration(Duration::from_millis(ms)),
    };
    [
        ("ephemeral nodes go after", age(policy.ephemeral_after_ms)),
        ("WireGuard keys are replaced after", age(policy.wireguard_key_max_age_ms)),
        ("identity keys are replaced after", age(policy.identity_key_max_age_ms)),
        ("returning keys keep their node id", policy.keep_ids.to_string()),
    ]
}

/// What policy says of degraded mode, for people.
pub(super) fn degraded_rows(policy: &v1::MembershipPolicy) -> [(&'static str, String); 2] {
    let words = |words: &[String]| if words.is_empty() { "-".to_owned() } else { words.join(", ") };
    [
        ("ends when degraded", words(&policy.degraded_ends)),
        ("roles that outlast degraded mode", words(&policy.survive_forever_roles)),
    ]
}

/// Shows which policies are missing and what would be written, asks, and writes them.
async fn restore(
    global: &Global,
    connection: &mut Connection,
    values: v1::MembershipPolicySetRequest,
) -> anyhow::Result<()> {
    let look = ask!(connection.membership.policy_missing(values.clone()));
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
    let done = ask!(
        connection
            .membership
            .policy_restore(v1::PolicyRestoreRequest { values: Some(values), kinds: look.kinds })
    );
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
    Answer::new("rap.membership-policy.v1", body).properties(rows)
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
