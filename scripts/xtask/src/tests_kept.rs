//! No test gets lost. Owns the list of tests in the sources, and finding each test of an earlier list among them:
//! under its name, under a name that only moved, or by an entry in tests/map.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::edges::Workspace;
use crate::program::{self, ItemKind, Program, TargetKind};

const OLD: &str = "scripts/xtask/tests/old.txt";
const MAP: &str = "scripts/xtask/tests/map.toml";
const REMOVED_AT_MOST: usize = 10;

/// What became of tests that cannot be found by their name alone.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    /// Old name to new name.
    renamed: BTreeMap<String, String>,
    /// Old name to the test of the mechanism that took the place of several: some stand for one.
    merged: BTreeMap<String, String>,
    /// Old name to why it is gone.
    removed: BTreeMap<String, String>,
}

impl Map {
    /// Every old name.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.renamed.keys().chain(self.merged.keys()).chain(self.removed.keys())
    }
}

/// What `cargo xtask tests` does.
pub enum Order {
    /// Print every name.
    List,
    /// Print the grouped form of tests/old.txt.
    Group,
    /// Compare with the earlier list.
    Check,
    /// Print entries for tests/map.toml where the check needs some.
    Propose,
}

/// Lists, checks or proposes.
pub fn run(root: &Path, order: Order) -> Result<Vec<String>> {
    let new = names(&program::load(root, &Workspace::read(root)?)?);
    match order {
        Order::List => new.iter().for_each(|name| println!("{name}")),
        Order::Group => print!("{}", grouped(&new)),
        Order::Check => {
            let (found, removed, total) = checked(root, &new)?;
            if found.is_empty() {
                println!("tests: {}, all {total} of the list are there, {removed} removed", new.len());
            }
            return Ok(found);
        }
        Order::Propose => print!("{}", proposed(root, &new)?),
    }
    Ok(Vec::new())
}

/// `package::target::path` of every test, also of those that run on request only.
pub fn names(program: &Program) -> BTreeSet<String> {
    let is_test = |item: &&program::Item| matches!(item.kind, ItemKind::Function { runs: Some(_) });
    let name = |item: &program::Item| {
        let of = &program.crates[program.modules[item.module].of];
        let target = if of.kind == TargetKind::Library { "lib" } else { &of.target };
        let mut parts = vec![of.package.as_str(), target];
        parts.extend(program.module_path(item.module));
        parts.push(&item.name);
        parts.join("::")
    };
    program.items.iter().filter(is_test).map(name).collect()
}

/// What is missing, how many are said to be removed, and how many there were.
fn checked(root: &Path, new: &BTreeSet<String>) -> Result<(Vec<String>, usize, usize)> {
    let (old, map) = (old(root)?, map(root)?);
    let mut findings: Vec<String> = missing(&old, new, &map)
        .into_iter()
        .map(|name| format!("{name}: neither there nor in {MAP}"))
        .collect();
    findings.extend(wrong_entries(&old, new, &map));
    Ok((findings, map.removed.len(), old.len()))
}

/// Old tests that are found neither by name nor by the map.
fn missing(old: &BTreeSet<String>, new: &BTreeSet<String>, map: &Map) -> Vec<String> {
    let mapped = |name: &&String| map.names().any(|mapped| mapped == *name);
    let gone: BTreeSet<&String> = old.difference(new).filter(|name| !mapped(name)).collect();
    let taken: BTreeSet<&String> = map.renamed.values().collect();
    let came: BTreeSet<&String> = new.difference(old).filter(|name| !taken.contains(name)).collect();
    let moved = moved(&gone, &came);
    gone.into_iter().filter(|name| !moved.contains_key(*name)).cloned().collect()
}

/// Old name to new name where the last segments say which is meant: of the new tests with the most segments in
/// common from the end there is one, and no other old test has as many in common with it.
fn moved<'a>(gone: &BTreeSet<&'a String>, came: &BTreeSet<&'a String>) -> BTreeMap<&'a String, &'a String> {
    let nearest = |name: &String, among: &BTreeSet<&'a String>| {
        let best = among.iter().map(|other| in_common(name, other)).max().filter(|best| *best > 0)?;
        let mut with = among.iter().filter(|other| in_common(name, other) == best);
        let first = *with.next()?;
        with.next().is_none().then_some(first)
    };
    let pair = |name: &&'a String| {
        let there = nearest(name, came)?;
        (nearest(there, gone)? == *name).then_some((*name, there))
    };
    gone.iter().filter_map(pair).collect()
}

/// Segments that two names share, counted from the function's name.
fn in_common(one: &str, other: &str) -> usize {
    one.rsplit("::").zip(other.rsplit("::")).take_while(|(one, other)| one == other).count()
}

fn wrong_entries(old: &BTreeSet<String>, new: &BTreeSet<String>, map: &Map) -> Vec<String> {
    let mut findings = Vec::new();
    let mut wrong = |name: &str, what: &str| findings.push(format!("{MAP}: {name}: {what}"));
    let mut taken = BTreeSet::new();
    for (from, to) in &map.renamed {
        if !new.contains(to) {
            wrong(to, "is no test");
        } else if !taken.insert(to) {
            wrong(to, "stands for several");
        } else if old.contains(to) && to != from {
            wrong(to, "was there before");
        }
    }
    for to in map.merged.values().filter(|to| !new.contains(*to)) {
        wrong(to, "is no test");
    }
    for (name, reason) in &map.removed {
        if reason.trim().is_empty() {
            wrong(name, "removed without a reason");
        }
    }
    for name in map.names() {
        if !old.contains(name) {
            wrong(name, "is not in the list");
        } else if new.contains(name) {
            wrong(name, "is still there");
        }
    }
    if map.removed.len() > REMOVED_AT_MOST {
        wrong("removed", &format!("{} tests, at most {REMOVED_AT_MOST}", map.removed.len()));
    }
    findings
}

/// Entries for what is missing: the new tests with the same function name, or all that came in the same module.
fn proposed(root: &Path, new: &BTreeSet<String>) -> Result<String> {
    let (old, map) = (old(root)?, map(root)?);
    let came: Vec<&String> = new.difference(&old).collect();
    let mut page = String::new();
    for name in missing(&old, new, &map) {
        let alike = |other: &&&String| in_common(&name, other) > 0 || module(&name) == module(other);
        let candidates: Vec<&String> = came.iter().filter(alike).copied().collect();
        for candidate in &candidates {
            let _ = writeln!(page, "\"{name}\" = \"{candidate}\"");
        }
        if candidates.is_empty() {
            let _ = writeln!(page, "\"{name}\" = \"\" # no candidate");
        }
    }
    Ok(page)
}

fn module(name: &str) -> &str {
    name.rsplit_once("::").map_or("", |(module, _)| module)
}

/// One line per module: its path, then its tests.
fn grouped(names: &BTreeSet<String>) -> String {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        groups.entry(module(name)).or_default().push(name.rsplit("::").next().unwrap_or(name));
    }
    groups.iter().fold(String::new(), |mut page, (module, tests)| {
        let _ = writeln!(page, "{module}: {}", tests.join(" "));
        page
    })
}

fn ungrouped(page: &str) -> BTreeSet<String> {
    let group = |line: &str| {
        let (module, tests) = line.split_once(": ")?;
        Some(tests.split_whitespace().map(|test| format!("{module}::{test}")).collect::<Vec<_>>())
    };
    page.lines().filter_map(group).flatten().collect()
}

fn old(root: &Path) -> Result<BTreeSet<String>> {
    Ok(ungrouped(&std::fs::read_to_string(root.join(OLD)).context(OLD)?))
}

fn map(root: &Path) -> Result<Map> {
    toml::from_str(&std::fs::read_to_string(root.join(MAP)).context(MAP)?).context(MAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::planted;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn map_of(renamed: &[(&str, &str)], removed: &[(&str, &str)]) -> Map {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
        };
        Map { renamed: owned(renamed), merged: BTreeMap::new(), removed: owned(removed) }
    }

    #[test]
    fn tests_of_modules_targets_and_property_macros_are_listed() {
        let files = [
            ("lib", "mod a; #[cfg(test)] mod tests { #[tokio::test] async fn one() {} fn no_test() {} }"),
            (
                "a",
                "#[test] #[ignore] fn two() {} proptest! { #![x] #[test] fn three(a in 0..9) { fn inner() {} } }",
            ),
            ("tests/whole", "mod part { #[test] fn four() {} }"),
        ];
        let wanted = [
            "planted::lib::a::three",
            "planted::lib::a::two",
            "planted::lib::tests::one",
            "planted::whole::part::four",
        ];
        assert_eq!(names(&planted::library(&files)), set(&wanted));
    }

    #[test]
    fn a_move_is_told_by_the_last_segments_and_only_where_they_say_which() {
        let old =
            set(&["p::lib::a::tests::one", "p::lib::b::tests::one", "p::lib::tests::two", "p::lib::three"]);
        let new = set(&["q::lib::x::a::tests::one", "q::lib::b::tests::one", "q::t::two", "q::lib::four"]);
        assert_eq!(missing(&old, &new, &Map::default()), ["p::lib::three"]);
        let both = set(&["q::lib::x::one", "q::lib::y::one"]);
        assert_eq!(missing(&set(&["p::lib::z::one"]), &both, &Map::default()), ["p::lib::z::one"]);
        assert_eq!(
            missing(&set(&["p::lib::z::one", "p::lib::y::one"]), &set(&["q::w::one"]), &Map::default()).len(),
            2
        );
    }

    #[test]
    fn entries_must_lead_from_a_gone_test_to_one_that_came() {
        let (old, new) = (set(&["p::a", "p::b", "p::c"]), set(&["p::b", "p::d"]));
        let good = map_of(&[("p::a", "p::d")], &[("p::c", "asserted nothing")]);
        assert_eq!(wrong_entries(&old, &new, &good), [] as [&str; 0]);
        assert_eq!(missing(&old, &new, &good), [] as [&str; 0]);
        for (renamed, removed) in [
            (("p::a", "p::x"), ("p::c", "why")),
            (("p::a", "p::b"), ("p::c", "why")),
            (("p::a", "p::d"), ("p::c", " ")),
            (("p::a", "p::d"), ("p::b", "why")),
            (("p::x", "p::d"), ("p::c", "why")),
        ] {
            assert_eq!(
                wrong_entries(&old, &new, &map_of(&[renamed], &[removed])).len(),
                1,
                "{renamed:?} {removed:?}"
            );
        }
        let many: Vec<String> = (0..=REMOVED_AT_MOST).map(|number| format!("p::{number}")).collect();
        let removed: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "why")).collect();
        let old = many.iter().cloned().collect();
        assert_eq!(wrong_entries(&old, &new, &map_of(&[], &removed)).len(), 1);
    }

    #[test]
    fn the_grouped_form_is_read_as_it_is_written() {
        let names = set(&["p::lib::a::one", "p::lib::a::two", "p::whole::three"]);
        assert_eq!(grouped(&names), "p::lib::a: one two\np::whole: three\n");
        assert_eq!(ungrouped(&grouped(&names)), names);
    }
}
