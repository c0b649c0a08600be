//! The process between the control plane and its PostgreSQL: it stops the server when the control plane is gone.
//!
//! Owns the order of signals. The guard reads a pipe whose other end only the control plane holds; the kernel closes it
//! with the control plane, however that ends. A parent-death signal would follow the thread that started the server.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin};

use super::account::Account;
use super::error::PostgresError;

/// A running guard. Dropping it closes the pipe: the guard stops the server.
#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
    _pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts `program` for `directory` behind a guard. Its messages go to `log`.
    pub(super) fn spawn(
        program: &Path,
        account: &Account,
        directory: &Path,
        log: std::fs::File,
    ) -> Result<Self, PostgresError> {
        let mut child = account
            .command(Path::new(SHELL))
            .args(["-c", SCRIPT])
            .arg(program)
            .arg(directory)
            // A group of its own: a Ctrl-C at the terminal is for the control plane, which still
            // needs its database while it drains.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(PostgresError::io("run", Path::new(SHELL)))?;
        let pipe = child.stdin.take();
        Ok(Self { child, _pipe: pipe })
    }

    /// Process id of the server, once. Fails if the guard ends before it started the server.
    pub(super) async fn server(&mut self) -> Result<u32, PostgresError> {
        let failed = || PostgresError::NotReady("its guard ended at once".to_owned());
        let output = self.child.stdout.take().ok_or_else(failed)?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await.map_err(|_| failed())?;
        line.trim().parse().map_err(|_| failed())
    }

    /// Waits until the server has ended.
    pub(super) async fn ended(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.child.wait().await
    }

    /// Closes the pipe, as the end of this process would, and leaves the guard to its work.
    pub(super) fn close(&mut self) {
        self._pipe = None;
    }

    /// Leaves the pipe open for ever.
    #[cfg(test)]
    pub(super) fn forget(self) {
        std::mem::forget(self);
    }
}

const SHELL: &str = "/bin/sh";

/// `$0` is the server's program, `$1` its directory. A subshell reads the pipe; at its end it stops the server: fast,
/// after 20 s at once, after 5 s more by force.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
exec 3<&0
"$0" -D "$1" </dev/null >/dev/null 3<&- &
server=$!
echo "$server"
(
    exec >/dev/null
    read -r _ <&3
    for step in INT:400 QUIT:100 KILL:0; do
        kill -"${step%:*}" "$server" || exit
        tries=0
        while kill -0 "$server" && [ "$tries" -lt "${step#*:}" ]; do tries=$((tries + 1)); sleep 0.05; done
    done
) 2>/dev/null &
reader=$!
exec 3<&- </dev/null >/dev/null
wait "$server"
status=$?
kill -KILL "$reader" 2>/dev/null
exit "$status"
"#;
