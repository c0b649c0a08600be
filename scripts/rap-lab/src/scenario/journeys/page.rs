//! The page docs/develop/the-way-of-a-change.md as data. Owns how its tables are read and what counts as a difference.

use std::fmt;

use anyhow::{Context, Result, ensure};

/// One module that a change passes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// The process it runs in, as the page names it.
    pub place: String,
    /// Rust path of the module.
    pub module: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.module)
    }
}

/// One table of the page.
#[derive(Debug, PartialEq, Eq)]
pub struct Journey {
    /// Its rows, in order.
    pub steps: Vec<Step>,
    /// How many rows the page allows itself: `At most N steps.` below the heading.
    pub at_most: usize,
}

impl Journey {
    /// The table below this heading.
    ///
    /// # Errors
    /// The heading, its bound or its table is missing.
    pub fn of_page(title: &str) -> Result<Self> {
        Self::read(PAGE, title)
    }

    fn read(page: &str, title: &str) -> Result<Self> {
        let heading = format!("## {title}\n");
        let (_, section) = page.split_once(&heading).with_context(|| format!("the page has no `{title}`"))?;
        let section = section.split("\n## ").next().unwrap_or_default();
        let bound = section.split_once("At most ").and_then(|(_, rest)| rest.split(' ').next());
        let at_most = bound.context("no `At most N steps.`")?.parse().context("`At most N steps.`")?;
        let steps: Vec<Step> = section.lines().filter_map(row).collect();
        ensure!(!steps.is_empty(), "`{title}` has no steps");
        Ok(Self { steps, at_most })
    }

    /// What differs first between the page and what was recorded; `None` if nothing does.
    pub fn difference(&self, passed: &[Step]) -> Option<String> {
        let longest = self.steps.len().max(passed.len());
        (0..longest).find(|&index| self.steps.get(index) != passed.get(index)).map(|index| {
            let show = |step: Option<&Step>| step.map_or("nothing".to_owned(), ToString::to_string);
            let (page, seen) = (show(self.steps.get(index)), show(passed.get(index)));
            format!("step {}: the page says {page}; recorded is {seen}", index + 1)
        })
    }
}

/// A row `| 3 | control plane | `path` | … |`.
fn row(line: &str) -> Option<Step> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    cells.next()?.parse::<usize>().ok()?;
    let place = cells.next()?.to_owned();
    let module = cells.next()?.trim_matches('`').to_owned();
    Some(Step { place, module })
}

const PAGE: &str = include_str!("../../../../../docs/develop/the-way-of-a-change.md");

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Page\n\n## One\nAt most 3 steps.\n\n| step | where | module | what |\n|---|---|---|---|\n\
        | 1 | a | `x::y` | does |\n| 2 | b | `z` | ends |\n\n## Two\nAt most 1 steps.\n| 1 | c | `w` | is |\n";

    fn step(place: &str, module: &str) -> Step {
        Step { place: place.to_owned(), module: module.to_owned() }
    }

    #[test]
    fn a_table_is_read_up_to_the_next_heading() {
        let one = Journey::read(TEXT, "One").unwrap();
        assert_eq!(one, Journey { steps: vec![step("a", "x::y"), step("b", "z")], at_most: 3 });
        assert!(Journey::read(TEXT, "Three").is_err());
    }

    #[test]
    fn a_step_that_is_missing_added_or_out_of_order_is_a_difference() {
        let one = Journey::read(TEXT, "One").unwrap();
        assert_eq!(one.difference(&[step("a", "x::y"), step("b", "z")]), None);
        for wrong in [
            vec![step("a", "x::y")],
            vec![step("b", "z"), step("a", "x::y")],
            vec![step("a", "x::y"), step("b", "z"), step("b", "q")],
            vec![step("c", "x::y"), step("b", "z")],
        ] {
            assert!(one.difference(&wrong).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn every_journey_of_the_page_is_within_its_bound() {
        for title in [
            "From a token to a contract",
            "From an approval to a packet",
            "From a revocation to a closed link",
        ] {
            let journey = Journey::of_page(title).unwrap();
            assert!(journey.steps.len() <= journey.at_most, "{title}");
        }
    }
}
