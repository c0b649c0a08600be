//! From Cargo's targets to modules: which file a `mod` line means, which items a file declares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::spanned::Spanned;

use super::collect;
use super::{Crate, FileId, Item, ItemKind, Module, ModuleId, Program, Runs, SourceFile, Target};
use crate::edges::Workspace;

/// Reads every target of every package. `root` is the folder that paths are shown from.
pub fn load(root: &Path, workspace: &Workspace) -> Result<Program> {
    load_from(root, workspace, &|path| std::fs::read_to_string(path).ok())
}

/// As [`load`], with the text of a file, or nothing where there is none, from `read`.
pub fn load_from(root: &Path, workspace: &Workspace, read: &Read<'_>) -> Result<Program> {
    let mut loader = Loader { root, read, test_lines: BTreeMap::new(), program: Program::default() };
    for (package, member) in &workspace.members {
        for target in &member.targets {
            let of = loader.program.crates.len();
            let module = loader.program.modules.len();
            loader.program.crates.push(Crate {
                package: package.clone(),
                target: target.name.clone(),
                kind: target.kind,
                root: module,
            });
            let folder = target.path.parent().unwrap_or(root);
            let (name, test) = (target.name.clone(), target.kind.is_for_tests());
            let spot = Spot { of, parent: None, name, test, public: true };
            loader.file(&target.path, folder, spot)?;
        }
    }
    Ok(loader.program)
}

impl super::TargetKind {
    /// True for what is compiled for tests and benchmarks only.
    pub const fn is_for_tests(self) -> bool {
        matches!(self, Self::Tests | Self::Bench)
    }
}

/// The text of a file, or nothing where there is none.
type Read<'a> = dyn Fn(&Path) -> Option<String> + 'a;

struct Loader<'a> {
    root: &'a Path,
    read: &'a Read<'a>,
    /// First and last lines of what is compiled for tests only.
    test_lines: BTreeMap<FileId, Vec<(usize, usize)>>,
    program: Program,
}

/// Where a module stands.
struct Spot {
    of: usize,
    parent: Option<ModuleId>,
    name: String,
    test: bool,
    public: bool,
}

impl Loader<'_> {
    /// Reads a file; `folder` is where its `mod` lines look.
    fn file(&mut self, path: &Path, folder: &Path, spot: Spot) -> Result<ModuleId> {
        let text = (self.read)(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| path.display().to_string())?;
        let (file, test) = (self.file_id(path), spot.test || collect::is_for_tests(&parsed.attrs));
        let module = self.module(file, folder, Spot { test, ..spot }, &parsed.items)?;
        let tests = self.test_lines.remove(&file).unwrap_or_default();
        let is_test = |line: usize| test || tests.iter().any(|(from, to)| (*from..=*to).contains(&line));
        let is_code = |line: &str| !line.is_empty() && !line.starts_with("//");
        let lines = || text.lines().enumerate().filter(|(_, line)| is_code(line.trim()));
        let source = &mut self.program.files[file];
        source.lines = text.lines().count();
        source.test_code = lines().filter(|(index, _)| is_test(index + 1)).count();
        source.code = lines().count() - source.test_code;
        Ok(module)
    }

    fn file_id(&mut self, path: &Path) -> FileId {
        let path = normal(path);
        let path = path.strip_prefix(self.root).unwrap_or(&path).to_path_buf();
        let known = self.program.files.iter().position(|one| one.path == path);
        known.unwrap_or_else(|| {
            self.program.files.push(SourceFile { path, lines: 0, code: 0, test_code: 0 });
            self.program.files.len() - 1
        })
    }

    fn module(&mut self, file: FileId, folder: &Path, spot: Spot, items: &[syn::Item]) -> Result<ModuleId> {
        let id = self.program.modules.len();
        let Spot { of, parent, name, test, public } = spot;
        self.program.modules.push(Module {
            name,
            parent,
            of,
            file,
            test,
            public,
            names: Default::default(),
            imports: Vec::new(),
            paths: Vec::new(),
        });
        for item in items {
            if let syn::Item::Mod(inner) = item {
                let child = self.inner(id, folder, inner)?;
                if let Some(child) = child {
                    self.declare(id, inner.ident.to_string(), Target::Module(child));
                }
            } else {
                self.item(id, item);
            }
        }
        Ok(id)
    }

    fn inner(&mut self, parent: ModuleId, folder: &Path, inner: &syn::ItemMod) -> Result<Option<ModuleId>> {
        let (of, file) = (self.program.modules[parent].of, self.program.modules[parent].file);
        let test = self.program.modules[parent].test || collect::is_for_tests(&inner.attrs);
        let name = inner.ident.to_string();
        let below = folder.join(&name);
        let public = matches!(inner.vis, syn::Visibility::Public(_));
        let spot = Spot { of, parent: Some(parent), name, test, public };
        if let Some((_, items)) = &inner.content {
            if test {
                let span = inner.span();
                self.test_lines.entry(file).or_default().push((span.start().line, span.end().line));
            }
            return self.module(file, &below, spot, items).map(Some);
        }
        let declaring = self.root.join(&self.program.files[file].path);
        let path = match named_path(&inner.attrs) {
            Some(path) => declaring.parent().unwrap_or(self.root).join(path),
            None => {
                let (plain, table) = (below.with_extension("rs"), below.join("mod.rs"));
                if (self.read)(&plain).is_some() { plain } else { table }
            }
        };
        if (self.read)(&path).is_none() {
            // Written by build.rs.
            return Ok(None);
        }
        let is_table = path.file_name().is_some_and(|name| name == "mod.rs");
        let folder = if is_table { path.parent().unwrap_or(&below).to_path_buf() } else { below };
        self.file(&path, &folder, spot).map(Some)
    }

    fn item(&mut self, module: ModuleId, item: &syn::Item) {
        let test = self.program.modules[module].test;
        let collected = collect::collect(item, test);
        let home = &mut self.program.modules[module];
        home.imports.extend(collected.imports);
        home.paths.extend(collected.paths);
        let file = home.file;
        self.test_lines.entry(file).or_default().extend(collected.test_lines);
        if let syn::Item::Macro(called) = item {
            self.tests_of_macro(module, called);
            self.functions_of_macro(module, called, collected.test);
        }
        if let Some((ident, kind, public)) = named(item) {
            let declared = Item {
                name: ident.to_string(),
                kind,
                module,
                file,
                line: ident.span().start().line,
                public,
                test: collected.test,
                variants: variants(item),
            };
            self.program.items.push(declared);
            let id = self.program.items.len() - 1;
            self.declare(module, ident.to_string(), Target::Item(id));
            let root = self.program.crates[self.program.modules[module].of].root;
            if kind == ItemKind::Macro && public && module != root {
                // `#[macro_export]` puts it at the root.
                self.declare(root, ident.to_string(), Target::Item(id));
            }
        }
    }

    /// Tests that `proptest!` makes are functions of the module like all others.
    fn tests_of_macro(&mut self, module: ModuleId, called: &syn::ItemMacro) {
        if called.mac.path.segments.last().is_none_or(|last| last.ident != "proptest") {
            return;
        }
        for (name, line) in collect::tests_among(called.mac.tokens.clone()) {
            let kind = ItemKind::Function { runs: Some(Runs::Always) };
            let file = self.program.modules[module].file;
            let (public, test, variants) = (false, true, Vec::new());
            self.program.items.push(Item { name, kind, module, file, line, public, test, variants });
        }
    }

    /// Functions that `statements!` makes are items of the module like all others.
    fn functions_of_macro(&mut self, module: ModuleId, called: &syn::ItemMacro, test: bool) {
        if called.mac.path.segments.last().is_none_or(|last| last.ident != "statements") {
            return;
        }
        for (name, line, public) in collect::functions_among(called.mac.tokens.clone()) {
            let (kind, file) = (ItemKind::Function { runs: None }, self.program.modules[module].file);
            let item = Item { name, kind, module, file, line, public, test, variants: Vec::new() };
            self.declare(module, item.name.clone(), Target::Item(self.program.items.len()));
            self.program.items.push(item);
        }
    }

    fn declare(&mut self, module: ModuleId, name: String, target: Target) {
        self.program.modules[module].names.entry(name).or_default().push(target);
    }
}

/// Name, kind and whether it is `pub`.
fn named(item: &syn::Item) -> Option<(&syn::Ident, ItemKind, bool)> {
    let public = |visibility: &syn::Visibility| matches!(visibility, syn::Visibility::Public(_));
    Some(match item {
        syn::Item::Fn(it) => (&it.sig.ident, ItemKind::Function { runs: runs(&it.attrs) }, public(&it.vis)),
        syn::Item::Struct(it) => (&it.ident, ItemKind::Type, public(&it.vis)),
        syn::Item::Enum(it) => (&it.ident, ItemKind::Type, public(&it.vis)),
        syn::Item::Union(it) => (&it.ident, ItemKind::Type, public(&it.vis)),
        syn::Item::Trait(it) => (&it.ident, ItemKind::Type, public(&it.vis)),
        syn::Item::Type(it) => (&it.ident, ItemKind::Type, public(&it.vis)),
        syn::Item::Const(it) => (&it.ident, ItemKind::Value, public(&it.vis)),
        syn::Item::Static(it) => (&it.ident, ItemKind::Value, public(&it.vis)),
        syn::Item::Macro(it) => (it.ident.as_ref()?, ItemKind::Macro, exported(&it.attrs)),
        _ => return None,
    })
}

fn variants(item: &syn::Item) -> Vec<String> {
    let syn::Item::Enum(item) = item else { return Vec::new() };
    item.variants.iter().map(|variant| variant.ident.to_string()).collect()
}

fn exported(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("macro_export"))
}

/// How the harness takes a function: `#[test]`, `#[tokio::test]` and the like.
fn runs(attributes: &[syn::Attribute]) -> Option<Runs> {
    let last_is = |attribute: &syn::Attribute, name: &str| {
        attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
    };
    attributes.iter().any(|attribute| last_is(attribute, "test")).then(|| {
        let ignored = attributes.iter().any(|attribute| attribute.path().is_ident("ignore"));
        if ignored { Runs::OnRequest } else { Runs::Always }
    })
}

fn named_path(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return None };
        pair.path.is_ident("path").then(|| text.value())
    })
}

/// Without `.` and `..`, so that one file has one name.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                parts.pop();
            }
            std::path::Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}
