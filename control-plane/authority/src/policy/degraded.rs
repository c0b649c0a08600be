//! The policy of kind `degraded`: which activities end in degraded mode, and which roles outlast it.
//!
//! Owns the words that may be set. Stored words are passed on unchanged, so a replica that does not know a word signs
//! the same version as one that does.

use std::str::FromStr;

use rap_types::{Activity, ContractRow, Role, UnknownWord};
use rap_wire::v1;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PolicyError, stored};

/// The policy as stored; absent fields say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DegradedPolicy {
    /// Activities that end at `fresh_until`, in the contract's order.
    pub ends: Vec<String>,
    /// Peers with one of these roles outlast `degraded_until`.
    pub survive_forever_roles: Vec<String>,
}

impl DegradedPolicy {
    /// The kind of the stored row.
    pub const KIND: &'static str = "degraded";

    /// The policy among a cluster's policies, each with its kind.
    ///
    /// # Errors
    /// [`PolicyError::Missing`], [`PolicyError::Unreadable`].
    pub fn among<'a>(policies: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<Self, PolicyError> {
        stored(policies, Self::KIND)
    }

    /// The policy after a request; a list that the request does not have stays.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`] names the first word that cannot be set.
    pub fn changed(mut self, request: &v1::MembershipPolicySetRequest) -> Result<Self, PolicyError> {
        if let Some(ends) = &request.degraded_ends {
            self.ends = chosen(&ends.words, endable, Activity::endable().map(Activity::as_str))?;
        }
        if let Some(roles) = &request.survive_forever_roles {
            let all = Role::ALL.iter().map(|role| role.as_str());
            self.survive_forever_roles =
                chosen(&roles.words, |word| known(word, all.clone()).map(Role::as_str), all.clone())?;
        }
        Ok(self)
    }
}

/// The words in the vocabulary's order, each once.
fn chosen(
    words: &[String],
    judge: impl Fn(&str) -> Result<&'static str, PolicyError>,
    order: impl Iterator<Item = &'static str>,
) -> Result<Vec<String>, PolicyError> {
    let judged: Vec<&str> = words.iter().map(|word| judge(word)).collect::<Result<_, _>>()?;
    Ok(order.filter(|word| judged.contains(word)).map(str::to_owned).collect())
}

fn endable(word: &str) -> Result<&'static str, PolicyError> {
    let activity: Activity = known(word, Activity::endable().map(Activity::as_str))?;
    let why = match activity.row() {
        ContractRow::Continues => return Ok(activity.as_str()),
        ContractRow::RefusedAlways => "is refused in degraded mode whatever policy says",
        ContractRow::Survives => "cannot be ended: it is how a node comes back, or what policy itself marks",
    };
    Err(PolicyError::Invalid(format!("`{activity}` {why}")))
}

fn known<T: FromStr<Err = UnknownWord>>(
    word: &str,
    all: impl Iterator<Item = &'static str>,
) -> Result<T, PolicyError> {
    word.parse().map_err(|unknown: UnknownWord| {
        let all: Vec<&str> = all.collect();
        let kind = unknown.kind.to_ascii_lowercase();
        let text = format!("unknown {kind} `{}`: one of {}", unknown.word.escape_debug(), all.join(", "));
        PolicyError::Invalid(text)
    })
}
