//! The first start: a new server directory, made aside and renamed when complete, so that a kill in
//! the middle leaves nothing that looks finished.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::account::Account;
use super::binaries::Binaries;
use super::error::PostgresError;

/// What the directory of a first start is called until it is complete.
const UNFINISHED: &str = "new";
/// How often, and how far apart, a directory is removed that somebody still writes into.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);

/// Name of the database.
pub(super) const DATABASE: &str = "rap";

/// One statement per line, run in single-user mode: no role that could do this is ever reachable
/// through the socket.
const ROLES_AND_DATABASE: &str = "\
CREATE ROLE rap_client NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
CREATE ROLE rap_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS IN ROLE rap_client
CREATE ROLE rap_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS IN ROLE rap_client
CREATE ROLE rap_system LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS IN ROLE rap_client
CREATE DATABASE rap OWNER rap_owner TEMPLATE template0
REVOKE ALL ON DATABASE rap FROM PUBLIC
GRANT CONNECT ON DATABASE rap TO rap_client
";

/// Makes `directory`. `extra` are more single-user statements, each with its newline.
pub(super) async fn initialise(
    binaries: &Binaries,
    account: &Account,
    directory: &Path,
    durable: bool,
    extra: &str,
) -> Result<(), PostgresError> {
    remove_unfinished(directory).await?;
    // A name of this process's own: the initdb of a start that was killed may still be writing.
    let aside = directory.with_extension(format!("{UNFINISHED}{}", std::process::id()));
    account.private_directory(&aside)?;
    run_initdb(binaries, account, &aside, durable).await?;
    run_single_user(binaries, account, &aside, extra).await?;
    fs::rename(&aside, directory).map_err(PostgresError::io("put into place", directory))?;
    if let Some(parent) = directory.parent() {
        let handle = fs::File::open(parent).map_err(PostgresError::io("open", parent))?;
        handle.sync_all().map_err(PostgresError::io("sync", parent))?;
    }
    Ok(())
}

/// Removes what starts that were killed left. Their initdb outlives them for a moment and goes on writing.
async fn remove_unfinished(directory: &Path) -> Result<(), PostgresError> {
    let Some((parent, name)) = directory.parent().zip(directory.file_name()) else { return Ok(()) };
    let unfinished = format!("{}.{UNFINISHED}", name.to_string_lossy());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&unfinished) {
            continue;
        }
        let mut attempts = ATTEMPTS;
        while let Err(error) = fs::remove_dir_all(entry.path()) {
            attempts -= 1;
            match error.kind() {
                io::ErrorKind::NotFound => break,
                io::ErrorKind::DirectoryNotEmpty if attempts > 0 => tokio::time::sleep(PAUSE).await,
                _ => return Err(PostgresError::io("remove", &entry.path())(error)),
            }
        }
    }
    Ok(())
}

async fn run_initdb(
    binaries: &Binaries,
    account: &Account,
    directory: &Path,
    durable: bool,
) -> Result<(), PostgresError> {
    let mut command = account.command(&binaries.program("initdb"));
    command.arg("--pgdata").arg(directory).args(INITDB);
    if !durable {
        command.arg("--no-sync");
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(PostgresError::io("run", &binaries.program("initdb")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(PostgresError::Program { program: "initdb", output: last_lines(&output.stderr) })
}

async fn run_single_user(
    binaries: &Binaries,
    account: &Account,
    directory: &Path,
    extra: &str,
) -> Result<(), PostgresError> {
    let program = binaries.program("postgres");
    let fail = |source| PostgresError::Io { action: "run", path: program.clone(), source };
    let mut child = account
        .command(&program)
        .arg("--single")
        .arg("-D")
        .arg(directory)
        .args(["-c", "exit_on_error=on", "-c", "search_path=pg_catalog", "template1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(fail)?;
    if let Some(mut input) = child.stdin.take() {
        // A server that stopped early closes the pipe; its exit status tells why.
        let _ = input.write_all(format!("{ROLES_AND_DATABASE}{extra}").as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(fail)?;
    if output.status.success() {
        return Ok(());
    }
    Err(PostgresError::Program { program: "postgres --single", output: last_lines(&output.stderr) })
}

/// The end of what a program said, short enough for one log line.
pub(super) fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

const INITDB: &[&str] = &[
    "--username=rap_bootstrap",
    "--auth=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--data-checksums",
    "--no-instructions",
];
