//! What the command lines of all programs share: the form of an answer, colours, version, errors of the parser.
//!
//! Owns `-o`, `--json`, `--no-color`, `version` and the two forms of an answer for programs, JSON and YAML. Refuses to
//! own commands and tables.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, Command, CommandFactory, FromArgMatches};
use rap_types::Reason;
use serde_json::{Value, json};

use crate::{Fault, exit, output};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// A table with every column.
    Wide,
    /// One JSON document that names its schema.
    Json,
    /// The same document as YAML.
    Yaml,
    /// Only names, one on a line.
    Name,
}

impl Format {
    /// Whether the answer is one document for a program: JSON or YAML.
    pub fn is_document(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }

    /// The document as text that ends with a line feed; nothing for a form that is no document.
    pub fn document(self, document: &Value) -> Option<String> {
        let text = match self {
            Self::Json => serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string()),
            // JSON is YAML: what the serializer refuses is shown as JSON.
            Self::Yaml => serde_saphyr::to_string(document).unwrap_or_else(|_| document.to_string()),
            Self::Table | Self::Wide | Self::Name => return None,
        };
        Some(format!("{}\n", text.trim_end()))
    }

    /// Refuses `-o name`, for a command whose answer has no names.
    ///
    /// # Errors
    /// `request.invalid`.
    pub fn without_names(self) -> Result<Self, Fault> {
        match self {
            Self::Name => Err(Fault::new(Reason::RequestInvalid, NO_NAMES)),
            other => Ok(other),
        }
    }
}

/// What is said to `-o name` where there are no names.
pub const NO_NAMES: &str = "this answer has no name: use -o table, wide, json or yaml";

/// Options of every command that prints an answer.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct Form {
    /// How to print the answer.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORM")]
    output: Format,
    /// Print one JSON document, as -o json does.
    #[arg(long, global = true, overrides_with = "output")]
    json: bool,
    /// Use no colours in help and errors. (The environment variable NO_COLOR works too.)
    #[arg(long, global = true)]
    no_color: bool,
}

impl Form {
    /// The form that was asked for.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// What a program was built from. [`crate::build!`] makes it where the program's `main` is, so that a new commit links
/// a program anew and compiles nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Version of the package.
    pub version: &'static str,
    /// Commit of the sources, from the variable `RAP_BUILD_COMMIT` of the build; none in a build by hand.
    pub commit: Option<&'static str>,
    /// Date of that commit, RFC 3339, from the variable `RAP_BUILD_DATE`.
    pub date: Option<&'static str>,
}

/// The [`Build`](crate::command_line::Build) of the calling package.
#[macro_export]
macro_rules! build {
    () => {
        $crate::command_line::Build {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("RAP_BUILD_COMMIT"),
            date: option_env!("RAP_BUILD_DATE"),
        }
    };
}

impl Build {
    /// For people: `0.1.0 (commit 0123abcd, 2026-01-31T12:00:00Z)`.
    pub fn text(&self) -> String {
        match (self.commit, self.date) {
            (Some(commit), Some(date)) => format!("{} (commit {commit}, {date})", self.version),
            (Some(commit), None) => format!("{} (commit {commit})", self.version),
            (None, _) => format!("{} (commit not known)", self.version),
        }
    }

    /// For programs, schema `rap.version.v1`.
    fn document(&self, program: &str) -> Value {
        json!({
            "schema": "rap.version.v1", "program": program, "version": self.version, "commit": self.commit,
            "date": self.date,
        })
    }
}

/// The command line of a program with what all programs have: `version`.
pub fn command<C: CommandFactory>() -> Command {
    C::command().subcommand(Command::new("version").about("Show version, commit and date of this program"))
}

/// Parses the command line of this process.
///
/// # Errors
/// The exit status, if there is nothing left to do: help, version, or a command line that does not parse. What there is to
/// say was printed.
pub fn parse<C: CommandFactory + FromArgMatches>(build: Build) -> Result<C, ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut command = command::<C>().version(build.version);
    if options(&arguments).any(|argument| argument == "--no-color") {
        command = command.color(ColorChoice::Never);
    }
    let name = command.get_name().to_owned();
    let matches =
        command.try_get_matches_from_mut(&arguments).map_err(|error| refused(&error, &arguments))?;
    if matches.subcommand_name() == Some("version") {
        let text = asked(&arguments).document(&build.document(&name));
        output::print(format_args!("{}", text.unwrap_or_else(|| format!("{name} {}\n", build.text()))));
        return Err(output::finish(rap_types::ExitCode::Ok, asks_for_document(&arguments)));
    }
    C::from_arg_matches(&matches).map_err(|error| refused(&error.format(&mut command), &arguments))
}

/// A command line that is none, or a call for help. Clap knows the texts and the exit status.
fn refused(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() && asks_for_document(arguments) {
        output::complain(format_args!("{}", exit::usage_document(&error.to_string())));
    } else {
        // The reader of the output may be gone.
        let _unread = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// Whether a command line, parsed or not, asks for a document: `--json`, `-o json`, `-o yaml`.
fn asks_for_document(arguments: &[OsString]) -> bool {
    asked(arguments).is_document()
}

/// The form that a command line asks for, parsed or not.
fn asked(arguments: &[OsString]) -> Format {
    let mut value_follows = false;
    let mut found = Format::Table;
    for argument in options(arguments) {
        let argument = argument.to_string_lossy();
        let value = argument.strip_prefix("--output=").or_else(|| argument.strip_prefix("-o"));
        let value = if value_follows { Some(argument.as_ref()) } else { value };
        match value {
            _ if argument == "--json" => found = Format::Json,
            Some("json") => found = Format::Json,
            Some("yaml") => found = Format::Yaml,
            _ => {}
        }
        value_follows = argument == "-o" || argument == "--output";
    }
    found
}

/// What stands before the operands that no option can be.
fn options(arguments: &[OsString]) -> impl Iterator<Item = &OsString> {
    arguments.iter().skip(1).take_while(|argument| *argument != "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_and_yaml_are_documents_and_both_say_the_same() {
        let document = json!({
            "schema": "rap.test.v1", "list": [1, null, "yes", "a: b\nc", "\u{1b}[0m"], "empty": {},
        });
        for form in [Format::Table, Format::Wide, Format::Name] {
            assert_eq!(form.document(&document), None);
            assert!(!form.is_document());
        }
        let json = Format::Json.document(&document).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), document);
        let yaml = Format::Yaml.document(&document).unwrap();
        assert!(yaml.contains("schema: rap.test.v1\n") && !yaml.contains('\u{1b}'), "{yaml}");
    }

    #[test]
    fn a_document_is_asked_for_by_an_option_and_not_by_an_operand() {
        let asked = |line: &str| asked(&line.split(' ').map(Into::into).collect::<Vec<_>>());
        assert_eq!(asked("program status --json"), Format::Json);
        assert_eq!(asked("program status -o json"), Format::Json);
        assert_eq!(asked("program status -oyaml"), Format::Yaml);
        assert_eq!(asked("program --output=json status"), Format::Json);
        assert_eq!(asked("program --output yaml status"), Format::Yaml);
        for line in ["program status", "--json status -- --json", "program status -o wide", "program json"] {
            assert_eq!(asked(line), Format::Table, "{line}");
        }
    }

    #[derive(Debug, clap::Parser)]
    #[command(name = "tool")]
    struct Tool {
        #[command(flatten)]
        form: Form,
        #[command(subcommand)]
        _command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Status,
    }

    #[test]
    fn the_form_stands_before_or_after_the_command() {
        use clap::Parser as _;
        let form = |line: &str| Tool::try_parse_from(line.split(' ')).map(|tool| tool.form.format());
        assert_eq!(form("tool status").unwrap(), Format::Table);
        assert_eq!(form("tool -o name status").unwrap(), Format::Name);
        assert_eq!(form("tool status --json").unwrap(), Format::Json);
        assert_eq!(form("tool status -o yaml").unwrap(), Format::Yaml);
        form("tool status -o xml").unwrap_err();
        assert!(command::<Tool>().find_subcommand("version").is_some());
    }

    #[test]
    fn a_build_without_a_commit_says_so() {
        let build = Build { version: "1.2.3", commit: None, date: None };
        assert_eq!(build.text(), "1.2.3 (commit not known)");
        let build = Build { commit: Some("0123abcd"), date: Some("2026-01-31T12:00:00Z"), ..build };
        assert_eq!(build.text(), "1.2.3 (commit 0123abcd, 2026-01-31T12:00:00Z)");
        assert_eq!(build.document("tool")["commit"], "0123abcd");
    }
}
