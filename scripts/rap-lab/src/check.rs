//! Results of a scenario. Owns the JSON shape `rap.lab.v1`.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// One thing a scenario shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Stable name.
    pub id: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was measured.
    pub value: Value,
    /// One sentence.
    pub note: String,
}

/// All checks of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    schema: &'static str,
    name: String,
    ok: bool,
    checks: Vec<Check>,
    #[serde(skip)]
    quiet: bool,
    #[serde(skip)]
    only: Vec<String>,
}

/// What a check that ran to its end says.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Whether it holds.
    pub ok: bool,
    /// What was measured.
    pub value: Value,
    /// One sentence.
    pub note: String,
}

impl Finding {
    /// A finding with its measurement.
    pub fn new(ok: bool, value: impl Into<Value>, note: impl Into<String>) -> Self {
        Self { ok, value: value.into(), note: note.into() }
    }
}

impl Report {
    /// An empty report. A quiet one prints nothing while checks run.
    pub fn new(name: &str, quiet: bool) -> Self {
        Self {
            schema: "rap.lab.v1",
            name: name.to_owned(),
            ok: true,
            checks: Vec::new(),
            quiet,
            only: Vec::new(),
        }
    }

    /// A report that leaves printing to its caller.
    pub fn silent(name: &str) -> Self {
        Self::new(name, true)
    }

    /// Leaves out every other check; none named leaves out none.
    pub fn only(self, ids: &[String]) -> Self {
        Self { only: ids.to_vec(), ..self }
    }

    /// Runs one check; an error is a failed check.
    pub fn check(&mut self, id: &str, run: impl FnOnce() -> Result<Finding>) {
        if !self.only.is_empty() && !self.only.iter().any(|only| only == id) {
            return;
        }
        let started = crate::wait::now();
        let finding = run().unwrap_or_else(|error| Finding::new(false, Value::Null, format!("{error:#}")));
        if !self.quiet {
            let word = if finding.ok { "ok  " } else { "FAIL" };
            println!("{word} {id} ({:.1} s) {}", started.elapsed().as_secs_f64(), finding.note);
        }
        self.ok &= finding.ok;
        let Finding { ok, value, note } = finding;
        self.checks.push(Check { id: id.to_owned(), ok, value, note });
    }

    /// True if every check holds and there was one.
    pub fn ok(&self) -> bool {
        self.ok && !self.checks.is_empty()
    }

    /// The checks so far.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The document on one line.
    pub fn json(&self) -> String {
        let mut report = self.clone();
        report.ok = self.ok();
        serde_json::to_string(&report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_fails_the_report() {
        let mut report = Report::new("spine", true);
        report.check("one", || Ok(Finding::new(true, 1, "fine")));
        assert!(report.ok());
        report.check("two", || anyhow::bail!("broken"));
        assert!(!report.ok());
        assert_eq!(
            report.json(),
            r#"{"schema":"rap.lab.v1","name":"spine","ok":false,"checks":[{"id":"one","ok":true,"value":1,"note":"fine"},{"id":"two","ok":false,"value":null,"note":"broken"}]}"#
        );
    }

    #[test]
    fn a_report_without_checks_shows_nothing_and_is_not_ok() {
        assert!(Report::new("spine", true).json().contains("\"ok\":false"));
    }
}
