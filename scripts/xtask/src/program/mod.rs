//! The workspace's sources as modules, items and written paths. Owns the shape; reading is `load`, name lookup is
//! `resolve`. Knows no rule.

mod collect;
mod load;
#[cfg(test)]
pub mod planted;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use collect::TEST_FEATURES;
pub use load::load;
pub use resolve::Target;

/// Index into [`Program::modules`].
pub type ModuleId = usize;
/// Index into [`Program::items`].
pub type ItemId = usize;
/// Index into [`Program::files`].
pub type FileId = usize;

/// Every module that Cargo would compile, by target.
#[derive(Default)]
pub struct Program {
    /// Files, each once.
    pub files: Vec<SourceFile>,
    /// Targets of packages.
    pub crates: Vec<Crate>,
    /// Modules of all targets.
    pub modules: Vec<Module>,
    /// Named items of all modules.
    pub items: Vec<Item>,
}

/// One file.
pub struct SourceFile {
    /// From the root of the repository.
    pub path: PathBuf,
    /// All of its lines.
    pub lines: usize,
    /// Lines that are neither blank nor comment only, outside tests.
    pub code: usize,
    /// The same inside tests.
    pub test_code: usize,
}

/// One target of a package.
pub struct Crate {
    /// Package name, such as `rap-types`.
    pub package: String,
    /// Name of the target.
    pub target: String,
    /// What Cargo makes of it.
    pub kind: TargetKind,
    /// Its root module.
    pub root: ModuleId,
}

/// What Cargo makes of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// `src/lib.rs`.
    Library,
    /// A binary.
    Program,
    /// A file or folder below `tests/`.
    Tests,
    /// A benchmark.
    Bench,
    /// `build.rs`.
    BuildScript,
}

/// One module.
pub struct Module {
    /// Its name; the target's name at the root.
    pub name: String,
    /// None at the root of a target.
    pub parent: Option<ModuleId>,
    /// Index into [`Program::crates`].
    pub of: usize,
    /// File that holds its items.
    pub file: FileId,
    /// True if it is compiled for tests only.
    pub test: bool,
    /// True for `pub mod`, and at the root.
    pub public: bool,
    /// Modules and items declared here. A name may stand for several, one per namespace.
    pub names: BTreeMap<String, Vec<Target>>,
    /// `use` lines, also those inside functions.
    pub imports: Vec<Import>,
    /// Paths written in place.
    pub paths: Vec<PathUse>,
}

/// One name brought in by a `use` line.
#[derive(Debug, Clone)]
pub struct Import {
    /// The name it gets here; none for a glob and for `as _`.
    pub name: Option<String>,
    /// True for `::*`.
    pub glob: bool,
    /// True if the line has a visibility, such as `pub use`.
    pub reexport: bool,
    /// True for `pub use` without a restriction.
    pub public: bool,
    /// What is written.
    pub path: PathUse,
}

/// A path as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse {
    /// Segments without generics; a leading `::` is an empty first one.
    pub segments: Vec<String>,
    /// Line of the first segment, from 1.
    pub line: usize,
    /// True inside what is compiled for tests only.
    pub test: bool,
    /// The item of the module that it stands in.
    pub within: String,
    /// Where it stands.
    pub place: Place,
}

/// Where a path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a `use` line.
    Use,
    /// In what others see of an item: a signature, a public field, a variant, a bound.
    Interface,
    /// Anywhere else: a body, a private field, an attribute.
    Body,
}

/// One named item.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ItemKind,
    /// The module that declares it.
    pub module: ModuleId,
    /// The file that defines it.
    pub file: FileId,
    /// Line of the name, from 1.
    pub line: usize,
    /// True for `pub` without a restriction.
    pub public: bool,
    /// True if it is compiled for tests only.
    pub test: bool,
    /// Names of variants; of enums only.
    pub variants: Vec<String>,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A function; with the attributes that make it a test: whether Cargo runs it, and whether only on request.
    Function { runs: Option<Runs> },
    /// A struct, enum, union, trait or type alias.
    Type,
    /// A constant or static.
    Value,
    /// `macro_rules!`.
    Macro,
}

/// How the test harness takes a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// With all others.
    Always,
    /// `#[ignore]`: only on request.
    OnRequest,
}

impl Program {
    /// The package that a module belongs to.
    pub fn package(&self, module: ModuleId) -> &str {
        &self.crates[self.modules[module].of].package
    }

    /// `inner::outer` from the root of its target, the root aside.
    pub fn module_path(&self, module: ModuleId) -> Vec<&str> {
        let (mut names, mut at) = (Vec::new(), module);
        while let Some(parent) = self.modules[at].parent {
            names.push(self.modules[at].name.as_str());
            at = parent;
        }
        names.reverse();
        names
    }
}
