//! The committed rules of layers.toml. Owns their shape; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// What layers.toml says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Packages that a PURE crate's resolved normal tree must not hold.
    pub pure_forbids: BTreeSet<String>,
    /// Paths, or parts of paths, that a PURE crate's sources must not hold outside tests.
    pub pure_source_forbids: Vec<String>,
    /// Packages that no crate's resolved normal tree may hold.
    pub forbidden: BTreeSet<String>,
    /// Packages that only these direct dependents may bring in.
    pub only_through: BTreeMap<String, BTreeSet<String>>,
    /// Every crate of the workspace.
    pub crates: BTreeMap<String, CrateRule>,
    /// Rooms of packages that have them.
    #[serde(default)]
    pub rooms: BTreeMap<String, RoomRules>,
}

/// Which top-level modules of a package may name items of which others. What is not listed is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRules {
    /// Rooms that every room may use.
    pub open: BTreeSet<String>,
    /// Each room with what it may use: a room, or one module of it such as `acts::raise_incarnation`.
    pub may_use: BTreeMap<String, BTreeSet<String>>,
}

/// The rule of one crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrateRule {
    /// What it may do.
    pub kind: Kind,
    /// Top-level folder it lives in.
    pub folder: String,
    /// Workspace crates in its normal and build dependencies; absent for scripts, which may see all.
    pub may_use: Option<BTreeSet<String>>,
    /// Workspace crates its dev-dependencies may add.
    #[serde(default)]
    pub tests_may_use: BTreeSet<String>,
}

/// What a crate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No effects: inputs in, outputs out.
    Pure,
    /// Effects, used by programs.
    Shell,
    /// A shipped binary.
    Program,
    /// Never shipped; nothing depends on it.
    Script,
}

impl Kind {
    /// The word in layers.toml and in ARCHITECTURE.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Shell => "shell",
            Self::Program => "program",
            Self::Script => "script",
        }
    }
}

impl Rules {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Names of the PURE crates.
    pub fn pure(&self) -> impl Iterator<Item = &str> {
        self.crates.iter().filter(|(_, rule)| rule.kind == Kind::Pure).map(|(name, _)| name.as_str())
    }

    /// Names of all but scripts.
    pub fn shipped(&self) -> impl Iterator<Item = &str> {
        self.crates.iter().filter(|(_, rule)| rule.kind != Kind::Script).map(|(name, _)| name.as_str())
    }
}
