//! The agent's program from outside: join, run, status, snapshot, ping, restart, cold boot.

mod break_glass;
mod burning;
mod disks;
mod fake;
mod joining;
mod large_table;
mod leaving;
mod memberships;
mod moving;
mod names;
mod observed;
mod observing;
mod pinning;
mod publishing;
mod rejoining;
mod rotating;
mod running;
mod sensible;
mod showing;
#[path = "../../../trust/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use fake::agent::{DEADLINE, Host};
use fake::control::{Control, Running};
use fake::publish::{adopt_keys, now, publish, publish_contents, publish_with, token, update};
use rap_contract::{PublicKeyFile, Signer, sign};
use rap_runtime::Clock;
use rap_types::HeadOrder;
use rap_wire::v1;
use support::{Contents, SECRET, World};
use tokio::sync::mpsc;
use v1::{control_message, node_message};

async fn joined(host: &Host) -> (Running, mpsc::Receiver<v1::NodeMessage>) {
    let world = World { dev: host.dev, ..World::default() };
    let (running, heard) = Control::start(world).await;
    join(host, &running.control).await;
    (running, heard)
}

async fn join(host: &Host, control: &Control) {
    control.state.lock().unwrap().approved = true;
    let file = host.file("token", token(control).text().as_bytes());
    host.run(&["join", "--token-file", file.to_str().unwrap()]).await.expect(0);
    adopt_keys(control);
}

async fn heard(
    messages: &mut mpsc::Receiver<v1::NodeMessage>,
    what: &str,
    fits: impl Fn(&node_message::Body) -> bool,
) -> node_message::Body {
    let waiting = async {
        loop {
            let body = messages.recv().await.expect("the control plane runs").body.unwrap();
            if fits(&body) {
                return body;
            }
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never heard {what}"))
}
