//! How large each package is. Owns what a code line is: neither blank nor comment only, outside what is compiled for
//! tests only; of the package's own targets, tests and benchmarks aside, and of its build script.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::edges::Workspace;
use crate::program::{self, Program};

/// One package.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Size {
    /// Files that are not for tests only.
    pub files: usize,
    /// Lines of code.
    pub code: usize,
    /// Lines of code of tests and benchmarks.
    pub tests: usize,
    /// Lines of the longest file, tests included.
    pub longest: usize,
}

/// Prints a line per package.
pub fn run(root: &Path) -> Result<Vec<String>> {
    let program = program::load(root, &Workspace::read(root)?)?;
    let sizes = of_packages(&program);
    println!("{:<20} {:>5} {:>7} {:>7} {:>7}", "package", "files", "code", "tests", "longest");
    for (package, Size { files, code, tests, longest }) in &sizes {
        println!("{package:<20} {files:>5} {code:>7} {tests:>7} {longest:>7}");
    }
    Ok(Vec::new())
}

/// Every package. A file that several targets share counts once, for the first.
pub fn of_packages(program: &Program) -> BTreeMap<String, Size> {
    let (mut sizes, mut seen) = (BTreeMap::<String, Size>::new(), BTreeSet::new());
    for module in &program.modules {
        let size = sizes.entry(program.crates[module.of].package.clone()).or_default();
        if seen.insert(module.file) {
            let file = &program.files[module.file];
            size.files += usize::from(file.code > 0 || !module.test);
            size.code += file.code;
            size.tests += file.test_code;
            size.longest = size.longest.max(file.lines);
        }
    }
    sizes
}
