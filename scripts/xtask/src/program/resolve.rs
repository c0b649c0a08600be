//! What a written path means: through `use` lines, re-exports and globs to the module or item. Owns name lookup as
//! far as it can be done without types: a method on a value is not seen.

use std::collections::BTreeSet;

use super::{ItemId, ItemKind, ModuleId, PathUse, Place, Program, TargetKind};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A module.
    Module(ModuleId),
    /// An item.
    Item(ItemId),
}

/// Lookups under way, so that `use` lines that go round end.
type Visited = BTreeSet<(ModuleId, String)>;

impl Program {
    /// Everything that a path in `module` stands for; empty for what lies outside the workspace. A single name in
    /// place is never a module: it may be a local variable.
    pub fn resolve(&self, module: ModuleId, path: &PathUse) -> Vec<Target> {
        let mut found = self.path(module, &path.segments, &mut Visited::new());
        if path.segments.len() == 1 && path.place != Place::Use {
            found.retain(|target| matches!(target, Target::Item(_)));
        }
        found
    }

    /// What a glob in `module` brings in under `name`.
    fn through_globs(&self, module: ModuleId, name: &str, visited: &mut Visited) -> Vec<Target> {
        let mut found = Vec::new();
        for import in self.modules[module].imports.iter().filter(|import| import.glob) {
            for target in self.path(module, &import.path.segments, visited) {
                match target {
                    Target::Module(from) => found.extend(self.lookup(from, name, visited)),
                    Target::Item(item) if self.items[item].variants.iter().any(|one| one == name) => {
                        found.push(target);
                    }
                    Target::Item(_) => {}
                }
            }
        }
        found
    }

    fn path(&self, module: ModuleId, segments: &[String], visited: &mut Visited) -> Vec<Target> {
        let Some((first, mut rest)) = segments.split_first() else { return Vec::new() };
        let mut at = match first.as_str() {
            "crate" => vec![Target::Module(self.crates[self.modules[module].of].root)],
            "self" => vec![Target::Module(module)],
            "super" => self.modules[module].parent.map(Target::Module).into_iter().collect(),
            "" => {
                let Some((name, after)) = rest.split_first() else { return Vec::new() };
                rest = after;
                self.library(name)
            }
            name => {
                let found = self.lookup(module, name, visited);
                if found.is_empty() { self.library(name) } else { found }
            }
        };
        for name in rest {
            at = self.step(&at, name, visited);
        }
        at.sort();
        at.dedup();
        at
    }

    /// One segment further. What follows an item, a variant or an associated name, belongs to the item.
    fn step(&self, at: &[Target], name: &str, visited: &mut Visited) -> Vec<Target> {
        let is_type = |item: ItemId| self.items[item].kind == ItemKind::Type;
        let mut found = Vec::new();
        for target in at {
            match *target {
                Target::Module(inner) if name == "super" => {
                    found.extend(self.modules[inner].parent.map(Target::Module));
                }
                Target::Module(inner) if name == "self" => found.push(Target::Module(inner)),
                Target::Module(inner) => found.extend(self.lookup(inner, name, visited)),
                Target::Item(item) if is_type(item) => found.push(Target::Item(item)),
                Target::Item(_) => {}
            }
        }
        found
    }

    fn lookup(&self, module: ModuleId, name: &str, visited: &mut Visited) -> Vec<Target> {
        let here = &self.modules[module];
        let mut found: Vec<Target> = here.names.get(name).cloned().unwrap_or_default();
        let key = (module, name.to_owned());
        if !visited.insert(key.clone()) {
            return found;
        }
        for import in here.imports.iter().filter(|import| import.name.as_deref() == Some(name)) {
            found.extend(self.path(module, &import.path.segments, visited));
        }
        if found.is_empty() {
            found = self.through_globs(module, name, visited);
        }
        visited.remove(&key);
        found
    }

    /// The library of that name, as other crates write it.
    fn library(&self, name: &str) -> Vec<Target> {
        let is_it = |one: &&super::Crate| one.kind == TargetKind::Library && one.target == name;
        self.crates.iter().find(is_it).map(|one| Target::Module(one.root)).into_iter().collect()
    }
}
