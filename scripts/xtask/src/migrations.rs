//! Migrations. Owns their numbering: one after the other from 1, each with a way up and a way down.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// One line per name that is no migration's, number that is taken twice or left out, and missing direction.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("migrations");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(findings(&names))
}

fn findings(names: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut numbers: BTreeMap<u32, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for name in names {
        match parts(name) {
            Some((number, title, direction)) => {
                numbers.entry(number).or_default().entry(title).or_default().push(direction);
            }
            None => {
                found.push(format!("migrations/{name}: not NNNNNN_title.up.sql or NNNNNN_title.down.sql"))
            }
        }
    }
    for (wanted, (number, titles)) in (1..).zip(&numbers) {
        if *number != wanted {
            found.push(format!("migrations: {wanted:06} is left out"));
            break;
        }
        if titles.len() > 1 {
            let titles: Vec<_> = titles.keys().copied().collect();
            found.push(format!("migrations: {number:06} is taken by {}", titles.join(" and ")));
        }
        for (title, directions) in titles {
            for direction in ["up", "down"] {
                if !directions.contains(&direction) {
                    found.push(format!("migrations/{number:06}_{title}.{direction}.sql is missing"));
                }
            }
        }
    }
    found
}

/// Number, title and direction.
fn parts(name: &str) -> Option<(u32, &str, &str)> {
    let (digits, rest) = name.split_at_checked(6)?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    let (title, direction) = rest.strip_prefix('_')?.strip_suffix(".sql")?.rsplit_once('.')?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let fits = !title.is_empty() && title.bytes().all(plain) && matches!(direction, "up" | "down");
    fits.then_some((number, title, direction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<String> {
        findings(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_taken_twice_left_out_and_one_way_only_are_found() {
        let good = ["000001_a.up.sql", "000001_a.down.sql", "000002_b.up.sql", "000002_b.down.sql"];
        assert_eq!(of(&good), [] as [&str; 0]);
        let twice = [&good[..], &["000002_c.up.sql", "000002_c.down.sql"]].concat();
        assert_eq!(of(&twice), ["migrations: 000002 is taken by b and c"]);
        assert_eq!(of(&good[..3]), ["migrations/000002_b.down.sql is missing"]);
        assert_eq!(of(&good[2..]), ["migrations: 000001 is left out"]);
        for name in ["2_b.up.sql", "000002_b.sql", "000002_B.up.sql", "000002_b.across.sql", "notes.txt"] {
            assert_eq!(of(&[name]).len(), 1, "{name}");
        }
    }
}
