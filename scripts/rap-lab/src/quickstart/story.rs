//! What the quickstart tells while it works. Owns the words; with JSON they go to standard error.

use super::PairPing;
use crate::check::Report;
use crate::lab::Lab;
use crate::mode::Mode;

/// Tells on standard output, or on standard error where that holds the document.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    json: bool,
}

impl Story {
    /// A story beside a JSON document or by itself.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// How hosts are made.
    pub fn begins(&self, mode: Mode) {
        match mode {
            Mode::Namespaces => {
                self.tell("one network namespace per host; the overlay is a TUN device on each")
            }
            Mode::Loopback => {
                let why = crate::mode::obstacle().unwrap_or("as asked");
                self.tell(&format!(
                    "{why}: hosts are addresses of 127.0.0.0/8 and there is no TUN device; the data planes ping each other\n   \
                     over the same encrypted overlay, but host traffic does not enter it"
                ));
            }
        }
    }

    /// What is done now.
    pub fn step(&self, text: &str) {
        self.tell(&format!("-- {text}"));
    }

    /// Pings, one line each.
    pub(super) fn pings(&self, pings: &[PairPing]) {
        for PairPing { from, to, overlay_rtt_ms, loss } in pings {
            let rtt = overlay_rtt_ms.map_or("no answer".to_owned(), |rtt| format!("{rtt:.3} ms"));
            self.tell(&format!("   {from} -> {to}  {rtt}, {:.0} % lost", 100.0 * loss));
        }
    }

    /// The newest check of a report.
    pub fn check(&self, report: &Report) {
        if let Some(check) = report.checks().last() {
            let word = if check.ok { "ok  " } else { "FAIL" };
            self.tell(&format!("   {word} {} = {} ({})", check.id, check.value, check.note));
        }
    }

    /// What to try next.
    pub fn ends(&self, lab: &Lab, ok: bool) {
        if !ok {
            self.tell("something did not go as it should; `scripts/quickstart --keep` leaves everything up to look at");
            return;
        }
        let mut lines = vec![
            "scripts/lab exec cp rapctl status",
            "scripts/lab exec cp rapctl node list --cluster quickstart",
            "scripts/lab exec cp rapctl ping a b",
            "scripts/lab exec a rap-node-agent status",
            "scripts/lab exec a rap-node-agent snapshot verify",
        ];
        if lab.mode() == Mode::Namespaces {
            lines.push("scripts/lab cut a b          (and: scripts/lab heal a b)");
            lines.push("scripts/lab slow c --delay-ms 50");
        }
        lines.push("scripts/lab kill cp-control  (and: scripts/lab restart cp-control)");
        lines.push("scripts/lab log a-agent");
        lines.push("scripts/quickstart add d");
        lines.push("scripts/quickstart --chaos");
        lines.push(
            "scripts/quickstart --sites   (as root: two sites that reach each other through relays only)",
        );
        self.try_these(&lines);
    }

    /// It is up, and these commands show something.
    pub(super) fn try_these(&self, lines: &[&str]) {
        self.tell("\nIt is up. Try:");
        for line in lines {
            self.tell(&format!("  {line}"));
        }
        self.tell("\nRemove it: scripts/quickstart down");
    }

    fn tell(&self, text: &str) {
        if self.json { eprintln!("{text}") } else { println!("{text}") }
    }
}
