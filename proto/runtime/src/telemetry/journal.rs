//! Lines for a service manager's journal: each begins with its priority, which the journal takes off again and
//! files the line under (sd-daemon(3)). Owns when that applies and which priority a line has.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// What a line of this level begins with on standard error: nothing unless the journal reads it.
pub(crate) fn mark(level: Level) -> &'static str {
    if journal_reads(io::stderr(), std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        priority(level)
    } else {
        ""
    }
}

/// Whether `stream` is the one that the service manager named; an inherited variable may be about another.
fn journal_reads(stream: impl AsFd, named: Option<&str>) -> bool {
    let Some((device, inode)) = named.and_then(|named| named.split_once(':')) else { return false };
    fstat(stream).is_ok_and(|found| device == found.st_dev.to_string() && inode == found.st_ino.to_string())
}

const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Somebody must look at it.
const ALARM: &str = "<2>";

/// Writes to another writer, with priorities if the journal reads it.
#[derive(Debug)]
pub(super) struct Marked<M> {
    writer: M,
    marks: bool,
}

impl Marked<fn() -> io::Stderr> {
    pub(super) fn stderr() -> Self {
        Self { writer: io::stderr, marks: !mark(Level::INFO).is_empty() }
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Marked<M> {
    type Writer = MarkedLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        MarkedLine { writer: self.writer.make_writer(), mark: "" }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        let mark = match event.fields().field("alarm") {
            _ if !self.marks => "",
            Some(_) => ALARM,
            None => priority(*event.level()),
        };
        MarkedLine { writer: self.writer.make_writer_for(event), mark }
    }
}

/// One event on its way out; the subscriber writes it in one piece.
#[derive(Debug)]
pub(super) struct MarkedLine<W> {
    writer: W,
    mark: &'static str,
}

impl<W: Write> Write for MarkedLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.mark.is_empty() {
            return self.writer.write_all(bytes);
        }
        // One piece, or another thread's line could come between.
        self.writer.write_all(&[self.mark.as_bytes(), bytes].concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn only_the_stream_that_was_named_is_the_journal() {
        let file = tempfile::tempfile().unwrap();
        let found = fstat(&file).unwrap();
        let named = format!("{}:{}", found.st_dev, found.st_ino);
        assert!(journal_reads(&file, Some(&named)));
        assert!(!journal_reads(tempfile::tempfile().unwrap(), Some(&named)), "redirected since");
        for other in [None, Some(""), Some("8"), Some("x:y"), Some("0:0")] {
            assert!(!journal_reads(&file, other), "{other:?}");
        }
    }

    #[derive(Clone, Default)]
    struct Pieces(Arc<Mutex<Vec<String>>>);

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(marks: bool) -> Vec<String> {
        let pieces = Pieces::default();
        let writer = pieces.clone();
        let marked = Marked { writer: move || writer.clone(), marks };
        let subscriber =
            tracing_subscriber::fmt().with_writer(marked).with_ansi(false).without_time().finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("up");
            tracing::warn!("slow");
            tracing::error!("down");
            tracing::error!(alarm = true, "look");
        });
        pieces.0.lock().unwrap().clone()
    }

    #[test]
    fn each_line_is_one_piece_with_its_priority() {
        let starts: Vec<String> = logged(true).iter().map(|line| line.chars().take(3).collect()).collect();
        assert_eq!(starts, ["<6>", "<4>", "<3>", "<2>"]);
        assert!(logged(false).iter().all(|line| !line.contains('<')), "a person's terminal has none");
    }
}
