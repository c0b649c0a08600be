//! How answers are printed: tables for people, versioned JSON for programs.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use rap_runtime::Fault;
use rap_runtime::command_line::{Format, NO_NAMES};
pub(crate) use rap_runtime::output::clean;
use rap_types::Reason;
use serde_json::{Value, json};

use crate::args::Global;

/// One answer in all its forms.
pub(crate) struct Answer {
    schema: &'static str,
    body: Value,
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    wide: usize,
    hint: Option<String>,
}

impl Answer {
    /// An answer of this schema; `body` is a JSON object.
    pub(crate) fn new(schema: &'static str, body: Value) -> Self {
        Self { schema, body, headers: Vec::new(), rows: Vec::new(), wide: 0, hint: None }
    }

    /// An answer of this schema whose body is a list under `key`.
    pub(crate) fn list<T>(
        schema: &'static str,
        key: &str,
        all: &[T],
        document: impl Fn(&T) -> Value,
    ) -> Self {
        Self::new(schema, json!({ key: all.iter().map(document).collect::<Vec<_>>() }))
    }

    /// A table; the last `wide` columns are shown only by `-o wide`.
    pub(crate) fn table<const COLUMNS: usize>(
        self,
        headers: [&'static str; COLUMNS],
        wide: usize,
        rows: impl IntoIterator<Item = [String; COLUMNS]>,
    ) -> Self {
        Self { headers: headers.to_vec(), wide, rows: rows.into_iter().map(Vec::from).collect(), ..self }
    }

    /// A table of one thing: property and value.
    pub(crate) fn properties(self, rows: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let rows = rows.into_iter().map(|(name, value)| [name.to_owned(), value]);
        self.table([PROPERTY, "VALUE"], 0, rows)
    }

    /// What to do next, for a person.
    pub(crate) fn next(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints the answer to standard output and the hint to standard error.
    pub(crate) fn print(self, global: &Global) -> anyhow::Result<()> {
        if global.format().is_document() {
            let mut document = json!({ "schema": self.schema });
            if let (Value::Object(document), Value::Object(body)) = (&mut document, self.body) {
                document.extend(body);
            }
            return print(&global.format().document(&document).unwrap_or_default());
        }
        if global.format() == Format::Name {
            return print(&self.names()?);
        }
        // On a terminal long cells are broken so that a row is as wide as the terminal; a pipe gets whole cells.
        let width =
            Some(global.format()).filter(|form| *form == Format::Table).and_then(|_| Table::new().width());
        print(&self.text(global.format(), width))?;
        if let Some(hint) = self.hint.filter(|_| !global.quiet && std::io::stderr().is_terminal()) {
            complain(&format!("next: {}", clean(&hint)));
        }
        Ok(())
    }
}

impl Answer {
    /// The table as text, at most so wide.
    fn text(&self, form: Format, width: Option<u16>) -> String {
        if self.rows.is_empty() && !self.headers.is_empty() {
            return "none\n".to_owned();
        }
        let shown = if form == Format::Wide { self.headers.len() } else { self.headers.len() - self.wide };
        let mut table = plain(width);
        if !self.headers.is_empty() {
            table.set_header(self.headers[..shown].iter().copied());
        }
        for row in &self.rows {
            table.add_row(row[..shown].iter().map(|cell| clean(cell)));
        }
        let text = lines(&table);
        let is_one_thing = self.headers.first() == Some(&PROPERTY);
        let words =
            self.rows.iter().flat_map(|row| row[..shown].iter().flat_map(|cell| cell.split_whitespace()));
        if is_one_thing || words.map(clean).all(|word| text.contains(&word)) {
            return text;
        }
        // An id in pieces can neither be read nor copied: a row becomes a paragraph with a line per cell.
        let paragraph = |row: &Vec<String>| {
            let mut table = plain(width);
            let cells = self.headers[..shown].iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            for (header, cell) in cells {
                table.add_row([(*header).to_owned(), clean(cell)]);
            }
            lines(&table)
        };
        self.rows.iter().map(paragraph).collect::<Vec<_>>().join("\n")
    }

    /// What `-o name` prints: the first column of a list; the name or else the id of one thing.
    fn names(&self) -> anyhow::Result<String> {
        let cell = |row: &Vec<String>, column: usize| row.get(column).map(|cell| clean(cell));
        let names: Vec<String> = match self.headers.as_slice() {
            [PROPERTY, ..] => {
                let named = |name: &str| self.rows.iter().find(|row| row[0] == name);
                let row = named("name").or_else(|| named("id"));
                row.and_then(|row| cell(row, 1)).into_iter().collect()
            }
            _ => self.rows.iter().filter_map(|row| cell(row, 0)).collect(),
        };
        if names.is_empty() && (self.headers.is_empty() || self.headers[0] == PROPERTY) {
            return Err(Fault::new(Reason::RequestInvalid, NO_NAMES).into());
        }
        Ok(names.into_iter().map(|name| name + "\n").collect())
    }
}

/// A table without lines, at most so wide.
fn plain(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

fn lines(table: &Table) -> String {
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// First column of the table of one thing.
const PROPERTY: &str = "PROPERTY";

/// The reader of standard output went away, as `head` does: nothing is left to say to it.
#[derive(Debug, thiserror::Error)]
#[error("the reader of standard output went away")]
pub(crate) struct Unread;

/// Writes to standard output, whole.
///
/// # Errors
/// [`Unread`] if nobody reads it, `state.io` if it cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => anyhow::Error::new(Unread),
        _ => Fault::new(Reason::StateIo, format!("standard output: {error}")).into(),
    })
}

/// Writes lines to standard error, without control characters; if that is gone there is nobody to tell.
pub(crate) fn complain(text: &str) {
    let shown = text.split('\n').map(clean).collect::<Vec<_>>().join("\n");
    let _unread = writeln!(std::io::stderr(), "{shown}");
}

/// An id as text; empty if the control plane sent none.
pub(crate) fn id_text<T: ToString>(id: Result<T, impl Sized>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// Unix milliseconds as RFC 3339, or `-` for zero.
pub(crate) fn time(unix_ms: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok();
    match at.filter(|_| unix_ms != 0) {
        Some(at) => at
            .replace_millisecond(0)
            .unwrap_or(at)
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default(),
        None => "-".to_owned(),
    }
}

/// After a list was printed: were all of its rows as they were written?
///
/// # Errors
/// `row.tampered`, naming those that were not: a script must not take the rest for the whole.
pub(crate) fn all_hold(tampered: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let named: Vec<String> = tampered.collect();
    if named.is_empty() {
        return Ok(());
    }
    let text = format!(
        "not as this installation wrote it: {}; on the host: rap-control-plane rows check",
        named.join(", ")
    );
    Err(Fault::new(Reason::RowTampered, text).into())
}

/// Asks a yes/no question on the terminal or standard input; only `y` or `yes` is yes.
///
/// # Errors
/// `request.invalid` for any other answer: a script must not take "nothing was changed" for success.
pub(crate) fn confirm(global: &Global, question: &str) -> anyhow::Result<()> {
    if global.yes {
        return Ok(());
    }
    let mut prompt = std::io::stderr();
    let _unread = write!(prompt, "{question} [y/N] ").and_then(|()| prompt.flush());
    let mut answer = Vec::new();
    // A line without end is no answer, nor is one that is no text.
    let read = std::io::stdin().lock().take(64).read_until(b'\n', &mut answer);
    read.map_err(|error| Fault::new(Reason::StateIo, format!("standard input: {error}")))?;
    if !std::io::stdin().is_terminal() {
        complain("");
    }
    if ["y", "yes"].contains(&String::from_utf8_lossy(&answer).trim().to_lowercase().as_str()) {
        return Ok(());
    }
    Err(Fault::new(Reason::RequestInvalid, "not confirmed, nothing was changed (--yes confirms beforehand)")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let id = "01a22da5-a461-74e5-88a1-29a010ebe365";
        let row =
            |name: &str| [name.to_owned(), id.to_owned(), "a reason of many words ".repeat(4), id.to_owned()];
        Answer::new("rap.test.v1", json!({})).table(
            ["NAME", "ID", "REASON", "REQUEST"],
            1,
            [row("web"), row("db")],
        )
    }

    #[test]
    fn a_table_is_as_wide_as_the_terminal_and_whole_in_a_pipe() {
        let narrow = answer().text(Format::Table, Some(80));
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(narrow.contains("web") && !narrow.contains("REQUEST"), "{narrow}");
        let piped = answer().text(Format::Table, None);
        assert_eq!(piped.lines().count(), 3, "{piped}");
        assert!(answer().text(Format::Wide, None).contains("REQUEST"));
        assert_eq!(answer().table(["NAME"], 0, []).text(Format::Table, None), "none\n");
    }

    #[test]
    fn a_row_whose_ids_do_not_fit_is_a_paragraph() {
        let narrow = answer().text(Format::Wide, Some(60));
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        let id = "01a22da5-a461-74e5-88a1-29a010ebe365";
        let starts = |start: &str| narrow.lines().filter(|line| line.trim_start().starts_with(start)).count();
        let whole = narrow.lines().filter(|line| line.contains(id)).count();
        assert_eq!((starts("NAME"), starts("REQUEST"), whole, starts("web")), (2, 2, 4, 0), "{narrow}");
        assert!(narrow.contains("\n\n NAME     db\n"), "{narrow}");
        let one = Answer::new("rap.test.v1", json!({})).properties([("fingerprint", "f".repeat(71))]);
        assert!(one.text(Format::Table, Some(60)).starts_with(" PROPERTY"));
    }

    #[test]
    fn names_are_the_first_column_or_the_name_of_the_one_thing() {
        assert_eq!(answer().names().unwrap(), "web\ndb\n");
        let one = |rows: [(&'static str, String); 2]| Answer::new("rap.test.v1", json!({})).properties(rows);
        let named = one([("id", "1".to_owned()), ("name", "web".to_owned())]);
        assert_eq!(named.names().unwrap(), "web\n");
        let unnamed = one([("size", "1".to_owned()), ("root", "2".to_owned())]);
        assert_eq!(unnamed.names().unwrap_err().to_string(), NO_NAMES);
    }
}
