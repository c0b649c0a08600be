//! An ssh session over the overlay: a server of its own in one host, with keys made on the spot, and a client in another that prints
//! what a counter there says.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{CALL, Node, SETTLE};
use crate::command::Invocation;
use crate::part::Part;
use crate::process::Process;
use crate::wait::wait_until;

/// A session that goes on until it is ended.
#[derive(Debug)]
pub struct Session {
    server: Part,
    client: Part,
    process: Process,
}

impl Session {
    /// Starts the server on `to` and a session of `from` with it; returns when the counter counts.
    pub fn open(from: &Node, to: &Node) -> Result<Self> {
        let address = to.overlay_address(from)?;
        let (own, far) = (Keys::make(from, "client")?, Keys::make(to, "server")?);
        fs::copy(own.public(), far.file("authorized"))?;
        let public = fs::read_to_string(far.public()).context("public key of the server")?;
        fs::write(own.file("known"), format!("{address} {public}"))?;
        let [key, authorized, settings] =
            [far.secret(), far.file("authorized"), far.file("sshd")].map(|path| path.display().to_string());
        let lines = format!(
            "ListenAddress {address}:22\nHostKey {key}\nAuthorizedKeysFile {authorized}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
        );
        fs::write(&settings, lines)?;
        let start = format!("mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f {settings}");
        let server = to.host().spawn(
            &format!("{}-sshd", to.name()),
            &Invocation::new("sh").arguments(["-c", start.as_str()]),
        )?;
        wait_until(CALL, "sshd listens (Debian package openssh-server)", || {
            ensure!(server.is_running()?, "sshd ended: {}", server.log_tail());
            Ok(server.log().contains("Server listening").then_some(()))
        })?;
        let client = Invocation::new("ssh")
            .arguments(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .arguments(["-o", &format!("UserKnownHostsFile={}", own.file("known").display())])
            .arguments(["-i", &own.secret().display().to_string(), &format!("root@{address}"), COUNTER]);
        let client = from.host().spawn(&format!("{}-ssh", from.name()), &client)?;
        wait_until(SETTLE, "the session prints", || {
            ensure!(client.is_running()?, "ssh ended: {}{}", client.log_tail(), server.log_tail());
            Ok((client.log().lines().count() >= 3).then_some(()))
        })?;
        let process = client.process()?.context("the client's process")?;
        Ok(Self { server, client, process })
    }

    /// Waits until it printed more than at this call, and ends it: the same processes at both ends, each number once and in order.
    pub fn end(self) -> Result<Value> {
        let before = self.client.log().lines().count();
        wait_until(SETTLE, "the session goes on", || {
            Ok((self.client.log().lines().count() > before + 3).then_some(()))
        })?;
        ensure!(self.client.process()? == Some(self.process), "another process");
        let (printed, served) = (self.client.log(), self.server.log());
        self.client.kill()?;
        self.server.kill()?;
        let sessions = served.matches("Accepted publickey").count();
        ensure!(sessions == 1, "{sessions} sessions were opened: {served}");
        let counted = counted(&printed)?;
        Ok(json!({ "lines": counted, "sessions": sessions }))
    }
}

/// How many numbers a counter printed, if it is one counter and left none out.
fn counted(printed: &str) -> Result<usize> {
    // The last line may be half.
    let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut first = None;
    for (number, line) in (1..).zip(whole.lines()) {
        let (process, count) = line.split_once(' ').with_context(|| format!("{line:?}"))?;
        ensure!(count.parse() == Ok(number), "line {number} is {line:?}");
        ensure!(*first.get_or_insert(process) == process, "another shell: {line:?}");
    }
    Ok(whole.lines().count())
}

/// Keys and files of one end, in the home folder of its host.
struct Keys {
    home: PathBuf,
    name: &'static str,
}

impl Keys {
    fn make(node: &Node, name: &'static str) -> Result<Self> {
        let keys = Self { home: node.host().folder("home"), name };
        for old in [keys.secret(), keys.public()] {
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        let path = keys.secret().display().to_string();
        let make = Invocation::new("ssh-keygen").arguments(["-q", "-t", "ed25519", "-N", "", "-f", &path]);
        node.host().run(&make, Duration::from_secs(20))?.success()?;
        Ok(keys)
    }

    fn secret(&self) -> PathBuf {
        self.file("key")
    }

    fn public(&self) -> PathBuf {
        self.file("key.pub")
    }

    fn file(&self, what: &str) -> PathBuf {
        self.home.join(format!("ssh-{}.{what}", self.name))
    }
}

/// Prints its shell's number and how often it has done so.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo \"$$ $i\"; sleep 0.1; done";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_left_out_and_a_second_shell_are_noticed() {
        assert_eq!(counted("7 1\n7 2\n7 3\n7").unwrap(), 3);
        assert!(counted("7 1\n7 3\n").is_err());
        assert!(counted("7 1\n8 2\n").is_err());
        assert!(counted("7 1\n8 1\n").is_err());
    }
}
