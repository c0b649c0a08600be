//! A lab: makes hosts, finds parts, and removes everything when it goes out of scope. Owns the lifetime.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::command::Invocation;
use crate::cut::Drops;
use crate::folder::Folder;
use crate::host::Host;
use crate::ledger::{HostRecord, Ledger, Record};
use crate::mode::Mode;
use crate::part::Part;
use crate::process::Process;
use crate::run_id::{RunId, check_name};
use crate::slow::Slowness;
use crate::view::View;
use crate::wait::wait_until;
use crate::{cut, network, site, slow, sweep};

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    run: RunId,
    mode: Mode,
    folder: Folder,
    ledger: Ledger,
    keep: bool,
    seed: u64,
}

impl Lab {
    /// Makes a lab by its name. It is removed when this value is dropped, unless [`Lab::keep`] was called.
    pub fn new(name: &str, mode: Mode) -> Result<Self> {
        Self::new_in(Folder::of(name)?, mode)
    }

    /// The same in a folder of the caller's choice, whose last part names the lab.
    pub fn new_in(folder: Folder, mode: Mode) -> Result<Self> {
        let run = RunId::new(&folder)?;
        let ledger = Ledger::create(&folder, &run, mode)?;
        let lab = Self { run, mode, folder, ledger, keep: false, seed: rand::random() };
        if mode == Mode::Namespaces {
            network::make_switch(&lab.run)?;
        }
        Ok(lab)
    }

    /// A lab that another process made and kept.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_in(Folder::of(name)?)
    }

    /// The same by its folder.
    pub fn open_in(folder: Folder) -> Result<Self> {
        let ledger = Ledger::open(&folder)?;
        let Record { run, mode, .. } = ledger.read()?;
        Ok(Self { run, mode, folder, ledger, keep: true, seed: rand::random() })
    }

    /// Its run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// How its hosts are made.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What a scenario draws its chance from; the same seed gives the same run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Takes the seed of an earlier run.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Its record.
    pub fn record(&self) -> Result<Record> {
        self.ledger.read()
    }

    /// Puts a program on every host's PATH under a name.
    pub fn install(&self, name: &str, program: &Path) -> Result<()> {
        let program = program.canonicalize().with_context(|| program.display().to_string())?;
        let link = self.folder.bin().join(name);
        symlink(&program, &link).with_context(|| link.display().to_string())
    }

    /// A host that is there.
    ///
    /// # Errors
    /// There is none of this name; the text names those that there are.
    pub fn present_host(&self, name: &str) -> Result<Host> {
        let hosts = self.ledger.read()?.hosts;
        let known: Vec<&str> = hosts.keys().map(String::as_str).collect();
        let host =
            hosts.get(name).with_context(|| format!("no host {name}; there are: {}", known.join(", ")))?;
        self.existing_host(name, host.address)
    }

    /// The host with this name; made at its first use.
    pub fn host(&self, name: &str) -> Result<Host> {
        check_name(name, 12)?;
        ensure!(name != network::SWITCH, "{name} is the lab's own");
        if let Some(host) = self.ledger.read()?.hosts.get(name) {
            return self.existing_host(name, host.address);
        }
        let address = self.ledger.change(|record| {
            let number = u8::try_from(record.hosts.len() + 1).ok().filter(|number| *number < 255);
            let address = self.address(number.context("at most 254 hosts")?);
            record.hosts.insert(name.to_owned(), HostRecord { address });
            Ok(address)
        })?;
        if self.mode == Mode::Namespaces {
            network::make_host(&self.run, name, address)?;
            self.write_host_names()?;
        }
        self.existing_host(name, address)
    }

    /// The host with this name in the network behind `router`, another host; made at its first use. The router translates
    /// the addresses of its network, and drops what nobody there asked for.
    pub fn host_behind(&self, router: &str, name: &str) -> Result<Host> {
        check_name(name, 12)?;
        ensure!(self.mode == Mode::Namespaces, "sites need network namespaces, and those need root");
        if let Some(host) = self.ledger.read()?.hosts.get(name) {
            return self.existing_host(name, host.address);
        }
        let outside = self.host(router)?.address();
        let (address, first) = self.ledger.change(|record| {
            let taken = record.hosts.values().filter(|host| site::is_behind(outside, host.address)).count();
            let address = site::address(outside, u8::try_from(taken + 2).context("at most 250 hosts")?);
            record.hosts.insert(name.to_owned(), HostRecord { address });
            Ok((address, taken == 0))
        })?;
        if first {
            site::make_router(&self.run, router, outside)?;
        }
        site::make_host(&self.run, router, name, (outside, address))?;
        self.write_host_names()?;
        self.existing_host(name, address)
    }

    /// Counts from now on what one router hears from the other by UDP.
    pub fn count_udp(&self, one: &str, other: &str) -> Result<()> {
        site::count_from(&self.run, one, self.host(other)?.address())?;
        site::count_from(&self.run, other, self.host(one)?.address())
    }

    /// UDP packets that a router heard from another one: from outside, and over a line.
    pub fn udp_heard(&self, router: &str) -> Result<[u64; 2]> {
        site::udp_heard(&self.run, router)
    }

    /// Counts from now on what comes to a host over TCP connections of which this is the port of either end.
    pub fn count_port(&self, host: &str, port: u16) -> Result<()> {
        site::count_port(&self.run, host, port)
    }

    /// Bytes that came over them.
    pub fn bytes_to(&self, host: &str) -> Result<u64> {
        site::bytes_to(&self.run, host)
    }

    /// Lays a line of their own between the networks of two routers, past any translation.
    pub fn lay_line(&self, one: &str, other: &str) -> Result<()> {
        let (first, second) = (self.host(one)?, self.host(other)?);
        site::lay_line(&self.run, (one, first.address()), (other, second.address()))
    }

    /// Takes that line away.
    pub fn take_line(&self, one: &str) -> Result<()> {
        site::take_line(&self.run, one)
    }

    /// A part that was started before, also by another process.
    pub fn part(&self, name: &str) -> Result<Part> {
        let record = self.ledger.read()?;
        let Some(part) = record.parts.get(name) else {
            let names: Vec<&str> = record.parts.keys().map(String::as_str).collect();
            bail!("no part {name}; there are: {}", names.join(" "));
        };
        let view = match part.host.as_str() {
            network::SWITCH => View::namespaced(&self.folder, &self.run, network::SWITCH)?,
            host => self.host(host)?.view().clone(),
        };
        Ok(Part::new(name, &view, &self.folder, &self.ledger))
    }

    /// A process by its pid, if it is one of this lab's.
    pub fn process(&self, pid: i32) -> Result<Process> {
        let owned = sweep::owned(&self.folder);
        owned
            .into_iter()
            .find(|process| process.pid == pid)
            .with_context(|| format!("{pid} is not the lab's"))
    }

    /// Cuts a host off, or two hosts from each other.
    pub fn cut(&self, host: &str, other: Option<&str>) -> Result<()> {
        self.check_cut(host, other)?;
        match other {
            Some(other) => cut::separate(&self.run, host, other, Drops::Both),
            None => cut::unplug(&self.run, host),
        }
    }

    /// Nothing that `from` sends reaches `to` any more; the other direction works.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<()> {
        self.check_cut(from, Some(to))?;
        cut::separate(&self.run, from, to, Drops::OneWay)
    }

    /// A share of the frames between two hosts gets lost, 0 to 1, each way.
    pub fn lossy(&self, host: &str, other: &str, share: f64) -> Result<()> {
        self.check_cut(host, Some(other))?;
        cut::separate(&self.run, host, other, Drops::Share(share))
    }

    /// Ends every cut and loss of a host, or between two hosts.
    pub fn heal(&self, host: &str, other: Option<&str>) -> Result<()> {
        self.check_cut(host, other)?;
        match other {
            Some(other) => cut::join(&self.run, host, other),
            None => cut::plug(&self.run, host),
        }
    }

    /// Makes a host's line slow. The lab's own program must be installed under the name `rap-lab`.
    pub fn slow(&self, host: &str, slowness: Slowness) -> Result<()> {
        self.check_cut(host, None)?;
        let view = View::namespaced(&self.folder, &self.run, network::SWITCH)?;
        let part = Part::new(&slow::part_name(host), &view, &self.folder, &self.ledger);
        ensure!(!part.is_running()?, "the line of {host} is slow already");
        let emulator = Invocation::new("rap-lab")
            .arguments(["emulate", host, "--delay-ms", &slowness.delay.as_millis().to_string()])
            .arguments(["--loss", &slowness.loss.to_string()])
            .arguments(["--kbit-per-s", &slowness.kbit_per_s.unwrap_or_default().to_string()]);
        part.start(network::SWITCH, &emulator)?;
        wait_until(DEVICE_DEADLINE, "the emulator's devices", || {
            ensure!(part.is_running()?, "the emulator ended: {}", part.log_tail());
            Ok(slow::devices_made(&self.run, host).then_some(()))
        })?;
        slow::divert(&self.run, host)
    }

    /// Makes it fast again.
    pub fn fast(&self, host: &str) -> Result<()> {
        self.check_cut(host, None)?;
        let part = self.part(&slow::part_name(host))?;
        slow::restore(&self.run, host)?;
        part.kill()
    }

    /// Leaves the lab up when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Removes everything the lab made.
    pub fn down(mut self) -> Result<()> {
        self.keep = true;
        sweep::remove(&self.folder)
    }

    fn existing_host(&self, name: &str, address: Ipv4Addr) -> Result<Host> {
        let view = match self.mode {
            Mode::Namespaces => View::namespaced(&self.folder, &self.run, name)?,
            Mode::Loopback => View::loopback(&self.folder, &self.run, name)?,
        };
        Ok(Host::new(name, address, view, &self.folder, &self.ledger))
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        let [first, second, third] = self.run.loopback_network();
        match self.mode {
            Mode::Namespaces => network::namespace_address(number),
            Mode::Loopback => Ipv4Addr::new(first, second, third, number),
        }
    }

    /// Hosts know each other by name.
    fn write_host_names(&self) -> Result<()> {
        let hosts = self.ledger.read()?.hosts;
        let lines = hosts.iter().map(|(name, host)| format!("{} {name}\n", host.address));
        let text: String = std::iter::once("127.0.0.1 localhost\n".to_owned()).chain(lines).collect();
        std::fs::write(self.folder.skeleton("etc").join("hosts"), text).context("names of hosts")
    }

    fn check_cut(&self, host: &str, other: Option<&str>) -> Result<()> {
        ensure!(self.mode == Mode::Namespaces, "cuts need network namespaces, and those need root");
        let hosts = self.ledger.read()?.hosts;
        for name in std::iter::once(host).chain(other) {
            ensure!(hosts.contains_key(name), "no host {name}");
        }
        ensure!(other != Some(host), "{host} cannot be cut from itself");
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = sweep::remove(&self.folder)
        {
            eprintln!("lab {}: {error:#}", self.run);
        }
    }
}

const DEVICE_DEADLINE: Duration = Duration::from_secs(10);
