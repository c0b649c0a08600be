//! Files: atomic writes, modes, bounds.

use super::*;
use std::os::unix::fs::symlink;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn a_new_file_does_not_replace_an_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("export");
    create_new(&path, b"first", 0o600).unwrap();
    let error = create_new(&path, b"second", 0o600).unwrap_err();
    assert_eq!(error.reason(), Reason::ResourceExists);
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (b"first".as_slice(), 0o600));
}

#[test]
fn write_replaces_bytes_and_mode_and_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    write_atomic(&path, b"one", 0o644).unwrap();
    write_atomic(&path, b"two", 0o600).unwrap();
    assert_eq!(read_capped(&path, 3).unwrap(), b"two");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn failed_write_keeps_the_old_file_and_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taken");
    fs::create_dir_all(path.join("full")).unwrap();
    assert_eq!(write_atomic(&path, b"new", 0o600).unwrap_err().reason(), Reason::StateIo);
    assert!(path.join("full").is_dir());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn full_disk_and_read_only_disk_have_their_own_codes() {
    for (errno, reason) in [
        (Errno::ENOSPC, Reason::StateNoSpace),
        (Errno::EDQUOT, Reason::StateNoSpace),
        (Errno::EROFS, Reason::StateReadOnly),
        (Errno::EACCES, Reason::StateReadOnly),
        (Errno::EIO, Reason::StateIo),
    ] {
        let error = at(Path::new("x"))(io::Error::from_raw_os_error(errno as i32));
        assert_eq!(error.reason(), reason);
    }
}

#[test]
fn file_longer_than_the_cap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, b"1234").unwrap();
    assert!(matches!(read_capped(&path, 3), Err(FileError::TooLarge { cap: 3, .. })));
    assert!(matches!(read_capped(Path::new("/dev/zero"), 3), Err(FileError::TooLarge { .. })));
    assert!(read_capped(&dir.path().join("none"), 3).unwrap_err().is_not_found());
}

#[test]
fn a_pipe_is_read_to_its_end_and_one_that_nobody_writes_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let silent = std::thread::spawn({
        let path = path.clone();
        move || read_capped(&path, 9).unwrap_err()
    });
    let error = silent.join().unwrap();
    assert_eq!(error.reason(), Reason::RequestTimeout, "{error}");
    // Longer than the pipe holds at once, in two writes.
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all(&[1; 100_000]).unwrap();
            file.write_all(&[2; 100_000]).unwrap();
        }
    });
    assert_eq!(read_capped(&path, 1_000_000).unwrap().len(), 200_000);
    writer.join().unwrap();
    assert_eq!(read_capped(dir.path(), 9).unwrap_err().reason(), Reason::StateIo);
}

#[test]
fn secret_that_others_may_read_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    for (mode, refused) in
        [(0o600, false), (0o400, false), (0o440, false), (0o644, true), (0o604, true), (0o660, true)]
    {
        write_atomic(&path, b"s", mode).unwrap();
        match read_secret(&path, 8) {
            Ok(_) => assert!(!refused, "{mode:o}"),
            Err(error) => assert!(refused && error.reason() == Reason::SecretExposed, "{mode:o}"),
        }
    }
}

#[test]
fn private_directory_is_narrowed_and_a_symbolic_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    create_private_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    create_private_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(create_private_dir(&link).is_err());
}
