//! Whether this node takes an install, check by check in the order that the protocol fixes.

use std::time::Duration;

use rap_contract::PathInstall;
use rap_types::{NodeId, Now, Reason};
use rap_wire::v1::LinkLane;

use crate::path::message::OpenedRequest;
use crate::path::terms::PathTerms;

/// Checks what can be said without the paths that are installed.
pub(crate) fn check(
    me: NodeId,
    terms: &PathTerms,
    request: &OpenedRequest,
    from: NodeId,
    now: Now,
) -> Result<(), Reason> {
    let install = &request.install;
    if install.lane != LinkLane::C {
        return Err(Reason::PathKind);
    }
    let age = now.wall.since(install.issued_at).max(install.issued_at.since(now.wall));
    if age > SIGNATURE_LIFE {
        return Err(Reason::ClockSkew);
    }
    if !is_simple(install, me) || request.text.rest.len() != usize::from(install.length - install.position) {
        return Err(Reason::PathLoop);
    }
    if install.previous != from {
        return Err(Reason::PathPreviousMismatch);
    }
    permitted(me, terms, install.source, install.destination)
}

/// Whether this node may carry a path between these ends, or end it.
pub(crate) fn permitted(
    me: NodeId,
    terms: &PathTerms,
    source: NodeId,
    destination: NodeId,
) -> Result<(), Reason> {
    if destination == me {
        return if terms.known.contains_key(&source) { Ok(()) } else { Err(Reason::PathDenied) };
    }
    let carries = terms.carries.ok_or(Reason::RelayNotAllowed)?;
    for end in [source, destination] {
        let end = terms.known.get(&end).ok_or(Reason::RelayUnknownEnd)?;
        if !carries.any_organization && (end.organization.is_none() || end.organization != terms.organization)
        {
            return Err(Reason::RelayOrganization);
        }
    }
    Ok(())
}

/// No node occurs twice, and each has the position that the install says.
fn is_simple(install: &PathInstall, me: NodeId) -> bool {
    let PathInstall { source, destination, previous, position, length, .. } = *install;
    if position > length || source == destination || source == me {
        return false;
    }
    let before = (previous == source) == (position == 1) && previous != me && previous != destination;
    let here = (me == destination) == (position == length);
    let after = match install.next.map(|next| next.node) {
        None => position == length,
        Some(next) => {
            position < length
                && (next == destination) == (position + 1 == length)
                && ![source, previous, me].contains(&next)
        }
    };
    before && here && after
}

/// How far from this node's clock an install may have been signed.
const SIGNATURE_LIFE: Duration = Duration::from_secs(600);
