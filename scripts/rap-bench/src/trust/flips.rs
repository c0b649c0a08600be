//! Single flipped bits: of everything a snapshot's export holds, and of every file a membership keeps on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rap_contract::{PublicKeyFile, open_export};
use rap_wire::v1;
use serde_json::Value;

use crate::agent::Host;
use crate::control_plane::ControlPlane;
use crate::operator::Operator;
use crate::scenario::Measured;
use crate::settings::Settings;

/// Measures every row of this part.
pub async fn measure(
    settings: &Settings,
    folder: &Path,
    control: &ControlPlane,
    operator: &mut Operator,
    measured: &mut Measured,
) -> Result<()> {
    let token = super::token(operator, folder, CLUSTER, 1, true).await?;
    let mut host = Host::new(&settings.programs, folder, "flipped")?;
    host.start().await?;
    host.join(&token).await?;
    let roots = PublicKeyFile::parse(&fs::read_to_string(control.data_dir().join("product-root.pub"))?)
        .and_then(|file| file.key_set::<v1::ActivationManifest>())
        .map_err(|reject| anyhow::anyhow!("{}: {}", reject.reason.code(), reject.what))?;
    let export = host.export().await?;
    let before = host.answers().await?;
    host.stop().await?;

    ensure!(open_export(&export, &roots, true).is_ok(), "the export verifies while it is whole");
    let step = if settings.quick { 16 } else { 1 };
    let (mut bits, mut accepted) = (0_u64, Vec::new());
    for bit in (0..export.len() * 8).step_by(step) {
        let mut altered = export.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        bits += 1;
        if open_export(&altered, &roots, true).is_ok() {
            accepted.push(1.0);
        }
    }
    let flips = if settings.quick { 1 } else { 12 };
    let pristine = files(&host.state())?;
    let (mut tried, mut per_file) = (0_u64, BTreeMap::<String, u64>::new());
    for (path, bytes) in pristine.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for number in 0..flips {
            let at = (number * 2 + 1) * bytes.len() / (flips * 2);
            let mut altered = bytes.clone();
            altered[at] ^= 1 << ((number * 3 + at) % 8);
            restore(&host.state(), &pristine)?;
            fs::write(path, altered)?;
            host.launch()?;
            let status = host.answers().await?;
            host.kill();
            tried += 1;
            *per_file.entry(kind(path)).or_default() += 1;
            if !is_true(&before, &status) {
                eprintln!("accepted: {} at byte {at}: {status}", path.display());
                accepted.push(1.0);
            }
        }
    }
    restore(&host.state(), &pristine)?;
    host.stop().await?;
    // One run at least, so that none accepted is a measurement.
    accepted.push(0.0);
    let note = format!(
        "{bits} flips of single bits of an exported snapshot with its whole chain, verified by the shipped verifier; {tried} flips in files \
         of a membership directory ({}), each followed by a start of the shipped agent, which must be the same node of the same cluster under \
         the same keys, with the same snapshot or none",
        per_file.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    );
    measured.insert("flips", (accepted, note));
    Ok(())
}

/// The node is who it was, and its snapshot is the one it had, or none.
fn is_true(before: &Value, after: &Value) -> bool {
    let same = [
        "node_id",
        "cluster",
        "installation",
        "node_fingerprint",
        "authority_fingerprint",
        "pinned_key_ids",
        "roles",
    ];
    let newer = |status: &Value| {
        let active = &status["active"];
        (active["incarnation"].as_u64(), active["sequence"].as_u64())
    };
    let snapshot = after["active"].is_null()
        || (newer(after) == newer(before)
            && after["active"]["manifest_digest"] == before["active"]["manifest_digest"]);
    same.iter().all(|field| before[field] == after[field]) && snapshot
}

/// Every file below `folder`, with its bytes.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            let bytes = fs::read(&path)?;
            found.insert(path, bytes);
        }
    }
    Ok(found)
}

/// The folder as it was, with the modes the agent gives.
fn restore(folder: &Path, pristine: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    fs::remove_dir_all(folder)?;
    for (path, bytes) in pristine {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
    }
    Ok(())
}

/// `identity`, `credentials`, `floors`, `cache` and so on.
fn kind(path: &Path) -> String {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if path.components().any(|part| part.as_os_str() == "cache") {
        return "cache".to_owned();
    }
    name(path).split(['.', '-']).next().unwrap_or_default().to_owned()
}

const CLUSTER: &str = "flipped";
