//! docs/ERRORS.md is the table of `rap_types::Reason` in print. Owns its text; the codes belong to rap-types.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rap_types::reason::RpcStatus;
use rap_types::{ExitCode, Reason};

/// Compares the file with the table.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let path = file(root);
    let Ok(written) = std::fs::read_to_string(&path) else {
        return Ok(vec!["docs/ERRORS.md: missing; run `cargo xtask errors --write`".to_owned()]);
    };
    Ok(difference(&written, &page()))
}

/// Writes the file.
pub fn write(root: &Path) -> Result<()> {
    let path = file(root);
    std::fs::write(&path, page()).with_context(|| path.display().to_string())
}

fn difference(written: &str, wanted: &str) -> Vec<String> {
    let mut written = written.lines();
    for (number, wanted) in wanted.lines().enumerate() {
        if written.next() != Some(wanted) {
            return vec![format!(
                "docs/ERRORS.md:{}: differs from rap_types::Reason; expected: {wanted}",
                number + 1
            )];
        }
    }
    let surplus = written.next().map(|line| format!("docs/ERRORS.md: not in rap_types::Reason: {line}"));
    surplus.into_iter().collect()
}

fn page() -> String {
    let mut page = String::from(HEAD);
    for reason in Reason::ALL {
        let row = reason.row();
        let retry = if row.retryable { "yes" } else { "no" };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {retry} | {} |",
            row.code,
            status_name(row.rpc),
            row.rpc.http(),
            row.exit as u8,
            row.text,
        );
    }
    page.push_str(EXIT_HEAD);
    for (exit, text) in EXITS {
        let _ = writeln!(page, "| {} | {text} |", *exit as u8);
    }
    page
}

/// `PERMISSION_DENIED` from `PermissionDenied`.
fn status_name(status: RpcStatus) -> String {
    let mut name = String::new();
    for character in format!("{status:?}").chars() {
        if character.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}

fn file(root: &Path) -> PathBuf {
    root.join("docs/ERRORS.md")
}

const HEAD: &str = "\
# Reason codes

Everything the product refuses or reports has one code. It is the same in gRPC error details (`ErrorInfo.reason`, domain `rap.fabric`),
HTTP problem documents, logs, the `reason` label of `*_rejected_total`, audit entries, `--json` output and this table.
A code is never renamed and never reused. `rapctl explain CODE` prints its line.

This page is written by `cargo xtask errors --write` from `proto/types/src/reason.rs`, and a test compares the two.

| code | gRPC status | HTTP | exit | retry | meaning |
|---|---|---|---|---|---|
";

const EXIT_HEAD: &str = "
## Exit codes

| exit | meaning |
|---|---|
";

const EXITS: &[(ExitCode, &str)] = &[
    (ExitCode::Ok, "Done."),
    (ExitCode::Generic, "Failed for a reason without a code of its own."),
    (ExitCode::Usage, "Wrong command line or configuration."),
    (ExitCode::NotFound, "The named thing does not exist."),
    (ExitCode::Denied, "Not allowed."),
    (ExitCode::Conflict, "Contradicts the present state."),
    (ExitCode::Unreachable, "The other side cannot be reached."),
    (ExitCode::VerificationFailed, "A signature, hash or chain does not hold."),
    (ExitCode::Degraded, "Works, but degraded."),
    (ExitCode::Timeout, "The deadline passed."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_row() {
        let page = page();
        for reason in Reason::ALL {
            let start = format!("| `{}` |", reason.row().code);
            assert_eq!(page.lines().filter(|line| line.starts_with(&start)).count(), 1, "{start}");
        }
    }

    #[test]
    fn a_changed_missing_or_surplus_row_is_found() {
        let wanted = page();
        assert_eq!(difference(&wanted, &wanted), Vec::<String>::new());
        let changed = wanted.replacen("| no |", "| yes |", 1);
        let missing: String =
            wanted.lines().take(wanted.lines().count() - 1).map(|line| format!("{line}\n")).collect();
        let surplus = format!("{wanted}| 11 | More. |\n");
        for wrong in [changed, missing, surplus] {
            assert_eq!(difference(&wrong, &wanted).len(), 1);
        }
    }

    #[test]
    fn status_names_are_those_of_google_rpc_code() {
        assert_eq!(status_name(RpcStatus::PermissionDenied), "PERMISSION_DENIED");
        assert_eq!(status_name(RpcStatus::Internal), "INTERNAL");
    }
}
