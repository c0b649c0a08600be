//! Circles of files within a crate. Owns what an edge is: a path, in `use` or in place, followed through every
//! re-export to the file that defines the item. `mod` lines, `pub use` lines and tests are no edges, and a reference
//! that only the compiler infers (a method on a value) is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::edges::Workspace;
use crate::program::{self, FileId, ModuleId, PathUse, Program, Target};

/// Files to the files whose items they name, each with the places that do.
pub type Edges = BTreeMap<FileId, BTreeMap<FileId, Vec<Reason>>>;

/// Why there is an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Line in the file that names the item.
    pub line: usize,
    /// The item that holds the path; empty for a `use` line.
    pub within: String,
    /// As written.
    pub written: String,
    /// The item named.
    pub item: String,
}

/// The circles of one package, largest first.
#[derive(Debug, Serialize)]
pub struct Circles {
    /// Package name.
    pub package: String,
    /// Files of each circle of two or more, sorted.
    pub circles: Vec<Vec<PathBuf>>,
}

impl Circles {
    /// Files in the largest circle; 1 where there is none.
    pub fn largest(&self) -> usize {
        self.circles.first().map_or(1, Vec::len)
    }
}

/// Prints every package's circles, or why two files depend on each other.
pub fn run(root: &Path, json: bool, explain: Option<&[PathBuf]>) -> Result<Vec<String>> {
    let program = program::load(root, &Workspace::read(root)?)?;
    if let Some([one, other]) = explain {
        return explained(&program, one, other).map(|()| Vec::new());
    }
    let all = of_packages(&program);
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(Vec::new());
    }
    for Circles { package, circles } in &all {
        let sizes: Vec<String> = circles.iter().map(|circle| circle.len().to_string()).collect();
        println!("{package}: {}", if sizes.is_empty() { "1".to_owned() } else { sizes.join(", ") });
        for circle in circles.iter().filter(|circle| circle.len() > SHOWN) {
            for file in circle {
                println!("    {}", file.display());
            }
        }
    }
    Ok(Vec::new())
}

/// The circles of every package.
pub fn of_packages(program: &Program) -> Vec<Circles> {
    let edges = edges(program);
    let mut files: BTreeMap<&str, BTreeSet<FileId>> = BTreeMap::new();
    for module in program.modules.iter().filter(|module| !module.test) {
        files.entry(&program.crates[module.of].package).or_default().insert(module.file);
    }
    files
        .into_iter()
        .map(|(package, files)| {
            let shown =
                |circle: Vec<FileId>| circle.iter().map(|file| program.files[*file].path.clone()).collect();
            let mut circles: Vec<Vec<PathBuf>> = circles(&files, &edges).into_iter().map(shown).collect();
            circles.iter_mut().for_each(|circle| circle.sort());
            circles.sort_by_key(|circle| (std::cmp::Reverse(circle.len()), circle.first().cloned()));
            Circles { package: package.to_owned(), circles }
        })
        .collect()
}

/// Every edge within a target.
pub fn edges(program: &Program) -> Edges {
    let mut edges = Edges::new();
    for (id, module) in program.modules.iter().enumerate() {
        let imports = module.imports.iter().filter(|import| !import.reexport).map(|import| &import.path);
        for path in imports.chain(&module.paths).filter(|path| !path.test) {
            add(program, id, path, &mut edges);
        }
    }
    edges
}

fn add(program: &Program, module: ModuleId, path: &PathUse, edges: &mut Edges) {
    let here = &program.modules[module];
    for target in program.resolve(module, path) {
        let Target::Item(item) = target else { continue };
        let item = &program.items[item];
        if item.file == here.file || program.modules[item.module].of != here.of || item.test {
            continue;
        }
        let reason = Reason {
            line: path.line,
            within: path.within.clone(),
            written: path.segments.join("::"),
            item: item.name.clone(),
        };
        edges.entry(here.file).or_default().entry(item.file).or_default().push(reason);
    }
}

/// Strongly connected sets of two or more files.
fn circles(files: &BTreeSet<FileId>, edges: &Edges) -> Vec<Vec<FileId>> {
    let reach = |from: FileId| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            next.extend(edges.get(&file).into_iter().flat_map(BTreeMap::keys).filter(|to| seen.insert(**to)));
        }
        seen
    };
    let reached: BTreeMap<FileId, BTreeSet<FileId>> =
        files.iter().map(|file| (*file, reach(*file))).collect();
    let (mut found, mut done) = (Vec::new(), BTreeSet::new());
    for (file, to) in &reached {
        let back = |other: &&FileId| reached.get(*other).is_some_and(|reached| reached.contains(file));
        if !done.contains(file) && to.contains(file) {
            let circle: Vec<FileId> = to.iter().filter(back).copied().collect();
            done.extend(circle.iter().copied());
            found.push(circle);
        }
    }
    found
}

fn explained(program: &Program, one: &Path, other: &Path) -> Result<()> {
    let file = |path: &Path| {
        let found = program.files.iter().position(|known| known.path.ends_with(path));
        found.with_context(|| format!("{}: no such source file", path.display()))
    };
    let (one, other, edges) = (file(one)?, file(other)?, edges(program));
    for (from, to) in [(one, other), (other, one)] {
        println!("{} -> {}", program.files[from].path.display(), program.files[to].path.display());
        for reason in edges.get(&from).and_then(|edges| edges.get(&to)).into_iter().flatten() {
            let Reason { line, within, written, item } = reason;
            println!(
                "    line {line}: {written} ({item}){}{within}",
                if within.is_empty() { "" } else { " in " }
            );
        }
    }
    Ok(())
}

/// Circles above this size are listed file by file.
const SHOWN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::planted;

    /// Sizes of the circles of a planted library.
    fn sizes(files: &[(&str, &str)]) -> Vec<usize> {
        let all = of_packages(&planted::library(files));
        all[0].circles.iter().map(Vec::len).collect()
    }

    /// A file `a` that names what `b` defines by the given text, and a `b` that names `a` in place.
    fn with(a: &str) -> Vec<usize> {
        let b = "pub struct Thing; pub fn act() { crate::a::one(); } pub mod inner { pub fn deep() {} }";
        sizes(&[("lib", "mod a; mod b; pub use b::Thing as Known;"), ("a", a), ("b", b)])
    }

    #[test]
    fn a_circle_is_found_by_every_kind_of_path() {
        for a in [
            "use crate::b::Thing; pub fn one() {}",
            "use crate::{b::{Thing, act}}; pub fn one() {}",
            "use crate::b::{self}; pub fn one() { b::act() }",
            "use crate::b as other; pub fn one() { other::act() }",
            "use super::b; pub fn one() { b::inner::deep() }",
            "pub fn one() { crate::b::act() }",
            "pub fn one(_: &super::b::Thing) {}",
            "pub fn one() -> Vec<crate::Known> { vec![] }",
            "use crate::Known; pub fn one() {}",
            "use crate::b::*; pub fn one() { act() }",
            "pub fn one() { use super::b::act; act() }",
            "pub fn one() { println!(\"{}\", crate::b::act()) }",
            "pub fn one() {} impl Drop for crate::b::Thing { fn drop(&mut self) {} }",
            "#[derive(Deserialize)] pub struct S { #[serde(with = \"crate::b::inner\", default = \"crate::b::act\")] x: u8 } pub fn one() {}",
        ] {
            assert_eq!(with(a), [2], "{a}");
        }
    }

    #[test]
    fn tables_of_contents_re_exports_and_tests_make_none() {
        for a in [
            "pub fn one() {}",
            "pub use crate::b::Thing; pub(crate) use super::b::act; pub fn one() {}",
            "use crate::b; pub fn one() {}",
            "use crate::b::*; pub fn one() {}",
            "pub fn one() { let act = 1; act; } fn other(b: u8) { b; }",
            "pub fn one() {} #[cfg(test)] mod tests { use crate::b::act; fn x() { crate::b::act() } }",
            "pub fn one() {} #[cfg(all(test, unix))] fn x() { crate::b::act() }",
            "pub fn one() { thing.act() } /// [`crate::b::act`]\nfn other() { \"crate::b::act\"; }",
        ] {
            assert_eq!(with(a), [] as [usize; 0], "{a}");
        }
        let contents =
            [("lib", "pub mod a;"), ("a/mod", "mod b; pub use b::Thing;"), ("a/b", "pub struct Thing;")];
        assert_eq!(sizes(&contents), [] as [usize; 0]);
    }

    #[test]
    fn a_circle_through_a_chain_of_re_exports_leads_to_the_defining_files() {
        let files = [
            ("lib", "mod a; mod b; mod c; pub use b::*;"),
            ("a", "pub struct A; fn f(_: crate::Deep) {}"),
            ("b/mod", "mod deep; pub use self::deep::Deep;"),
            ("b/deep", "pub struct Deep(crate::c::C);"),
            ("c", "use super::a::A; pub struct C(A);"),
        ];
        let program = planted::library(&files);
        let wanted = ["src/a.rs", "src/b/deep.rs", "src/c.rs"].map(PathBuf::from);
        assert_eq!(of_packages(&program)[0].circles, [wanted]);
    }
}
