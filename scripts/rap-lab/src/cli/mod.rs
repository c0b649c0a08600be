//! The lab's command line. Owns the verbs and their printing.

mod quickstart;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use rap_lab::folder::{Folder, labs};
use rap_lab::guard::{Guard, hold_signals};
use rap_lab::programs::{Programs, install_lab};
use rap_lab::scenario::{self, Scenario};
use rap_lab::supervise::Service;
use rap_lab::view::{FOLDER_VARIABLE, HOST_VARIABLE};
use rap_lab::{Invocation, Lab, Mode, Report, Slowness, slow, sweep};

/// Hosts on one machine: the product's programs in network namespaces, or on loopback addresses without root.
#[derive(Parser)]
#[command(name = "lab", version, max_term_width = 100)]
struct Arguments {
    /// Lab to act on [default: the only one that is up].
    #[arg(long, global = true, value_name = "NAME")]
    lab: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a scenario from nothing to nothing and report its checks.
    Run {
        /// Scenario; `lab scenarios` lists them.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Bring up a control plane and three nodes that ping each other, and say what to try.
    Quickstart(quickstart::Quickstart),
    /// Bring a scenario's hosts up and leave them.
    Up {
        /// Scenario.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Remove a lab.
    Down {
        /// Lab [default: the only one that is up].
        name: Option<String>,
        /// Only look: list what is left, and exit 0 if nothing is.
        #[arg(long)]
        check: bool,
    },
    /// List scenarios.
    Scenarios,
    /// List hosts and parts.
    List,
    /// Call a program on a host.
    Exec {
        /// Host.
        host: String,
        /// Program and arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<String>,
        /// Seconds until it is ended.
        #[arg(long, default_value_t = 600)]
        deadline: u64,
    },
    /// Cut a host off, or two hosts from each other.
    Cut {
        /// Host.
        host: String,
        /// The other one.
        other: Option<String>,
        /// Only what the first one sends is lost.
        #[arg(long, requires = "other")]
        one_way: bool,
    },
    /// Lose a share of the frames between two hosts.
    Lossy {
        /// Host.
        host: String,
        /// The other one.
        other: String,
        /// 0 to 1, each way.
        share: f64,
    },
    /// End every cut and loss of a host, or between two hosts.
    Heal {
        /// Host.
        host: String,
        /// The other one.
        other: Option<String>,
    },
    /// Make a host's line slow; without delay, loss and bound, fast again.
    Slow {
        /// Host.
        host: String,
        /// Milliseconds added to each frame, each way.
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
        /// Share of frames lost, 0 to 1, each way.
        #[arg(long, default_value_t = 0.0)]
        loss: f64,
        /// What the line carries each way, kilobits per second; 0 is no bound.
        #[arg(long, default_value_t = 0)]
        kbit_per_s: u32,
    },
    /// Stop a part's time.
    Pause {
        /// Part.
        part: String,
    },
    /// Let it go on.
    Resume {
        /// Part.
        part: String,
    },
    /// End a part at once.
    Kill {
        /// Part.
        part: String,
    },
    /// Start a part again.
    Restart {
        /// Part.
        part: String,
    },
    /// Print what a part printed.
    Log {
        /// Part.
        part: String,
    },
    /// Carry the frames of a slow line.
    #[command(hide = true)]
    Emulate {
        host: String,
        #[arg(long)]
        delay_ms: u64,
        #[arg(long)]
        loss: f64,
        #[arg(long)]
        kbit_per_s: u32,
    },
    /// Watch one service unit.
    #[command(hide = true)]
    WatchUnit { unit: String },
}

#[derive(clap::Args)]
struct How {
    /// Print one JSON document at the end, and nothing else.
    #[arg(long)]
    json: bool,
    /// Addresses of 127.0.0.0/8 instead of network namespaces, no TUN; the default without root.
    #[arg(long)]
    loopback: bool,
    /// Folder with the programs [default: beside this one].
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Seconds until the run is given up and removed.
    #[arg(long, default_value_t = 900)]
    deadline: u64,
    /// Run only this check; may be given again.
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// Draw chance from this number, which an earlier run printed [default: a new one].
    #[arg(long)]
    seed: Option<u64>,
    /// Run it so often, each time from nothing; the first run that fails is the last one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
}

/// Does what the command line says and returns the exit status.
pub fn run() -> Result<u8> {
    let Arguments { lab, verb } = Arguments::parse();
    match verb {
        Verb::Run { name, how } => run_times(scenario::find(&name)?, &how, lab.as_deref()),
        Verb::Quickstart(quickstart) => quickstart.run(),
        Verb::Up { name, how } => run_scenario(scenario::find(&name)?, &how, lab.as_deref(), true),
        Verb::Down { name, check } => down(name.or(lab), check),
        Verb::Scenarios => {
            for Scenario { name, shows, .. } in scenario::ALL {
                println!("{name:12} {shows}");
            }
            Ok(0)
        }
        Verb::List => list(&open(lab)?),
        Verb::Exec { host, words, deadline } => exec(&open(lab)?, &host, words, deadline),
        Verb::Cut { host, other: Some(other), one_way: true } => done(open(lab)?.cut_one_way(&host, &other)),
        Verb::Lossy { host, other, share } => done(open(lab)?.lossy(&host, &other, share)),
        Verb::Cut { host, other, .. } => done(open(lab)?.cut(&host, other.as_deref())),
        Verb::Heal { host, other } => done(open(lab)?.heal(&host, other.as_deref())),
        Verb::Slow { host, delay_ms: 0, loss, kbit_per_s: 0 } if loss <= 0.0 => done(open(lab)?.fast(&host)),
        Verb::Slow { host, delay_ms, loss, kbit_per_s } => {
            done(open(lab)?.slow(&host, slowness(delay_ms, loss, kbit_per_s)))
        }
        Verb::Pause { part } => done(open(lab)?.part(&part)?.pause()),
        Verb::Resume { part } => done(open(lab)?.part(&part)?.resume()),
        Verb::Kill { part } => done(open(lab)?.part(&part)?.kill()),
        Verb::Restart { part } => done(open(lab)?.part(&part)?.restart()),
        Verb::Log { part } => {
            print!("{}", open(lab)?.part(&part)?.log());
            Ok(0)
        }
        Verb::Emulate { host, delay_ms, loss, kbit_per_s } => {
            done(slow::emulate(&host, slowness(delay_ms, loss, kbit_per_s)))
        }
        Verb::WatchUnit { unit } => watch_unit(&unit),
    }
}

fn slowness(delay_ms: u64, loss: f64, kbit_per_s: u32) -> Slowness {
    let kbit_per_s = (kbit_per_s > 0).then_some(kbit_per_s);
    Slowness { delay: Duration::from_millis(delay_ms), loss, kbit_per_s }
}

fn run_times(scenario: &Scenario, how: &How, name: Option<&str>) -> Result<u8> {
    for round in 1..=how.times {
        if how.times > 1 {
            eprintln!("-- {} {round} of {}", scenario.name, how.times);
        }
        let status = run_scenario(scenario, how, name, false)?;
        if status != 0 {
            return Ok(status);
        }
    }
    Ok(0)
}

fn run_scenario(scenario: &Scenario, how: &How, name: Option<&str>, keep: bool) -> Result<u8> {
    hold_signals()?;
    let programs = how.programs.as_deref().map_or_else(Programs::beside_this, Programs::at);
    let mode = if how.loopback { Mode::Loopback } else { Mode::possible() };
    let folder = Folder::of(name.unwrap_or(scenario.name))?;
    let mut lab = Lab::new_in(folder.clone(), mode)?;
    if let Some(seed) = how.seed {
        lab.set_seed(seed);
    }
    let _guard = Guard::watch(&folder, Duration::from_secs(how.deadline))?;
    install_lab(&lab, &std::env::current_exe()?)?;
    if scenario.needs_programs {
        programs?.install(&lab)?;
    }
    let mut report = Report::new(scenario.name, how.json).only(&how.only);
    (scenario.run)(&lab, &mut report)?;
    if how.json {
        println!("{}", report.json());
    }
    if keep && report.ok() {
        lab.keep();
    }
    Ok(u8::from(!report.ok()))
}

fn down(name: Option<String>, check: bool) -> Result<u8> {
    let folder = match name {
        Some(name) => Folder::of(&name)?,
        None => Folder::of(&the_only_lab()?)?,
    };
    if check {
        let left = sweep::leftovers(&folder);
        for line in left.lines() {
            println!("{line}");
        }
        if left.is_empty() {
            println!("nothing left; installed packages stay: {PACKAGES}");
        }
        return Ok(u8::from(!left.is_empty()));
    }
    sweep::remove(&folder)?;
    sweep::check(&folder)?;
    println!("removed; installed packages stay: {PACKAGES}");
    Ok(0)
}

fn open(name: Option<String>) -> Result<Lab> {
    let name = match name {
        Some(name) => name,
        None => the_only_lab()?,
    };
    Lab::open(&name)
}

fn the_only_lab() -> Result<String> {
    match labs().as_slice() {
        [only] => Ok(only.clone()),
        [] => bail!("no lab is up: start one with scripts/quickstart, or scripts/lab up SCENARIO"),
        several => bail!("several labs are up; choose one with --lab: {}", several.join(" ")),
    }
}

fn list(lab: &Lab) -> Result<u8> {
    let record = lab.record()?;
    for (name, host) in &record.hosts {
        println!("host {name} {}", host.address);
    }
    for (name, part) in &record.parts {
        let state = match part.process {
            Some(process) if process.is_paused() => "paused",
            Some(process) if process.is_running() => "running",
            _ => "ended",
        };
        println!("part {name} on {} {state}: {}", part.host, part.invocation.line());
    }
    Ok(0)
}

fn exec(lab: &Lab, host: &str, words: Vec<String>, deadline: u64) -> Result<u8> {
    let mut words = words.into_iter();
    let invocation = Invocation::new(words.next().unwrap_or_default()).arguments(words);
    let status = lab.present_host(host)?.attached(&invocation, Duration::from_secs(deadline))?;
    Ok(status)
}

fn watch_unit(unit: &str) -> Result<u8> {
    hold_signals()?;
    let (Some(folder), Ok(host)) = (std::env::var_os(FOLDER_VARIABLE), std::env::var(HOST_VARIABLE)) else {
        bail!("only on a lab's host");
    };
    done(Service::new(&Folder::at(folder), &host, unit).watch())
}

fn done(outcome: Result<()>) -> Result<u8> {
    outcome.map(|()| 0)
}

/// What `scripts/ci/packages` may have installed.
const PACKAGES: &str =
    "build-essential postgresql nftables iproute2 iputils-ping python3 openssh-client openssh-server iperf3";
