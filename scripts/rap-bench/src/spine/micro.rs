//! The cores' own costs, without sockets and disks.

use std::time::Duration;

use rap_contract::{Expectation, HeadFacts, KeySet, Signer, sign};
use rap_wire::v1;

use crate::measure::microseconds_per_call;
use crate::scenario::Measured;
use crate::scope::{Scope, apply};
use crate::settings::Settings;

/// The fixtures of the cores' own criterion benches.
#[path = "../../../../proto/contract/benches/signed_head/mod.rs"]
mod signed_head;

/// Measures every wanted row.
pub fn measure(settings: &Settings, measured: &mut Measured) {
    let spell = Duration::from_millis(if settings.quick { 60 } else { 250 });
    let mut rounds = |id: &'static str, note: &str, work: &mut dyn FnMut() -> f64| {
        if settings.wants(&[id]) {
            let runs = (0..settings.rounds).map(|_| work()).collect();
            measured.insert(id, (runs, note.to_owned()));
        }
    };
    let authority = Signer::from_seed(&[7; 32]);
    let head = signed_head::head(authority.id());
    rounds("sign_head", "encode, sign, envelope; processor time", &mut || {
        microseconds_per_call(spell, || (), |()| sign(&head, &[&authority]))
    });
    let envelope = sign(&head, &[&authority]);
    let keys = KeySet::of::<v1::ClusterHead>(authority.public());
    let expect = Expectation {
        installation: Some(signed_head::INSTALLATION),
        cluster: Some(signed_head::CLUSTER),
        now: Some(signed_head::ISSUED_AT),
        ..Expectation::default()
    };
    rounds("verify_head", "strict decode, verify_strict, header, facts; processor time", &mut || {
        microseconds_per_call(
            spell,
            || (),
            |()| HeadFacts::open(&envelope, &keys, &expect).expect("a valid head"),
        )
    });
    for (id, slots) in [("apply_delta", 100), ("apply_delta_10000", 10_000)] {
        if !settings.wants(&[id]) {
            continue;
        }
        let mut scope = Scope::new(slots);
        let mut acceptor = scope.acceptor();
        let note = format!(
            "one changed peer in a scope of {slots} slots: from message to acknowledgement in the shipped \
             acceptor, without the disk; processor time"
        );
        rounds(id, &note, &mut || {
            microseconds_per_call(spell, || scope.change(), |update| apply(&mut acceptor, update))
        });
    }
}
