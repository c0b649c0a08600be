//! The product's programs: where they are, and putting them on a lab's hosts. Owns no building; `scripts/quickstart` builds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;

/// A folder with every program of one build.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The programs in this folder; an error names those that are missing.
    pub fn at(folder: &Path) -> Result<Self> {
        let missing: Vec<&str> = NAMES.iter().copied().filter(|name| !folder.join(name).is_file()).collect();
        ensure!(
            missing.is_empty(),
            "{} lacks {}; build them with `cargo build --workspace --bins`",
            folder.display(),
            missing.join(", ")
        );
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The programs beside this one.
    pub fn beside_this() -> Result<Self> {
        let this = std::env::current_exe().context("own program")?;
        Self::at(this.parent().context("own folder")?)
    }

    /// Puts the programs and the shipped unit files on every host of a lab.
    pub fn install(&self, lab: &Lab) -> Result<()> {
        for name in NAMES {
            lab.install(name, &self.folder.join(name))?;
        }
        for unit in shipped_units()? {
            let name = unit.file_name().context("unit file")?;
            fs::copy(&unit, lab.folder().units().join(name)).with_context(|| unit.display().to_string())?;
        }
        Ok(())
    }
}

/// Whether the programs of a lab take another wall clock from a file. Only debug programs do; the name of the variable is
/// in no other program.
///
/// # Errors
/// The agent's program cannot be read.
pub fn have_test_hooks(lab: &Lab) -> Result<bool> {
    let program = fs::read(lab.folder().bin().join("rap-node-agent")).context("rap-node-agent")?;
    let name = rap_runtime::clock::WALL_OFFSET_FILE.as_bytes();
    Ok(program.windows(name.len()).any(|part| part == name))
}

/// Puts the lab's own program on every host, also under the name `systemctl`.
pub fn install_lab(lab: &Lab, program: &Path) -> Result<()> {
    lab.install("rap-lab", program)?;
    lab.install("systemctl", program)
}

/// Unit files in the `dist` folders of the crates.
fn shipped_units() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("repository")?;
    let mut units = Vec::new();
    for folder in ["control-plane/server/dist", "node-agent/agent/dist", "node-agent/dataplane/dist"] {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "service") {
                units.push(path);
            }
        }
    }
    units.sort();
    Ok(units)
}

const NAMES: [&str; 4] = ["rap-control-plane", "rapctl", "rap-node-agent", "rap-dataplane"];
