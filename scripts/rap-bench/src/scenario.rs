//! What every scenario does around its measurements.
//!
//! Owns the circumstances in a report, the control plane in a folder of its own, and the end of both. Refuses to own
//! which rows there are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use rap_runtime::shutdown_signal;

use crate::control_plane::ControlPlane;
use crate::folder::RunFolder;
use crate::machine;
use crate::report::Report;
use crate::settings::Settings;

/// Runs and notes by measurement.
pub type Measured = BTreeMap<&'static str, (Vec<f64>, String)>;

/// Somebody ended the run: there is no result.
#[derive(Debug)]
struct Interrupted(&'static str);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// A report that says under which circumstances it was made.
pub fn report(name: &'static str, settings: &Settings) -> Report {
    let mut report = Report::new(name);
    report.set("placement", machine::placement());
    report.set("load_before", machine::load());
    report.set("quick", settings.quick);
    report.set("build", machine::build());
    report
}

/// Does `work` beside a control plane, both gone afterwards. What went wrong is the answer; the rows will say so.
///
/// # Errors
/// When the work could not even begin, or somebody ended the run.
pub fn beside_control_plane(
    settings: &Settings,
    work: impl AsyncFnOnce(&Path, &ControlPlane) -> Result<()>,
) -> Result<Option<String>> {
    let mut folder = RunFolder::new()?;
    if settings.keep {
        folder.keep();
        println!("kept: {}", folder.path().display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ended = with_control_plane(settings, folder.path(), work).await;
        folder.clear().await?;
        match ended {
            Ok(()) => Ok(None),
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) => Ok(Some(format!("{error:#}"))),
        }
    })
}

async fn with_control_plane(
    settings: &Settings,
    folder: &Path,
    work: impl AsyncFnOnce(&Path, &ControlPlane) -> Result<()>,
) -> Result<()> {
    let signal = shutdown_signal()?;
    eprintln!("control plane ...");
    let mut control = ControlPlane::start(&settings.programs, folder).await.context("control plane")?;
    let outcome = tokio::select! {
        outcome = work(folder, &control) => outcome,
        name = signal => Err(Interrupted(name).into()),
    };
    control.stop().await?;
    outcome
}
