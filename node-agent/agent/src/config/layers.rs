//! Lays the sources over each other: flag over environment over file.
//!
//! Owns precedence and where each value came from. Refuses to own meaning.

use std::path::Path;

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
    /// Lays what was given over the file (`named`, or the default one if it exists).
    pub fn read(given: &Raw, named: Option<&Path>) -> Result<Self, Problems> {
        let file = match named {
            Some(path) => table(path, true)?,
            None => table(Path::new(DEFAULT_FILE), false)?,
        };
        let given = toml::Table::try_from(given).map_err(|error| Problems::one("flags", error))?;
        let mut merged = file.clone();
        merged.extend(given.clone());
        let raw = merged.try_into().map_err(|error: toml::de::Error| {
            Problems(vec![Problem::new("configuration", error.message())])
        })?;
        Ok(Self { raw, file, given })
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

/// The file alone is checked for unknown keys, so that the message names it.
fn table(path: &Path, required: bool) -> Result<toml::Table, Problems> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            return Ok(toml::Table::new());
        }
        Err(error) => return Err(Problems::one(path.display(), error)),
    };
    toml::from_str::<Raw>(&text).map_err(|error| Problems::one(path.display(), error.message()))?;
    toml::from_str(&text).map_err(|error| Problems::one(path.display(), error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_wins_over_file_and_the_origin_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "name = \"a\"\nregion = \"x\"\n").unwrap();
        let given = Raw { name: Some("b".into()), ..Raw::default() };
        let layers = Layers::read(&given, Some(&file)).unwrap();
        assert_eq!((layers.raw.name.as_deref(), layers.raw.region.as_deref()), (Some("b"), Some("x")));
        assert_eq!(layers.origin("name"), Origin::Given);
        assert_eq!(layers.origin("region"), Origin::File);
        assert_eq!(layers.origin("log"), Origin::Default);
    }

    #[test]
    fn unknown_keys_and_a_missing_named_file_are_reported_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "nmae = \"a\"\n").unwrap();
        let text = Layers::read(&Raw::default(), Some(&file)).unwrap_err().to_string();
        assert!(text.contains("x.toml") && text.contains("nmae"), "{text}");
        let text =
            Layers::read(&Raw::default(), Some(&dir.path().join("absent.toml"))).unwrap_err().to_string();
        assert!(text.contains("absent.toml"), "{text}");
    }
}
