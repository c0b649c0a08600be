//! Source scan of the PURE crates: no sockets, files, processes, environment, clocks or generators outside tests.

use crate::program::{Program, TargetKind};
use crate::rules::Rules;

/// Scans every PURE crate. One line per finding, `path:line: what`.
pub fn check(rules: &Rules, program: &Program) -> Vec<String> {
    let forbidden: Vec<Vec<&str>> =
        rules.pure_source_forbids.iter().map(|path| path.split("::").collect()).collect();
    rules.pure().flat_map(|package| of_package(program, package, &forbidden)).collect()
}

fn of_package(program: &Program, package: &str, forbidden: &[Vec<&str>]) -> Vec<String> {
    let mut findings = Vec::new();
    for module in &program.modules {
        let of = &program.crates[module.of];
        if of.package != package || !matches!(of.kind, TargetKind::Library | TargetKind::Program) {
            continue;
        }
        let file = program.files[module.file].path.display();
        let paths = module.imports.iter().map(|import| &import.path).chain(&module.paths);
        for path in paths.filter(|path| !module.test && !path.test) {
            let is_in = |wanted: &Vec<&str>| path.segments.windows(wanted.len()).any(|part| part == wanted);
            if forbidden.iter().any(is_in) {
                let written = path.segments.join("::");
                findings.push(format!("{file}:{}: {written} in a PURE crate", path.line));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::planted;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        of_package(
            &planted::library(files),
            "planted",
            &[vec!["Instant"], vec!["std", "env"], vec!["std", "fs"]],
        )
    }

    #[test]
    fn a_forbidden_part_is_found_wherever_it_stands() {
        let text = "use std::time::{Duration, Instant};\nfn f() { std::env::var(\"x\"); env!(\"X\"); g!(std::fs::read(x)); }";
        assert_eq!(
            found(&[("lib", text)]),
            [
                "src/lib.rs:1: std::time::Instant in a PURE crate",
                "src/lib.rs:2: std::env::var in a PURE crate",
                "src/lib.rs:2: std::fs::read in a PURE crate",
            ]
        );
    }

    #[test]
    fn groups_after_use_are_flattened() {
        let text = "use std::{env, net::{IpAddr, TcpStream}};\nuse std::fs::*;";
        let wanted = ["src/lib.rs:1: std::env in a PURE crate", "src/lib.rs:2: std::fs in a PURE crate"];
        assert_eq!(found(&[("lib", text)]), wanted);
    }

    #[test]
    fn comments_and_literals_mean_nothing() {
        let text = r####"
            // std::fs
            /* std::env /* nested std::fs */ */
            fn f() { let a = "std::fs \" std::fs"; let b = r#"std::fs " "#; let c = b"std::fs"; let d = '"'; let e = '\''; }
        "####;
        assert_eq!(found(&[("lib", text)]), [] as [&str; 0]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let text = "// one\n/* two\n three */ const A: &str = \"four\n\";\nfn f() { std::fs::read(x) }";
        assert_eq!(found(&[("lib", text)]), ["src/lib.rs:5: std::fs::read in a PURE crate"]);
    }

    #[test]
    fn test_items_are_left_out_and_test_files_are_named() {
        let lib = "mod head; #[cfg(test)] mod tests { use std::fs; fn x() { y() } } #[cfg(test)] pub(crate) mod golden;";
        let files = [
            ("lib", lib),
            ("golden", "use std::fs;"),
            ("head", "#[cfg(test)] mod golden;"),
            ("head/golden", "use std::fs;"),
        ];
        assert_eq!(found(&files), [] as [&str; 0]);
    }
}
