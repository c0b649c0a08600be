//! What a program prints: a full disk behind standard output, or a reader that went away, ends none.
//!
//! Owns the two streams of every program. Refuses to own texts. The standard macros panic where these do not; crates with
//! programs shadow `println!`, `print!` and `eprintln!` with them.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::process;
use std::sync::{Mutex, PoisonError};

use rap_types::{ExitCode, Reason};

use crate::exit::{self, Fault};

/// Why standard output stopped taking text; nothing more is written to it then.
static STOPPED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints to standard output. An error is kept for [`finish`].
pub fn print(text: Arguments<'_>) {
    let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
    if stopped.is_none() {
        let mut out = io::stdout().lock();
        *stopped = out.write_fmt(text).and_then(|()| out.flush()).err();
    }
}

/// Prints a line to standard error, without control characters; if that is gone there is nobody to tell.
pub fn complain(text: Arguments<'_>) {
    let text = text.to_string();
    let shown: Vec<String> = text.split('\n').map(clean).collect();
    let _unread = writeln!(io::stderr(), "{}", shown.join("\n"));
}

/// Names come from other hosts: nothing in them steers the terminal, or turns the order of what is read.
pub fn clean(text: &str) -> String {
    text.chars().map(shown).collect()
}

fn shown(c: char) -> char {
    if c.is_control() || steers(c) { '\u{fffd}' } else { c }
}

/// The same of at most the first `most` characters: what others say is bounded wherever it is kept, sent or shown.
pub fn bounded(text: &str, most: usize) -> String {
    text.chars().take(most).map(shown).collect()
}

/// Characters without a shape that change the order, or hide the difference, of others.
fn steers(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The exit status of a program that printed: its code, unless its answer could not be written. A reader
/// that went away, as `head` does, has seen what it wanted.
pub fn finish(code: ExitCode, json: bool) -> process::ExitCode {
    let stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner).take();
    match stopped.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        Some(error) if code == ExitCode::Ok => {
            let fault = Fault::new(Reason::StateIo, format!("standard output: {error}"));
            complain(format_args!("{}", if json { exit::document(&fault) } else { exit::line(&fault) }));
            exit::status(fault.reason.exit())
        }
        _ => exit::status(code),
    }
}

#[cfg(test)]
mod tests {
    use super::{bounded, clean};

    #[test]
    fn nothing_steers_the_terminal_or_turns_the_order_of_letters() {
        assert_eq!(clean("zo\u{eb} \u{416}"), "zo\u{eb} \u{416}");
        for steering in ['\u{1b}', '\u{9b}', '\n', '\u{202e}', '\u{2066}', '\u{200f}', '\u{200b}', '\u{feff}']
        {
            assert_eq!(clean(&format!("a{steering}b")), "a\u{fffd}b");
        }
    }

    #[test]
    fn a_bound_counts_characters() {
        assert_eq!(bounded("zo\u{eb}\u{1b}x", 4), "zo\u{eb}\u{fffd}");
        assert_eq!(bounded("zo\u{eb}", 3), "zo\u{eb}");
        assert_eq!(bounded("", 3), "");
        assert_eq!(bounded("x", 0), "");
    }
}
