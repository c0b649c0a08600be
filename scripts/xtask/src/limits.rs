//! What may not grow. Owns comparing what the sources measure with limits.toml, and lowering what it still allows
//! above a limit; what a circle or a code line is, is told elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::edges::Workspace;
use crate::program::{self, ModuleId, PathUse, Program};
use crate::rules::Rules;
use crate::{circles, rooms, size, unused};

const FILE: &str = "scripts/xtask/limits.toml";

/// What limits.toml says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    /// Files in the largest circle of a package.
    circle: usize,
    /// The same for single packages.
    circle_of: BTreeMap<String, usize>,
    /// Lines of a file.
    longest: usize,
    /// Code lines of several packages together.
    code: BTreeMap<String, CodeLimit>,
    /// Functions and macros that some modules of a package alone may name.
    only_in: BTreeMap<String, OnlyIn>,
    /// What is above its limit; by the name of the measure. May only fall.
    above: BTreeMap<String, usize>,
}

/// Code lines of several packages together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeLimit {
    /// All but scripts where none is named.
    #[serde(default)]
    packages: Vec<String>,
    at_most: usize,
}

/// A function, and who alone may name it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyIn {
    package: String,
    /// With the modules below them.
    modules: Vec<String>,
}

/// One figure and what it may be.
#[derive(Debug, PartialEq, Eq)]
struct Measure {
    name: String,
    is: usize,
    limit: usize,
}

/// One line per figure that is above both its limit and what limits.toml still allows.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let limits = read(root)?;
    let measures = measured(root, &limits)?;
    let lower = lowered(&limits.above, &measures);
    if lower != limits.above {
        println!("limits: figures fell; `cargo xtask limits --write` keeps them");
    }
    let found = findings(&limits.above, &measures);
    if found.is_empty() {
        println!("limits: {} figures, {} still above their limit", measures.len(), lower.len());
    }
    Ok(found)
}

/// Lowers what is allowed above a limit to what is measured; raises nothing.
pub fn write(root: &Path) -> Result<()> {
    let limits = read(root)?;
    let measures = measured(root, &limits)?;
    let path = root.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| FILE)?;
    let (head, _) = text.split_once(ABOVE).with_context(|| format!("{FILE}: no {}", ABOVE.trim()))?;
    let mut page = format!("{head}{ABOVE}");
    for (name, number) in lowered(&limits.above, &measures) {
        let _ = writeln!(page, "\"{name}\" = {number}");
    }
    std::fs::write(&path, page).with_context(|| FILE)
}

fn read(root: &Path) -> Result<Limits> {
    let text = std::fs::read_to_string(root.join(FILE)).with_context(|| FILE)?;
    toml::from_str(&text).with_context(|| FILE)
}

fn measured(root: &Path, limits: &Limits) -> Result<Vec<Measure>> {
    let rules = Rules::read(&root.join("scripts/xtask/layers.toml"))?;
    let program = program::load(root, &Workspace::read(root)?)?;
    let shipped: Vec<String> = rules.shipped().map(str::to_owned).collect();
    let mut measures = figures(limits, &shipped, &program);
    for (package, table) in &rules.rooms {
        let is = rooms::of_package(&program, package, table)?.len();
        measures.push(Measure { name: format!("rooms of {package}"), is, limit: 0 });
    }
    let unused = unused::of_packages(&program, &shipped);
    measures.push(Measure { name: "pub items that nobody uses".to_owned(), is: unused.len(), limit: 0 });
    Ok(measures)
}

fn figures(limits: &Limits, shipped: &[String], program: &Program) -> Vec<Measure> {
    let mut measures = Vec::new();
    for circles in circles::of_packages(program) {
        let limit = limits.circle_of.get(&circles.package).copied().unwrap_or(limits.circle);
        let name = format!("circle of {}", circles.package);
        measures.push(Measure { name, is: circles.largest(), limit });
    }
    let sizes = size::of_packages(program);
    for (package, size) in &sizes {
        let name = format!("longest of {package}");
        measures.push(Measure { name, is: size.longest, limit: limits.longest });
    }
    for (name, CodeLimit { packages, at_most }) in &limits.code {
        let packages = if packages.is_empty() { shipped } else { packages };
        let is = packages.iter().filter_map(|package| sizes.get(package)).map(|size| size.code).sum();
        measures.push(Measure { name: format!("code of {name}"), is, limit: *at_most });
    }
    for (function, OnlyIn { package, modules }) in &limits.only_in {
        let is = calls(program, function, package, modules);
        measures.push(Measure { name: format!("{function} outside {}", modules.join(" ")), is, limit: 0 });
    }
    measures
}

/// Places in the package's shipped code, the modules aside, that name the function other than in a `use` line.
fn calls(program: &Program, function: &str, package: &str, modules: &[String]) -> usize {
    let is_elsewhere = |id: &ModuleId| {
        program.package(*id) == package && !is_in(&program.module_path(*id).join("::"), modules)
    };
    let named = |path: &&PathUse| !path.test && path.segments.last().is_some_and(|last| last == function);
    let modules = (0..program.modules.len()).filter(is_elsewhere);
    modules.map(|id| program.modules[id].paths.iter().filter(named).count()).sum()
}

/// Whether a module is one of these, or below one.
fn is_in(path: &str, modules: &[String]) -> bool {
    let below =
        |module: &String| path.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with("::"));
    modules.iter().any(|module| path == module || below(module))
}

fn findings(above: &BTreeMap<String, usize>, measures: &[Measure]) -> Vec<String> {
    let too_much = |measure: &&Measure| {
        measure.is > measure.limit.max(above.get(&measure.name).copied().unwrap_or_default())
    };
    let shown = |Measure { name, is, limit }: &Measure| match above.get(name) {
        Some(allowed) => format!("{name}: {is}, was {allowed}; the limit is {limit}"),
        None => format!("{name}: {is}, the limit is {limit}"),
    };
    let unknown = above.keys().filter(|name| !measures.iter().any(|measure| measure.name == **name));
    let unknown = unknown.map(|name| format!("{FILE}: {name} is no measure"));
    measures.iter().filter(too_much).map(shown).chain(unknown).collect()
}

/// What is still allowed above a limit: never more than before, nothing for what has reached its limit.
fn lowered(above: &BTreeMap<String, usize>, measures: &[Measure]) -> BTreeMap<String, usize> {
    let still = |measure: &&Measure| measure.is > measure.limit;
    let allowed = |measure: &Measure| above.get(&measure.name).map(|was| measure.is.min(*was));
    let entry = |measure: &Measure| allowed(measure).map(|number| (measure.name.clone(), number));
    measures.iter().filter(still).filter_map(entry).collect()
}

/// What follows is written by `write`.
const ABOVE: &str = "[above]\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(name: &str, is: usize) -> Measure {
        Measure { name: name.to_owned(), is, limit: 4 }
    }

    fn above(entries: &[(&str, usize)]) -> BTreeMap<String, usize> {
        entries.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn a_figure_may_neither_pass_its_limit_nor_rise_above_what_it_was() {
        let measures = [measure("a", 4), measure("b", 5), measure("c", 9), measure("d", 11)];
        let found = findings(&above(&[("c", 10), ("d", 10), ("e", 5)]), &measures);
        let wanted = [
            "b: 5, the limit is 4",
            "d: 11, was 10; the limit is 4",
            "scripts/xtask/limits.toml: e is no measure",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn writing_lowers_takes_out_and_never_raises_or_adds() {
        let measures = [measure("a", 4), measure("b", 5), measure("c", 9), measure("d", 11)];
        let lower = lowered(&above(&[("a", 9), ("c", 10), ("d", 10)]), &measures);
        assert_eq!(lower, above(&[("c", 9), ("d", 10)]));
    }
    #[test]
    fn a_module_holds_what_is_below_it_and_not_what_begins_alike() {
        let modules = ["acts".to_owned(), "serve::role_grants".to_owned()];
        let inside = ["acts", "acts::change", "serve::role_grants"];
        assert!(inside.iter().all(|path| is_in(path, &modules)));
        assert!(["actor", "serve", "serve::role_grants_of"].iter().all(|path| !is_in(path, &modules)));
    }
}
