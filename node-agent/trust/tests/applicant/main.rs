//! The applicant: legal steps, resumption, and everything that must not make a member.

#[path = "../support/mod.rs"]
mod support;
mod transitions;

use rap_contract::{JOIN_PROOF, JoinTokenText, POLL_PROOF, Signer, check_possession, sign};
use rap_trust::{
    Applicant, ApplicantInput as Input, ApplicantOutput as Output, Application, AuthorityPin, NodeFacts,
    Patience, PendingJoin, PersistId, Phase, Wait,
};
use rap_types::{Reason, Wall};
use rap_wire::v1;
use std::time::Duration;
use support::{ISSUED, SECRET, World, at};

const PATIENCE: Patience = Patience {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(600),
    unreached: Duration::from_secs(300),
};

const NONCE: [u8; 32] = [0x41; 32];

const EXPORTER: [u8; 32] = [0x42; 32];

fn application(world: &World, secret: Option<[u8; 32]>) -> Application {
    let pin = AuthorityPin::default();
    let token = Application::check_token(&world.token(), &pin, world.dev, ISSUED).unwrap();
    let key = Signer::from_seed(&world.node_key.seed());
    let facts = NodeFacts { name: "own".into(), ..NodeFacts::default() };
    Application::new(token, secret, key, world.wireguard_key, world.dev, facts).unwrap()
}

fn start(world: &World, pending: PendingJoin) -> Applicant {
    Applicant::start(application(world, Some(SECRET)), pending, PATIENCE, at(0)).unwrap()
}

fn outputs(applicant: &mut Applicant) -> Vec<Output> {
    std::iter::from_fn(|| applicant.poll_output()).collect()
}

fn challenged() -> Input {
    Input::Challenged { nonce: NONCE.to_vec(), exporter: EXPORTER, server_time: ISSUED }
}

fn pending_answer(world: &World) -> Input {
    Input::JoinAnswered(v1::JoinAnswer { request_id: world.request_id().to_vec(), state: "pending".into() })
}

fn approved(contract: Vec<u8>) -> Input {
    Input::BootstrapAnswered(v1::BootstrapAnswer {
        state: "approved".into(),
        message: String::new(),
        contract,
    })
}

fn still_pending() -> Input {
    Input::BootstrapAnswered(v1::BootstrapAnswer { state: "pending".into(), ..Default::default() })
}

fn persist_id(outputs: &[Output]) -> PersistId {
    let id = outputs.iter().find_map(|output| match output {
        Output::PersistPending(id, _) | Output::PersistMembership(id, _) => Some(*id),
        _ => None,
    });
    id.expect("a persist")
}

/// Brings an applicant to its first poll.
fn polling(world: &World) -> Applicant {
    let mut applicant = start(world, PendingJoin::default());
    for input in [challenged(), Input::Persisted(PersistId(1)), pending_answer(world)] {
        applicant.handle(input, at(1)).unwrap();
    }
    applicant.handle(Input::Persisted(PersistId(2)), at(1)).unwrap();
    applicant.handle(challenged(), at(1)).unwrap();
    assert_eq!(applicant.phase().name(), "polling");
    outputs(&mut applicant);
    applicant
}

#[test]
fn the_nonce_is_on_disk_before_the_join_and_the_request_before_the_poll() {
    let world = World::default();
    let mut applicant = start(&world, PendingJoin::default());
    assert!(matches!(outputs(&mut applicant).as_slice(), [Output::Connect]));
    applicant.handle(challenged(), at(1)).unwrap();
    let noted = outputs(&mut applicant);
    let [Output::PersistPending(id, pending)] = noted.as_slice() else { panic!("{noted:?}") };
    assert_eq!((pending.request, pending.nonces.as_slice()), (None, [NONCE.to_vec()].as_slice()));
    applicant.handle(Input::Persisted(*id), at(1)).unwrap();
    let sent = outputs(&mut applicant);
    let [Output::SendJoin(join)] = sent.as_slice() else { panic!("{sent:?}") };
    let proof = v1::JoinProof {
        token_id: world.token_id().to_vec(),
        cluster_id: world.cluster.to_vec(),
        node_public_key: world.node_key.public().to_vec(),
        wireguard_public_key: world.wireguard_key.to_vec(),
        nonce: NONCE.to_vec(),
        exporter: EXPORTER.to_vec(),
    };
    assert_eq!(check_possession(JOIN_PROOF, &proof, &world.node_key.public(), &join.signature), Ok(()));
    applicant.handle(pending_answer(&world), at(1)).unwrap();
    let named = outputs(&mut applicant);
    let [Output::PersistPending(id, pending)] = named.as_slice() else { panic!("{named:?}") };
    assert_eq!(pending.request, Some(world.request_id()));
    applicant.handle(Input::Persisted(*id), at(1)).unwrap();
    assert!(matches!(outputs(&mut applicant).as_slice(), [Output::Connect]));
}

#[test]
fn the_poll_is_proved_and_pending_waits_for_people_until_approval() {
    let world = World::default();
    let mut applicant = polling(&world);
    applicant.handle(still_pending(), at(2)).unwrap();
    assert!(matches!(outputs(&mut applicant).as_slice(), [Output::Waiting(Wait::Approval)]));
    assert_eq!(applicant.poll_timeout(), Some(at(7).mono));
    applicant.handle(Input::TimedOut, at(6)).unwrap();
    assert_eq!(applicant.phase().name(), "resting", "early timers change nothing");
    applicant.handle(Input::TimedOut, at(7)).unwrap();
    assert!(matches!(outputs(&mut applicant).as_slice(), [Output::Connect]));
    applicant.handle(challenged(), at(7)).unwrap();
    let sent = outputs(&mut applicant);
    let [Output::SendPoll(poll)] = sent.as_slice() else { panic!("{sent:?}") };
    let proof = v1::PollProof {
        request_id: world.request_id().to_vec(),
        cluster_id: world.cluster.to_vec(),
        node_public_key: world.node_key.public().to_vec(),
        wireguard_public_key: world.wireguard_key.to_vec(),
        nonce: NONCE.to_vec(),
        exporter: EXPORTER.to_vec(),
    };
    assert_eq!(check_possession(POLL_PROOF, &proof, &world.node_key.public(), &poll.signature), Ok(()));
    applicant.handle(approved(world.signed_contract(&NONCE)), at(8)).unwrap();
    let settled = outputs(&mut applicant);
    let [Output::PersistMembership(id, membership)] = settled.as_slice() else { panic!("{settled:?}") };
    assert_eq!(membership.bootstrap.node, world.node);
    assert!(!matches!(applicant.phase(), Phase::Joined(_)), "not a member before it is on disk");
    applicant.handle(Input::Persisted(*id), at(8)).unwrap();
    assert!(matches!(applicant.phase(), Phase::Joined(node) if *node == world.node));
    assert_eq!(applicant.poll_timeout(), None);
}

#[test]
fn a_killed_applicant_resumes_at_the_poll_and_accepts_any_nonce_it_signed() {
    let world = World::default();
    let pending = PendingJoin {
        request: Some(world.request_id()),
        nonces: vec![vec![1; 32], NONCE.to_vec(), vec![2; 32]],
    };
    let mut applicant = Applicant::start(application(&world, None), pending, PATIENCE, at(0)).unwrap();
    applicant.handle(challenged(), at(1)).unwrap();
    let sent = outputs(&mut applicant);
    assert!(
        matches!(sent.as_slice(), [Output::Connect, Output::SendPoll(_)]),
        "nothing is asked twice: {sent:?}"
    );
    applicant.handle(approved(world.signed_contract(&NONCE)), at(1)).unwrap();
    assert_eq!(applicant.phase().name(), "settling");
}

#[test]
fn without_secret_and_request_the_token_is_needed_again() {
    let world = World::default();
    let start = Applicant::start(application(&world, None), PendingJoin::default(), PATIENCE, at(0));
    assert_eq!(start.unwrap_err().reason, Reason::SecretMissing);
}

#[test]
fn contracts_that_do_not_answer_this_request_make_no_member() {
    let world = World::default();
    let outcome = |contract: Vec<u8>| {
        let mut applicant = polling(&world);
        applicant.handle(approved(contract), at(2)).unwrap();
        let written = outputs(&mut applicant).iter().any(|o| matches!(o, Output::PersistMembership(..)));
        assert!(!written);
        match applicant.phase() {
            Phase::Refused(reason) => reason.code(),
            phase => phase.name(),
        }
    };
    let own = world.node_key.public().to_vec();
    let signed = |change: &dyn Fn(&mut v1::BootstrapContract)| {
        let mut contract = world.contract(&NONCE, &own, &world.wireguard_key);
        change(&mut contract);
        sign(&contract, &[&world.authority])
    };
    assert_eq!(outcome(world.signed_contract(&[9; 32])), "contract.mismatch");
    let other = Signer::from_seed(&[99; 32]).public().to_vec();
    let contract = world.contract(&NONCE, &other, &world.wireguard_key);
    assert_eq!(outcome(sign(&contract, &[&world.authority])), "header.audience");
    assert_eq!(outcome(signed(&|contract| contract.node_public_key.clone_from(&other))), "contract.mismatch");
    assert_eq!(outcome(signed(&|contract| contract.wireguard_public_key = vec![1; 32])), "contract.mismatch");
    assert_eq!(outcome(signed(&|contract| contract.request_id = vec![1; 16])), "contract.mismatch");
    assert_eq!(outcome(signed(&|contract| contract.token_id = vec![1; 16])), "contract.mismatch");
    assert_eq!(outcome(signed(&|contract| contract.server_trust_pin = vec![1; 32])), "pin.mismatch");
    assert_eq!(outcome(signed(&|contract| contract.authority_records.clear())), "chain.broken");
    let stranger = Signer::from_seed(&[98; 32]);
    let contract = world.contract(&NONCE, &own, &world.wireguard_key);
    assert_eq!(outcome(sign(&contract, &[&stranger])), "key.unknown");
    assert_eq!(outcome(Vec::new()), "signature.missing");
    let bytes = world.signed_contract(&NONCE);
    for byte in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[byte] ^= 0x10;
        assert_ne!(outcome(flipped), "settling");
    }
}

#[test]
fn an_expired_contract_ends_it_and_one_from_the_future_waits_for_the_clocks() {
    let world = World::default();
    let mut applicant = polling(&world);
    applicant.handle(approved(world.signed_contract(&NONCE)), at(3601)).unwrap();
    assert!(matches!(applicant.phase(), Phase::Refused(Reason::HeaderExpired)));

    let late = World::default();
    let mut contract = late.contract(&NONCE, late.node_key.public().as_bytes(), &late.wireguard_key);
    contract.header.as_mut().unwrap().issued_at_ms = ISSUED.plus(Duration::from_secs(300)).0;
    let mut applicant = polling(&world);
    applicant.handle(approved(sign(&contract, &[&late.authority])), at(2)).unwrap();
    let waits = outputs(&mut applicant);
    assert!(matches!(waits.as_slice(), [Output::Waiting(Wait::Failure(Reason::ClockSkew))]), "{waits:?}");
    assert_eq!(applicant.phase().name(), "resting");
}

#[test]
fn skewed_clocks_are_said_and_denial_ends_it() {
    let world = World::default();
    let mut applicant = start(&world, PendingJoin::default());
    let server_time = Wall(ISSUED.0 + 600_000);
    let skewed = Input::Challenged { nonce: NONCE.to_vec(), exporter: EXPORTER, server_time };
    applicant.handle(skewed, at(0)).unwrap();
    let said = outputs(&mut applicant)
        .into_iter()
        .any(|output| matches!(output, Output::Waiting(Wait::ClockSkew(600_000))));
    assert!(said);
    let mut applicant = polling(&world);
    let denied = v1::BootstrapAnswer { state: "denied".into(), ..Default::default() };
    applicant.handle(Input::BootstrapAnswered(denied), at(2)).unwrap();
    assert!(matches!(applicant.phase(), Phase::Refused(Reason::EnrollmentDenied)));
}

#[test]
fn failures_that_time_heals_are_tried_again_and_others_end_it() {
    let world = World::default();
    for reason in Reason::ALL {
        let mut applicant = start(&world, PendingJoin::default());
        applicant.handle(Input::CallFailed(*reason), at(1)).unwrap();
        let rests = applicant.phase().name() == "resting";
        assert_eq!(rests, reason.retryable() || *reason == Reason::EnrollmentNonce, "{reason}");
    }
    let mut applicant = start(&world, PendingJoin::default());
    let mut pauses = Vec::new();
    let mut now = at(0);
    for _ in 0..8 {
        applicant.handle(Input::CallFailed(Reason::ServerUnreachable), now).unwrap();
        let due = applicant.poll_timeout().unwrap();
        pauses.push(due.since(now.mono));
        now = now.plus(due.since(now.mono));
        applicant.handle(Input::TimedOut, now).unwrap();
    }
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(pauses.last(), Some(&PATIENCE.interval));
}

#[test]
fn a_join_that_reaches_no_control_plane_gives_up_earlier_than_one_that_waits_for_approval() {
    let world = World::default();
    let mut applicant = start(&world, PendingJoin::default());
    applicant.handle(Input::CallFailed(Reason::ServerUnreachable), at(1)).unwrap();
    applicant.handle(Input::TimedOut, at(299)).unwrap();
    assert!(!applicant.phase().is_final());
    applicant.handle(Input::TimedOut, at(300)).unwrap();
    assert!(matches!(applicant.phase(), Phase::Refused(Reason::RequestTimeout)));

    // One challenge is enough, whatever fails later.
    let mut applicant = start(&world, PendingJoin::default());
    applicant.handle(challenged(), at(1)).unwrap();
    applicant.handle(Input::CallFailed(Reason::ServerUnreachable), at(2)).unwrap();
    applicant.handle(Input::TimedOut, at(300)).unwrap();
    assert!(!applicant.phase().is_final());
    applicant.handle(Input::TimedOut, at(600)).unwrap();
    assert!(matches!(applicant.phase(), Phase::Refused(Reason::RequestTimeout)));
}

#[test]
fn patience_ends_and_the_request_can_be_resumed() {
    let world = World::default();
    let mut applicant = polling(&world);
    applicant.handle(still_pending(), at(2)).unwrap();
    applicant.handle(Input::TimedOut, at(600)).unwrap();
    assert!(matches!(applicant.phase(), Phase::Refused(Reason::RequestTimeout)));
}

#[test]
fn a_failed_write_ends_it_before_anything_is_sent() {
    let world = World::default();
    let mut applicant = start(&world, PendingJoin::default());
    applicant.handle(challenged(), at(1)).unwrap();
    let id = persist_id(&outputs(&mut applicant));
    applicant.handle(Input::PersistFailed(id, Reason::StateReadOnly), at(1)).unwrap();
    assert!(matches!(applicant.phase(), Phase::Refused(Reason::StateReadOnly)));
    assert!(outputs(&mut applicant).is_empty());
}

#[test]
fn tokens_that_are_not_what_they_seem_are_refused() {
    let world = World::default();
    let check = |text: &JoinTokenText, pin: &AuthorityPin, now: Wall| {
        Application::check_token(text, pin, false, now).map(drop).map_err(|reject| reject.reason)
    };
    let open = AuthorityPin::default();
    assert_eq!(check(&world.token(), &open, ISSUED), Ok(()));
    let other = AuthorityPin::read(None, Some(&Signer::from_seed(&[1; 32]).id().to_string())).unwrap();
    assert_eq!(check(&world.token(), &other, ISSUED), Err(Reason::PinMismatch));
    let expired = ISSUED.plus(Duration::from_secs(3600));
    assert_eq!(check(&world.token(), &open, expired), Err(Reason::TokenExpired));
    let wrong = JoinTokenText::new(world.token().envelope().to_vec(), [0; 32]);
    assert_eq!(check(&wrong, &open, ISSUED), Err(Reason::TokenSecret));
    // Widened after it was signed: the scope is inside the signature.
    let mut widened = world.join_token();
    widened.roles.push("admin-ingress".into());
    let honest = <v1::SignedEnvelope as prost::Message>::decode(world.token().envelope()).unwrap();
    let forged = v1::SignedEnvelope { payload: prost::Message::encode_to_vec(&widened), ..honest };
    let forged = JoinTokenText::new(prost::Message::encode_to_vec(&forged), SECRET);
    assert_eq!(check(&forged, &open, ISSUED), Err(Reason::SignatureInvalid));
    let dev = World { dev: true, ..World::default() };
    assert_eq!(check(&dev.token(), &open, ISSUED), Err(Reason::AuthorityDevRefused));
    assert!(Application::check_token(&dev.token(), &open, true, ISSUED).is_ok());
}

#[test]
fn debug_of_an_applicant_shows_no_secret() {
    let world = World::default();
    let mut applicant = start(&world, PendingJoin::default());
    applicant.handle(challenged(), at(1)).unwrap();
    applicant.handle(Input::Persisted(PersistId(1)), at(1)).unwrap();
    let text = format!("{applicant:?}");
    let text = format!("{text} {:?}", applicant.phase());
    let text = format!("{text} {:?}", outputs(&mut applicant));
    assert!(text.contains("SendJoin"), "{text}");
    for secret in [&SECRET[..], &*world.node_key.seed()] {
        let list = format!("{secret:?}");
        let inner = list.trim_matches(['[', ']']);
        assert!(!text.contains(inner), "{text}");
    }
}

#[test]
fn a_contract_that_makes_no_sense_is_refused_before_anything_is_written() {
    type Change = fn(&mut v1::BootstrapContract);
    let changes: [(&str, Change); 8] = [
        ("an IPv4 pool of everything", |contract| contract.overlay_ipv4 = "100.96.0.5/0".into()),
        ("an IPv6 pool of everything", |contract| contract.overlay_ipv6 = "fd00::5/0".into()),
        ("the loopback network", |contract| contract.overlay_ipv4 = "127.0.0.1/8".into()),
        ("the broadcast address", |contract| contract.overlay_ipv4 = "100.96.255.255/16".into()),
        ("no address", |contract| contract.overlay_ipv4 = String::new()),
        ("a path as name", |contract| contract.node_name = "../../x".into()),
        ("a path as cluster name", |contract| contract.cluster_name = "a/b".into()),
        ("a CA of two bytes", |contract| contract.cluster_ca = vec![0x30, 0x00]),
    ];
    let world = World::default();
    let contract = |change: Change| {
        let mut contract = world.contract(&NONCE, world.node_key.public().as_bytes(), &world.wireguard_key);
        change(&mut contract);
        sign(&contract, &[&world.authority])
    };
    for (what, change) in changes {
        let mut applicant = polling(&world);
        applicant.handle(approved(contract(change)), at(2)).unwrap();
        assert!(matches!(applicant.phase(), Phase::Refused(Reason::ContractInsensible)), "{what}");
        assert!(outputs(&mut applicant).is_empty(), "{what}: nothing is written");
    }
    let mut applicant = polling(&world);
    applicant.handle(approved(contract(|_| ())), at(2)).unwrap();
    assert_eq!(applicant.phase().name(), "settling");
}
