//! `leave`: the control plane is told first, then everything of the membership goes from this host.
//!
//! Owns that order. Nothing is removed before the control plane acknowledged, unless `--force` says so.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_state::MembershipDir;
use rap_types::{ExitCode, Reason};
use serde_json::json;
use tokio::process::Command;

use super::join::remove_bounds;
use super::print::printed;
use crate::blocking::blocking;
use crate::cli::Leave;
use crate::config::Config;
use crate::control_plane::CertificateTask;
use crate::local::LocalClient;
use crate::membership::{Membership, discard, remove, staging};

/// Leaves. Exit 0 if the control plane was told and the state is gone.
pub(super) async fn run(config: &Config, leave: &Leave, form: Format) -> Result<ExitCode, Fault> {
    let client = LocalClient::open(&config.socket, config.membership.as_str()).await?;
    let told = match client {
        Some(mut client) => through_agent(&mut client, leave.force).await?,
        None => alone(config, leave.force).await?,
    };
    clear(config).await;
    remove_run_dir(config).await;
    if let Err(fault) = remove_bounds(config) {
        eprintln!("left behind: {fault}");
    }
    let (data, name) = (config.data_dir.clone(), config.membership.clone());
    blocking(move || {
        // Locked: no agent uses it, and none starts on it while it goes.
        let dir = MembershipDir::open(&data, &name)?;
        // A return that was begun has the same key.
        discard(&data, name.as_str())?;
        remove(&data, dir.path(), name.as_str())
    })
    .await?;
    let membership = config.membership.as_str();
    let refusal = told.as_ref().err().map(|fault| json!({ "reason": fault.reason, "text": fault.message }));
    let body = json!({
        "schema": "rap.leave.v1", "membership": membership, "told": told.is_ok(), "refusal": refusal,
    });
    if !printed(form, &body) {
        match &told {
            Ok(()) => println!("left; membership {membership} is gone from this host"),
            Err(fault) => {
                println!("membership {membership} is gone from this host");
                println!("the control plane was NOT told ({}): {fault}", fault.reason);
                println!("next: rapctl node revoke NODE --evict --reason \"left\"");
            }
        }
    }
    Ok(ExitCode::Ok)
}

/// Removes what outlives the data plane on the host. Without it packets for the left overlay go nowhere.
async fn clear(config: &Config) {
    let membership = config.membership.as_str();
    // Without a data plane that ran since the boot there is nothing.
    if !config.run_dir.join(membership).join("on-host").exists() {
        return;
    }
    let beside = |own: PathBuf| own.with_file_name("rap-dataplane");
    let program = config.dataplane_bin.clone().or_else(|| std::env::current_exe().ok().map(beside));
    let mut command = Command::new(program.unwrap_or_else(|| "rap-dataplane".into()));
    command.args(["clear", "--membership", membership, "--run-dir"]).arg(&config.run_dir);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let said = match tokio::time::timeout(CLEAR, command.output()).await {
        Ok(Ok(output)) if output.status.success() => return,
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no end in time".to_owned(),
    };
    eprintln!("unreachable routes and packet filter of the overlay are left on this host: {said}");
    eprintln!("next: rap-dataplane clear --membership {membership}");
}

/// Removes the sockets and locks of the data plane, which has ended.
async fn remove_run_dir(config: &Config) {
    let folder = config.run_dir.join(config.membership.as_str());
    match tokio::fs::remove_dir_all(&folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("left behind: {}: {error}", folder.display());
        }
        _ => {}
    }
}

/// By the running agent, which ends the membership and its data plane. The inner error is forgiven.
async fn through_agent(client: &mut LocalClient, force: bool) -> Result<Result<(), Fault>, Fault> {
    match client.leave().await {
        Ok(()) => Ok(Ok(())),
        // A membership that the agent knows and does not run, or a control plane that cannot be told.
        Err(fault) if force || is_out(&fault) => {
            match client.unload().await {
                Err(unload) if unload.reason != Reason::MembershipAbsent => return Err(unload),
                _ => {}
            }
            Ok(if is_out(&fault) { Ok(()) } else { Err(fault) })
        }
        Err(fault) => Err(hinted(fault)),
    }
}

/// Without an agent. A data plane that runs on by itself ends at its deadlines; none is started again.
async fn alone(config: &Config, force: bool) -> Result<Result<(), Fault>, Fault> {
    let (data, name, dev) = (config.data_dir.clone(), config.membership.clone(), config.dev);
    let membership = blocking(move || Membership::open(&data, &name, dev)).await;
    let asked = match membership {
        Ok(membership) => {
            let task = CertificateTask::standing_alone(&membership, config)?;
            drop(membership);
            task.leave_anywhere().await
        }
        // Nothing is here, or somebody uses it: force does not change that.
        Err(fault) if fault.reason == Reason::StateLocked => return Err(fault),
        Err(fault) if fault.reason == Reason::MembershipAbsent && !returns(config) => return Err(fault),
        Err(fault) => Err(fault),
    };
    match asked {
        Ok(()) => Ok(Ok(())),
        Err(fault) if is_out(&fault) => Ok(Ok(())),
        Err(fault) if force => Ok(Err(fault)),
        Err(fault) => Err(hinted(fault)),
    }
}

/// True if a return was begun: its keys are here.
fn returns(config: &Config) -> bool {
    staging(&config.data_dir).join(config.membership.as_str()).is_dir()
}

/// The control plane knows no such member any more: there is nothing to tell it.
fn is_out(fault: &Fault) -> bool {
    matches!(fault.reason, Reason::NodeRevoked | Reason::NodeUnknown)
}

fn hinted(fault: Fault) -> Fault {
    let text = format!("{}; nothing was removed (leave --force removes it without telling)", fault.message);
    Fault::new(fault.reason, text)
}

const CLEAR: Duration = Duration::from_secs(20);
