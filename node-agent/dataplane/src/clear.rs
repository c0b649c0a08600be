//! `clear`: removes from the host what outlives a data plane.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rap_runtime::Fault;
use rap_types::Reason;
use tokio::runtime::Builder;

use crate::args::Clear;
use crate::claim;

/// File of a membership that says what outlives its data plane.
pub(crate) fn record(run_dir: &Path, membership: &str) -> PathBuf {
    run_dir.join(membership).join(FILE)
}

/// Removes what the record of a membership names, but for what another membership of this host uses too.
pub(crate) fn clear(settings: &Clear) -> Result<(), Fault> {
    let Clear { membership, run_dir } = settings;
    let io = |error: std::io::Error| Fault::new(Reason::DataplaneUnavailable, error.to_string());
    let others: Vec<IpNet> = others(run_dir, membership).into_iter().collect();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(io)?;
    let record = record(run_dir, membership);
    let removed = runtime.block_on(async {
        free(settings).await?;
        rap_host::clear(&record, &others).await.map_err(io)
    })?;
    let removed: Vec<String> = removed.iter().map(IpNet::to_string).collect();
    let text = if removed.is_empty() { "nothing".to_owned() } else { removed.join(", ") };
    rap_runtime::output::print(format_args!("cleared: {text}\n"));
    Ok(())
}

/// Waits until no data plane holds the membership: one that was told to stop may not have ended yet.
async fn free(settings: &Clear) -> Result<(), Fault> {
    let Clear { membership, run_dir } = settings;
    let free = async {
        while claim::is_taken(run_dir, membership)? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    let busy =
        |_| Fault::new(Reason::DataplaneBusy, format!("the data plane of {membership} runs: stop it first"));
    tokio::time::timeout(WAIT, free).await.map_err(busy)?
}

/// What the records of other memberships name. One that cannot be read names nothing.
fn others(run_dir: &Path, membership: &str) -> BTreeSet<IpNet> {
    let folders = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let others = folders.filter(|folder| folder.file_name() != *membership);
    others.flat_map(|folder| rap_host::prefixes_of(&folder.path().join(FILE)).unwrap_or_default()).collect()
}

const FILE: &str = "on-host";
const LOOK: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_memberships_use_is_read_from_their_records() {
        let run = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "prefix 100.96.0.0/16\n"), ("b", "prefix 100.97.0.0/16\n"), ("c", "x")] {
            std::fs::create_dir(run.path().join(name)).unwrap();
            std::fs::write(record(run.path(), name), text).unwrap();
        }
        let found: Vec<_> = others(run.path(), "a").iter().map(IpNet::to_string).collect();
        assert_eq!(found, ["100.97.0.0/16"]);
        assert!(others(&run.path().join("absent"), "a").is_empty());
    }
}
