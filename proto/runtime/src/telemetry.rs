//! Logs on standard error, the last lines also in memory. Owns format, filter and that memory's bounds; refuses to own
//! what is logged.

mod journal;
mod recent;

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use journal::Marked;
pub(crate) use journal::mark;
pub use recent::recent;
use recent::{RECENT, Tee};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, fields at the top level.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = TelemetryError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Format),
        }
    }
}

/// Why logging could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// Not a log format.
    #[error("the log format is text or json")]
    Format,
    /// Not a filter.
    #[error("{from}: not a log filter: {cause}")]
    Filter {
        /// Variable or setting it came from.
        from: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// Logging runs already.
    #[error("logging was started twice")]
    Started,
}

/// Starts logging to standard error. `level` is a filter such as `info` or `info,rap_mesh=debug`; the
/// variable `RAP_LOG` replaces it.
pub fn init(format: LogFormat, level: &str) -> Result<(), TelemetryError> {
    let filter = filter(std::env::var("RAP_LOG").ok().as_deref(), level)?;
    let ansi = io::stderr().is_terminal();
    tracing::subscriber::set_global_default(subscriber(
        format,
        filter,
        ansi,
        Tee::new(Marked::stderr(), &RECENT),
    ))
    .map_err(|_| TelemetryError::Started)
}

/// Whether `text` is a log filter.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(text: &str) -> Result<(), TelemetryError> {
    filter(None, text).map(|_| ())
}

fn filter(variable: Option<&str>, level: &str) -> Result<EnvFilter, TelemetryError> {
    let (from, text) = match variable {
        Some(text) if !text.is_empty() => ("RAP_LOG", text),
        _ => ("log level", level),
    };
    EnvFilter::try_new(text).map_err(|error| TelemetryError::Filter { from, cause: error.to_string() })
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    ansi: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(writer);
    // It would report a failed write to standard error with a macro that panics if that fails too: a
    // process must outlive the reader of its log.
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, variable: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = filter(variable, "info").unwrap();
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node = "n1", "up");
            tracing::debug!("detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_fields_at_the_top_level() {
        let text = logged(LogFormat::Json, None);
        assert!(text.contains(r#""node":"n1""#) && text.contains(r#""message":"up""#), "{text}");
        assert!(!text.contains(r#""fields""#), "{text}");
    }

    #[test]
    fn the_variable_replaces_the_configured_level() {
        assert!(!logged(LogFormat::Text, None).contains("detail"));
        assert!(logged(LogFormat::Text, Some("debug")).contains("detail"));
        assert!(!logged(LogFormat::Text, Some("")).contains("detail"));
    }

    #[test]
    fn nonsense_names_where_it_came_from() {
        let from = |error| match error {
            TelemetryError::Filter { from, .. } => from,
            other => panic!("{other}"),
        };
        assert_eq!(from(filter(Some("a=b=c"), "info").unwrap_err()), "RAP_LOG");
        assert_eq!(from(filter(None, "a=b=c").unwrap_err()), "log level");
        assert_eq!("yaml".parse::<LogFormat>(), Err(TelemetryError::Format));
    }
}
