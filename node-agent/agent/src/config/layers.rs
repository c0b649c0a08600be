//! Lays the sources over each other: flag over environment over file.
//!
//! Owns precedence and where each value came from. Refuses to own meaning.

use std::path::Path;

use rap_runtime::files;

use super::resolve::Problem;
use super::{Problems, Raw};

/// Where an option's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Command line or environment.
    Given,
    /// Configuration file.
    File,
    /// Nothing was written.
    Default,
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
pub const DEFAULT_FILE: &str = "/etc/rap/agent.toml";

impl Layers {
    /// Lays what was given over the file (`named`, or the default one if it exists). What is wrong with
    /// them is left out and reported, so that the rest can be judged together.
    pub fn read(given: &Raw, named: Option<&Path>) -> (Self, Problems) {
        let mut problems = Problems(Vec::new());
        let file = match named {
            Some(path) => table(path, true, &mut problems),
            None => table(Path::new(DEFAULT_FILE), false, &mut problems),
        };
        let given = toml::Table::try_from(given).unwrap_or_else(|error| {
            problems.0.push(Problem::new("flags", error));
            toml::Table::new()
        });
        let mut merged = file.clone();
        merged.extend(given.clone());
        let raw = merged.try_into().unwrap_or_else(|error: toml::de::Error| {
            problems.0.push(Problem::new("configuration", error.message()));
            Raw::default()
        });
        (Self { raw, file, given }, problems)
    }

    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        if self.given.contains_key(key) {
            Origin::Given
        } else if self.file.contains_key(key) {
            Origin::File
        } else {
            Origin::Default
        }
    }
}

/// The valid options of the file; the others are problems that name the file and the option.
fn table(path: &Path, required: bool, problems: &mut Problems) -> toml::Table {
    let text = match files::read_text(path, FILE_CAP) {
        Ok(text) => text,
        Err(error) if error.is_not_found() && !required => return toml::Table::new(),
        Err(error) => {
            problems.0.push(Problem::new(path.display(), error.without_path()));
            return toml::Table::new();
        }
    };
    let table = toml::from_str::<toml::Table>(&text).unwrap_or_else(|error| {
        problems.0.push(Problem::new(path.display(), error.message()));
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
                problems.0.push(Problem::new(path.display(), format!("{key}: {text}")));
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

    #[test]
    fn flag_wins_over_file_and_the_origin_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "name = \"a\"\nregion = \"x\"\n").unwrap();
        let given = Raw { name: Some("b".into()), ..Raw::default() };
        let (layers, problems) = Layers::read(&given, Some(&file));
        assert_eq!(problems.0, []);
        assert_eq!((layers.raw.name.as_deref(), layers.raw.region.as_deref()), (Some("b"), Some("x")));
        assert_eq!(layers.origin("name"), Origin::Given);
        assert_eq!(layers.origin("region"), Origin::File);
        assert_eq!(layers.origin("log"), Origin::Default);
    }

    #[test]
    fn unknown_keys_and_a_missing_named_file_are_reported_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "nmae = \"a\"\ncache_bytes = \"big\"\nregion = \"x\"\n").unwrap();
        let (layers, problems) = Layers::read(&Raw::default(), Some(&file));
        assert_eq!(layers.raw.region.as_deref(), Some("x"), "the rest is judged, too");
        let text = problems.to_string();
        assert!(text.contains("x.toml: nmae") && text.contains("x.toml: cache_bytes"), "{text}");
        let (_, problems) = Layers::read(&Raw::default(), Some(&dir.path().join("absent.toml")));
        assert!(problems.to_string().contains("absent.toml"), "{problems}");
    }
}
