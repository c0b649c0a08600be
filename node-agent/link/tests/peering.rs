//! Who dials, which duplicate stays, how long to wait: both ends must agree.

use std::time::Duration;

use proptest::prelude::*;
use rap_link::{DIAL_GRACE, Direction, Kept, keep_of_duplicates, may_dial, redial_delay};
use rap_types::NodeId;

const SMALL: NodeId = NodeId::from_bytes([1; 16]);
const LARGE: NodeId = NodeId::from_bytes([2; 16]);

#[test]
fn the_smaller_id_dials_at_once_and_the_larger_after_the_grace() {
    assert!(may_dial(SMALL, LARGE, true, Duration::ZERO, DIAL_GRACE));
    assert!(!may_dial(LARGE, SMALL, true, DIAL_GRACE - Duration::from_millis(1), DIAL_GRACE));
    assert!(may_dial(LARGE, SMALL, true, DIAL_GRACE, DIAL_GRACE));
}

#[test]
fn nobody_dials_without_an_endpoint_or_itself() {
    assert!(!may_dial(SMALL, LARGE, false, Duration::MAX, DIAL_GRACE));
    assert!(!may_dial(SMALL, SMALL, true, Duration::MAX, DIAL_GRACE));
}

#[test]
fn both_ends_keep_the_dial_of_the_smaller_id() {
    use Direction::{Inbound, Outbound};
    for (smaller_first, expected) in [(true, Kept::Existing), (false, Kept::New)] {
        let (at_small, at_large) = if smaller_first {
            ((Outbound, Inbound), (Inbound, Outbound))
        } else {
            ((Inbound, Outbound), (Outbound, Inbound))
        };
        assert_eq!(keep_of_duplicates(SMALL, LARGE, at_small.0, at_small.1), expected);
        assert_eq!(keep_of_duplicates(LARGE, SMALL, at_large.0, at_large.1), expected);
    }
}

#[test]
fn a_second_dial_by_the_same_side_replaces_the_first() {
    for direction in [Direction::Inbound, Direction::Outbound] {
        assert_eq!(keep_of_duplicates(SMALL, LARGE, direction, direction), Kept::New);
        assert_eq!(keep_of_duplicates(LARGE, SMALL, direction, direction), Kept::New);
    }
}

proptest! {
    #[test]
    fn redial_delay_stays_between_125_ms_and_30_s(attempt in any::<u32>(), random in any::<u32>()) {
        let delay = redial_delay(attempt, random);
        prop_assert!(delay >= Duration::from_millis(125) && delay <= Duration::from_secs(30));
        prop_assert!(redial_delay(attempt, u32::MAX) >= delay);
    }
}
