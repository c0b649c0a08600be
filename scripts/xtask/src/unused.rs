//! What a library exports and nobody outside of it uses. Owns what counts as a use: a path in another package or
//! target, or in a test of the package, and being part of what others see of an item that is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::edges::Workspace;
use crate::program::{self, ItemId, ItemKind, ModuleId, PathUse, Place, Program, Target, TargetKind};
use crate::rules::Rules;

/// Prints every such item of what is shipped; or makes it `pub(crate)`, and the compiler tells what is dead.
pub fn run(root: &Path, write: bool) -> Result<Vec<String>> {
    let rules = Rules::read(&root.join("scripts/xtask/layers.toml"))?;
    let program = program::load(root, &Workspace::read(root)?)?;
    let shipped: Vec<String> = rules.shipped().map(str::to_owned).collect();
    let found = of_packages(&program, &shipped);
    if write {
        found.iter().try_for_each(|item| narrow(root, &program, *item))?;
        return Ok(Vec::new());
    }
    let line = |item: &ItemId| {
        let item = &program.items[*item];
        let (path, package) = (program.files[item.file].path.display(), program.package(item.module));
        format!("{path}:{}: {} is pub, and only {package} uses it", item.line, item.name)
    };
    Ok(found.iter().map(line).collect())
}

/// Exported items of these packages' libraries that only their own library uses, by file and line.
pub fn of_packages(program: &Program, packages: &[String]) -> Vec<ItemId> {
    let used = used(program);
    let libraries =
        program.crates.iter().filter(|of| of.kind == TargetKind::Library && packages.contains(&of.package));
    let mut found: Vec<ItemId> =
        libraries.flat_map(|of| exported(program, of.root)).filter(|item| !used.contains(item)).collect();
    found.sort_by_key(|item| (&program.files[program.items[*item].file].path, program.items[*item].line));
    found
}

fn narrow(root: &Path, program: &Program, item: ItemId) -> Result<()> {
    let item = &program.items[item];
    let path = root.join(&program.files[item.file].path);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let narrowed = |(number, line): (usize, &str)| {
        let here = number + 1 == item.line;
        if here { line.replacen("pub ", "pub(crate) ", 1) } else { line.to_owned() }
    };
    let lines: Vec<String> = text.lines().enumerate().map(narrowed).collect();
    std::fs::write(&path, lines.join("\n") + "\n").with_context(|| path.display().to_string())
}

/// Items that other crates can name, from a root on.
fn exported(program: &Program, root: ModuleId) -> BTreeSet<ItemId> {
    let (mut items, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![root]);
    while let Some(module) = next.pop() {
        if !seen.insert(module) {
            continue;
        }
        let here = &program.modules[module];
        let declared = here.names.values().flatten().copied();
        let imported = here.imports.iter().filter(|import| import.public && !import.path.test);
        for target in declared.chain(imported.flat_map(|import| program.resolve(module, &import.path))) {
            match target {
                // What a glob or a `pub use` leads to may be a private module with public items.
                Target::Module(inner) if program.modules[inner].of == here.of => {
                    let by_name = program.modules[inner].parent == Some(module);
                    let test = program.modules[inner].test;
                    if !test && (program.modules[inner].public || !by_name || globbed(program, module, inner))
                    {
                        next.push(inner);
                    }
                }
                Target::Item(item) if program.items[item].public && !program.items[item].test => {
                    if program.modules[program.items[item].module].of == here.of {
                        items.insert(item);
                    }
                }
                Target::Module(_) | Target::Item(_) => {}
            }
        }
    }
    items
}

/// True if `pub use inner::*` stands in the module.
fn globbed(program: &Program, module: ModuleId, inner: ModuleId) -> bool {
    program.modules[module].imports.iter().any(|import| {
        import.glob && import.public && program.resolve(module, &import.path).contains(&Target::Module(inner))
    })
}

/// Items that another target, another package or a test names, and all that these show of others.
fn used(program: &Program) -> BTreeSet<ItemId> {
    let shows = shown_by_items(program);
    let mut next: Vec<ItemId> = Vec::new();
    for (id, module) in program.modules.iter().enumerate() {
        for path in module.imports.iter().map(|import| &import.path).chain(&module.paths) {
            next.extend(items(program, id, path).filter(|item| {
                let home = program.items[*item].module;
                // What a macro without a name writes may be seen by others.
                (path.within.is_empty() && path.place == Place::Interface)
                    || path.test
                    || module.test
                    || program.modules[home].of != module.of
            }));
        }
    }
    let mut used = BTreeSet::new();
    while let Some(item) = next.pop() {
        if used.insert(item) {
            next.extend(shows.get(&item).into_iter().flatten());
        }
    }
    used
}

/// Each item with what others see of it: what its signature, public fields, bounds and `impl` blocks name, and what a
/// macro writes.
fn shown_by_items(program: &Program) -> BTreeMap<ItemId, BTreeSet<ItemId>> {
    let mut shows: BTreeMap<ItemId, BTreeSet<ItemId>> = BTreeMap::new();
    for (id, module) in program.modules.iter().enumerate() {
        for path in module.paths.iter().filter(|path| !path.within.is_empty()) {
            let owner = PathUse { segments: vec![path.within.clone()], ..path.clone() };
            for owner in items(program, id, &owner) {
                if path.place == Place::Interface || program.items[owner].kind == ItemKind::Macro {
                    shows.entry(owner).or_default().extend(items(program, id, path));
                }
            }
        }
    }
    shows
}

fn items(program: &Program, module: ModuleId, path: &PathUse) -> impl Iterator<Item = ItemId> {
    program.resolve(module, path).into_iter().filter_map(|target| match target {
        Target::Item(item) => Some(item),
        Target::Module(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::planted;

    #[test]
    fn only_what_nobody_outside_names_or_sees_is_found() {
        let low = [
            (
                "lib",
                "mod inner; mod private { pub struct Unreachable; } pub use inner::{Named, Alone, make, tried}; pub mod open;
                 #[macro_export] macro_rules! written { () => { $crate::open::by_macro() } }
                 #[cfg(test)] mod tests { use super::tried; }",
            ),
            (
                "inner",
                "pub struct Named; pub struct Made { pub part: Part, hidden: Hidden } pub struct Part; pub struct Hidden;
                 pub struct Alone; pub fn make() -> Made { helper() } pub fn tried() {} pub(crate) fn helper() {}",
            ),
            ("open", "pub fn called() {} pub fn by_macro() {} pub fn unused() { called() } pub const N: u8 = 1;
                 statements! { pub async fn asked(n: u8) -> () = done \"\"; pub(crate) fn own() -> () = done \"\";
                 pub async fn unasked() -> () = done \"\"; }"),
        ];
        let high = [(
            "lib",
            "use low::Named; fn f() { low::make(); low::open::called(); low::open::asked(1); low::written!(); }",
        )];
        let program = planted::workspace(&[("low", &low), ("high", &high)]);
        let found = of_packages(&program, &["low", "high"].map(str::to_owned));
        let names: Vec<&str> = found.iter().map(|item| program.items[*item].name.as_str()).collect();
        assert_eq!(names, ["Alone", "unused", "N", "unasked"]);
    }
}
