//! Hosts that come back with the key that they had.

use crate::fake::agent::{DEADLINE, Host, kill, terminate};
use crate::fake::control::Control;
use crate::fake::plane::Plane;
use crate::*;
use rap_types::Reason;

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
