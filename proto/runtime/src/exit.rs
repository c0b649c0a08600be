//! From an error to what a program prints and returns. The codes are rap-types'; this file only finds them.

use std::error::Error;
use std::io;
use std::process;

use rap_types::{ExitCode, Reason, Reject};
use tracing::Level;

use crate::files::FileError;
use crate::secrets::SecretError;
use crate::{telemetry, tls};

/// A local failure with its stable code, for errors that have no type of their own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Stable code.
    pub reason: Reason,
    /// What happened, for a person; no secrets.
    pub message: String,
}

impl Fault {
    /// A failure with this code and text.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Makes failures with this code of errors: `.map_err(Fault::of(Reason::StateIo))`.
    pub fn of<E: std::fmt::Display>(reason: Reason) -> impl FnOnce(E) -> Self {
        move |error| Self::new(reason, error.to_string())
    }
}

impl From<Reject> for Fault {
    fn from(reject: Reject) -> Self {
        Self::new(reject.reason, reject.what)
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<SecretError> for Fault {
    fn from(error: SecretError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// The process exit status of a code.
pub fn status(code: ExitCode) -> process::ExitCode {
    process::ExitCode::from(code as u8)
}

/// Exit code of a program that ends with this error: its reason's, else [`ExitCode::Generic`].
pub fn code_of(error: &(dyn Error + 'static)) -> ExitCode {
    reason_of(error).map_or(ExitCode::Generic, Reason::exit)
}

/// The stable code of an error or of the first of its sources that has one.
///
/// Knows the error types of this crate; other crates' errors are, or have as a source, a [`Fault`].
pub fn reason_of(error: &(dyn Error + 'static)) -> Option<Reason> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reason) = own_reason(error) {
            return Some(reason);
        }
        next = cause_of(error);
    }
    None
}

/// The next error below. Unlike `source` it does not skip the error that an I/O error wraps.
pub fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

/// One line for standard error: `error[code]: message: cause`. A message of one word is the name of what was
/// refused: what the code means follows it.
pub fn line(error: &(dyn Error + 'static)) -> String {
    match (reason_of(error), message(error)) {
        (Some(reason), word) if !word.contains(char::is_whitespace) && word != reason.row().text => {
            format!("error[{reason}]: {word}: {}", reason.row().text)
        }
        (Some(reason), message) => format!("error[{reason}]: {message}"),
        (None, message) => format!("error: {message}"),
    }
}

/// What a program says on standard error when it ends with this error: a document for programs, else a line, which
/// has its priority where the journal reads it.
pub fn complaint(error: &(dyn Error + 'static), json: bool) -> String {
    if json { document(error) } else { format!("{}{}", telemetry::mark(Level::ERROR), line(error)) }
}

/// One line of JSON for programs, schema `rap.error.v1`.
pub fn document(error: &(dyn Error + 'static)) -> String {
    error_document(reason_of(error), &message(error))
}

/// The document of a command line that does not parse; `text` is what the parser says to people.
pub fn usage_document(text: &str) -> String {
    // Tips and usage follow the first paragraph.
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let first = first.join(" ");
    error_document(Some(Reason::RequestInvalid), first.strip_prefix("error: ").unwrap_or(&first))
}

fn error_document(code: Option<Reason>, message: &str) -> String {
    serde_json::json!({ "schema": "rap.error.v1", "code": code.map(Reason::code), "message": message })
        .to_string()
}

/// What happened and why, without the code: `message: cause`.
pub fn message(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        // Several crates repeat their source in their own message.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = source.source();
    }
    text
}

fn own_reason(error: &(dyn Error + 'static)) -> Option<Reason> {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return Some(fault.reason);
    }
    if let Some(error) = error.downcast_ref::<FileError>() {
        return Some(error.reason());
    }
    if let Some(error) = error.downcast_ref::<SecretError>() {
        return Some(error.reason());
    }
    tls::reason_of(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("start")]
    struct Outer(#[source] Fault);

    #[test]
    fn the_reason_of_a_source_decides() {
        let error = Outer(Fault::new(Reason::ConfigInvalid, "port is not a number"));
        assert_eq!(code_of(&error), ExitCode::Usage);
        assert_eq!(line(&error), "error[config.invalid]: start: port is not a number");
        let word = Fault::new(Reason::HeaderAudience, "audience");
        let meaning = Reason::HeaderAudience.row().text;
        assert_eq!(line(&word), format!("error[header.audience]: audience: {meaning}"));
        let same = Fault::new(Reason::HeaderExpired, Reason::HeaderExpired.row().text);
        assert_eq!(line(&same), "error[header.expired]: Expired.");
    }

    #[test]
    fn an_error_without_a_reason_is_generic() {
        assert_eq!(code_of(&std::fmt::Error), ExitCode::Generic);
    }

    #[test]
    fn a_program_gets_code_and_message_as_one_line() {
        let error = Outer(Fault::new(Reason::ConfigInvalid, "two\nlines"));
        let expected = r#"{"code":"config.invalid","message":"start: two\nlines","schema":"rap.error.v1"}"#;
        assert_eq!(document(&error), expected);
        let usage = usage_document("error: unexpected argument '--x' found\n\nUsage: program");
        assert!(usage.contains(r#""message":"unexpected argument '--x' found""#), "{usage}");
    }

    #[test]
    fn a_wrong_pin_inside_an_io_error_is_a_failed_verification() {
        let error = io::Error::other(rustls::Error::from(tls::PeerReject::PinMismatch));
        assert_eq!(code_of(&error), ExitCode::VerificationFailed);
    }
}
