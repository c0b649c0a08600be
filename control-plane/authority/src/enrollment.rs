//! Enrollment: the decision on a join request, and the checks of the facts that a host reports.
//!
//! Owns the legal transitions of a request. Refuses to own proofs of possession and the bootstrap contract.

use rap_contract::Reject;
use rap_types::sense::Loopback;
use rap_types::{JoinState, Reason, sense};

use crate::check_name;

/// What an operator, or the token itself, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The host becomes a node.
    Approved,
    /// It does not.
    Denied,
}

/// The state a request goes to. Only a pending one goes anywhere; deciding the same again is refused
/// too, so that nobody believes to have decided what another did.
///
/// # Errors
/// `enrollment.decided`.
pub fn decide_request(state: JoinState, decision: Decision) -> Result<JoinState, Reject> {
    match (state, decision) {
        (JoinState::Pending, Decision::Approved) => Ok(JoinState::Approved),
        (JoinState::Pending, Decision::Denied) => Ok(JoinState::Denied),
        (JoinState::Approved | JoinState::Denied, Decision::Approved | Decision::Denied) => {
            Err(Reject::new(Reason::EnrollmentDecided, "join request"))
        }
    }
}

/// The name a node gets: the wished one if it is a label and free, else one with its host number.
pub fn choose_node_name(wished: &str, free: impl Fn(&str) -> bool, host_number: u32) -> String {
    let wished = wished.to_ascii_lowercase();
    let wished = wished.split('.').next().unwrap_or_default();
    if check_name(wished).is_ok() && free(wished) {
        return wished.to_owned();
    }
    let stem = if check_name(wished).is_ok() && wished.len() <= 50 { wished } else { "node" };
    let numbered = format!("{stem}-{host_number}");
    if free(&numbered) { numbered } else { format!("{stem}-{host_number}-{}", stem.len()) }
}

/// Admits endpoints a host advertises: at most 16, each HOST:PORT, where another host can reach it.
///
/// # Errors
/// `request.invalid`.
pub fn check_endpoints(endpoints: &[String], loopback: Loopback) -> Result<(), Reject> {
    let invalid = |what| Reject::new(Reason::RequestInvalid, what);
    if endpoints.len() > 16 {
        return Err(invalid("more than 16 endpoints"));
    }
    let refused = endpoints.iter().find_map(|one| Some((one, sense::endpoint(one, loopback).err()?)));
    match refused {
        Some((endpoint, _)) if sense::endpoint(endpoint, Loopback::Allowed).is_ok() => Err(invalid(OWN_HOST)),
        Some((_, what)) => Err(invalid(what)),
        None => Ok(()),
    }
}

const OWN_HOST: &str = "an endpoint is a loopback address: let the node advertise an address that other hosts reach, or set \
                        loopback_endpoints at the control plane if all nodes run on one host";

/// Admits a WireGuard public key: 32 bytes in canonical form, not of small order.
///
/// # Errors
/// `key.invalid`.
pub fn check_wireguard_key(key: &[u8]) -> Result<[u8; 32], Reject> {
    sense::wireguard_key(key).map_err(|what| Reject::new(Reason::KeyInvalid, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pending_request_can_be_decided() {
        let table = [
            (JoinState::Pending, Decision::Approved, Some(JoinState::Approved)),
            (JoinState::Pending, Decision::Denied, Some(JoinState::Denied)),
            (JoinState::Approved, Decision::Approved, None),
            (JoinState::Approved, Decision::Denied, None),
            (JoinState::Denied, Decision::Approved, None),
            (JoinState::Denied, Decision::Denied, None),
        ];
        assert_eq!(table.len(), JoinState::ALL.len() * 2);
        for (state, decision, next) in table {
            assert_eq!(decide_request(state, decision).ok(), next, "{state} {decision:?}");
        }
    }

    #[test]
    fn node_names_fall_back_to_the_host_number() {
        let taken = |name: &str| name != "web";
        assert_eq!(choose_node_name("db", taken, 7), "db");
        assert_eq!(choose_node_name("DB.example.com", taken, 7), "db");
        assert_eq!(choose_node_name("web", taken, 7), "web-7");
        assert_eq!(choose_node_name("", taken, 7), "node-7");
        assert_eq!(choose_node_name("a b;c", taken, 7), "node-7");
    }

    #[test]
    fn endpoints_and_wireguard_keys_are_bounded() {
        let check = |endpoints: &[&str], loopback: bool| {
            let endpoints: Vec<String> = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
            check_endpoints(&endpoints, loopback.into()).map_err(|reject| reject.reason)
        };
        assert!(check(&["h:1", "[fd00::1]:7443", "10.0.0.1:7443"], false).is_ok());
        for bad in ["h", "h:0", "h:70000", ":1", "a b:1", "h:1\n", "169.254.169.254:80", "127.0.0.1:5432"] {
            assert_eq!(check(&["h:1", bad], false), Err(Reason::RequestInvalid), "{bad:?}");
        }
        assert!(check(&["127.0.0.1:5432"], true).is_ok());
        assert!(check(&["h:1"; 17], true).is_err());
        let own_host = check_endpoints(&["[::1]:7443".to_owned()], Loopback::Refused).unwrap_err();
        assert!(own_host.what.contains("advertise an address that other hosts reach"), "{}", own_host.what);
        assert!(check_wireguard_key(&[7; 32]).is_ok());
        assert!(check_wireguard_key(&[7; 31]).is_err());
        assert!(check_wireguard_key(&[0; 32]).is_err());
        let mut one_more_than_p = [0xff; 32];
        (one_more_than_p[0], one_more_than_p[31]) = (0xee, 0x7f);
        assert_eq!(check_wireguard_key(&one_more_than_p).unwrap_err().reason, Reason::KeyInvalid);
    }
}
