//! Two network namespaces joined by a veth pair, and the processes in them. Gone when dropped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rap_wireguard::{PublicKey, StaticSecret};

use crate::process;

/// What the namespaces talk over.
#[derive(Debug, Clone, Copy)]
pub enum Underlay {
    V4,
    V6,
}

/// The two namespaces.
pub struct Lab {
    names: [String; 2],
    underlay: Underlay,
}

/// A device's process.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What this machine lacks to make namespaces and interfaces.
pub fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root");
    }
    if std::fs::metadata("/dev/net/tun").is_err() {
        return Some("no /dev/net/tun");
    }
    for tool in ["ip -V", "ping -V"] {
        if !command(tool).output().is_ok_and(|output| output.status.success()) {
            return Some("no iproute2 or ping");
        }
    }
    let probe = format!("rap-wg-{}-probe", std::process::id());
    if !succeeds(&format!("ip netns add {probe}")) {
        return Some("namespaces are not allowed");
    }
    run(&format!("ip netns delete {probe}"));
    None
}

/// Public key of a node of the lab, in hex.
pub fn key(node: u8) -> String {
    hex::encode(PublicKey::from(&secret(node)).as_bytes())
}

impl Lab {
    pub fn new(underlay: Underlay) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("rap-wg-{}-{number}{side}", std::process::id());
        let lab = Self { names: [name("a"), name("b")], underlay };
        for namespace in &lab.names {
            run(&format!("ip netns add {namespace}"));
            run(&format!("ip -n {namespace} link set lo up"));
        }
        let [a, b] = &lab.names;
        run(&format!("ip -n {a} link add under type veth peer name under netns {b}"));
        for (node, namespace) in lab.names.iter().enumerate() {
            let address = match underlay {
                Underlay::V4 => format!("10.77.0.{}/24", node + 1),
                Underlay::V6 => format!("fd77::{}/64 nodad", node + 1),
            };
            run(&format!("ip -n {namespace} address add {address} dev under"));
            run(&format!("ip -n {namespace} link set under up"));
        }
        lab
    }

    /// Starts a device in a namespace.
    pub fn start(&self, node: u8) -> Process {
        self.start_by(&[], node)
    }

    /// Starts one as its unit would: no capability but CAP_NET_ADMIN, `/proc/sys` read-only.
    pub fn start_hardened(&self, node: u8) -> Process {
        let script = "mount --bind -o ro /proc/sys /proc/sys && \
                      exec setpriv --no-new-privs --bounding-set=-all,+net_admin --inh-caps=-all \"$@\"";
        self.start_by(&["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"], node)
    }

    /// Starts one that leaves unreachable routes and a packet filter behind, and a record of them in this file.
    pub fn start_with_record(&self, node: u8, record: &std::path::Path) -> Process {
        self.start_as(&[], node, &format!(" {}", record.display()))
    }

    fn start_by(&self, words: &[&str], node: u8) -> Process {
        self.start_as(words, node, "")
    }

    fn start_as(&self, words: &[&str], node: u8, record: &str) -> Process {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.names[usize::from(node)]])
            .args(words)
            .arg(program)
            .arg(process::ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Process { child, input, output };
        let private = hex::encode(secret(node).as_bytes());
        process.ask_ok(&format!("start {private} {} rap0{record}", self.endpoint(node)));
        process
    }

    /// The table of a node: its addresses and the other node.
    pub fn table(&self, node: u8) -> String {
        let (own, other) = (node + 1, 2 - node);
        let (key, endpoint) = (key(1 - node), self.endpoint(1 - node));
        format!(
            "table 100.96.0.{own}/16,fd12:3456:789a::{own}/48 \
             {key}|{endpoint}|100.96.0.{other}/32,fd12:3456:789a::{other}/128"
        )
    }

    /// Runs a command in a namespace; it must succeed.
    pub fn run_in(&self, node: usize, line: &str) {
        run(&format!("ip netns exec {} {line}", self.names[node]));
    }

    /// Whether a command in a namespace succeeds.
    pub fn try_in(&self, node: usize, line: &str) -> bool {
        succeeds(&format!("ip netns exec {} {line}", self.names[node]))
    }

    pub fn output_in(&self, node: usize, line: &str) -> String {
        let output = command(&format!("ip netns exec {} {line}", self.names[node])).output().unwrap();
        assert!(output.status.success(), "{line}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until what a command prints in a namespace is as wanted. The last of it.
    pub fn wait_in(&self, node: usize, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        let clock = rap_runtime::Clock::new();
        let begun = clock.now().mono;
        loop {
            let shown = self.output_in(node, line);
            if wanted(&shown) {
                return shown;
            }
            assert!(clock.now().mono.since(begun) < PATIENCE, "{line}: {shown}");
            std::thread::yield_now();
        }
    }

    fn endpoint(&self, node: u8) -> String {
        match self.underlay {
            Underlay::V4 => format!("10.77.0.{}:51820", node + 1),
            Underlay::V6 => format!("[fd77::{}]:51820", node + 1),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in &self.names {
            if !succeeds(&format!("ip netns delete {namespace}")) {
                eprintln!("namespace {namespace} is left");
            }
        }
    }
}

impl Process {
    /// Sends a line and returns the line that answers it.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "the process ended at {line:?}");
        answer.trim_end().to_owned()
    }

    pub fn ask_ok(&mut self, line: &str) {
        let verb = line.split(' ').next().unwrap_or_default().to_owned();
        assert_eq!(self.ask(line), "ok", "{verb}");
    }

    /// Lets the device end and waits for it.
    pub fn stop(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // End of input ends the process; a second wait after `stop` returns at once.
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("process not awaited: {error}");
        }
    }
}

fn secret(node: u8) -> StaticSecret {
    StaticSecret::from([node + 11; 32])
}

fn run(line: &str) {
    let output = command(line).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {text}");
}

fn succeeds(line: &str) -> bool {
    command(line).output().is_ok_and(|output| output.status.success())
}

fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    command
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

static NUMBER: AtomicU32 = AtomicU32::new(0);
