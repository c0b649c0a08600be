//! Lays the sources of a program's options over each other: flag over environment over file over what was recorded.
//!
//! Owns precedence and where each value came from. Refuses to own which options there are and what they mean.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files;

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Option or file.
    pub at: String,
    /// What is wrong with it.
    pub text: String,
}

impl Problem {
    /// Names an option and what is wrong with it.
    pub fn new(at: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self { at: at.to_string(), text: text.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// Where an option's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Command line or environment.
    Given,
    /// Configuration file.
    File,
    /// Recorded by `init` in the data directory, or a credential of the service manager.
    Init,
    /// Nothing was written.
    Default,
}

impl Origin {
    /// The word people see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::File => "file",
            Self::Init => "init",
            Self::Default => "default",
        }
    }
}

/// What each source says about the options `R`: a struct whose every field is optional and whose unknown keys are refused.
#[derive(Debug, Clone)]
pub struct Layers<R> {
    given: toml::Table,
    file: toml::Table,
    recorded: toml::Table,
    problems: Vec<Problem>,
    options: PhantomData<fn() -> R>,
}

impl<R: Default + Serialize + DeserializeOwned> Layers<R> {
    /// Takes what was given, and the file: `named`, which must exist, or the one at `default`, which may be absent. What is
    /// wrong with them is left out and reported by [`Self::merge`], so that the rest can be judged together.
    pub fn read(given: &R, named: Option<&Path>, default: &str) -> Self {
        let (given, refused) = match toml::Table::try_from(given) {
            Ok(given) => (given, None),
            Err(error) => (toml::Table::new(), Some(Problem::new("flags", error))),
        };
        let (file, recorded) = (toml::Table::new(), toml::Table::new());
        let mut layers = Self { given, file, recorded, problems: Vec::new(), options: PhantomData };
        layers.file = match named {
            Some(path) => layers.table(path, true),
            None => layers.table(Path::new(default), false),
        };
        layers.problems.extend(refused);
        layers
    }

    /// Lays the options of a file below all others; the file may be absent.
    pub fn record_file(&mut self, path: &Path) {
        self.recorded = self.table(path, false);
    }

    /// Forgets what was recorded about every option but these.
    pub fn keep_recorded(&mut self, keys: &[&str]) {
        self.recorded.retain(|key, _| keys.contains(&key));
    }

    /// Lays one option below all others.
    pub fn record(&mut self, key: &str, value: String) {
        self.recorded.insert(key.to_owned(), value.into());
    }

    /// The written value of an option that is text; `None` if there is none.
    pub fn text(&self, key: &str) -> Option<&str> {
        let of = |table: &'_ toml::Table| table.contains_key(key);
        let table = [&self.given, &self.file, &self.recorded].into_iter().find(|table| of(table))?;
        table[key].as_str()
    }

    /// Where the value of an option comes from.
    pub fn origin(&self, key: &str) -> Origin {
        if self.given.contains_key(key) {
            Origin::Given
        } else if self.file.contains_key(key) {
            Origin::File
        } else if self.recorded.contains_key(key) {
            Origin::Init
        } else {
            Origin::Default
        }
    }

    /// The options by precedence, and all that was wrong with the sources.
    pub fn merge(&self) -> (R, Vec<Problem>) {
        let mut merged = self.recorded.clone();
        merged.extend(self.file.clone());
        merged.extend(self.given.clone());
        let mut problems = self.problems.clone();
        let raw = merged.try_into().unwrap_or_else(|error: toml::de::Error| {
            problems.push(Problem::new("configuration", error.message()));
            R::default()
        });
        (raw, problems)
    }

    /// The valid options of one TOML file; the others are problems that name the file and the option.
    fn table(&mut self, path: &Path, required: bool) -> toml::Table {
        let text = match files::read_text(path, FILE_CAP) {
            Ok(text) => text,
            Err(error) if error.is_not_found() && !required => return toml::Table::new(),
            Err(error) => {
                self.problems.push(Problem::new(path.display(), error.without_path()));
                return toml::Table::new();
            }
        };
        let mut table = toml::from_str::<toml::Table>(&text).unwrap_or_else(|error| {
            self.problems.push(Problem::new(path.display(), error.message()));
            toml::Table::new()
        });
        table.retain(|key, value| {
            let option = toml::Table::from_iter([(key.to_owned(), value.clone())]);
            let Err(error) = option.try_into::<R>() else { return true };
            // The list of every known option follows; `config --effective` shows it better.
            let text = error.message().split(", expected one of").next().unwrap_or_default();
            self.problems.push(Problem::new(path.display(), format!("{key}: {text}")));
            false
        });
        table
    }
}

/// Most bytes of a configuration file.
const FILE_CAP: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default, Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        listen: Option<String>,
        connections: Option<u32>,
        log: Option<String>,
        mode: Option<String>,
        metrics: Option<String>,
    }

    fn texts(layers: &Layers<Raw>) -> String {
        layers.merge().1.iter().map(|problem| format!("{problem}\n")).collect()
    }

    #[test]
    fn flag_wins_over_file_wins_over_what_was_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let (file, recorded) = (dir.path().join("x.toml"), dir.path().join("settings.toml"));
        std::fs::write(&file, "listen = \"127.0.0.1:2\"\nlog = \"warn\"\n").unwrap();
        std::fs::write(&recorded, "listen = \"127.0.0.1:3\"\nlog = \"trace\"\nmode = \"dev\"\n").unwrap();
        let given = Raw { listen: Some("127.0.0.1:1".into()), ..Raw::default() };
        let mut layers = Layers::read(&given, Some(&file), "");
        assert_eq!(layers.text("mode"), None);
        layers.record_file(&recorded);
        let (raw, problems) = layers.merge();
        assert_eq!(problems, []);
        assert_eq!(raw.listen.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(raw.log.as_deref(), Some("warn"));
        assert_eq!(raw.mode.as_deref(), Some("dev"));
        assert_eq!(layers.text("listen"), Some("127.0.0.1:1"));
        assert_eq!(layers.origin("listen"), Origin::Given);
        assert_eq!(layers.origin("log"), Origin::File);
        assert_eq!(layers.origin("mode"), Origin::Init);
        assert_eq!(layers.origin("metrics"), Origin::Default);
        layers.record("metrics", "off".to_owned());
        assert_eq!(layers.origin("metrics"), Origin::Init);
    }

    #[test]
    fn unknown_keys_and_a_missing_named_file_are_reported_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "lissten = \"127.0.0.1:1\"\nconnections = \"many\"\nlog = \"warn\"\nx = 1\n")
            .unwrap();
        let layers = Layers::read(&Raw::default(), Some(&file), "");
        let (raw, problems) = layers.merge();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(raw.log.as_deref(), Some("warn"), "the rest is judged, too");
        let text = texts(&layers);
        for word in ["x.toml: lissten", "x.toml: connections", "x.toml: x:"] {
            assert!(text.contains(word), "{word} missing in {text}");
        }
        std::fs::write(&file, "listen = = 1").unwrap();
        assert!(texts(&Layers::read(&Raw::default(), Some(&file), "")).contains("x.toml"));
        let absent = dir.path().join("absent.toml");
        assert!(texts(&Layers::read(&Raw::default(), Some(&absent), "")).contains("absent.toml"));
        let absent = absent.display().to_string();
        assert_eq!(texts(&Layers::read(&Raw::default(), None, &absent)), "", "the default one may be absent");
    }
}
