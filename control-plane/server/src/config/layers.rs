//! Lays the sources over each other: flag over environment over file over what `init` recorded.
//!
//! Owns precedence and where each value came from. Refuses to own meaning.

use std::path::{Path, PathBuf};

use rap_runtime::{Secret, files};

use crate::config::raw::Raw;
use crate::config::settings::Problem;

/// Where an option's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Command line or environment.
    Given,
    /// Configuration file.
    File,
    /// Recorded by `init` in the data directory.
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

/// The merged options, with their origins.
#[derive(Debug, Clone)]
pub struct Layers {
    /// Values after precedence.
    pub raw: Raw,
    file: toml::Table,
    given: toml::Table,
}

/// Read unless another file is named; may be absent.
pub const DEFAULT_FILE: &str = "/etc/rap/control-plane.toml";

/// Used unless another directory is named.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/rap/control-plane";

/// What `init` records inside the data directory.
pub const SETTINGS_FILE: &str = "settings.toml";

impl Layers {
    /// Reads the file (`named`, or the default one if it exists) and the settings of the data directory.
    /// What is wrong with them is left out and reported, so that the rest can be judged together.
    pub fn read(given: Raw, named: Option<&Path>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let file = match named {
            Some(path) => table(path, true, &mut problems),
            None => table(Path::new(DEFAULT_FILE), false, &mut problems),
        };
        let given = toml::Table::try_from(&given).unwrap_or_else(|error| {
            problems.push(Problem::new("flags", error));
            toml::Table::new()
        });
        let data_dir =
            given.get("data_dir").or_else(|| file.get("data_dir")).and_then(|value| value.as_str());
        let settings = PathBuf::from(data_dir.unwrap_or(DEFAULT_DATA_DIR)).join(SETTINGS_FILE);
        let recorded = table(&settings, false, &mut problems);
        let mut merged = recorded;
        merged.extend(file.clone());
        merged.extend(given.clone());
        if !merged.contains_key("database_url")
            && !merged.contains_key("database_url_file")
            && let Some(credential) = Secret::credential("RAP_DATABASE_URL")
        {
            merged.insert("database_url_file".into(), credential.display().to_string().into());
        }
        let raw = merged.try_into().unwrap_or_else(|error: toml::de::Error| {
            problems.push(Problem::new("configuration", error.message()));
            Raw::default()
        });
        (Self { raw, file, given }, problems)
    }

    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str, present: bool) -> Origin {
        if self.given.contains_key(key) {
            Origin::Given
        } else if self.file.contains_key(key) {
            Origin::File
        } else if present {
            Origin::Init
        } else {
            Origin::Default
        }
    }
}

/// The valid options of one TOML file; the others are problems that name the file and the option.
fn table(path: &Path, required: bool, problems: &mut Vec<Problem>) -> toml::Table {
    let text = match files::read_text(path, FILE_CAP) {
        Ok(text) => text,
        Err(error) if error.is_not_found() && !required => return toml::Table::new(),
        Err(error) => {
            problems.push(Problem::new(path.display(), error.without_path()));
            return toml::Table::new();
        }
    };
    let table = toml::from_str::<toml::Table>(&text).unwrap_or_else(|error| {
        problems.push(Problem::new(path.display(), error.message()));
        toml::Table::new()
    });
    table
        .into_iter()
        .filter(|(key, value)| {
            let option = toml::Table::from_iter([(key.clone(), value.clone())]);
            let refused = option.try_into::<Raw>().err();
            if let Some(error) = &refused {
                // The list of every known option follows; `config --effective` shows it better.
                let text = error.message().split(", expected one of").next().unwrap_or_default();
                problems.push(Problem::new(path.display(), format!("{key}: {text}")));
            }
            refused.is_none()
        })
        .collect()
}

/// Most bytes of a configuration file.
const FILE_CAP: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_texts((_, problems): (Layers, Vec<Problem>)) -> String {
        problems.iter().map(|problem| format!("{problem}\n")).collect()
    }

    #[test]
    fn flag_wins_over_file_wins_over_init() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control-plane.toml");
        std::fs::write(
            &file,
            format!("data_dir = {:?}\nlisten = \"127.0.0.1:2\"\nlog = \"warn\"\n", dir.path()),
        )
        .unwrap();
        std::fs::write(
            dir.path().join(SETTINGS_FILE),
            "listen = \"127.0.0.1:3\"\nlog = \"trace\"\nauthority_mode = \"dev\"\n",
        )
        .unwrap();
        let given = Raw { listen: Some("127.0.0.1:1".into()), ..Raw::default() };
        let (layers, problems) = Layers::read(given, Some(&file));
        assert_eq!(problems, []);
        assert_eq!(layers.raw.listen.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(layers.raw.log.as_deref(), Some("warn"));
        assert_eq!(layers.raw.authority_mode.as_deref(), Some("dev"));
        assert_eq!(layers.origin("listen", true), Origin::Given);
        assert_eq!(layers.origin("log", true), Origin::File);
        assert_eq!(layers.origin("authority_mode", true), Origin::Init);
        assert_eq!(layers.origin("metrics", false), Origin::Default);
    }

    #[test]
    fn unknown_keys_and_a_missing_named_file_are_reported_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "lissten = \"127.0.0.1:1\"\nconnections = \"many\"\nlog = \"warn\"\nx = 1\n")
            .unwrap();
        let (layers, problems) = Layers::read(Raw::default(), Some(&file));
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(layers.raw.log.as_deref(), Some("warn"), "the rest is judged, too");
        let text = problem_texts((layers, problems));
        for word in ["x.toml: lissten", "x.toml: connections", "x.toml: x:"] {
            assert!(text.contains(word), "{word} missing in {text}");
        }
        std::fs::write(&file, "listen = = 1").unwrap();
        assert!(problem_texts(Layers::read(Raw::default(), Some(&file))).contains("x.toml"));
        let text = problem_texts(Layers::read(Raw::default(), Some(&dir.path().join("absent.toml"))));
        assert!(text.contains("absent.toml"), "{text}");
    }
}
