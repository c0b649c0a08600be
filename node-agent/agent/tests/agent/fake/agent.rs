//! The agent's program with its directories.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

/// How long anything may take. Only a fault reaches it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// One host.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub dev: bool,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), dev: false }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        rap_runtime::files::write_atomic(&path, bytes, 0o600).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rap-node-agent"));
        command.env_clear().args(args);
        command.arg("--data-dir").arg(self.data());
        command.arg("--socket").arg(self.run_dir().join("agent.sock"));
        command.args(["--no-tun", "--enrollment-poll-interval-seconds", "1"]);
        if !args.contains(&"--dataplane") {
            command.args(["--dataplane", "external"]);
        }
        command.arg("--config").arg(self.config());
        if self.dev {
            command.arg("--dev");
        }
        command.kill_on_drop(true).stdin(Stdio::null());
        command
    }

    fn config(&self) -> PathBuf {
        let path = self.dir.path().join("agent.toml");
        std::fs::write(&path, "name = \"own\"\ncall_timeout_ms = 5000\n").unwrap();
        path
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Done {
        let output = tokio::time::timeout(DEADLINE, self.command(args).output()).await;
        Done(output.expect("the command ends").unwrap())
    }

    /// Starts the agent.
    pub fn spawn(&self) -> Child {
        self.spawn_with(&["--metrics", "off"], &[])
    }

    /// Starts the agent with further flags and environment.
    pub fn spawn_with(&self, flags: &[&str], environment: &[(&str, &str)]) -> Child {
        std::fs::create_dir_all(self.run_dir()).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command(&[&["run", "--log", "debug"][..], flags].concat());
        command.envs(environment.iter().copied());
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Starts the agent and waits until its socket answers.
    pub async fn agent(&self) -> Child {
        self.answering(self.spawn()).await
    }

    /// Waits until the agent's socket answers.
    pub async fn answering(&self, child: Child) -> Child {
        let socket = self.run_dir().join("agent.sock");
        let up = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, up).await.is_err() {
            panic!("no agent: {}", self.log_text());
        }
        child
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Waits until the agent's log says so.
    pub async fn logs(&self, text: &str) {
        let said = async {
            while !self.log_text().contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, said).await.is_err() {
            panic!("the log never says {text:?}: {}", self.log_text());
        }
    }

    pub async fn status(&self) -> (Option<i32>, Value) {
        let done = self.run(&["status", "--json"]).await;
        (done.code(), done.json())
    }

    /// Waits until the status fits.
    pub async fn status_when(&self, what: &str, fits: impl Fn(&Value) -> bool) -> (Option<i32>, Value) {
        let mut last = (None, Value::Null);
        let waiting = async {
            loop {
                last = self.status().await;
                if fits(&last.1) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            panic!("never {what}: {:#}\n{}", last.1, self.log_text());
        }
        last
    }

    /// Every byte of every file and of the log, for looking for secrets.
    pub fn outputs(&self) -> Vec<u8> {
        std::fs::read(self.log()).unwrap_or_default()
    }
}

/// A command that ended.
pub struct Done(pub Output);

impl Done {
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.out(), self.err()))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{}\n{}", self.out(), self.err());
        self
    }
}

/// Ends a process as an operator would and waits for it.
pub async fn terminate(mut child: Child) -> ExitStatus {
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    tokio::time::timeout(DEADLINE, child.wait()).await.expect("it ends").unwrap()
}

/// Ends a process without a word.
pub async fn kill(mut child: Child) {
    child.kill().await.unwrap();
}

/// True if `needle` is anywhere in `bytes`.
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}
