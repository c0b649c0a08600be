//! Enrollment: the decision on a join request, and the checks of the facts that a host reports.
//!
//! Owns the legal transitions of a request. Refuses to own proofs of possession and the bootstrap contract.

use rap_contract::Reject;
use rap_types::{JoinState, Reason};

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

/// Admits endpoints a host advertises: at most 16, each HOST:PORT.
///
/// # Errors
/// `request.invalid`.
pub fn check_endpoints(endpoints: &[String]) -> Result<(), Reject> {
    let fine = |endpoint: &String| {
        endpoint.len() <= 255
            && endpoint.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty()
                    && port.parse::<u16>().is_ok_and(|port| port != 0)
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
            })
    };
    if endpoints.len() <= 16 && endpoints.iter().all(fine) {
        Ok(())
    } else {
        Err(Reject::new(Reason::RequestInvalid, "endpoints"))
    }
}

/// Admits a WireGuard public key: 32 bytes, not zero.
///
/// # Errors
/// `key.invalid`.
pub fn check_wireguard_key(key: &[u8]) -> Result<[u8; 32], Reject> {
    let invalid = |what| Reject::new(Reason::KeyInvalid, what);
    let key: [u8; 32] = key.try_into().map_err(|_| invalid("a WireGuard key has 32 bytes"))?;
    // The points of small order under any clamped scalar lead to an all-zero secret.
    if SMALL_ORDER.contains(&key) { Err(invalid("WireGuard key of small order")) } else { Ok(key) }
}

/// X25519 points of small order below 2^255 (RFC 7748 section 7; list from the curve's definition).
const SMALL_ORDER: [[u8; 32]; 2] = {
    let mut one = [0; 32];
    one[0] = 1;
    [[0; 32], one]
};

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
        assert!(check_endpoints(&["h:1".into(), "[fd00::1]:7443".into(), "10.0.0.1:7443".into()]).is_ok());
        for bad in ["h", "h:0", "h:70000", ":1", "a b:1", "h:1\n"] {
            assert!(check_endpoints(&[bad.into()]).is_err(), "{bad:?}");
        }
        assert!(check_endpoints(&vec!["h:1".to_owned(); 17]).is_err());
        assert!(check_wireguard_key(&[7; 32]).is_ok());
        assert!(check_wireguard_key(&[7; 31]).is_err());
        assert!(check_wireguard_key(&[0; 32]).is_err());
    }
}
