//! The transition table of an applicant.

use super::*;

#[test]
fn the_legal_transitions_are_exactly_these() {
    let world = World::default();
    type MakeInput = fn(&World, PersistId) -> Input;
    let inputs: [(&str, MakeInput); 8] = [
        ("challenged", |_, _| challenged()),
        ("join_answered", |world, _| pending_answer(world)),
        ("poll_pending", |_, _| still_pending()),
        ("poll_approved", |world, _| approved(world.signed_contract(&NONCE))),
        ("call_failed", |_, _| Input::CallFailed(Reason::ServerUnreachable)),
        ("persisted", |_, id| Input::Persisted(id)),
        ("persist_failed", |_, id| Input::PersistFailed(id, Reason::StateIo)),
        ("timed_out", |_, _| Input::TimedOut),
    ];
    let path: [(&str, &[&str]); 9] = [
        ("challenging", &[]),
        ("noting", &["challenged"]),
        ("joining", &["challenged", "persisted"]),
        ("naming", &["challenged", "persisted", "join_answered"]),
        ("polling", &["challenged", "persisted", "join_answered", "persisted", "challenged"]),
        ("resting", &["call_failed"]),
        (
            "settling",
            &["challenged", "persisted", "join_answered", "persisted", "challenged", "poll_approved"],
        ),
        (
            "joined",
            &[
                "challenged",
                "persisted",
                "join_answered",
                "persisted",
                "challenged",
                "poll_approved",
                "persisted",
            ],
        ),
        ("refused", &["challenged", "persist_failed"]),
    ];
    let feed = |applicant: &mut Applicant, name: &str, id: &mut PersistId| {
        for output in outputs(applicant) {
            if let Output::PersistPending(new, _) | Output::PersistMembership(new, _) = output {
                *id = new;
            }
        }
        let (_, input) = inputs.iter().find(|(known, _)| *known == name).unwrap();
        applicant.handle(input(&world, *id), at(1))
    };
    let mut table = Vec::new();
    for (phase, steps) in path {
        for (name, _) in &inputs {
            let (mut applicant, mut id) = (start(&world, PendingJoin::default()), PersistId(0));
            for step in steps {
                feed(&mut applicant, step, &mut id).unwrap();
            }
            assert_eq!(applicant.phase().name(), phase);
            match feed(&mut applicant, name, &mut id) {
                Ok(()) if applicant.phase().name() != phase => {
                    table.push(format!("{phase} -{name}-> {}", applicant.phase().name()));
                }
                Ok(()) => assert_eq!(*name, "timed_out", "{phase}"),
                Err(reject) => {
                    assert_eq!(reject.reason, Reason::RequestInvalid);
                    assert_eq!(applicant.phase().name(), phase, "a refused input changes nothing");
                }
            }
        }
    }
    let legal = [
        "challenging -challenged-> noting",
        "challenging -call_failed-> resting",
        "noting -call_failed-> resting",
        "noting -persisted-> joining",
        "noting -persist_failed-> refused",
        "joining -join_answered-> naming",
        "joining -call_failed-> resting",
        "naming -persisted-> challenging",
        "naming -persist_failed-> refused",
        "polling -poll_pending-> resting",
        "polling -poll_approved-> settling",
        "polling -call_failed-> resting",
        "settling -persisted-> joined",
        "settling -persist_failed-> refused",
    ];
    assert_eq!(table, legal);
}
