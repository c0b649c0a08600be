//! A neighbour of a host does not reach the host's overlay addresses.

use anyhow::Result;
use serde_json::json;

use super::scene::Scene;
use super::shown::{half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Pings};

/// A host outside the overlay sends packets for an overlay address, and ones from the pool, straight to a node.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let (address, neighbour) = (one.overlay_address(two)?, scene.control.host());
    let via = one.host().address();
    let pings = |destination: &str| -> Result<usize> {
        let line = format!("ping -n -O -i 0.2 -W 1 -c 3 {destination}");
        let answer = neighbour.run(&Invocation::typed(&line)?, CALL)?;
        Ok(Pings::read(&answer.stdout, Some(3)).answered.len())
    };
    for destination in [address.as_str(), OTHER] {
        neighbour.typed(&format!("ip route add {destination}/32 via {via}"), CALL)?;
    }
    one.host().typed(&format!("ip address add {OTHER}/32 dev lo"), CALL)?;
    let (overlay, other) = (pings(&address)?, pings(OTHER)?);
    neighbour.typed(&format!("ip address add {PRETENDED}/32 dev eth0"), CALL)?;
    let pretended = pings(&format!("-I {PRETENDED} {via}"))?;
    neighbour.typed(&format!("ip address del {PRETENDED}/32 dev eth0"), CALL)?;
    for destination in [address.as_str(), OTHER] {
        neighbour.typed(&format!("ip route del {destination}/32"), CALL)?;
    }
    one.host().typed(&format!("ip address del {OTHER}/32 dev lo"), CALL)?;
    let peer = two.ping(one, 3)?.answered.len();
    Ok(shown(
        half(
            (overlay, pretended, peer) == (0, 0, 3),
            json!({ "answers_to_a_neighbour": overlay, "to_an_address_of_the_pool": pretended, "to_a_peer": peer }),
        ),
        half(other == 3, json!({ "answers_of_another_address_of_the_host": other })),
        "a neighbour gets no answer from an overlay address; from any other address of the host it does",
    ))
}

/// An address of the host that nothing guards.
const OTHER: &str = "203.0.113.9";
/// Of the default pool, and no node's.
const PRETENDED: &str = "100.96.200.200";
