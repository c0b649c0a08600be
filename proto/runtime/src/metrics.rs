//! Metrics for Prometheus: the families a program has and their text form. Nothing is exposed that was not declared.
//!
//! Refuses to own numbers (programs hand them over at each scrape) and the endpoint (rap-rpc).

use std::fmt::Write as _;

/// What a number does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while a process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// Its word in the text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One declared metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Name; counters end in `_total`.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Unit of a value, for people: `seconds`, `bytes`, `1` for a count.
    pub unit: &'static str,
    /// Label names, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// A text being written.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a family with its samples: label values in the order of the family's labels, and a value.
    pub fn write<L, V>(&mut self, family: &Family, samples: impl IntoIterator<Item = (L, f64)>)
    where
        L: IntoIterator<Item = V>,
        V: AsRef<str>,
    {
        let Family { name, kind, help, .. } = family;
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        for (values, value) in samples {
            let pairs: Vec<String> = family
                .labels
                .iter()
                .zip(values)
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value.as_ref())))
                .collect();
            debug_assert_eq!(pairs.len(), family.labels.len(), "{name}");
            let _ = match pairs.is_empty() {
                true => writeln!(self.0, "{name} {value}"),
                false => writeln!(self.0, "{name}{{{}}} {value}", pairs.join(",")),
            };
        }
    }

    /// Writes a family without labels.
    pub fn write_one(&mut self, family: &Family, value: f64) {
        self.write(family, [([""; 0], value)]);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Names that a text exposes, in its order.
pub fn names_in(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// Rows of a page's metric table, `| name | type | unit | labels | meaning |`, as (name, type, unit, labels).
pub fn table_in(page: &str) -> Vec<(String, String, String, String)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `rap_"));
    rows.map(|row| {
        let row = format!("`rap_{row}");
        let mut cells = row.split('|').map(|cell| cell.trim().replace('`', ""));
        let mut cell = || cells.next().unwrap_or_default();
        (cell(), cell(), cell(), cell())
    })
    // Expressions over metrics stand in tables, too.
    .filter(|(_, kind, ..)| [Kind::Counter.as_str(), Kind::Gauge.as_str()].contains(&kind.as_str()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Family = Family {
        name: "rap_counted_total",
        kind: Kind::Counter,
        unit: "1",
        labels: &["reason", "kind"],
        help: "What was counted.",
    };
    const LEVEL: Family =
        Family { name: "rap_level_bytes", kind: Kind::Gauge, unit: "bytes", labels: &[], help: "A level." };

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut exposition = Exposition::new();
        exposition.write(&COUNTED, [(["a.b", "x\"y\\z\n"], 3.0)]);
        exposition.write_one(&LEVEL, 12.5);
        let text = exposition.into_text();
        assert_eq!(
            text,
            "# HELP rap_counted_total What was counted.\n# TYPE rap_counted_total counter\n\
             rap_counted_total{reason=\"a.b\",kind=\"x\\\"y\\\\z\\n\"} 3\n\
             # HELP rap_level_bytes A level.\n# TYPE rap_level_bytes gauge\nrap_level_bytes 12.5\n"
        );
        assert_eq!(names_in(&text), ["rap_counted_total", "rap_level_bytes"]);
    }

    #[test]
    fn a_table_of_a_page_is_read_by_its_columns() {
        let page = "# x\n| name | type |\n|---|---|\n| `rap_a_total` | counter | 1 | `reason` | text |\n| `rap_a_total > 0` | look |\n";
        let row = ("rap_a_total".into(), "counter".into(), "1".into(), "reason".into());
        assert_eq!(table_in(page), [row]);
    }
}
