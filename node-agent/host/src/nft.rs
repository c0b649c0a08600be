//! Calls `nft`. Refuses to own rules: their text comes from `rap-hostnet`.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Name of the packet filter table of an interface.
pub(crate) fn table(interface: &str) -> String {
    format!("rap_{}", interface.strip_prefix("rap").unwrap_or(interface))
}

/// Has `nft` carry a text out, all of it or nothing.
pub(crate) async fn load(text: &str) -> io::Result<()> {
    call(&["-f", "-"], text).await.map(drop)
}

/// The table's rules as the kernel has them, without its counters; `None` if there is no such table.
pub(crate) async fn listed(table: &str) -> io::Result<Option<String>> {
    match call(&["-s", "list", "table", "inet", table], "").await {
        Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::TimedOut => {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

/// Removes a table; one that is not there is no error.
pub(crate) async fn remove(table: &str) -> io::Result<()> {
    load(&format!("table inet {table} {{}}\ndelete table inet {table}\n")).await
}

async fn call(arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().env("PATH", PATH).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let called = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(WAIT, called).await.map_err(io::Error::from)??;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft: {}", said.lines().next().unwrap_or("no word"))))
}

const PROGRAM: &str = "nft";
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
const WAIT: Duration = Duration::from_secs(2);
