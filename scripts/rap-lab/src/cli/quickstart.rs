//! `rap-lab quickstart`: the story on a lab of its own. Owns the arguments and what stays afterwards.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rap_lab::folder::Folder;
use rap_lab::guard::{Guard, hold_signals};
use rap_lab::programs::{Programs, install_lab};
use rap_lab::quickstart::{self, NAME, Wish};
use rap_lab::{Lab, Mode, sweep};

/// Arguments.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Quickstart {
    #[command(subcommand)]
    verb: Option<QuickstartVerb>,
    /// End with one JSON document; everything else goes to standard error.
    #[arg(long)]
    json: bool,
    /// Kill the control plane and PostgreSQL, show what goes on, and start them again.
    #[arg(long)]
    chaos: bool,
    /// As root: two sites behind routers that let nothing in, and two relays; with --chaos a relay is killed.
    #[arg(long)]
    sites: bool,
    /// Addresses of 127.0.0.0/8 instead of network namespaces, no TUN; the default without root.
    #[arg(long)]
    loopback: bool,
    /// Leave everything up even if something failed, to look at it.
    #[arg(long)]
    keep: bool,
    /// Folder with the programs [default: beside this one].
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Seconds until it is given up and removed.
    #[arg(long, default_value_t = 600)]
    deadline: u64,
}

#[derive(clap::Subcommand)]
enum QuickstartVerb {
    /// Add one more node to the quickstart that is up.
    Add {
        /// Name of the host.
        host: String,
    },
    /// Remove everything the quickstart made.
    Down {
        /// Only look: list what is left, and exit 0 if nothing is.
        #[arg(long)]
        check: bool,
    },
}

impl Quickstart {
    /// Does it and returns the exit status.
    pub fn run(self) -> Result<u8> {
        match self.verb {
            Some(QuickstartVerb::Down { check }) => return super::down(Some(NAME.to_owned()), check),
            Some(QuickstartVerb::Add { host }) => {
                return quickstart::add(&Lab::open(NAME)?, &host).map(|()| 0);
            }
            None => {}
        }
        hold_signals()?;
        let programs = self.programs.as_deref().map_or_else(Programs::beside_this, Programs::at)?;
        let mode = if self.loopback { Mode::Loopback } else { Mode::possible() };
        let folder = Folder::of(NAME)?;
        if folder.path().exists() {
            eprintln!("-- removing the quickstart that is up");
            sweep::remove(&folder)?;
        }
        let mut lab = Lab::new_in(folder.clone(), mode)?;
        let _guard = Guard::watch(&folder, Duration::from_secs(self.deadline))?;
        install_lab(&lab, &std::env::current_exe()?)?;
        programs.install(&lab)?;
        if self.keep {
            lab.keep();
        }
        let ok = quickstart::run(&lab, Wish { chaos: self.chaos, json: self.json, sites: self.sites })?;
        if ok {
            lab.keep();
        }
        Ok(u8::from(!ok))
    }
}
