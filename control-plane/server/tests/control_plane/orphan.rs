//! A control plane that is killed leaves no PostgreSQL behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn command(data: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"));
    command
        .arg(verb)
        .arg("--data-dir")
        .arg(data)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/tmp");
    command.args(["--authority-mode", "dev", "--metrics", "off", "--listen", "127.0.0.1:0"]);
    command.args(["--control-url", "https://127.0.0.1:8443"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.expect(what)
}

/// A control plane that serves, the process id of its PostgreSQL, and the folder of its socket.
async fn serving(data: &Path) -> (Child, u32, PathBuf) {
    let child = command(data, "serve").spawn().unwrap();
    let (pid, folder) = wait_for("PostgreSQL is ready", || {
        let text = std::fs::read_to_string(data.join("postgres/postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let ready = lines.get(7) == Some(&"ready");
        ready.then(|| Some((lines[0].parse().ok()?, PathBuf::from(lines[4]))))?
    })
    .await;
    (child, pid, folder)
}

fn is_gone(pid: u32) -> Option<()> {
    (!Path::new(&format!("/proc/{pid}/cmdline")).exists()
        || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty()))
    .then_some(())
}

#[tokio::test]
async fn a_killed_control_plane_leaves_no_postgresql_and_its_successor_keeps_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    assert!(command(&data, "init").status().unwrap().success());
    let (mut first, orphan, before) = serving(&data).await;
    first.kill().unwrap();
    first.wait().unwrap();
    // Another installation at the same place, before the server of the first one has ended.
    std::fs::rename(&data, directory.path().join("former")).unwrap();
    assert!(command(&data, "init").status().unwrap().success());
    let (mut second, _, after) = serving(&data).await;
    assert_ne!(before, after);
    wait_for("the server of a killed control plane ends", || is_gone(orphan)).await;
    assert!(after.join(".s.PGSQL.5432").exists(), "the socket of the successor");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(second.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(second.wait().unwrap().success());
}
