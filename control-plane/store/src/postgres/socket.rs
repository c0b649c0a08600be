//! Where the socket goes: beside the data if the path is short enough, else in a private directory
//! with a short name.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use rap_types::Digest;

use super::account::Account;
use super::error::PostgresError;

/// Longest socket path the kernel takes (`sun_path` without its closing zero).
const LONGEST_PATH: usize = 107;

/// The file PostgreSQL makes in the directory.
pub(super) const SOCKET_FILE: &str = ".s.PGSQL.5432";

/// Makes the directory, private to `account`, and returns its path.
pub(super) fn socket_directory(data_dir: &Path, account: &Account) -> Result<PathBuf, PostgresError> {
    let beside = data_dir.join("postgres-socket");
    if fits(&beside) {
        account.private_directory(&beside)?;
        return Ok(beside);
    }
    let name = Digest::of(&[data_dir.as_os_str().as_encoded_bytes()]).to_string();
    let uid = Uid::effective();
    let short = if uid.is_root() {
        let run = Path::new("/run/rap");
        fs::create_dir_all(run).map_err(PostgresError::io("make", run))?;
        account.arrange_passage(run)?;
        run.join(format!("pg-{}", &name[..16]))
    } else {
        PathBuf::from(format!("/tmp/rap-pg-{uid}-{}", &name[..16]))
    };
    account.private_directory(&short)?;
    Ok(short)
}

fn fits(directory: &Path) -> bool {
    directory.join(SOCKET_FILE).as_os_str().len() <= LONGEST_PATH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_107_bytes_fits_and_one_more_does_not() {
        let length = LONGEST_PATH - SOCKET_FILE.len() - 1;
        let directory = PathBuf::from(format!("/{}", "d".repeat(length - 1)));
        assert_eq!(directory.join(SOCKET_FILE).as_os_str().len(), 107);
        assert!(fits(&directory));
        assert!(!fits(&PathBuf::from(format!("/{}", "d".repeat(length)))));
    }
}
