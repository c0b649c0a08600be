//! One program call on a host: what to call, and what it answered. Owns bounded output and the deadline.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::documents;
use crate::guard::release_signals;
use crate::process::Process;
use crate::view::View;

/// What to call. Secrets go into files or standard input, never into arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invocation {
    /// Program name on the host's PATH, or a path.
    pub program: String,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Variables besides the host's own.
    pub variables: BTreeMap<String, String>,
    /// Standard input; not recorded.
    #[serde(skip)]
    pub input: Option<Vec<u8>>,
}

/// What a call answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The call, for messages.
    pub call: String,
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, its first MiB.
    pub stdout: String,
    /// Standard error, its first MiB.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Invocation {
    /// A program without arguments.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), variables: BTreeMap::new(), input: None }
    }

    /// Words separated by spaces, as a person types them; single quotes keep spaces.
    pub fn typed(line: &str) -> Result<Self> {
        let mut words = split_words(line)?.into_iter();
        let program = words.next().context("an empty command line")?;
        Ok(Self::new(program).arguments(words))
    }

    /// Adds one argument.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn arguments<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Gives standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// The call as one line.
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn command(&self, view: &View) -> Command {
        let mut command = Command::new(view.resolve(&self.program));
        command
            .args(&self.arguments)
            .env_clear()
            .envs(view.variables())
            .envs(&self.variables)
            .current_dir(view.home())
            .stdin(Stdio::null())
            .process_group(0);
        release_signals(&mut command);
        command
    }
}

impl Answer {
    /// This answer if it exited 0, else an error with what it said.
    pub fn success(self) -> Result<Self> {
        self.exits(0)
    }

    /// This answer if it exited so, else an error with what it said.
    pub fn exits(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == Some(code),
            "`{}` {}, not {code}: {}{}",
            self.call,
            self.code.map_or("was ended by a signal".to_owned(), |code| format!("exited with {code}")),
            tail(&self.stderr),
            tail(&self.stdout)
        );
        Ok(self)
    }

    /// Standard output as one JSON document, which is as the page of documents says.
    pub fn json(&self) -> Result<serde_json::Value> {
        let document = serde_json::from_str(&self.stdout)
            .with_context(|| format!("`{}` printed no JSON: {}", self.call, tail(&self.stdout)))?;
        documents::check(&document).with_context(|| format!("`{}`", self.call))?;
        Ok(document)
    }
}

/// Calls a program and waits for its end. At the deadline its process group is killed and the call is an error.
pub fn call(view: &View, invocation: &Invocation, deadline: Duration) -> Result<Answer> {
    let (mut stdout, mut stderr) = (scratch(&view.home())?, scratch(&view.home())?);
    let mut command = invocation.command(view);
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    if let Some(input) = &invocation.input {
        let mut file = scratch(&view.home())?;
        file.write_all(input)?;
        file.rewind()?;
        command.stdin(file);
    }
    let started = crate::wait::now();
    let mut child = view.enter(|| command.spawn().with_context(|| invocation.line()))?;
    let process = Process::with_pid(child.id() as i32);
    let ended = process.is_none_or(|process| process.wait_end(deadline));
    if !ended && let Some(group) = Pid::from_raw(child.id() as i32) {
        // The child is not yet waited for, so its pid still names its own group.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait()?;
    let answer = Answer {
        call: invocation.line(),
        code: status.code(),
        stdout: read_start(&mut stdout)?,
        stderr: read_start(&mut stderr)?,
        took: started.elapsed(),
    };
    if !ended {
        bail!(
            "`{}` did not end within {deadline:?}: {}{}",
            answer.call,
            tail(&answer.stderr),
            tail(&answer.stdout)
        );
    }
    Ok(answer)
}

/// Calls a program with this process's own input and output, and returns its exit status (128 + signal if one ended it).
pub fn call_attached(view: &View, invocation: &Invocation, deadline: Duration) -> Result<u8> {
    let mut command = invocation.command(view);
    // It stays in the terminal's foreground group, so that Ctrl-C reaches it.
    command.stdin(Stdio::inherit()).process_group(nix::unistd::getpgrp().as_raw());
    let mut child = view.enter(|| command.spawn().with_context(|| invocation.line()))?;
    let process = Process::with_pid(child.id() as i32);
    if let Some(process) = process.filter(|process| !process.wait_end(deadline)) {
        process.signal(Signal::KILL);
        child.wait()?;
        bail!("`{}` did not end within {deadline:?}", invocation.line());
    }
    let status = child.wait()?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// A file without a name: output goes there, so that neither a pipe's size nor a grandchild that keeps it open can block.
fn scratch(folder: &Path) -> Result<File> {
    let path = folder.join(format!(".call-{:016x}", rand::random::<u64>()));
    let mut options = OpenOptions::new();
    let file = options
        .create_new(true)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn read_start(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(OUTPUT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last few lines, for messages.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

fn split_words(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    ensure!(!quoted, "unclosed quote: {line}");
    words.extend(word);
    Ok(words)
}

/// Finds a program in the folders of a PATH.
pub(crate) fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    path.split(':').map(|folder| Path::new(folder).join(name)).find(|candidate| candidate.is_file())
}

const OUTPUT_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn view(folder: &Path) -> View {
        View::here(folder.to_path_buf())
    }

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh").arguments(["-c", script])
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn an_answer_has_both_outputs_and_the_exit_status() {
        let folder = tempfile::tempdir().expect("folder");
        let answer =
            call(&view(folder.path()), &shell("echo out; echo err >&2; exit 8"), LONG).expect("answer");
        assert_eq!(
            (answer.stdout.as_str(), answer.stderr.as_str(), answer.code),
            ("out\n", "err\n", Some(8))
        );
        assert!(answer.clone().exits(8).is_ok());
        let error = answer.success().expect_err("exit 8").to_string();
        assert!(error.contains("err"), "{error}");
    }

    #[test]
    fn input_is_given_and_leaves_no_file() {
        let folder = tempfile::tempdir().expect("folder");
        let answer = call(&view(folder.path()), &shell("cat").input("a secret"), LONG).expect("answer");
        assert_eq!(answer.stdout, "a secret");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
    }

    #[test]
    fn a_call_that_does_not_end_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("folder");
        let script = format!("sleep 300 & echo $! > {}/child; wait", folder.path().display());
        let error =
            call(&view(folder.path()), &shell(&script), Duration::from_millis(500)).expect_err("deadline");
        assert!(error.to_string().contains("did not end within"), "{error}");
        let child: i32 =
            fs::read_to_string(folder.path().join("child")).expect("child").trim().parse().expect("pid");
        let gone = Process::with_pid(child).is_none_or(|process| process.wait_end(LONG));
        assert!(gone);
    }

    #[test]
    fn output_beyond_the_bound_is_cut_off_and_does_not_block() {
        let folder = tempfile::tempdir().expect("folder");
        let answer = call(&view(folder.path()), &shell("yes | head -c 3000000"), LONG).expect("answer");
        assert_eq!(answer.stdout.len() as u64, OUTPUT_BYTES);
    }

    #[test]
    fn a_typed_line_is_split_as_a_shell_would() {
        let call = Invocation::typed("rapctl  token create --note 'two words' ''").expect("words");
        assert_eq!(call.program, "rapctl");
        assert_eq!(call.arguments, ["token", "create", "--note", "two words", ""]);
        assert!(Invocation::typed("a 'b").is_err());
        assert!(Invocation::typed("  ").is_err());
    }
}
