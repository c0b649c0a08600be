//! The first minutes with the product: a control plane, three nodes, pings between all of them. Owns the story and its document
//! `rap.quickstart.v1`.

mod chaos;
mod sites;
mod story;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::check::{Check, Report};
use crate::fabric::{Control, Node, Pace, SETTLE, part_name};
use crate::lab::Lab;
use crate::mode::Mode;
use crate::wait::{now, wait_until};

pub use story::Story;

/// Name of its lab.
pub const NAME: &str = "quickstart";

/// What is asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Kill the control plane and PostgreSQL, and show what goes on.
    pub chaos: bool,
    /// The answer is one JSON document.
    pub json: bool,
    /// Two sites and two relays in place of three nodes that reach each other.
    pub sites: bool,
}

/// Runs it on an empty lab; true if everything went as it should. On success the lab is to be kept.
pub fn run(lab: &Lab, wish: Wish) -> Result<bool> {
    if wish.sites {
        return sites::run(lab, wish);
    }
    let started = now();
    let story = Story::new(wish.json);
    story.begins(lab.mode());
    story.step("starting PostgreSQL and the control plane");
    let control = Control::start(lab, CONTROL)?;
    control.create_cluster(CLUSTER, Pace::default())?;
    story.step("enrolling three nodes: one by an operator's approval, two by their token");
    let nodes = enrol(lab, &control)?;
    story.step("starting agents and data planes");
    for node in &nodes {
        node.run()?;
    }
    for node in &nodes {
        node.wait_healthy()?;
    }
    story.step("pinging every pair over the overlay");
    let listed = approved(&control)?;
    let pings = ping_pairs(&nodes)?;
    story.pings(&pings);
    let mut document = Document {
        schema: "rap.quickstart.v1",
        ok: pings.iter().all(|ping| ping.loss == 0.0),
        mode: lab.mode(),
        seconds: started.elapsed().as_secs_f64(),
        nodes: listed,
        pings,
        checks: Vec::new(),
    };
    if wish.chaos {
        let mut report = Report::silent(NAME);
        chaos::run(lab, &control, &nodes, &story, &mut report)?;
        document.ok &= report.ok();
        document.checks = report.checks().to_vec();
    }
    story.ends(lab, document.ok);
    if wish.json {
        println!("{}", serde_json::to_string(&document)?);
    }
    Ok(document.ok)
}

/// Adds one more node to a quickstart that is up, with the commands that an operator types, and pings the first node from it.
pub fn add(lab: &Lab, name: &str) -> Result<()> {
    let story = Story::new(false);
    // Before a token is made for it. A host whose node did not come up may be added again.
    crate::run_id::check_name(name, 12)?;
    let taken = name == CONTROL || lab.record()?.parts.contains_key(&part_name(name));
    ensure!(!taken, "{name} is a host of the quickstart already; choose another name");
    let operator = lab.host(CONTROL)?;
    let ask = |line: &str| operator.typed(line, SETTLE);
    story.step(&format!("{CONTROL}$ {TOKEN} --out join.token    # then carry join.token to {name}"));
    let token = ask(TOKEN)?.stdout.into_bytes();
    story.step(&format!("{name}$ rap-node-agent join --token-file join.token"));
    let node = Node::configure(lab, name)?;
    node.join(&token)?;
    story.step(&format!("{name}$ rap-node-agent run"));
    node.run()?;
    node.wait_healthy()?;
    let ping = format!("rapctl ping {name} {}", NODES[0]);
    story.step(&format!("{CONTROL}$ {ping}"));
    let answered = wait_until(SETTLE, "the first node answers", || Ok(ask(&ping).ok()))?;
    print!("{}", answered.stdout);
    Ok(())
}

/// What `--json` ends with.
#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    ok: bool,
    mode: Mode,
    seconds: f64,
    nodes: Vec<Value>,
    pings: Vec<PairPing>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

/// Pings of one pair, one way.
#[derive(Debug, Serialize)]
struct PairPing {
    from: String,
    to: String,
    /// Median, milliseconds.
    overlay_rtt_ms: Option<f64>,
    /// Share without an answer, 0 to 1.
    loss: f64,
}

/// The first node asks and waits, as a stranger's host would; the others hold a token that approves them.
fn enrol(lab: &Lab, control: &Control) -> Result<Vec<Node>> {
    let nodes: Vec<Node> = NODES.iter().map(|name| Node::configure(lab, name)).collect::<Result<_>>()?;
    let waiting = control.create_token(CLUSTER, "")?;
    let approving = control.create_token(CLUSTER, "--auto-approve --uses 2")?;
    std::thread::scope(|scope| {
        let mut joins = Vec::new();
        for (node, token) in nodes.iter().zip([&waiting, &approving, &approving]) {
            joins.push(scope.spawn(move || node.join(token)));
        }
        wait_until(SETTLE, "a request waits for approval", || {
            if joins[0].is_finished() {
                return Ok(Some(()));
            }
            let pending = control.ask(&format!("node list --pending --cluster {CLUSTER}"))?;
            Ok(pending["pending"].as_array().is_some_and(|pending| !pending.is_empty()).then_some(()))
        })?;
        if !joins[0].is_finished() {
            control.rapctl(&format!("node approve --all-pending --yes --cluster {CLUSTER}"))?;
        }
        for join in joins {
            join.join().map_err(|_| anyhow::anyhow!("panic while joining"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(nodes)
}

fn approved(control: &Control) -> Result<Vec<Value>> {
    let answer = control.ask(&format!("node list --cluster {CLUSTER}"))?;
    let nodes = answer["nodes"].as_array().context("nodes")?;
    ensure!(nodes.len() == NODES.len(), "{} nodes are approved, not {}", nodes.len(), NODES.len());
    let fields = ["name", "node_id", "identity_status", "overlay_ipv4", "overlay_ipv6", "connected"];
    let pick = |node: &Value| -> Value {
        fields
            .iter()
            .map(|field| ((*field).to_owned(), node[field].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let mut nodes: Vec<Value> = nodes.iter().map(pick).collect();
    nodes.sort_by_key(|node| node["name"].to_string());
    Ok(nodes)
}

fn ping_pairs(nodes: &[Node]) -> Result<Vec<PairPing>> {
    let mut pings = Vec::new();
    for from in nodes {
        for to in nodes.iter().filter(|to| to.name() != from.name()) {
            from.wait_answer(to)?;
            let counted = from.ping(to, PINGS)?;
            pings.push(PairPing {
                from: from.name().to_owned(),
                to: to.name().to_owned(),
                overlay_rtt_ms: counted.median_ms(),
                loss: counted.loss(),
            });
        }
    }
    Ok(pings)
}

const CONTROL: &str = "cp";
const NODES: [&str; 3] = ["a", "b", "c"];
const CLUSTER: &str = "quickstart";
/// How an operator makes the token of one more node.
const TOKEN: &str = "rapctl token create --cluster quickstart --auto-approve --ttl 1h";
const PINGS: usize = 5;
