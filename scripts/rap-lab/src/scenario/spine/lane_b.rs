//! The real installation with an offline root, as the operator types it: nine commands, then a ping. Services run from the shipped
//! unit files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::check::Finding;
use crate::command::{Answer, Invocation};
use crate::fabric::{CALL, SETTLE};
use crate::folder::write_secret;
use crate::host::Host;
use crate::lab::Lab;
use crate::wait::{now, wait_until};

/// Types the nine commands on an offline machine, a control plane and two nodes. Leaves the operator's desk.
pub fn nine_commands(lab: &Lab, operator: &mut Option<Desk>) -> Result<Finding> {
    let started = now();
    let [offline, control, a, b] = ["offline", "hq", "a", "b"].map(|name| lab.host(name));
    let (offline, control, a, b) = (Desk::at(offline?)?, Desk::at(control?)?, Desk::at(a?)?, Desk::at(b?)?);
    lab.cut("offline", None)?;
    for node in [&a, &b] {
        // The package starts it; it waits for a membership.
        node.types("systemctl enable --now rap-node-agent")?;
    }

    offline.types("rapctl root init --out product-root")?;
    offline.carries("product-root.pub", &control)?;
    control.types("rap-control-plane init --listen hq:8443 --root-key product-root.pub")?;
    control.carries("act-*.req", &offline)?;
    // It shows the fingerprint and asks.
    offline.answers("rapctl root sign-activation act-*.req --owner owner@example.com", "y\n")?;
    offline.carries("act-*.manifest", &control)?;
    offline.carries("act-*.owner.key", &control)?;
    control.types("systemctl enable --now rap-control-plane")?;
    control.types("rapctl login https://hq:8443 --activate act-*.manifest")?;
    control.types("rapctl cluster create prod")?;
    control.types("rapctl token create --cluster prod --uses 2 --ttl 1h --out join.token")?;
    let approved = std::thread::scope(|scope| {
        let joins = [&a, &b].map(|node| {
            let carried = control.carries("join.token", node);
            scope.spawn(move || {
                carried.and_then(|()| node.types("rap-node-agent join --token-file join.token"))
            })
        });
        wait_until(SETTLE, "two requests wait for approval", || {
            ensure!(!joins.iter().any(|join| join.is_finished()), "a join ended before it was approved");
            let pending = control.types("rapctl node list --pending --cluster prod -o json")?.json()?;
            Ok(pending["pending"].as_array().filter(|pending| pending.len() == 2).map(|_| ()))
        })?;
        let approved = control.answers("rapctl node approve --all-pending --cluster prod", "y\n")?;
        for join in joins {
            join.join().map_err(|_| anyhow::anyhow!("panic while joining"))??;
        }
        Ok::<Answer, anyhow::Error>(approved)
    })?;
    ensure!(
        approved.stderr.matches("SHA256:").count() >= 2,
        "no fingerprints were shown: {}",
        approved.stderr
    );
    let ping = wait_until(SETTLE, "`rapctl ping a b` is answered", || {
        control.types("rapctl ping a b -o json")?.json().map(Some)
    })?;
    *operator = Some(control);
    let (overlay, link) = (&ping["overlay"], &ping["link"]);
    let value = json!({
        "whole_ms": u64::try_from(started.elapsed().as_millis())?,
        "overlay_rtt_ms": overlay["rtt_ms_median"], "overlay_loss": overlay["loss"],
        "link_rtt_ms": link["rtt_ms_median"],
    });
    let ok =
        overlay["sent"].as_u64() > overlay["lost"].as_u64() && link["sent"].as_u64() > link["lost"].as_u64();
    Ok(Finding::new(
        ok,
        value,
        "offline root, the nine commands as documented, shipped units, then `rapctl ping a b`",
    ))
}

/// A node's snapshot with its whole chain convinces somebody who has nothing but the Product Root's public key, and no altered byte
/// does.
pub fn export_verifies(operator: &Desk) -> Result<Finding> {
    operator.types("rapctl node export a --cluster prod --out a.export")?;
    let chain = operator.types("rapctl verify a.export --root product-root.pub")?.stdout;
    let home = operator.host.folder("home");
    let export = fs::read(home.join("a.export"))?;
    let (mut refused, mut reasons) = (0, BTreeSet::new());
    for number in 0..FLIPS {
        let mut altered = export.clone();
        altered[number * export.len() / FLIPS] ^= 1 << (number % 8);
        fs::write(home.join("altered.export"), altered)?;
        let call = Invocation::typed("rapctl verify altered.export --root product-root.pub")?;
        let answer = operator.host.run(&call, CALL)?;
        refused += usize::from(answer.code == Some(7));
        let reason = answer.stderr.split_once("error[").and_then(|(_, rest)| rest.split_once(']'));
        reasons.extend(reason.map(|(reason, _)| reason.to_owned()));
    }
    let value = json!({ "bytes": export.len(), "altered": FLIPS, "refused": refused, "reasons": reasons });
    let ok = refused == FLIPS && !reasons.is_empty() && !chain.is_empty();
    Ok(Finding::new(
        ok,
        value,
        "verified from the root down; every altered copy was refused with exit 7 and a reason",
    ))
}

/// Somebody at a host's keyboard, with a passphrase in a file.
pub struct Desk {
    host: Host,
}

impl Desk {
    fn at(host: Host) -> Result<Self> {
        let path = host.folder("home").join("passphrase");
        write_secret(&path, b"correct horse battery staple\n")?;
        let path = path.display().to_string();
        Ok(Self { host: host.set_variables(&[("RAPCTL_PASSPHRASE_FILE", &path)])? })
    }

    /// A line for the shell, which expands `*`.
    fn types(&self, line: &str) -> Result<Answer> {
        self.answers(line, "")
    }

    /// The same with an answer to its question.
    fn answers(&self, line: &str, answer: &str) -> Result<Answer> {
        let call = Invocation::new("sh").arguments(["-c", line]).input(answer);
        self.host.run(&call, 2 * CALL)?.success()
    }

    /// Carries a file on a stick.
    fn carries(&self, pattern: &str, to: &Self) -> Result<()> {
        let list = Invocation::new("sh").arguments(["-c", &format!("ls -1 {pattern}")]);
        let listed = self.host.run(&list, CALL)?.success()?.stdout;
        for name in listed.lines() {
            let (from, to) = (self.host.folder("home").join(name), to.host.folder("home"));
            copy(&from, &to.join(name))?;
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Copies of an export with one bit flipped, spread over its length; the exhaustive test is the contract's own.
const FLIPS: usize = 32;
