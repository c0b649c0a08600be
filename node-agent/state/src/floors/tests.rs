use super::*;
use proptest::prelude::*;

fn head(incarnation: u64, version: u64, root: &[u8]) -> Raise {
    let head = Some((Incarnation(incarnation), Version(version), Digest::of(&[root])));
    Raise { head, ..Raise::default() }
}

fn authority(sequence: u64, record: &[u8], incarnation: u64) -> Raise {
    let authority = Some((sequence, Digest::of(&[record]), Incarnation(incarnation)));
    Raise { authority, ..Raise::default() }
}

#[test]
fn lower_head_is_a_rollback_and_an_equal_one_with_another_root_equivocation() {
    let floors = Floors::default().raised(&head(2, 5, b"a")).unwrap();
    assert_eq!(floors.raised(&head(2, 4, b"a")).unwrap_err().code(), "snapshot.rollback");
    assert_eq!(floors.raised(&head(1, 9, b"a")).unwrap_err().code(), "snapshot.rollback");
    assert_eq!(floors.raised(&head(2, 5, b"b")).unwrap_err().code(), "snapshot.equivocation");
    assert_eq!(floors.raised(&head(2, 5, b"a")).unwrap(), floors);
    assert_eq!(floors.raised(&head(3, 0, b"b")).unwrap().version, Version(0));
}

#[test]
fn only_a_newer_authority_record_resets_the_head_floor() {
    let floors = Floors::default().raised(&authority(1, b"one", 1)).unwrap();
    let floors = floors.raised(&head(u64::MAX, u64::MAX, b"stolen key")).unwrap();
    let recovered = floors.raised(&authority(2, b"two", 7)).unwrap();
    assert_eq!((recovered.incarnation, recovered.version), (Incarnation(7), Version(0)));
    assert_eq!(recovered.head_digest, None);
    assert_eq!(floors.raised(&authority(1, b"one", 7)).unwrap(), floors);
    assert_eq!(floors.raised(&authority(1, b"other", 7)).unwrap_err().code(), "snapshot.equivocation");
    assert_eq!(recovered.raised(&authority(1, b"one", 1)).unwrap_err().code(), "snapshot.rollback");
}

#[test]
fn merged_floors_are_below_neither_of_the_two() {
    let at = HeadOrder::new(2, 6, 0);
    let old = Floors::default().raised(&authority(1, b"one", 1)).unwrap().raised(&head(2, 5, b"a")).unwrap();
    let time = Raise { time: Some(Wall(9)), freeze: Some(at), ..head(2, 6, b"b") };
    let new = old.raised(&time).unwrap();
    assert_eq!(Floors::default().merged(&new).unwrap(), new);
    assert_eq!((old.merged(&new).unwrap(), new.merged(&old).unwrap()), (new.clone(), new.clone()));
    // Under a newer authority record its head counts, whichever way round; the time stays.
    let reset = old.raised(&authority(2, b"two", 7)).unwrap();
    for merged in [reset.merged(&new).unwrap(), new.merged(&reset).unwrap()] {
        assert_eq!((merged.authority_sequence, merged.incarnation), (2, Incarnation(7)));
        assert_eq!((merged.time_floor, merged.frozen), (Wall(9), None));
    }
    // Another history is not merged.
    let foreign = Floors::default().raised(&authority(1, b"other", 1)).unwrap();
    assert_eq!(old.merged(&foreign).unwrap_err().code(), "snapshot.equivocation");
}

#[test]
fn frozen_ends_by_a_higher_incarnation_or_an_authority_record_only() {
    let at = HeadOrder::new(2, 5, 0);
    let floors = Floors::default().raised(&head(2, 5, b"a")).unwrap();
    let frozen = floors.raised(&Raise { freeze: Some(at), ..Raise::default() }).unwrap();
    assert_eq!(frozen.raised(&head(2, 6, b"b")).unwrap().frozen, Some(at));
    assert_eq!(frozen.raised(&head(3, 0, b"b")).unwrap().frozen, None);
    assert_eq!(frozen.raised(&authority(1, b"one", 3)).unwrap().frozen, None);
}

#[test]
fn revocations_never_fall_within_an_incarnation() {
    let told = |incarnation, sequence, byte: u8| Raise {
        revocations: Some(RevocationFloor {
            incarnation: Incarnation(incarnation),
            sequence,
            digest: Some(Digest::from_bytes([byte; 32])),
        }),
        ..Raise::default()
    };
    let floors = Floors::default().raised(&told(1, 5, 5)).unwrap();
    assert_eq!(floors.raised(&told(1, 4, 4)).unwrap_err().code(), "snapshot.rollback");
    assert_eq!(floors.raised(&told(1, 5, 6)).unwrap_err().code(), "snapshot.equivocation");
    assert_eq!(floors.raised(&told(1, 5, 5)).unwrap(), floors);
    assert_eq!(floors.raised(&told(1, 6, 6)).unwrap().revocations.unwrap().sequence, 6);
    // A database that was put back says so by a new incarnation.
    assert_eq!(floors.raised(&told(2, 3, 3)).unwrap().revocations.unwrap().sequence, 3);
    // Floors of a version that kept none are read.
    let old = serde_json::to_string(&Floors::default()).unwrap().replace(",\"revocations\":null", "");
    assert_eq!(serde_json::from_str::<Floors>(&old).unwrap(), Floors::default());
}

#[test]
fn lease_floors_are_per_connection_and_bounded() {
    let id = |n: u64| VpnConnectionId::from_parts(n, [0; 10]);
    let token = |incarnation, epoch| LeaseFloor { incarnation: Incarnation(incarnation), epoch };
    let raise = |id, token| Raise { lease: Some((id, token)), ..Raise::default() };
    let mut floors = Floors::default().raised(&raise(id(1), token(1, 9))).unwrap();
    assert_eq!(floors.raised(&raise(id(1), token(1, 8))).unwrap_err().code(), "snapshot.rollback");
    floors = floors.raised(&raise(id(1), token(2, 1))).unwrap();
    for n in 2..=MAX_LEASES as u64 {
        floors = floors.raised(&raise(id(n), token(1, 1))).unwrap();
    }
    assert_eq!(floors.raised(&raise(id(9999), token(1, 1))).unwrap_err().code(), "state.full");
    assert_eq!(floors.raised(&raise(id(1), token(2, 2))).unwrap().leases[&id(1)].epoch, 2);
}

proptest! {
    #[test]
    fn nothing_goes_down_without_an_authority_record(
        steps in proptest::collection::vec((0u64..4, 0u64..6, 0u8..2, 0i64..9, 0u64..4), 1..40)
    ) {
        let mut floors = Floors::default();
        for (incarnation, version, root, time, epoch) in steps {
            let raise = Raise {
                time: Some(Wall(time)),
                lease: Some((VpnConnectionId::ZERO, LeaseFloor { incarnation: Incarnation(incarnation), epoch })),
                ..head(incarnation, version, &[root])
            };
            if let Ok(next) = floors.raised(&raise) {
                prop_assert!((next.incarnation, next.version) >= (floors.incarnation, floors.version));
                prop_assert!(next.time_floor >= floors.time_floor);
                prop_assert!(next.leases.get(&VpnConnectionId::ZERO) >= floors.leases.get(&VpnConnectionId::ZERO));
                floors = next;
            }
        }
    }
}
