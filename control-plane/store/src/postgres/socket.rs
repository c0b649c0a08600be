//! Where the socket goes: beside the data if the path is short enough, else in a private directory with a short name.
//!
//! The name carries a random number: a server that outlives its time removes its own socket, not that of its successor.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use rap_types::Digest;

use super::account::Account;
use super::error::PostgresError;

/// Longest path of a socket. The kernel takes 107 bytes (`sun_path` without its closing zero).
const LONGEST_PATH: usize = 99;

/// The file PostgreSQL makes in the directory.
pub(super) const SOCKET_FILE: &str = ".s.PGSQL.5432";

/// Makes the directory, private to `account`, and returns its path. Removes those of earlier starts: no server of this
/// data directory runs.
pub(super) fn socket_directory(
    data_dir: &Path,
    account: &Account,
    random: u32,
) -> Result<PathBuf, PostgresError> {
    let beside = data_dir.join(format!("postgres-socket-{random:08x}"));
    if fits(&beside) {
        remove_earlier(data_dir, "postgres-socket");
        account.private_directory(&beside)?;
        return Ok(beside);
    }
    let name = Digest::of(&[data_dir.as_os_str().as_encoded_bytes()]).to_string();
    let uid = Uid::effective();
    let short = if uid.is_root() {
        let run = Path::new("/run/rap");
        fs::create_dir_all(run).map_err(PostgresError::io("make", run))?;
        account.arrange_passage(run)?;
        let earlier = format!("pg-{}", &name[..16]);
        remove_earlier(run, &earlier);
        run.join(format!("{earlier}-{random:08x}"))
    } else {
        let earlier = format!("rap-pg-{uid}-{}", &name[..16]);
        remove_earlier(Path::new("/tmp"), &earlier);
        PathBuf::from(format!("/tmp/{earlier}-{random:08x}"))
    };
    account.private_directory(&short)?;
    Ok(short)
}

/// What cannot be removed is left: its name is not used again.
fn remove_earlier(folder: &Path, earlier: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(earlier))
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "an earlier socket directory stays");
        }
    }
}

fn fits(directory: &Path) -> bool {
    directory.join(SOCKET_FILE).as_os_str().len() <= LONGEST_PATH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_99_bytes_fits_and_one_more_does_not() {
        let length = LONGEST_PATH - SOCKET_FILE.len() - 1;
        let directory = PathBuf::from(format!("/{}", "d".repeat(length - 1)));
        assert_eq!(directory.join(SOCKET_FILE).as_os_str().len(), 99);
        assert!(fits(&directory));
        assert!(!fits(&PathBuf::from(format!("/{}", "d".repeat(length)))));
    }
}
