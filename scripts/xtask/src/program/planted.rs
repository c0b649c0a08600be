//! Workspaces made of texts, for tests of the checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::load::load_from;
use super::{Program, TargetKind};
use crate::edges::{Member, TargetOf, Workspace};

/// A library `planted` of `(path below src without .rs, text)`.
pub fn library(files: &[(&str, &str)]) -> Program {
    workspace(&[("planted", files)])
}

/// Libraries, each with its files. A file below `tests/` is a target of its own.
pub fn workspace(packages: &[(&str, &[(&str, &str)])]) -> Program {
    let (mut members, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for (package, files) in packages {
        let folder = if packages.len() == 1 { PathBuf::from("/") } else { Path::new("/").join(package) };
        let mut targets = Vec::new();
        for (path, text) in *files {
            let is_test = path.starts_with("tests/");
            let file = if is_test { folder.join(path) } else { folder.join("src").join(path) };
            let file = file.with_extension("rs");
            if is_test || *path == "lib" {
                let kind = if is_test { TargetKind::Tests } else { TargetKind::Library };
                let name = if is_test { path.trim_start_matches("tests/") } else { package };
                targets.push(TargetOf { name: name.to_owned(), kind, path: file.clone() });
            }
            texts.insert(file, (*text).to_owned());
        }
        members.insert((*package).to_owned(), Member { top: String::new(), edges: Vec::new(), targets });
    }
    load_from(Path::new("/"), &Workspace { members }, &|path| texts.get(path).cloned())
        .expect("planted sources")
}
