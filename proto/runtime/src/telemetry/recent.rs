//! The last log lines, for a support bundle: bounded in number and in bytes, oldest out first.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The process's last log lines, oldest first.
pub fn recent() -> Vec<String> {
    RECENT.lines()
}

/// Lines of a process.
#[derive(Debug)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

pub(super) static RECENT: Recent = Recent::new();

impl Recent {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Kept { lines: VecDeque::new(), bytes: 0 }))
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect()
    }

    fn keep(&self, bytes: &[u8]) {
        let mut line = plain(&String::from_utf8_lossy(bytes));
        if line.len() > LINE {
            let end = (0..=LINE).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(end);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
        }
    }
}

/// Without the line's end and without the colours of a terminal.
fn plain(line: &str) -> String {
    let (mut text, mut letters) = (String::with_capacity(line.len()), line.trim_end().chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => drop(letters.by_ref().find(char::is_ascii_alphabetic)),
            letter if letter.is_control() => text.push(' '),
            letter => text.push(letter),
        }
    }
    text
}

/// Writes to another writer and keeps a copy.
#[derive(Debug)]
pub(super) struct Tee<M>(M, &'static Recent);

impl<M> Tee<M> {
    pub(super) const fn new(writer: M, recent: &'static Recent) -> Self {
        Self(writer, recent)
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Tee<M> {
    type Writer = Line<M::Writer>;
    fn make_writer(&'a self) -> Self::Writer {
        Line(self.0.make_writer(), self.1)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        Line(self.0.make_writer_for(event), self.1)
    }
}

/// One event on its way out; the subscriber writes it in one piece.
#[derive(Debug)]
pub(super) struct Line<W>(W, &'static Recent);

impl<W: Write> Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1.keep(bytes);
        self.0.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

const LINES: usize = 2000;
const BYTES: usize = 256 * 1024;
const LINE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay_within_both_bounds() {
        let recent = Recent::new();
        for number in 0..LINES + 5 {
            recent.keep(format!("line {number}\n").as_bytes());
        }
        let lines = recent.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (LINES, "line 5"));
        for _ in 0..BYTES / LINE + 10 {
            recent.keep(&vec![b'x'; LINE * 2]);
        }
        let lines = recent.lines();
        assert!(lines.iter().map(String::len).sum::<usize>() <= BYTES);
        assert!(lines.iter().all(|line| line.len() == LINE));
    }

    #[test]
    fn colours_and_line_ends_are_left_out() {
        assert_eq!(plain("\u{1b}[2m12:00\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m up\n"), "12:00  INFO up");
        assert_eq!(plain("a\r\nb"), "a  b");
    }

    #[test]
    fn what_is_kept_is_also_written() {
        static OWN: Recent = Recent::new();
        let mut written = Vec::new();
        Line(&mut written, &OWN).write_all(b"one\n").unwrap();
        assert_eq!((written, OWN.lines()), (b"one\n".to_vec(), vec!["one".to_owned()]));
    }
}
