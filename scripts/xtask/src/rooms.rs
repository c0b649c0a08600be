//! Rooms: the top-level modules of a package, and which may name items of which. Owns the comparison with
//! layers.toml; what an edge is, is told by `circles`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::circles;
use crate::edges::Workspace;
use crate::program::{self, FileId, Program};
use crate::rules::{RoomRules, Rules};

/// Prints what the rooms of a package, or of all that have some, do against layers.toml.
pub fn run(root: &Path, package: Option<&str>) -> Result<Vec<String>> {
    let rules = Rules::read(&root.join("scripts/xtask/layers.toml"))?;
    let program = program::load(root, &Workspace::read(root)?)?;
    let mut findings = Vec::new();
    for (name, rooms) in rules.rooms.iter().filter(|(name, _)| package.is_none_or(|one| one == *name)) {
        findings.extend(of_package(&program, name, rooms).with_context(|| name.clone())?);
    }
    Ok(findings)
}

/// One line per file that stands in no listed room, and per edge between listed rooms that is not allowed.
///
/// # Errors
/// The table names an unknown room or goes round.
pub fn of_package(program: &Program, package: &str, rules: &RoomRules) -> Result<Vec<String>> {
    check_table(rules)?;
    let spots = spots(program, package);
    let shown = |file: FileId| program.files[file].path.display();
    let is_listed = |room: &String| rules.open.contains(room) || rules.may_use.contains_key(room);
    let mut findings = Vec::new();
    for (file, spot) in &spots {
        if !spot.first().is_none_or(is_listed) {
            findings.push(format!("{}: {} is no listed room", shown(*file), spot[0]));
        }
    }
    for (from, edges) in circles::edges(program) {
        for (to, reasons) in edges {
            let (Some(using), Some(used)) = (spots.get(&from), spots.get(&to)) else { continue };
            let listed = [using, used].iter().all(|spot| spot.first().is_none_or(is_listed));
            if listed && !is_allowed(rules, using, used) {
                let line = reasons.first().map_or(0, |reason| reason.line);
                findings.push(format!("{}:{line}: {} may not use {}", shown(from), at(using), shown(to)));
            }
        }
    }
    Ok(findings)
}

/// Module path of each shipped file of the package's library.
fn spots(program: &Program, package: &str) -> BTreeMap<FileId, Vec<String>> {
    let mut spots = BTreeMap::new();
    for (id, module) in program.modules.iter().enumerate().filter(|(_, module)| !module.test) {
        let of = &program.crates[module.of];
        if of.package == package && of.kind == program::TargetKind::Library {
            let path = program.module_path(id).into_iter().map(str::to_owned).collect();
            spots.entry(module.file).or_insert(path);
        }
    }
    spots
}

/// The root of the library is a table of contents: nothing may use it, and it may use everything.
fn is_allowed(rules: &RoomRules, using: &[String], used: &[String]) -> bool {
    let (Some(from), Some(to)) = (using.first(), used.first()) else { return using.is_empty() };
    let part_of = |allowed: &String| {
        let wanted: Vec<&str> = allowed.split("::").collect();
        used.iter().map(String::as_str).take(wanted.len()).eq(wanted)
    };
    from == to
        || rules.open.contains(to)
        || rules.may_use.get(from).is_some_and(|allowed| allowed.iter().any(part_of))
}

fn at(spot: &[String]) -> &str {
    spot.first().map_or("the root", String::as_str)
}

/// Every room that is named is listed, and the table goes one way.
fn check_table(rules: &RoomRules) -> Result<()> {
    let room_of = |allowed: &str| allowed.split("::").next().unwrap_or_default().to_owned();
    let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (room, allowed) in &rules.may_use {
        let uses: BTreeSet<String> = allowed.iter().map(|one| room_of(one)).collect();
        let unknown = uses.iter().find(|used| !rules.may_use.contains_key(*used));
        anyhow::ensure!(
            unknown.is_none(),
            "{room} may use {}, which is not listed",
            unknown.map_or("", |it| it)
        );
        left.insert(room, uses);
    }
    while !left.is_empty() {
        let done: Vec<&str> = left
            .iter()
            .filter(|(_, uses)| uses.iter().all(|used| !left.contains_key(used.as_str())))
            .map(|(room, _)| *room)
            .collect();
        anyhow::ensure!(!done.is_empty(), "the rooms {:?} go round", left.keys());
        left.retain(|room, _| !done.contains(room));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::planted;

    fn rules(table: &str) -> RoomRules {
        toml::from_str(table).expect("rules")
    }

    #[test]
    fn what_is_not_listed_is_refused_and_a_part_of_a_room_may_be_allowed() {
        let files = [
            ("lib", "mod failure; mod acts; mod publish; mod stray; use stray::S; fn f(_: publish::P) {}"),
            ("failure", "pub struct Failure;"),
            ("acts/mod", "pub mod raise; pub mod other;"),
            ("acts/raise", "pub fn raise(_: crate::failure::Failure) {}"),
            ("acts/other", "pub fn other() {}"),
            ("publish", "pub struct P; fn f() { crate::acts::raise::raise(); crate::acts::other::other(); }"),
            ("stray", "pub struct S; fn f() { crate::acts::other::other() }"),
        ];
        let rules = rules("open = ['failure']\n[may_use]\nacts = []\npublish = ['acts::raise']");
        let found = of_package(&planted::library(&files), "planted", &rules).expect("a table");
        let wanted = [
            "src/stray.rs: stray is no listed room",
            "src/publish.rs:1: publish may not use src/acts/other.rs",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_table_that_goes_round_or_names_an_unknown_room_is_an_error() {
        let error = |table: &str| check_table(&rules(table)).expect_err("refused").to_string();
        assert!(error("open = []\n[may_use]\na = ['b']\nb = ['c::x']\nc = ['a']").contains("go round"));
        assert!(error("open = []\n[may_use]\na = ['b']").contains("not listed"));
    }
}
