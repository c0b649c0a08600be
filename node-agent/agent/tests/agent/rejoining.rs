//! Hosts that come back with the key that they had.

use crate::fake::agent::{DEADLINE, Host, kill, terminate};
use crate::fake::control::Control;
use crate::fake::plane::Plane;
use crate::*;
use rap_contract::BreakGlassText;
use rap_state::{FloorStore, IdentityStore, MembershipDir, MembershipName, Raise};
use rap_types::{ClusterId, Digest, Incarnation, Reason};
use v1::break_glass_grant::Permit;

/// A new token, in a file.
fn token_file(host: &Host, control: &Control) -> String {
    host.file("new.token", token(control).text().as_bytes()).to_str().unwrap().to_owned()
}

fn stored(host: &Host, file: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(host.data().join("default").join(file)).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["body"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_thrown_out_returns_with_its_key_its_place_and_its_floors() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(3, 7, 0), 1, Duration::from_secs(300))));
    control.state.lock().unwrap().leaf_life_s = 4;
    let agent = host.agent().await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    let file = token_file(&host, control);
    // As long as it works there, nothing of it is touched.
    let refused = host.run(&["join", "--rejoin", "--token-file", &file]).await.expect(5);
    assert!(refused.err().contains("membership.exists"), "{}", refused.err());
    assert_eq!(host.status().await.0, Some(0));

    control.state.lock().unwrap().refuse = Some(Reason::NodeRevoked);
    let out = |status: &serde_json::Value| status["degraded_reasons"].to_string().contains("node.revoked");
    host.status_when("revoked", out).await;
    let (floors, place) = (stored(&host, "floors.json"), stored(&host, "place.json"));
    // The way back: approved under the next generation.
    {
        let mut state = control.state.lock().unwrap();
        (state.refuse, state.leaf_life_s) = (None, 86_400);
        control.world.lock().unwrap().key_generation = 2;
    }
    let done = host.run(&["join", "--rejoin", "--json", "--token-file", &file]).await.expect(0).json();
    assert_eq!((&done["kept_id"], &done["agent_loaded"]), (&true.into(), &true.into()), "{done}");
    {
        let state = control.state.lock().unwrap();
        let [first, second] = state.joins.as_slice() else { panic!("{} joins", state.joins.len()) };
        assert_eq!(first.node_public_key, second.node_public_key, "the same identity key");
        assert_ne!(first.wireguard_public_key, second.wireguard_public_key, "another WireGuard key");
    }
    assert_eq!(stored(&host, "place.json"), place);
    let kept = stored(&host, "floors.json");
    assert_eq!((&kept["incarnation"], &kept["version"]), (&floors["incarnation"], &floors["version"]));
    assert!(!host.data().join(".rejoin").exists());
    adopt_keys(control);
    // A head below its floor is refused as before, a newer one taken.
    control.say(update(&publish(control, HeadOrder::new(3, 6, 0), 1, Duration::from_secs(300))));
    let rolled = |status: &serde_json::Value| status["last_reject"]["reason"] == "snapshot.rollback";
    host.status_when("a refused rollback", rolled).await;
    control.say(update(&publish(control, HeadOrder::new(3, 8, 0), 1, Duration::from_secs(300))));
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_return_changes_nothing_and_says_why() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let file = token_file(&host, control);
    let before = stored(&host, "identity.json");
    control.state.lock().unwrap().refuse_join = Some(Reason::NodeRevoked);
    let refused = host.run(&["join", "--rejoin", "--token-file", &file]).await;
    assert_ne!(refused.code(), Some(0));
    assert!(refused.err().contains("node.revoked"), "{}", refused.err());
    assert_eq!(stored(&host, "identity.json"), before);
    let left = std::fs::read_dir(host.data().join(".rejoin")).into_iter().flatten().count();
    assert_eq!(left, 0, "no copy of the key stays");
    // Without a token there is nothing to go on with.
    let bare = host.run(&["join", "--rejoin"]).await.expect(2);
    assert!(bare.err().contains("secret.missing"), "{}", bare.err());
    // A host that has no key of that membership.
    let stranger = Host::new();
    let file = token_file(&stranger, control);
    let absent = stranger.run(&["join", "--rejoin", "--token-file", &file]).await.expect(3);
    assert!(absent.err().contains("membership.absent"), "{}", absent.err());
    assert!(!stranger.data().join("default").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_state_with_a_kept_key_is_enough_and_a_killed_return_resumes() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let folder = host.data().join("default");
    for entry in std::fs::read_dir(&folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("credentials-") && entry.path().is_file() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let joins = control.state.lock().unwrap().joins.len();
    control.state.lock().unwrap().approved = false;
    let file = token_file(&host, control);
    let child = host.command(&["join", "--rejoin", "--token-file", &file]).spawn().unwrap();
    let polls = control.state.lock().unwrap().polls;
    let polled = async {
        while control.state.lock().unwrap().polls == polls {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polled).await.expect("it polls");
    kill(child).await;
    std::fs::remove_file(file).unwrap();
    control.state.lock().unwrap().approved = true;
    let done = host.run(&["join", "--rejoin", "--json"]).await.expect(0);
    assert!(done.err().contains("resuming"), "{}", done.err());
    let state = control.state.lock().unwrap();
    assert_eq!(state.joins.len(), joins + 1, "asked once");
    let (first, last) = (&state.joins[0], &state.joins[joins]);
    assert_eq!(first.node_public_key, last.node_public_key);
}

fn rejoin<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["join", "--rejoin", "--json", "--token-file", file][..], more].concat()
}

/// A return that asks and stops waiting.
async fn give_up(host: &Host, control: &Control) {
    control.state.lock().unwrap().approved = false;
    let file = token_file(host, control);
    let mut command = host.command(&rejoin(&file, &[]));
    let gave_up = command.env("RAP_ENROLLMENT_POLL_TIMEOUT_SECONDS", "1").output().await.unwrap();
    let text = String::from_utf8_lossy(&gave_up.stderr);
    assert!(text.contains("gave up waiting"), "{text}");
    assert!(host.data().join(".rejoin/default/identity.json").exists());
    control.state.lock().unwrap().approved = true;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Leaves the host as a return that was killed between its last write and taking its place.
async fn cut_off_when_whole(host: &Host, control: &Control) {
    let (place, aside) = (host.data().join("default"), host.dir.path().join("aside"));
    copy(&place, &aside);
    let file = token_file(host, control);
    host.run(&rejoin(&file, &[])).await.expect(0);
    std::fs::create_dir_all(host.data().join(".rejoin")).unwrap();
    std::fs::rename(&place, host.data().join(".rejoin/default")).unwrap();
    std::fs::rename(aside, place).unwrap();
}

fn opened(host: &Host) -> MembershipDir {
    MembershipDir::open(&host.data(), &MembershipName::new("default").unwrap()).unwrap()
}

fn raise(host: &Host, raise: Raise) {
    FloorStore::open(&opened(host)).unwrap().0.raise(&raise).unwrap();
}

fn staged(host: &Host) -> bool {
    host.data().join(".rejoin").exists()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_on_between_giving_up_and_going_on_is_kept() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(3, 7, 0), 1, Duration::from_secs(300))));
    control.state.lock().unwrap().leaf_life_s = 4;
    let agent = host.agent().await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    let head = publish(control, HeadOrder::new(3, 8, 0), 1, Duration::from_secs(300));
    control.state.lock().unwrap().refuse = Some(Reason::NodeRevoked);
    let out = |status: &serde_json::Value| status["degraded_reasons"].to_string().contains("node.revoked");
    host.status_when("revoked", out).await;
    {
        let mut state = control.state.lock().unwrap();
        (state.refuse, state.leaf_life_s) = (None, 86_400);
    }
    give_up(&host, control).await;
    // The agent runs it again, and it has a certificate again: a head, a grant, evidence.
    control.say(update(&head));
    let holds_it =
        |status: &serde_json::Value| status["state"] == "healthy" && status["active"]["sequence"] == 8;
    host.status_when("healthy", holds_it).await;
    let grant = {
        let world = control.world.lock().unwrap();
        let permit = Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: now().0 + 3_500_000 });
        let grant = world.grant(1, now(), &world.authority, permit);
        BreakGlassText::new(sign(&grant, &[&world.authority]), vec![]).text()
    };
    let grant = host.file("x.grant", grant.as_bytes());
    let apply = ["break-glass", "apply", grant.to_str().unwrap()];
    host.run(&apply).await.expect(0);
    std::fs::write(host.data().join("default/evidence-3-8-0.json"), "{}").unwrap();
    let (grants, floors) = (stored(&host, "break-glass.json"), stored(&host, "floors.json"));
    assert_eq!(floors["version"], 8);
    control.world.lock().unwrap().key_generation = 2;
    // It works there now, under keys that the control plane has not: what was begun goes on.
    let done = host.run(&["join", "--rejoin", "--json"]).await.expect(0);
    assert!(done.err().contains("resuming"), "{}", done.err());
    assert_eq!(stored(&host, "break-glass.json"), grants);
    assert!(host.data().join("default/evidence-3-8-0.json").exists());
    let kept = stored(&host, "floors.json");
    for floor in ["incarnation", "version", "head_digest", "authority_sequence"] {
        assert_eq!(kept[floor], floors[floor], "{floor}");
    }
    assert!(kept["time_floor"].as_i64() >= floors["time_floor"].as_i64());
    let again = host.run(&apply).await.expect(5);
    assert!(again.err().contains("break_glass.replayed"), "{}", again.err());
    assert!(!staged(&host));
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_that_was_whole_before_never_lowers_a_floor() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    cut_off_when_whole(&host, control).await;
    // The former accepted the next authority record meanwhile.
    let (record, chain) = {
        let world = control.world.lock().unwrap();
        let next = Signer::from_seed(&[77; 32]);
        let kind = v1::authority_record::Kind::Rotate;
        let record = world.record(&world.chain(), kind, (&world.authority, &next), 5);
        let installation = world.installation_authority.public();
        (record.clone(), world.chain().extended(&[record], &installation, &[]).unwrap())
    };
    let authority = Some((chain.sequence(), chain.digest(), Incarnation(chain.incarnation())));
    let mut store = IdentityStore::open(&opened(&host)).unwrap().unwrap().0;
    store.update(|identity| identity.authority_records = vec![rap_state::SignedBytes(record)]).unwrap();
    drop(store);
    raise(&host, Raise { authority, ..Raise::default() });
    host.run(&["join", "--rejoin", "--json"]).await.expect(0);
    assert_eq!(stored(&host, "floors.json")["authority_sequence"], 2);
    assert_eq!(stored(&host, "identity.json")["authority_records"].as_array().unwrap().len(), 1);

    // With the record lost there is only the floor: refused, and nothing of the former goes.
    cut_off_when_whole(&host, control).await;
    let digest = Digest::of(&[b"three"]);
    raise(&host, Raise { authority: Some((3, digest, Incarnation(9))), ..Raise::default() });
    let before = stored(&host, "identity.json");
    let refused = host.run(&["join", "--rejoin"]).await.expect(7);
    assert!(refused.err().contains("snapshot.rollback"), "{}", refused.err());
    assert_eq!(stored(&host, "identity.json"), before);
    assert_eq!(stored(&host, "floors.json")["authority_sequence"], 3);
    assert!(!staged(&host), "it would be refused again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_thief_is_refused_and_stands_in_nobodys_way() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let before = stored(&host, "identity.json");
    let seed = |byte| Signer::from_seed(&[byte; 32]);
    // The same ids, other authorities.
    let world = World { installation_authority: seed(91), authority: seed(92), ..World::default() };
    let (thief, _heard) = Control::start(world).await;
    thief.control.state.lock().unwrap().approved = true;
    let file = token_file(&host, &thief.control);
    let refused = host.run(&rejoin(&file, &[])).await.expect(7);
    assert!(refused.err().contains("pin.mismatch"), "{}", refused.err());
    assert_eq!(stored(&host, "identity.json"), before);
    assert!(!staged(&host));
    let file = token_file(&host, &running.control);
    let done = host.run(&rejoin(&file, &[])).await.expect(0).json();
    assert_eq!(done["kept_id"], true);

    // Who it was is lost, its floors are not: only the authority it knew may have them.
    for name in ["identity.json", "identity.json.twin"] {
        std::fs::remove_file(host.data().join("default").join(name)).unwrap();
    }
    let floors = stored(&host, "floors.json");
    let file = token_file(&host, &thief.control);
    let refused = host.run(&rejoin(&file, &[])).await.expect(7);
    assert!(refused.err().contains("pin.mismatch") && refused.err().contains("leave"), "{}", refused.err());
    assert_eq!(stored(&host, "floors.json"), floors);
    let file = token_file(&host, &running.control);
    host.run(&rejoin(&file, &[])).await.expect(0);
    assert_eq!(stored(&host, "floors.json")["authority_digest"], floors["authority_digest"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_to_another_cluster_that_was_cut_off_takes_nobodys_place() {
    let host = Host::new();
    let (first, _messages) = joined(&host).await;
    cut_off_when_whole(&host, &first.control).await;
    // The membership of then is gone, whoever removed it; its name is another cluster's now.
    std::fs::remove_dir_all(host.data().join("default")).unwrap();
    let cluster = ClusterId::from_bytes([66; 16]);
    let (second, _heard) = Control::start(World { cluster, ..World::default() }).await;
    second.control.state.lock().unwrap().approved = true;
    let file = token_file(&host, &second.control);
    host.run(&["join", "--token-file", &file]).await.expect(0);
    host.run(&rejoin(&file, &[])).await.expect(0);
    assert_eq!(stored(&host, "identity.json")["cluster_id"], cluster.to_string());
    let state = second.control.state.lock().unwrap();
    assert_eq!(state.joins[0].node_public_key, state.joins[1].node_public_key);
    assert!(!staged(&host));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_takes_a_return_that_was_begun_and_a_start_what_a_removal_left() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    give_up(&host, &running.control).await;
    host.run(&["leave"]).await.expect(0);
    assert!(!staged(&host) && !host.data().join("default").exists());
    // Cut off between going and coming: only what was to come is left.
    let (running, _messages) = joined(&host).await;
    cut_off_when_whole(&host, &running.control).await;
    std::fs::remove_dir_all(host.data().join("default")).unwrap();
    let refused = host.run(&["leave"]).await;
    assert!(refused.err().contains("leave --force"), "{}", refused.err());
    assert!(host.data().join(".rejoin/default").exists());
    copy(&host.data().join(".rejoin/default"), &host.data().join(".left-default"));
    copy(&host.data().join(".rejoin/default"), &host.data().join(".rejoin/.removed-default"));
    let agent = host.agent().await;
    // It listens before it looks at what a removal left.
    host.logs("agent runs").await;
    assert!(!host.data().join(".left-default").exists());
    assert!(!host.data().join(".rejoin/.removed-default").exists());
    assert!(host.data().join(".rejoin/default").exists(), "it may still come");
    terminate(agent).await;
    host.run(&["leave", "--force"]).await.expect(0);
    assert!(!staged(&host) && !host.data().join("default").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_the_token_goes_at_the_next_start_if_the_join_was_cut_off_before() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let keeps = |host: &Host| {
        let store = IdentityStore::open(&opened(host)).unwrap().unwrap().0;
        store.credentials().join_secret.is_some()
    };
    assert!(!keeps(&host));
    let mut store = IdentityStore::open(&opened(&host)).unwrap().unwrap().0;
    let secret = Some(rap_runtime::Secret::new(SECRET.to_vec()));
    let credentials = rap_state::Credentials { join_secret: secret, ..store.credentials().clone() };
    store.replace_credentials(credentials).unwrap();
    drop(store);
    assert!(keeps(&host));
    terminate(host.agent().await).await;
    assert!(!keeps(&host));
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_makes_no_token_good_again() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let file = token_file(&host, &running.control);
    // The host knows that it is later than its clock says.
    let time = Some(now().plus(Duration::from_secs(7_200)));
    raise(&host, Raise { time, ..Raise::default() });
    let refused = host.run(&rejoin(&file, &[])).await.expect(4);
    assert!(refused.err().contains("token.expired"), "{}", refused.err());
    assert!(!staged(&host));
}
